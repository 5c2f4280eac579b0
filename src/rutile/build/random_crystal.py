"""Random crystals with the symmetry of a space group.

The operations of the group come from spglib's tables. A random metric averaged over the point group gives the cell
(W^T G W = G). A site is a random point, moved onto fixed points of up to three random operations, with all its images:
so special positions come up without a table of them. The soft repulsion that parts the atoms has the symmetry; what
rounding takes of it is given back at the end.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import spglib
from ase import Atoms

from rutile.build.crystals import primitive
from rutile.build.disorder import check_size, composition
from rutile.build.packing import push_apart
from rutile.build.recipe import Draft, Mechanics, Recipe, Refused, between, rounded
from rutile.build.settings import RandomCrystalSettings
from rutile.build.sizes import reference_volume

TRIES = 100
"""Random sites that are tried for an element."""
SAME_SITE = 1e-3
"""Sites nearer than this (fraction of the cell) are one."""
EXACT = 1e-6
"""Difference of fractions that is rounding."""
PUSHED = 0.9
"""Atoms are pushed apart to this part of the sum of their covalent radii."""


@dataclass(frozen=True)
class Group:
    """Operations x -> W x + w of the conventional cell, with all lattice centrings."""

    number: int
    rotations: np.ndarray
    """W, [M, 3, 3] integers."""
    translations: np.ndarray
    """w, [M, 3]."""

    @property
    def centrings(self) -> int:
        """Lattice points of the conventional cell."""
        return int((self.rotations == np.eye(3, dtype=int)).all(axis=(1, 2)).sum())


def random_crystals(settings: RandomCrystalSettings, seed: int, mechanics: Mechanics) -> Recipe:
    """Atoms on random sites of random space groups, general and special ones.

    Raises:
        SettingsError: a formula has more atoms than allowed.
    """
    del seed, mechanics
    for text in settings.formulas:
        check_size(text, settings.atoms)

    def draw(formula: str, number: int, rng: np.random.Generator) -> Draft:
        del number
        group = space_group(int(rng.integers(settings.groups[0], settings.groups[1], endpoint=True)))
        numbers = np.repeat(composition(formula, settings.atoms, rng), group.centrings)
        volume = settings.volume or reference_volume(numbers)
        density = between(rng, settings.density)
        cell = random_cell(group, rng)
        cell *= (volume * len(numbers) / density / abs(np.linalg.det(cell))) ** (1 / 3)
        atoms = pushed(group, placed(group, numbers, cell, rng))
        return Draft(primitive(atoms), {"group": group.number, "density": rounded(density)}, volume)

    return Recipe(settings.formulas, lambda k: settings.formulas[k], draw)


@cache
def settings_of_groups() -> dict[int, int]:
    """Number of each space group -> number of its first setting in spglib's tables (Hall number)."""
    out: dict[int, int] = {}
    for hall in range(1, 531):
        kind = spglib.get_spacegroup_type(hall)
        assert kind is not None, "the tables are complete"
        out.setdefault(int(kind.number), hall)
    return out


@cache
def space_group(number: int) -> Group:
    """A space group in its first setting of spglib's tables."""
    found = spglib.get_symmetry_from_database(settings_of_groups()[number])
    assert found is not None, "every space group is in the tables"
    return Group(number, found["rotations"].astype(int), found["translations"])


def random_cell(group: Group, rng: np.random.Generator) -> np.ndarray:
    """A cell [3, 3] (rows are vectors) that the group allows, with edges of about 1."""
    edges = np.diag(rng.uniform(0.6, 1.6, 3)) @ (np.eye(3) + 0.3 * rng.normal(size=(3, 3)))
    metric = edges @ edges.T
    metric = np.einsum("mki,kl,mlj->ij", group.rotations, metric, group.rotations) / len(group.rotations)
    return np.asarray(np.linalg.cholesky(metric))


def placed(group: Group, numbers: np.ndarray, cell: np.ndarray, rng: np.random.Generator) -> Atoms:
    """Atoms on random sites.

    Raises:
        Refused: the multiplicities that came up do not add up to the numbers of atoms.
    """
    places: list[np.ndarray] = []
    order: list[int] = []
    for z, count in zip(*np.unique(numbers, return_counts=True), strict=True):
        left = int(count)
        for _ in range(TRIES):
            if not left:
                break
            x = special_point(group, rng)
            if multiplicity(group, x) <= left:
                site = orbit(group, x)
                places.append(site)
                order += [int(z)] * len(site)
                left -= len(site)
        if left:
            raise Refused("sites do not add up")
    return Atoms(order, scaled_positions=np.concatenate(places), cell=cell, pbc=True)


def pushed(group: Group, atoms: Atoms) -> Atoms:
    """Atoms pushed apart; the mean of their displacements over all operations has the symmetry to the last digit.

    Raises:
        Refused: two atoms are on one site.
    """
    x = atoms.get_scaled_positions()
    apart = np.abs((x[:, None] - x[None] + 0.5) % 1.0 - 0.5).max(axis=2) + np.eye(len(x))
    if apart.min() < SAME_SITE:
        raise Refused("two atoms on one site")
    out = push_apart(atoms, PUSHED)
    moved = (out.positions - atoms.positions) @ np.linalg.inv(atoms.cell.array)
    mean = np.zeros_like(moved)
    for w, t in zip(group.rotations, group.translations, strict=True):
        to = ((x @ w.T + t)[:, None] - x[None] + 0.5) % 1.0 - 0.5
        image = np.abs(to).max(axis=2).argmin(axis=1)
        mean += moved[image] @ np.linalg.inv(w).T
    out.set_scaled_positions(x + mean / len(group.rotations))
    return out


def special_point(group: Group, rng: np.random.Generator) -> np.ndarray:
    """A random point, moved onto fixed points of up to three random operations, as fractions, [3]."""
    x = rng.random(3)
    for k in rng.integers(len(group.rotations), size=int(rng.integers(0, 4))):
        w, t = group.rotations[k], group.translations[k]
        still = np.eye(3) - w
        shift = t + np.rint(x - w @ x - t)
        nearest = x + np.linalg.pinv(still) @ (shift - still @ x)
        if np.abs(still @ nearest - shift).max() < EXACT:  # a screw axis or glide plane has no fixed points
            x = nearest
    return x


def multiplicity(group: Group, x: np.ndarray) -> int:
    """Different images of a point: order of the group over the number of operations that keep it."""
    kept = np.abs((group.rotations @ x + group.translations - x + 0.5) % 1.0 - 0.5).max(axis=1) < EXACT
    return len(kept) // int(kept.sum())


def orbit(group: Group, x: np.ndarray) -> np.ndarray:
    """A point and all its images, as fractions, [multiplicity, 3]."""
    images = (group.rotations @ x + group.translations) % 1.0
    apart = np.abs((images[:, None] - images[None] + 0.5) % 1.0 - 0.5).max(axis=2)
    first = (apart < EXACT).argmax(axis=1) == np.arange(len(images))
    return np.asarray(images[first])
