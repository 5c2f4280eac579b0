"""Variable composition: whole numbers of end members, such as Cu-Au, Li-Fe-O or TiO2-Ti2O3, within a range of atoms.

Letters of shapes: E end members, X elements, C compositions that are allowed, each as the atoms of one cell.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rutile.core.elements import symbol
from rutile.core.errors import SettingsError
from rutile.search.settings import CrystalSearch, atoms_of, end_members

MOST = 100_000
"""Compositions that are allowed at most."""
EXACT = 1e-9
"""What rounding leaves of whole numbers and parts of one."""


class Compositions:
    """What a search of variable composition may make.

    Args:
        formula: end members with "-" between them, such as Cu-Au.
        settings: range of atoms, and the compositions that are allowed.

    Raises:
        SettingsError: an end member cannot be read, is given twice, is a mixture of others, or does not fit into the
            range; a composition is none of the end members; nothing is allowed.
    """

    elements: tuple[int, ...]
    """Atomic numbers, ascending, [X]."""
    units: np.ndarray
    """Atoms of each element in each end member, [E, X]."""
    allowed: np.ndarray
    """Atoms of each element in a cell, [C, X]."""

    def __init__(self, formula: str, settings: CrystalSearch) -> None:
        self.names = end_members(formula)
        if len(self.names) < 2 or not all(self.names):
            raise SettingsError(f"formula={formula}: a variable composition needs two end members, such as Cu-Au")
        members = [atoms_of(name) for name in self.names]
        self._as_written = tuple(dict.fromkeys(z for m in members for z in m))
        self.elements = tuple(sorted(self._as_written))
        self.units = np.array([[m.get(z, 0) for z in self.elements] for m in members])
        if np.linalg.matrix_rank(self.units) < len(members):
            raise SettingsError(
                f"formula={formula}: the end members are not independent (one is given twice, or is a mixture of "
                "others, which the search makes anyway): leave it out"
            )
        self.settings = settings
        self.allowed = self._in_range()
        if settings.compositions:
            self.allowed = self._only(settings.compositions)
        self._of_kind: dict[tuple[int, ...], list[int]] = {}
        for number, row in enumerate(self.allowed):
            self._of_kind.setdefault(self.kind(row), []).append(number)
        self._kinds = sorted(self._of_kind)

    @property
    def most(self) -> int:
        """Atoms in a cell at most."""
        return self.settings.atoms[1]

    def _in_range(self) -> np.ndarray:
        low, high = self.settings.atoms
        sizes = self.units.sum(1)
        for name, size in zip(self.names, sizes, strict=True):
            if not any(low <= k * size <= high for k in range(1, high + 1)):
                raise SettingsError(
                    f"structure.atoms=[{low}, {high}] allows no crystal of {name}, whose unit has {size} atoms; its "
                    "energy is needed for the hull: give a range with a multiple of that"
                )
        numbers = np.zeros((1, 0), dtype=int)
        for k, size in enumerate(sizes):
            times = (high - numbers @ sizes[:k]) // size + 1  # of this end member that still fit, with none of it
            if times.sum() > MOST:
                raise SettingsError(
                    f"structure.atoms=[{low}, {high}]: more than {MOST} compositions; narrow the range, or take fewer "
                    "end members"
                )
            column = np.concatenate([np.arange(many) for many in times])
            numbers = np.column_stack([np.repeat(numbers, times, axis=0), column])
        return np.asarray(numbers[numbers @ sizes >= max(low, 1)] @ self.units)

    def _only(self, formulas: Sequence[str]) -> np.ndarray:
        """Of the compositions in range those that are named, and the end members."""
        wanted = {self.kind(row) for row in self.units}
        known = {self.kind(row) for row in self.allowed}
        for text in formulas:
            given = atoms_of(text)
            row = np.array([given.get(z, 0) for z in self.elements])
            if set(given) - set(self.elements) or (self.parts(row) < -EXACT).any():
                raise SettingsError(f"structure.compositions: {text} is no mixture of {' and '.join(self.names)}")
            if self.kind(row) not in known:
                low, high = self.settings.atoms
                raise SettingsError(f"structure.compositions: no cell of {text} has {low} to {high} atoms")
            wanted.add(self.kind(row))
        return self.allowed[[self.kind(row) in wanted for row in self.allowed]]

    def counts(self, numbers: np.ndarray) -> np.ndarray:
        """Atoms of each element, [X], among atomic numbers [N]."""
        return np.array([(numbers == z).sum() for z in self.elements])

    def kind(self, counts: np.ndarray) -> tuple[int, ...]:
        """The composition whatever the size of the cell: counts [X] without common divisor."""
        return tuple(int(n) for n in counts // np.gcd.reduce(counts))

    def parts(self, counts: np.ndarray) -> np.ndarray:
        """Part of the atoms that belongs to each end member, [E]; negative: it is no mixture; for counts [X]."""
        numbers, _, _, _ = np.linalg.lstsq(self.units.T.astype(float), counts.astype(float), rcond=None)
        if np.abs(numbers @ self.units - counts).max() > 1e-6:
            return np.full(len(self.units), -1.0)
        parts = numbers * self.units.sum(1) / counts.sum()
        parts[np.abs(parts) < EXACT] = 0.0
        return np.asarray(parts / parts.sum())

    def allows(self, numbers: np.ndarray) -> bool:
        """Whether atoms [N] have an allowed composition; cells may be smaller than the range says, not larger."""
        if not len(numbers) or len(numbers) > self.most or set(numbers.tolist()) - set(self.elements):
            return False
        return self.kind(self.counts(numbers)) in self._of_kind

    def draw(self, rng: np.random.Generator, ends: float) -> np.ndarray:
        """Counts [X] of a new cell: every composition is as likely, whatever its number of cells.

        Args:
            rng: random numbers.
            ends: part of the cells that are of an end member.
        """
        if rng.random() < ends:
            kind = self.kind(self.units[rng.integers(len(self.units))])
        else:
            kind = self._kinds[rng.integers(len(self._kinds))]
        return np.asarray(self.allowed[rng.choice(self._of_kind[kind])])

    def nearest(self, counts: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The allowed counts [X] with the fewest atoms added and removed; of several one at random."""
        steps = np.abs(self.allowed - counts).sum(1)
        return np.asarray(self.allowed[rng.choice(np.flatnonzero(steps == steps.min()))])

    def near(self, counts: np.ndarray, sign: int, rng: np.random.Generator) -> np.ndarray | None:
        """Allowed counts [X] near to others, likelier the nearer; None: there are none.

        Args:
            counts: [X].
            sign: 1: atoms are only added, -1: only removed, 0: as many atoms, other elements.
            rng: random numbers.
        """
        change = self.allowed - counts
        good = (change * sign >= 0).all(1) & change.any(1) if sign else (change.sum(1) == 0) & change.any(1)
        rows = np.flatnonzero(good)
        if not len(rows):
            return None
        weight = 1.0 / np.abs(change[rows]).sum(1) ** 2
        return np.asarray(self.allowed[rng.choice(rows, p=weight / weight.sum())])

    def name(self, counts: np.ndarray) -> str:
        """The composition as a formula, such as Cu3Au, for counts [X]."""
        kind = dict(zip(self.elements, self.kind(counts), strict=True))
        return "".join(symbol(z) + (str(kind[z]) if kind[z] > 1 else "") for z in self._as_written if kind[z])
