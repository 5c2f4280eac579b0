"""What became of all structures of a search, in some forty bytes for each: the structures themselves stay in its log.

A search of weeks makes millions of structures. Of those that are in no pool any more only this is needed: what made
them, of whom, and how low they are; a structure is read back where one is wanted.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from ase import Atoms

NONE = -1
"""In the place of a number that there is not."""
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Done:
    """A relaxed structure, without its atoms."""

    number: int
    """Its place in the order of all that were made."""
    operator: str
    """What made it."""
    parents: tuple[int, ...]
    """Numbers of the structures it was made from."""
    energy: float
    """Energy, or enthalpy under pressure (eV/atom); NaN: failed."""
    failure: str
    """Why it cannot be used, or ""."""
    numbers: np.ndarray
    """Atomic numbers, ascending."""
    place: int
    """Where it is: see `Past`."""


class Past:
    """Relaxed structures in the order in which they came, each once.

    Args:
        read: gives a structure by its place, as whoever adds it says it: where it begins in the log (bytes), or the
            version of the potential that relaxed it.
    """

    failed: int
    """Of them, that cannot be used."""

    def __init__(self, read: Callable[[int], Atoms] | None = None) -> None:
        self._read = read
        self.failed = 0
        self._operators, self._failures = _Names[str](), _Names[str]()
        self._compositions = _Names[bytes]()
        self._number, self._operator, self._failure, self._composition = array("i"), array("h"), array("h"), array("i")
        self._parents, self._energy, self._place = (array("i"), array("i")), array("d"), array("q")
        self._row = array("i")
        """Of each number."""

    def add(
        self, number: int, operator: str, parents: tuple[int, ...], energy: float, failure: str, numbers: np.ndarray,
        place: int,
    ) -> None:  # fmt: skip
        """One more, or what is known of one by now; arguments as of `Done`."""
        assert len(parents) <= len(self._parents), "no operator has more parents"
        self._row.extend([NONE] * (number + 1 - len(self._row)))
        row = self._row[number]
        if row == NONE:
            self._row[number] = row = len(self._number)
            for column in (self._number, self._operator, self._failure, self._composition, *self._parents,
                           self._energy, self._place):  # fmt: skip
                column.append(0)
        elif self._failure[row]:
            self.failed -= 1
        self.failed += bool(failure)
        self._number[row], self._energy[row], self._place[row] = number, np.nan if failure else energy, place
        self._operator[row] = self._operators.index(operator)
        self._failure[row] = self._failures.index(failure) + 1 if failure else 0
        self._composition[row] = self._compositions.index(np.sort(numbers).astype(np.int16).tobytes())
        for k, column in enumerate(self._parents):
            column[row] = parents[k] if k < len(parents) else NONE

    def __len__(self) -> int:
        return len(self._number)

    def __iter__(self) -> Iterator[Done]:
        return map(self._at, range(len(self)))

    def __contains__(self, number: int) -> bool:
        return 0 <= number < len(self._row) and self._row[number] != NONE

    def __getitem__(self, number: int) -> Done:
        """The one with a number."""
        if number not in self:
            raise KeyError(number)
        return self._at(self._row[number])

    def _at(self, row: int) -> Done:
        return Done(
            self._number[row], self._operators[self._operator[row]],
            tuple(c[row] for c in self._parents if c[row] != NONE), self._energy[row],
            self._failures[self._failure[row] - 1] if self._failure[row] else "",
            np.frombuffer(self._compositions[self._composition[row]], dtype=np.int16), self._place[row],
        )  # fmt: skip

    @property
    def energies(self) -> np.ndarray:
        """Of all, in their order (eV/atom); NaN: failed."""
        return np.array(self._energy)

    def atoms(self, number: int) -> Atoms:
        """A structure, as it was relaxed.

        Raises:
            FileError: the log cannot be read.
        """
        assert self._read is not None, "nobody knows where structures are"
        return self._read(self[number].place)


class _Names(Generic[T]):
    """Few different values that come again and again, by number."""

    def __init__(self) -> None:
        self._values: list[T] = []
        self._numbers: dict[T, int] = {}

    def index(self, value: T) -> int:
        """Number of a value."""
        if value not in self._numbers:
            self._numbers[value] = len(self._values)
            self._values.append(value)
        return self._numbers[value]

    def __getitem__(self, number: int) -> T:
        return self._values[number]
