"""Molecules of two atoms that fall apart on a surface: the beginning and the end of a reaction path, atom by atom."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms
from ase.build import molecule
from ase.collections import g2
from ase.data import atomic_numbers, covalent_radii

from rutile.build.crystals import bare
from rutile.build.recipe import Draft, Mechanics, Recipe, Refused
from rutile.build.settings import DissociationSettings
from rutile.build.sites import sites, top_plane
from rutile.build.slab import Surface, surfaces
from rutile.core.errors import SettingsError
from rutile.core.seeds import stream

APART = 2.2
"""Least distance of the two atoms at the end, and of an adsorbed promoter from both (Angstrom)."""
ROOM = 3.0
"""Height of what lies on the slab (Angstrom)."""
ENDS = ("beginning", "end")


@dataclass(frozen=True)
class _Places:
    """Where everything is on a slab, [2] each (Angstrom)."""

    slab: Atoms
    first: np.ndarray
    """Where the molecule stands, and its lower atom remains."""
    second: np.ndarray
    """Where its upper atom goes."""
    promoter: np.ndarray


def dissociation(settings: DissociationSettings, seed: int, mechanics: Mechanics) -> Recipe:
    """A molecule that stands in a hollow of a slab, and its two atoms in hollows beside each other.

    Raises:
        RutileError: a crystal cannot be had.
        SettingsError: the molecule is none of two atoms.
    """
    del mechanics
    if settings.molecule not in g2.names or len(molecule(settings.molecule)) != 2:
        raise SettingsError(f"molecule = {settings.molecule!r}: give one of two atoms that ASE knows: CO, N2, NO")
    found: list[Surface] = []
    for one in surfaces(settings.crystals, settings.miller, 1, settings.thickness, "stoichiometric"):
        if not any(o.name.split()[:-1] == one.name.split()[:-1] and o.slab.miller == one.slab.miller for o in found):
            found.append(one)  # one termination of each surface

    def draw(places: _Places, number: int, rng: np.random.Generator) -> Draft:
        del rng
        drawn: dict[str, Any] = {"part": ENDS[number], "promoter": settings.promoter or ""}
        return Draft(_drawn(places, settings, number), drawn)

    title = f"{settings.molecule}{f' with {settings.promoter}' if settings.promoter else ''} on "
    return Recipe([title + s.name for s in found], lambda k: _places(found[k].slab.atoms, settings, seed), draw, each=2)


def _places(slab: Atoms, settings: DissociationSettings, seed: int) -> _Places:
    """The slab, wide enough, and the places on it.

    Raises:
        Refused: it has no hollows beside each other.
    """
    times = np.ceil(settings.width / np.linalg.norm(slab.cell.array[:2], axis=1) - 1e-6).astype(int)
    wide = bare(slab.repeat((*times.tolist(), 1)))
    cell = wide.cell.array[:2, :2]
    hollows = sites(wide, "hollow", stream(seed, "dissociation"))
    if len(hollows) < 2:
        raise Refused("no hollows")
    first = hollows[_far(hollows, cell.sum(0) / 2, cell).argmin()]
    away = _far(hollows, first, cell)
    apart = np.flatnonzero(away > APART)
    if not len(apart):
        raise Refused("no second hollow")
    second = _near(hollows[apart[away[apart].argmin()]], first, cell)
    metal = wide.positions[top_plane(wide)][:, :2]
    if settings.place == "substituted":  # the metal atom on the side of the second place
        promoter = metal[(_far(metal, second, cell) - 1e-3 * _far(metal, first, cell)).argmin()]
    else:
        both = np.minimum(away, _far(hollows, second, cell))
        free = np.flatnonzero(both > APART)
        if not len(free):
            raise Refused("no place for the promoter")
        promoter = _near(hollows[free[_far(hollows, second, cell)[free].argmin()]], first, cell)
    return _Places(wide, first, second, promoter)


def _far(points: np.ndarray, place: np.ndarray, cell: np.ndarray) -> np.ndarray:
    """Distances of points [M, 2] to the nearest images of a place [2] (Angstrom), [M]."""
    shifts = np.array([(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)]) @ cell
    return np.asarray(np.linalg.norm(points[:, None] - place - shifts, axis=2).min(1))


def _near(point: np.ndarray, place: np.ndarray, cell: np.ndarray) -> np.ndarray:
    """The image of a point that is nearest to a place."""
    shifts = np.array([(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)]) @ cell
    images = point + shifts
    return np.asarray(images[np.linalg.norm(images - place, axis=1).argmin()])


def _drawn(places: _Places, settings: DissociationSettings, number: int) -> Atoms:
    """The beginning (0) or the end (1)."""
    atoms = bare(places.slab)
    if settings.promoter is not None:
        z = atomic_numbers[settings.promoter]
        if settings.place == "substituted":
            cell, top = atoms.cell.array[:2, :2], np.flatnonzero(top_plane(atoms))
            atoms.numbers[top[_far(atoms.positions[top][:, :2], places.promoter, cell).argmin()]] = z
        else:
            atoms += Atoms([z], positions=[[*places.promoter, _height(places.slab, places.promoter, z)]])
    gas = molecule(settings.molecule)
    lower, upper = sorted(int(n) for n in gas.numbers)
    x, y = places.first
    height = _height(atoms, places.first, lower)
    if number == 0:
        positions = [[x, y, height], [x, y, height + float(gas.get_distance(0, 1))]]
    else:
        positions = [[x, y, height], [*places.second, _height(atoms, places.second, upper)]]
    atoms += Atoms([lower, upper], positions=positions)
    return _with_vacuum(atoms, places.slab, settings.vacuum)


def _with_vacuum(atoms: Atoms, slab: Atoms, vacuum: float) -> Atoms:
    """All atoms in a cell that beginning and end have in common, its lowest half of the vacuum empty."""
    z, cell = slab.positions[:, 2], slab.cell.array.copy()
    cell[2] = [0, 0, float(z.max() - z.min()) + ROOM + vacuum]
    atoms.set_cell(cell)
    atoms.positions[:, 2] += vacuum / 2 - z.min()
    atoms.pbc = (True, True, False)
    return atoms


def _height(slab: Atoms, place: np.ndarray, number: int) -> float:
    """Height at which an atom touches the atoms of a slab around a place, by covalent radii (Angstrom)."""
    cell = slab.cell.array[:2, :2]
    across = _far(slab.positions[:, :2], place, cell)
    reach = covalent_radii[number] + covalent_radii[slab.numbers]
    near = across < reach
    if not near.any():
        return float(slab.positions[:, 2].max() + 1.0)
    heights = slab.positions[near, 2] + np.sqrt(reach[near] ** 2 - across[near] ** 2)
    return float(heights.max())
