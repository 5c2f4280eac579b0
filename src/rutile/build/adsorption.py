"""Molecules and atoms on surfaces."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms

from rutile.build import distort
from rutile.build.crystals import bare
from rutile.build.molecules_source import named_molecules
from rutile.build.recipe import Draft, Mechanics, Recipe, Refused, between, rounded
from rutile.build.settings import AdsorptionSettings
from rutile.build.sites import sites
from rutile.build.slab import Surface, surfaces
from rutile.build.surface import with_vacuum


@dataclass(frozen=True)
class _Parent:
    surface: Surface
    molecule: Atoms


def adsorption(settings: AdsorptionSettings, seed: int, mechanics: Mechanics) -> Recipe:
    """Molecules on top of atoms, on bridges and in hollows, turned at random, at several heights, some pulled off.

    Raises:
        RutileError: a crystal or a molecule cannot be had.
    """
    del mechanics
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
