"""Cut and splice of crystals: a slab of one parent, the rest of the other, in a cell between theirs.

Source: A. R. Oganov and C. W. Glass, J. Chem. Phys. 124, 244704 (2006), doi:10.1063/1.2210932.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.geometry import get_distances

from rutile.build.recipe import Refused
from rutile.search.compositions import Compositions
from rutile.search.operators.operator import Breed, Operator
from rutile.search.operators.sizes import enlarged, matched, resized

LEAST = 0.25
"""The slab is at least this part of the cell."""


@dataclass(frozen=True)
class Cut:
    """Where two crystals are cut, in a cell between theirs."""

    cell: np.ndarray
    """[3, 3] (Angstrom)."""
    one: np.ndarray
    """Fractions of the first parent's atoms, [N, 3]."""
    other: np.ndarray
    """Of the second one's."""
    in_one: np.ndarray
    """Atoms of the first that are taken, [N] bool."""
    in_other: np.ndarray
    """Atoms of the second that are."""

    @property
    def atoms(self) -> int:
        """How many are taken, before the composition is mended."""
        return int(self.in_one.sum() + self.in_other.sum())


def splice(parents: list[Atoms], breed: Breed, rng: np.random.Generator) -> Atoms:
    """Cut normal to a random cell vector, at random origins of both parents.

    The composition is that of the first; where it is variable, the smaller parent is repeated to the size of the other,
    and the composition is the allowed one nearest to what the cut gives.
    """
    if breed.compositions is not None:
        parents = matched([enlarged(parents[0], breed.mixture.most, rng), parents[1]])
    return built(parents, draw(parents, rng), rng, breed.compositions)


def draw(parents: list[Atoms], rng: np.random.Generator) -> Cut:
    """A random cut."""
    one, other = parents
    weight, axis = rng.random(), int(rng.integers(3))
    cell = _between(one.cell.array, other.cell.array, weight)
    size = (abs(one.cell.volume) / len(one)) ** weight * (abs(other.cell.volume) / len(other)) ** (1 - weight)
    cell *= (size * len(one) / abs(np.linalg.det(cell))) ** (1 / 3)
    x, y = (_shifted(a, axis, rng) for a in (one, other))
    cut = rng.uniform(LEAST, 1 - LEAST)
    return Cut(cell, x, y, x[:, axis] < cut, y[:, axis] >= cut)


def built(parents: list[Atoms], cut: Cut, rng: np.random.Generator, allowed: Compositions | None = None) -> Atoms:
    """The child of a cut, with the composition of the first parent, or the nearest of those that are allowed.

    Raises:
        Refused: an element runs out.
    """
    one, other = parents
    places = np.concatenate([cut.one[cut.in_one], cut.other[cut.in_other]])
    numbers = np.concatenate([one.numbers[cut.in_one], other.numbers[cut.in_other]])
    spare = np.concatenate([cut.one[~cut.in_one], cut.other[~cut.in_other]])
    spare_numbers = np.concatenate([one.numbers[~cut.in_one], other.numbers[~cut.in_other]])
    wanted = one.numbers
    if allowed is not None:
        wanted = np.repeat(allowed.elements, allowed.nearest(allowed.counts(numbers), rng))
    places, numbers = _composed(places, numbers, spare, spare_numbers, wanted, cut.cell, rng)
    child = Atoms(numbers, scaled_positions=places % 1.0, cell=cut.cell, pbc=True)
    return child if allowed is None else resized(child, one.numbers)


def _between(one: np.ndarray, other: np.ndarray, weight: float) -> np.ndarray:
    """A cell between two, both as lower triangles so that their orientation does not count."""
    lower = [np.linalg.cholesky(c @ c.T) for c in (one, other)]
    return np.asarray(weight * lower[0] + (1 - weight) * lower[1])


def _shifted(atoms: Atoms, axis: int, rng: np.random.Generator) -> np.ndarray:
    """Fractions from a random origin; along the other axes the parents keep their places half of the time."""
    shift = np.zeros(3)
    shift[axis] = rng.random()
    if rng.random() < 0.5:
        shift = rng.random(3)
    return np.asarray((atoms.get_scaled_positions() + shift) % 1.0)


def _composed(
    places: np.ndarray, numbers: np.ndarray, spare: np.ndarray, spare_numbers: np.ndarray, wanted: np.ndarray,
    cell: np.ndarray, rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """With the wanted composition: the most crowded atoms leave, spare ones with most room come."""
    keep = np.ones(len(numbers), dtype=bool)
    for z in np.unique([*numbers, *wanted]):
        over = int((numbers == z).sum() - (wanted == z).sum())
        for _ in range(over):
            mine = np.flatnonzero(keep & (numbers == z))
            room = nearest_of(places[mine], places[keep], cell, own=True)
            keep[mine[np.argmin(room + rng.uniform(0, 0.1, len(mine)))]] = False
    places, numbers = places[keep], numbers[keep]
    for z in np.unique(wanted):
        for _ in range(int((wanted == z).sum() - (numbers == z).sum())):
            mine = np.flatnonzero(spare_numbers == z)
            if not len(mine):
                raise Refused("composition")
            best = mine[np.argmax(nearest_of(spare[mine], places, cell, own=False))] if len(places) else mine[0]
            places, numbers = np.vstack([places, spare[best]]), np.append(numbers, z)
            spare, spare_numbers = np.delete(spare, best, 0), np.delete(spare_numbers, best)
    return places, numbers


def nearest_of(places: np.ndarray, others: np.ndarray, cell: np.ndarray, own: bool) -> np.ndarray:
    """Distance of each place to the nearest other one (Angstrom); `own`: they are among the others."""
    _, d = get_distances(places @ cell, others @ cell, cell=cell, pbc=True)
    return np.asarray(np.sort(d, axis=1)[:, 1 if own and d.shape[1] > 1 else 0])


OPERATOR = Operator("heredity", 2, splice)
