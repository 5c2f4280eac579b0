"""Finding frames that repeat an earlier one, whatever symmetry operation lies between them.

Each frame has four sums (see `structures.fingerprint`) with a cutoff of 4 Angstrom. Frames of one
composition whose sums agree to 5e-6 and whose energies agree are duplicates. Frames whose sums agree to 2e-8 have, but
for rare coincidences, the same geometry: with energies that differ, one label is wrong, or the reference method depends
on more than the geometry (magnetic states).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rutile.core import elements
from rutile.data.frames import Frame
from rutile.structures import fingerprint
from rutile.structures.fingerprint import Pairs, pairs_within

CUTOFF = 4.0
"""Radius of the pairs that are looked at (Angstrom)."""
REMEMBERED = 300_000
"""Frames remembered; later ones are compared with them, not with each other."""
MOST_ALIKE = 100
"""Frames with nearly the same sums that are remembered."""
LISTED = 20
"""Pairs that are listed; all are counted."""
SAME_ENERGY = 2e-5
"""Two energies of the same frame differ by no more than this (eV), or by 1e-6 eV/atom."""
LIKE, SAME = 5e-6, 2e-8
"""Relative differences of the sums of two frames that are alike, and the same."""
CONTRADICTION = 5e-3
"""Two energies of the same geometry that differ by more (eV/atom) contradict each other."""


def close_pairs(frame: Frame) -> Pairs:
    """Every pair of atoms (or of an atom and an image) nearer than CUTOFF."""
    return pairs_within(frame.positions, frame.cell, frame.pbc, CUTOFF)


def geometry_sums(frame: Frame, pairs: Pairs) -> tuple[float, ...]:
    """Four sums that do not change with symmetry operations; see `structures.fingerprint`."""
    return fingerprint.geometry_sums(frame.numbers, frame.positions, frame.pbc, pairs, CUTOFF)


@dataclass(frozen=True)
class _Seen:
    """What is remembered of a frame to recognise it."""

    sums: tuple[float, ...]
    energy: float | None
    where: str


class Recogniser:
    """Takes frames one by one and says which of them repeat an earlier one; memory is bounded."""

    def __init__(self) -> None:
        self.duplicates: list[str] = []
        """The first pairs of frames that are the same."""
        self.n_duplicates = 0
        self.contradictions: list[str] = []
        """The first pairs of the same geometry with different energies."""
        self.n_contradictions = 0
        self.shared: dict[tuple[str, str], tuple[set[str], set[str]]] = {}
        """Two files -> frames of the first, and of the second, that are in both."""
        self._seen: dict[tuple[str, int], list[_Seen]] = {}
        self._count = 0

    @property
    def full(self) -> bool:
        """Whether no further frames are remembered."""
        return self._count >= REMEMBERED

    def add(self, frame: Frame, pairs: Pairs, where: str) -> str:
        """Look for an earlier frame with the same geometry, and remember this one; where that is, "" without one."""
        n = len(frame.numbers)
        if n > 1 and frame.pbc.any() and not len(pairs[2]):
            return ""  # too dilute to be told apart
        sums = geometry_sums(frame, pairs)
        formula = elements.formula(frame.numbers) + ("" if frame.pbc.any() else " molecule")
        key = (formula, int(np.floor(np.log(max(abs(sums[0]), 1e-3)) / (10 * LIKE))))
        for near in (key[1] - 1, key[1], key[1] + 1):
            for other in self._seen.get((formula, near), ()):
                difference = max(abs(a - b) / max(abs(a), 1e-3) for a, b in zip(sums, other.sums, strict=True))
                if difference <= LIKE and self._repeats(frame, other, difference, where):
                    return other.where
        alike = self._seen.setdefault(key, [])
        if len(alike) < MOST_ALIKE and self._count < REMEMBERED:
            alike.append(_Seen(sums, frame.energy, where))
            self._count += 1
        return ""

    def _repeats(self, frame: Frame, other: _Seen, difference: float, where: str) -> bool:
        """Whether a frame with nearly the sums of an earlier one repeats it; notes contradictions."""
        if frame.energy is None or other.energy is None:
            if difference <= SAME:
                self._note(f"{where} = {other.where} (no energies to compare)")
            return difference <= SAME
        size = len(frame.numbers)
        apart = abs(frame.energy - other.energy)
        if apart <= max(SAME_ENERGY, 1e-6 * size):
            self._note(f"{where} = {other.where}")
            files = other.where.rsplit(" frame ")[0], where.rsplit(" frame ")[0]
            if files[0] != files[1]:
                earlier, later = self.shared.setdefault(files, (set(), set()))
                earlier.add(other.where)
                later.add(where)
            return True
        if difference <= SAME and apart > CONTRADICTION * size:
            self.n_contradictions += 1
            if len(self.contradictions) < LISTED:
                self.contradictions.append(f"{where} and {other.where} ({apart / size:.3g} eV/atom)")
        return False

    def _note(self, pair: str) -> None:
        self.n_duplicates += 1
        if len(self.duplicates) < LISTED:
            self.duplicates.append(pair)
