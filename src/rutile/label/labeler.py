"""What an engine is to rutile: something that turns one structure into a label, or into a failure that is classified.

An engine never runs in our process: a `Labeler` starts it, watches its time, and judges what it left. Units: eV,
eV/Angstrom, eV/Angstrom^3 (positive under tension).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeAlias, runtime_checkable

import numpy as np
from ase import Atoms
from pydantic import JsonValue

Kind = Literal[
    "not installed",
    "missing pseudopotential",
    "unsuitable",
    "too large",
    "not converged",
    "time limit",
    "crashed",
    "garbage",
    "self-check",
]
"""Why there is no label: the engine is not there; a pseudopotential or basis is not there; the engine is not made for
such a structure; its estimated cost is beyond the time limit; no self-consistency; it took too long; it ended before
its results were there; its results make no sense; its forces are not the derivatives of its energy."""
AGAIN: frozenset[Kind] = frozenset({"not converged", "crashed", "garbage"})
"""Kinds that are tried once more with safer settings."""
LAST_LINES = 8
"""How many of the engine's own last lines a failure keeps."""


@dataclass(frozen=True)
class Label:
    """What an engine says about a structure."""

    energy: float
    """Total energy whose derivatives the forces are (eV): with smearing the free energy."""
    forces: np.ndarray
    """[N, 3] (eV/Angstrom)."""
    stress: np.ndarray | None
    """[3, 3] (eV/Angstrom^3); None where it is not periodic in three directions or the engine has none."""
    provenance: dict[str, JsonValue] = field(default_factory=dict)
    """Where it comes from: code, functional, cutoff, kpoints, pseudopotentials (hash), calc_mode, ..."""


@dataclass(frozen=True)
class Failure:
    """Why there is no label."""

    kind: Kind
    """Class of the failure."""
    reason: str
    """One line for people: value and remedy."""
    last_lines: tuple[str, ...] = ()
    """The engine's own last lines."""


Outcome: TypeAlias = Label | Failure


@runtime_checkable
class Labeler(Protocol):
    """An engine with its settings. Used by one thread at a time."""

    def probe(self, numbers: frozenset[int]) -> str:
        """See that the engine is there; its name and version, such as "GPAW 26.7.0".

        Args:
            numbers: atomic numbers that will come, for what the version should name of them.

        Raises:
            MissingPackageError: it is not; says how to install it.
        """
        ...

    def refuse(self, atoms: Atoms) -> Failure | None:
        """Why this structure cannot be computed, seen without running anything."""
        ...

    def label(self, atoms: Atoms, safer: bool = False) -> Outcome:
        """Compute one structure; `safer`: with settings that converge more surely to the same numbers."""
        ...

    def close(self) -> None:
        """End processes that wait for more work."""
        ...


def judge(atoms: Atoms, label: Label) -> Outcome:
    """The label, or a failure where its numbers make no sense."""
    n = len(atoms)
    if label.forces.shape != (n, 3):
        return Failure("garbage", f"forces of shape {label.forces.shape} for {n} atoms")
    if label.stress is not None and label.stress.shape != (3, 3):
        return Failure("garbage", f"stress of shape {label.stress.shape}")
    numbers = [np.array([label.energy]), label.forces, np.zeros(0) if label.stress is None else label.stress]
    if not all(np.isfinite(x).all() for x in numbers):
        return Failure("garbage", "energy, forces or stress are not finite")
    total = float(np.abs(label.forces.sum(0)).max())
    if total > 0.05 * n + 0.1 * float(np.abs(label.forces).max(initial=0.0)):
        return Failure("garbage", f"the forces on {n} atoms add up to {total:.3g} eV/Angstrom instead of 0")
    return label


def last_lines(text: str) -> tuple[str, ...]:
    """The last lines with something on them, each of bounded length."""
    lines = [line.rstrip()[:300] for line in text.splitlines()[-200:] if line.strip()]
    return tuple(lines[-LAST_LINES:])
