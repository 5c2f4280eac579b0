"""Structures of a search: as they were made, and as they were found to relax."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms


@dataclass(frozen=True)
class Candidate:
    """A structure that was made and waits to be relaxed."""

    number: int
    """Its place in the order of all that were made."""
    atoms: Atoms
    """As it was made."""
    operator: str
    """What made it."""
    parents: tuple[int, ...]
    """Numbers of the structures it was made from."""


@dataclass(frozen=True)
class Relaxed:
    """What became of a candidate."""

    atoms: Atoms
    """At its minimum, or where the relaxation ended."""
    energy: float
    """Energy, or enthalpy under pressure (eV/atom); NaN: failed."""
    failure: str
    """Why it cannot be used, or ""."""
    steps: int
    """Of the relaxation."""


@dataclass(frozen=True)
class Found:
    """A structure of the pool or the results."""

    number: int
    """Of its candidate."""
    atoms: Atoms
    """Relaxed."""
    energy: float
    """eV/atom."""
    operator: str
    """What made it."""
    parents: tuple[int, ...]
    """Numbers of the structures it was made from."""
    fingerprint: np.ndarray
    """See `fingerprint`."""


def to_json(atoms: Atoms) -> dict[str, Any]:
    """A structure as JSON values, to the last digit."""
    out: dict[str, Any] = {"numbers": atoms.numbers.tolist(), "positions": atoms.positions.tolist()}
    if atoms.pbc.any():
        out |= {"cell": atoms.cell.array.tolist(), "pbc": atoms.pbc.tolist()}
    return out


def from_json(known: dict[str, Any]) -> Atoms:
    """The structure again."""
    return Atoms(known["numbers"], positions=known["positions"], cell=known.get("cell"), pbc=known.get("pbc", False))
