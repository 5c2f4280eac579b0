"""Molecules and atoms on surfaces."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms
from scipy.spatial import Delaunay, QhullError

from rutile.build import distort
from rutile.build.crystals import bare
from rutile.build.molecules_source import named_molecules
from rutile.build.recipe import Calculators, Draft, Recipe, Refused, between, rounded
from rutile.build.settings import AdsorptionSettings
from rutile.build.slab import Surface, surfaces, top_plane
from rutile.build.surface import with_vacuum

LONG_EDGE = 1.2
"""Two atoms of a surface farther apart than this times the nearest two have no bridge."""


@dataclass(frozen=True)
class _Parent:
    surface: Surface
    molecule: Atoms


def adsorption(settings: AdsorptionSettings, seed: int, calculators: Calculators) -> Recipe:
    """Molecules on top of atoms, on bridges and in hollows, turned at random, at several heights, some pulled off.

    Raises:
        RutileError: a crystal or a molecule cannot be had.
    """
    del calculators
    found = surfaces(settings.crystals, settings.miller, settings.max_index, settings.thickness, "all")
    adsorbates = named_molecules(settings.molecules, seed)
    pairs = [(s, m) for s in found for m in adsorbates]

    def draw(parent: _Parent, number: int, rng: np.random.Generator) -> Draft:
        del number
        return _drawn(parent, settings, rng)

    return Recipe(
        [f"{m.name} on {s.name}" for s, m in pairs],
        lambda k: _Parent(pairs[k][0], pairs[k][1].make().atoms),
        draw,
    )


def _drawn(parent: _Parent, settings: AdsorptionSettings, rng: np.random.Generator) -> Draft:
    """One structure."""
    slab = distort.supercell(parent.surface.slab.atoms, settings.atoms, rng, along=(0, 1))
    kind = str(rng.choice(list(settings.sites)))
    places = sites(slab, kind, rng)
    if not len(places):
        raise Refused("no such site")
    wanted = int(rng.integers(1, settings.molecules_at_most, endpoint=True))
    pulled = bool(rng.random() < settings.pulled)
    height = between(rng, settings.height)
    if pulled:
        height = between(rng, (settings.height[1], max(settings.height[1], settings.pulled_height)))
    top = float(slab.positions[:, 2].max())
    atoms = bare(slab)
    for place in rng.permutation(places)[:wanted]:
        atoms += _placed(parent.molecule, place, top + height, rng)
    rattle = between(rng, settings.rattle)
    vacuum = between(rng, settings.vacuum)
    drawn: dict[str, Any] = {
        "miller": list(parent.surface.slab.miller), "site": kind, "height": rounded(height),
        "molecules": min(wanted, len(places)), "rattle": rounded(rattle),
    }  # fmt: skip
    return Draft(with_vacuum(distort.rattled(atoms, rattle, rng), vacuum), drawn)


def _placed(molecule: Atoms, place: np.ndarray, height: float, rng: np.random.Generator) -> Atoms:
    """The molecule turned at random, its lowest atom at a place [2] of the surface and at that height."""
    x = molecule.positions @ random_rotation(rng).T
    low = int(x[:, 2].argmin())
    x = x - x[low] + [*place, height]
    return Atoms(molecule.numbers, positions=x)


def random_rotation(rng: np.random.Generator) -> np.ndarray:
    """Evenly distributed rotation [3, 3] (QR of a normal matrix)."""
    q, r = np.linalg.qr(rng.normal(size=(3, 3)))
    q = q * np.sign(np.diag(r))
    return np.asarray(q * np.linalg.det(q))


def sites(slab: Atoms, kind: str, rng: np.random.Generator) -> np.ndarray:
    """Places of one kind on the highest plane of a slab, [M, 2] (Angstrom).

    top: above its atoms. bridge: between two neighbours. hollow: centres of the circles through three neighbours (of
    the fourfold hollow of a square lattice, too). random: one place anywhere.
    """
    cell = slab.cell.array[:2, :2]
    atoms = slab.positions[top_plane(slab)][:, :2]
    if kind == "random":
        return np.asarray(rng.random((1, 2)) @ cell)
    if kind == "top":
        return np.asarray(atoms)
    shifts = np.array([(i, j) for i in range(-2, 3) for j in range(-2, 3)]) @ cell
    every = (atoms[None] + shifts[:, None]).reshape(-1, 2)
    try:
        triangles = Delaunay(every).simplices
    except QhullError:  # all in one line
        return np.zeros((0, 2))
    corners = every[triangles]
    if kind == "bridge":
        edges = np.unique(np.sort(np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [0, 2]]])
                                  ), axis=0)  # fmt: skip
        ends = every[edges]
        length = np.linalg.norm(ends[:, 0] - ends[:, 1], axis=1)
        found = ends[length < LONG_EDGE * length.min()].mean(axis=1)
    else:
        found = _circumcentres(corners)
    return _within(found, cell)


def _circumcentres(corners: np.ndarray) -> np.ndarray:
    """Of triangles [M, 3, 2]; flat ones are left out."""
    a, b, c = corners[:, 0], corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    d = 2 * (b[:, 0] * c[:, 1] - b[:, 1] * c[:, 0])
    good = np.abs(d) > 1e-3
    a, b, c, d = a[good], b[good], c[good], d[good]
    bb, cc = (b**2).sum(axis=1), (c**2).sum(axis=1)
    x = (c[:, 1] * bb - b[:, 1] * cc) / d
    y = (b[:, 0] * cc - c[:, 0] * bb) / d
    return np.asarray(a + np.stack([x, y], axis=1))


def _within(points: np.ndarray, cell: np.ndarray) -> np.ndarray:
    """Different points in the cell at the origin."""
    fractions = points @ np.linalg.inv(cell)
    inside = ((fractions > -1e-6) & (fractions < 1 - 1e-6)).all(axis=1)
    return np.asarray(np.unique(np.round(fractions[inside], 6), axis=0) @ cell)
