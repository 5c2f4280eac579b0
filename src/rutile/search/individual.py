"""Structures of a search: as they were made, and as they were found to relax."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from ase import Atoms

FIXED = "fixed"
"""Array of a structure: atoms that do not move, [N] bool."""
PART = "part"
"""Array of a structure on a slab: what each atom belongs to, [N] int; see `BELOW`, `PLACED` and `ABOVE`."""
MOLECULE = "molecule"
"""Array of a structure of molecules: number of the molecule of each atom, [N] int."""
ATOM_ENERGY = "atom_energy"
"""Array of a relaxed structure: energies of its atoms (eV), [N], where operators ask for them."""
ROLES = (FIXED, PART, MOLECULE)
"""Arrays that a structure keeps when it is relaxed."""
BELOW, PLACED, ABOVE = 0, 1, 2
"""Parts: the slab below, the atoms that are searched for, the slab above."""


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
class Way:
    """How a child may be made."""

    operator: str
    """What makes it."""
    parents: tuple[int, ...] = ()
    """Numbers of the structures it is made from."""
    times: int = 0
    """How often the operator was used on the first of them before."""


@dataclass(frozen=True)
class Order:
    """A child that somebody is to make: a worker, who knows no pool."""

    number: int
    """Its place in the order of all that are made."""
    ways: tuple[Way, ...]
    """Tried in turn until one succeeds."""
    parents: Mapping[int, Atoms] = field(default_factory=dict, repr=False, compare=False)
    """Structures that it may be made from, by number."""


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
    mark: np.ndarray | None = field(default=None, repr=False, compare=False)
    """Its fingerprint, where the worker made that, too."""


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


def lost(one: Order | Candidate, reason: str) -> tuple[Candidate, Relaxed]:
    """In place of what workers would have made of it, who were lost again and again."""
    likely = one.ways[0] if isinstance(one, Order) else one
    atoms = Atoms() if isinstance(one, Order) else one.atoms
    return Candidate(one.number, atoms, likely.operator, likely.parents), Relaxed(atoms, math.nan, reason, 0)


def carried(given: Atoms, to: Atoms) -> Atoms:
    """Give a structure the roles that its atoms have in another one with the same atoms; returns it."""
    for name in ROLES:
        if name in given.arrays:
            to.set_array(name, given.arrays[name])
    return to


def to_json(atoms: Atoms) -> dict[str, Any]:
    """A structure as JSON values, to the last digit."""
    out: dict[str, Any] = {"numbers": atoms.numbers.tolist(), "positions": atoms.positions.tolist()}
    if atoms.pbc.any():
        out |= {"cell": atoms.cell.array.tolist(), "pbc": atoms.pbc.tolist()}
    return out | {name: atoms.arrays[name].tolist() for name in (*ROLES, ATOM_ENERGY) if name in atoms.arrays}


def from_json(known: dict[str, Any]) -> Atoms:
    """The structure again."""
    out = Atoms(known["numbers"], positions=known["positions"], cell=known.get("cell"), pbc=known.get("pbc", False))
    for name in (*ROLES, ATOM_ENERGY):
        if name in known:
            out.set_array(name, np.array(known[name]))
    return out
