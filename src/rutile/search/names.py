"""Names of crystals that have the symmetry of a known structure type."""

from __future__ import annotations

from collections import Counter
from functools import cache
from itertools import permutations
from math import gcd

import numpy as np
import spglib
from ase import Atoms

from rutile.build.crystals import KINDS, prototype
from rutile.structures.symmetry import SYMPREC

Signature = tuple[int, tuple[tuple[int, ...], ...], np.ndarray]
"""Number of the space group, for each element the sizes of its orbits in a primitive cell, and the edges of the
conventional cell, shortest first, whose product is 1."""
EDGES = 0.12
"""Edges of a structure type may differ so much, relatively."""


def prototype_of(atoms: Atoms, symprec: float = SYMPREC) -> str:
    """Name of the structure type with the same space group and orbits of atoms, such as rutile; "": none is known.

    Coordinates that the symmetry leaves free are not looked at; ratios of lattice constants are roughly the same.

    Args:
        atoms: a crystal, or anything else.
        symprec: distance (Angstrom) within which atoms are taken for symmetric.
    """
    found = _signature(atoms, symprec) if atoms.pbc.all() else None
    if found is None:
        return ""
    for name, letters in _known().items():
        alike = found[0] == letters[0] and bool((np.abs(found[2] / letters[2] - 1) < EDGES).all())
        if alike and any(order == letters[1] for order in permutations(found[1])):
            return name
    return ""


@cache
def _known() -> dict[str, Signature]:
    out = {}
    for name, kind in KINDS.items():
        elements = ("Ti", "O", "N", "C")[: kind.letters]
        signature = _signature(prototype(name, elements), 1e-3)
        if signature is not None:
            out[str(name)] = signature
    return out


def _signature(atoms: Atoms, symprec: float) -> Signature | None:
    """In one formula unit's worth of atoms, so that cells of any size have the same."""
    found = spglib.get_symmetry_dataset((atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers), symprec)
    if found is None:
        return None
    cells = len(atoms) // len(set(found.mapping_to_primitive.tolist()))
    orbits: dict[int, list[int]] = {}
    for first, count in Counter(found.crystallographic_orbits.tolist()).items():
        orbits.setdefault(int(atoms.numbers[first]), []).append(count // max(1, gcd(cells, count)))
    edges = np.sort(np.linalg.norm(found.std_lattice, axis=1))
    sizes = tuple(tuple(sorted(each)) for _, each in sorted(orbits.items()))
    return int(found.number), sizes, edges / edges.prod() ** (1 / 3)
