"""What counts as low: the energy, or, of variable composition, the energy above the convex hull of all that is known.

A hull moves as structures come, and the ranks of those that are there already move with it.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Protocol

import numpy as np

from rutile.search.compositions import Compositions
from rutile.simulate.hull import chemical_potentials

LOWERED = 1e-4
"""A hull that a structure lowers by less (eV/atom) counts as unchanged."""
NOTHING = 1e-9
"""What rounding leaves of energies (eV/atom)."""
UNKNOWN = 10.0
"""Energy (eV/atom) above the highest known one, of end members that were not found yet."""


class Made(Protocol):
    """A structure, or what is known of one."""

    @property
    def numbers(self) -> np.ndarray:
        """Atomic numbers, [N]."""
        ...


class Ranking(Protocol):
    """Puts structures in order."""

    places: int
    """Pools are so many times larger than their settings say."""

    def take(self, atoms: Made, energy: float) -> bool:
        """Learn of a structure with its energy (eV/atom); says whether it is better than all before."""
        ...

    def of(self, atoms: Made, energy: float) -> float:
        """How high a structure is (eV/atom); the lowest come first."""
        ...

    def kind(self, atoms: Made) -> Hashable:
        """Structures of different kinds are never alike."""
        ...

    def clear(self) -> None:
        """Forget all that was taken."""
        ...

    def again(self) -> Ranking:
        """Another one of the same kind, to which nothing is known."""
        ...


class ByEnergy:
    """One composition: by energy."""

    places = 1

    def __init__(self) -> None:
        self.lowest = float("inf")

    def take(self, atoms: Made, energy: float) -> bool:
        """See `Ranking`."""
        del atoms
        lower = energy < self.lowest
        self.lowest = min(self.lowest, energy)
        return lower

    def of(self, atoms: Made, energy: float) -> float:
        """The energy."""
        del atoms
        return energy

    def kind(self, atoms: Made) -> Hashable:
        """All are of one."""
        del atoms
        return None

    def clear(self) -> None:
        """See `Ranking`."""
        self.lowest = float("inf")

    def again(self) -> ByEnergy:
        """See `Ranking`."""
        return ByEnergy()


class AboveHull:
    """Variable composition: by energy above the convex hull of all that was taken.

    Args:
        compositions: of the search.
    """

    def __init__(self, compositions: Compositions) -> None:
        self.compositions = compositions
        self.places = len(compositions.units)
        self._parts: dict[tuple[int, ...], np.ndarray] = {}
        self._lowest: dict[tuple[int, ...], float] = {}
        self._planes: np.ndarray | None = None

    def clear(self) -> None:
        """See `Ranking`."""
        self._lowest, self._planes = {}, None

    def again(self) -> AboveHull:
        """See `Ranking`."""
        return AboveHull(self.compositions)

    @property
    def missing(self) -> list[str]:
        """End members that were not found yet; until then they stand far above all that is known."""
        kinds = [self.compositions.kind(row) for row in self.compositions.units]
        return [n for n, k in zip(self.compositions.names, kinds, strict=True) if k not in self._lowest]

    def take(self, atoms: Made, energy: float) -> bool:
        """Says whether it lowers the hull by more than `LOWERED`."""
        kind = self.kind(atoms)
        below = self._height(kind) - energy
        if energy < self._lowest.get(kind, np.inf):
            self._lowest[kind] = energy
            if below > 0:
                self._planes = None
        return bool(below > LOWERED)

    def of(self, atoms: Made, energy: float) -> float:
        """Energy above the hull; 0: on it."""
        above = energy - self._height(self.kind(atoms))
        return above if above > NOTHING else 0.0

    def formation(self, atoms: Made, energy: float) -> float:
        """Energy of formation from the lowest end members (eV/atom)."""
        ends = np.array([self._energy_of_end(row) for row in self.compositions.units])
        return float(energy - self._parts_of(self.kind(atoms)) @ ends)

    def kind(self, atoms: Made) -> tuple[int, ...]:
        """The composition, whatever the size of the cell."""
        return self.compositions.kind(self.compositions.counts(atoms.numbers))

    def name(self, atoms: Made) -> str:
        """The composition as a formula."""
        return self.compositions.name(self.compositions.counts(atoms.numbers))

    def parts(self, atoms: Made) -> np.ndarray:
        """Part of the atoms that belongs to each end member, [E]."""
        return self._parts_of(self.kind(atoms))

    def _parts_of(self, kind: tuple[int, ...]) -> np.ndarray:
        if kind not in self._parts:
            self._parts[kind] = self.compositions.parts(np.array(kind))
        return self._parts[kind]

    def _energy_of_end(self, row: np.ndarray) -> float:
        """Lowest (eV/atom); far above all where it was not found."""
        return self._lowest.get(self.compositions.kind(row), max(self._lowest.values(), default=0.0) + UNKNOWN)

    def _height(self, kind: tuple[int, ...]) -> float:
        """Of the hull (eV/atom) at a composition."""
        if not self._lowest:
            return float("inf")
        if self._planes is None:
            ends = [self._energy_of_end(row) for row in self.compositions.units]
            parts = [*np.eye(self.places), *(self._parts_of(k) for k in self._lowest)]
            self._planes = chemical_potentials(np.array(parts), np.array([*ends, *self._lowest.values()]))
        return float((self._planes @ self._parts_of(kind)).max())
