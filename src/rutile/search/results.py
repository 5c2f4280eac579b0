"""What a search found: different structures, lowest first, how often each, and where it comes from."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from ase import Atoms

from rutile.core.errors import GeometryError
from rutile.search.fingerprint import apart, fingerprint
from rutile.search.individual import PART, Found
from rutile.search.past import Done, Past
from rutile.search.point_groups import point_group_of
from rutile.search.population import ON_HULL
from rutile.search.ranking import ByEnergy, Ranking
from rutile.search.settings import PoolSettings
from rutile.structures.symmetry import SYMPREC, describe_crystal

MOST_MARKS = 3000
"""Fingerprints that are kept between two tables."""


@dataclass(frozen=True)
class Distinct:
    """One structure."""

    found: Found
    """Its lowest copy."""
    numbers: tuple[int, ...]
    """Of all copies."""

    @property
    def first(self) -> int:
        """Number of the first copy."""
        return min(self.numbers)

    @property
    def hits(self) -> int:
        """Copies in all."""
        return len(self.numbers)


def distinct(
    done: Iterable[Done], atoms: Callable[[int], Atoms], settings: PoolSettings, distance: float, window: float,
    most: int, ranking: Ranking | None = None, marks: Marks | None = None,
) -> list[Distinct]:  # fmt: skip
    """Different structures, lowest first.

    Args:
        done: all that was relaxed.
        atoms: gives a structure by its number.
        settings: when two structures are the same.
        distance: usual distance of neighbours (Angstrom).
        window: how far above the lowest one they may be (eV/atom).
        most: how many; of variable composition all on the hull in any case.
        ranking: what is low; default: what has a low energy.
        marks: fingerprints that are known; new ones are added.
    """
    order, known_marks = ranking or ByEnergy(), Marks() if marks is None else marks
    ranked = sorted((order.of(d, d.energy), d.number, d) for d in done if not d.failure)
    elements = sorted({int(z) for _, _, d in ranked for z in np.unique(d.numbers)})
    kept: list[Found] = []
    copies: list[list[int]] = []
    highest = -np.inf
    for rank, number, one in ranked:
        whole = len(kept) >= most and not (order.places > 1 and rank <= ON_HULL)
        if rank > ranked[0][0] + window or (whole and rank > highest + settings.same_energy):
            break
        image: Atoms | None = None
        if (mark := known_marks.get(number, len(elements))) is None:
            image = atoms(number)
            mark = known_marks.add(number, len(elements), fingerprint(image, distance, elements))
        kind = order.kind(one)
        for known, numbers in zip(reversed(kept), reversed(copies), strict=True):
            near = one.energy - known.energy < settings.same_energy
            if near and order.kind(known.atoms) == kind and apart(known.fingerprint, mark) < settings.same:
                numbers.append(number)
                break
        else:
            if not whole:
                kept.append(Found(number, image or atoms(number), one.energy, one.operator, one.parents, mark))
                copies.append([number])
                highest = rank
    return [Distinct(found, tuple(numbers)) for found, numbers in zip(kept, copies, strict=True)]


class Marks:
    """Fingerprints of structures that were read, by number: those that were asked for last."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[int, int], np.ndarray] = OrderedDict()

    def get(self, number: int, elements: int) -> np.ndarray | None:
        """The fingerprint that knows so many elements; None: it is not here."""
        mark = self._known.get((number, elements))
        if mark is not None:
            self._known.move_to_end((number, elements))
        return mark

    def add(self, number: int, elements: int, mark: np.ndarray) -> np.ndarray:
        """One more; gives it."""
        self._known[number, elements] = mark
        if len(self._known) > MOST_MARKS:
            self._known.popitem(last=False)
        return mark


def symmetry_of(atoms: Atoms, symprec: float = SYMPREC) -> str:
    """Space group of a crystal or a slab, point group of a cluster (Schoenflies); "" where none is found.

    Args:
        atoms: crystal, slab or cluster.
        symprec: distance (Angstrom) within which atoms of crystals are taken for symmetric.
    """
    if not atoms.pbc.any():
        return point_group_of(atoms)
    if PART in atoms.arrays:
        atoms = Atoms(atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=True)
    try:
        return describe_crystal(atoms, symprec).spacegroup
    except GeometryError:
        return ""


def lineage(number: int, past: Past) -> list[Done]:
    """A structure and all it descends from, the youngest first, each once."""
    out: dict[int, Done] = {}
    waiting = [number]
    while waiting:
        k = waiting.pop()
        if k in out or k not in past:
            continue
        out[k] = past[k]
        waiting += out[k].parents
    return [out[k] for k in sorted(out, reverse=True)]
