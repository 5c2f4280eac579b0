"""Ranges of the surroundings that training structures had, and which atoms of another structure lie outside them.

Of every atom a of element A and every element B two numbers are looked at: its smallest distance to an atom of B, and
how many of these it has nearby, n = sum over them of w(d), w(d) = (1 + cos(pi d / R)) / 2 within R = 5 Angstrom, a
count that does not jump. A potential interpolates at best between the smallest distance and the fewest and most
neighbours that A had of B in training; an atom beyond them is one of which it has learned nothing. It costs no
PyTorch, holds for every architecture, and finds what goes wrong most often: a surface by a potential of bulk, a
high pressure, a bond between elements that never met. An atom within the ranges may still be unlike the training data.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from rutile.core.elements import symbol
from rutile.core.settings import Result

CUTOFF = 5.0
"""R (Angstrom)."""
NEARER = 0.03
"""So much smaller than the smallest distance of training, relatively, is still inside: structures vibrate."""
BEYOND = 0.1
"""Part of the range of n (or `LEAST`, if that is more) by which it is widened on both sides."""
LEAST = 0.2
"""Smallest widening of the range of n: one atom at 3.5 Angstrom counts as much."""
DIGITS = 4


class Geometry(Protocol):
    """A structure."""

    @property
    def numbers(self) -> np.ndarray:
        """Atomic numbers [N]."""

    @property
    def positions(self) -> np.ndarray:
        """[N, 3] (Angstrom)."""

    @property
    def cell(self) -> np.ndarray:
        """[3, 3], rows are vectors (Angstrom)."""

    @property
    def pbc(self) -> np.ndarray:
        """[3] bool."""


@dataclass(frozen=True)
class Strange:
    """What of a structure lies outside."""

    atoms: int
    """Atoms outside the ranges."""
    of: int
    """Atoms of the structure."""
    why: str
    """What holds for most of them, in words; "": none is outside."""

    @property
    def text(self) -> str:
        """A sentence for whoever is about to use the potential; "": none is outside."""
        if not self.atoms:
            return ""
        return (
            f"{self.atoms} of {self.of} atoms are unlike all that the potential was trained on ({self.why}): "
            "what it says of them may be far off"
        )


class Surroundings(Result):
    """Ranges for every pair of elements: "O-Ti" is of the Ti around O."""

    ranges: dict[str, tuple[float, float, float]]
    """Smallest distance (Angstrom), fewest and most neighbours n; pairs that never met are not there."""
    frames: int
    """Structures that were looked at."""

    @classmethod
    def of(cls, structures: Iterable[Geometry]) -> Surroundings:
        """Ranges of the surroundings in some structures."""
        found: dict[tuple[int, int], tuple[float, float, float]] = {}
        seen: set[int] = set()
        count = 0
        for count, one in enumerate(structures, 1):  # noqa: B007
            elements, place, nearest, nearby = _looked_at(one)
            for a, center in enumerate(elements):
                rows = place == a
                new = center not in seen
                seen.add(center)
                partners = {*elements, *(pair[1] for pair in found if pair[0] == center)}
                for partner in partners:
                    here = elements.index(partner) if partner in elements else None
                    least = np.inf if here is None else float(nearest[rows, here].min())
                    n = np.zeros(1) if here is None else nearby[rows, here]
                    old = found.get((center, partner), (np.inf, np.inf if new else 0.0, 0.0))
                    found[center, partner] = (
                        min(old[0], least), min(old[1], float(n.min())), max(old[2], float(n.max()))
                    )  # fmt: skip
        kept = {
            f"{symbol(a)}-{symbol(b)}": (round(d, DIGITS), round(low, DIGITS), round(high, DIGITS))
            for (a, b), (d, low, high) in sorted(found.items())
            if np.isfinite(d)
        }
        return cls(ranges=kept, frames=count)

    @property
    def elements(self) -> set[str]:
        """Symbols of the elements that met others."""
        return {name for pair in self.ranges for name in pair.split("-")}

    def strange(self, one: Geometry) -> Strange:
        """Atoms of a structure outside the ranges."""
        elements, place, nearest, nearby = _looked_at(one)
        names = [symbol(z) for z in elements]
        outside = np.zeros(len(place), bool)
        why: Counter[str] = Counter()
        for a, center in enumerate(names):
            rows = np.flatnonzero(place == a)
            partners = {*names, *(pair.split("-")[1] for pair in self.ranges if pair.split("-")[0] == center)}
            for partner in sorted(partners):
                here = names.index(partner) if partner in names else None
                d = np.full(len(rows), np.inf) if here is None else nearest[rows, here]
                n = np.zeros(len(rows)) if here is None else nearby[rows, here]
                for text, wrong in self._judged(center, partner, d, n):
                    outside[rows[wrong]] = True
                    why[text] += int(wrong.sum())
        worst = why.most_common(1)
        return Strange(int(outside.sum()), len(place), worst[0][0] if outside.any() else "")

    def _judged(self, center: str, partner: str, d: np.ndarray, n: np.ndarray) -> Iterable[tuple[str, np.ndarray]]:
        """What may be wrong with the partners of some atoms, in words, and with which of the atoms it is."""
        known = self.ranges.get(f"{center}-{partner}")
        if known is None:
            yield f"{center} has {partner} nearby, which never were in training", n > LEAST
            return
        closest, fewest, most = known
        margin = max(LEAST, BEYOND * (most - fewest))
        nearer = d < closest * (1 - NEARER)
        if nearer.any():
            yield f"{center} and {partner} are {d.min():.2f} Å apart, never below {closest:.2f} Å in training", nearer
        yield f"{center} has fewer {partner} nearby than ever in training", n < fewest - margin
        yield f"{center} has more {partner} nearby than ever in training", n > most + margin


def _looked_at(one: Geometry) -> tuple[list[int], np.ndarray, np.ndarray, np.ndarray]:
    """Elements [E] that occur, the place of each atom among them [N], smallest distances and counts n [N, E]."""
    import vesin

    elements, place = np.unique(np.asarray(one.numbers), return_inverse=True)
    i, j, d = vesin.NeighborList(cutoff=CUTOFF, full_list=True, n_threads=1).compute(
        points=np.asarray(one.positions, float), box=np.asarray(one.cell, float), periodic=np.asarray(one.pbc, bool),
        quantities="ijd",
    )  # fmt: skip
    shape = len(place), len(elements)
    where = i.astype(np.int64) * len(elements) + place[j.astype(np.int64)]
    weights = 0.5 * (1.0 + np.cos(np.pi * d / CUTOFF))
    nearby = np.bincount(where, weights, minlength=shape[0] * shape[1]).reshape(shape)
    nearest = np.full(shape[0] * shape[1], np.inf)
    np.minimum.at(nearest, where, d)
    return elements.tolist(), place, nearest.reshape(shape), nearby
