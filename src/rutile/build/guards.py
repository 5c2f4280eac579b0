"""Whether a structure may be kept, and what is said of it on the map."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.data import atomic_masses, atomic_numbers, chemical_symbols

from rutile.build.recipe import Draft, Refused
from rutile.build.settings import Guards
from rutile.build.sizes import radii
from rutile.structures.fingerprint import Pairs, geometry_sums, pairs_within

SIGHT = 6.0
"""Radius within which geometries are compared (Angstrom); within 4 Angstrom fcc and hcp are the same."""
BONDED = 1.2
"""Atoms nearer than this times the sum of their covalent radii count as neighbours; two metals only in metals."""
NONMETALS = frozenset(atomic_numbers[s] for s in re.findall("[A-Z][a-z]?", "HBCNOFSiPSClGeAsSeBrSbTeI"))
"""In structures that hold one of these, two atoms of other elements are no neighbours."""
LIKE = 5e-6
"""Relative difference of the sums of two structures that count as the same."""
AMU_PER_A3 = 1.66053906660
"""1 amu/Angstrom^3 in g/cm^3."""


@dataclass(frozen=True)
class Measured:
    """What is known of a structure; survives a round trip through JSON."""

    atoms: int
    elements: Mapping[str, int]
    """How many of each."""
    volume: float | None
    """Angstrom^3 per atom; of structures periodic in three directions."""
    density: float | None
    """g/cm^3; of the same."""
    nearest: float | None
    """Smallest distance (Angstrom); None: none within reach."""
    contact: float | None
    """Smallest distance relative to the sum of the covalent radii."""
    neighbours: Mapping[str, Mapping[str, int]]
    """Element -> number of neighbours (as text) -> atoms that have so many."""
    sums: tuple[float, ...]
    """By which geometries are told apart."""


def measure(atoms: Atoms) -> Measured:
    """Distances, neighbours, density and the sums of `structures.fingerprint`."""
    r = radii(atoms.numbers)
    reach = max(SIGHT, BONDED * 2 * float(r.max()) + 1e-6)
    i, j, d = pairs_within(atoms.positions, atoms.cell.array, atoms.pbc, reach)
    ratio = d / (r[i] + r[j])
    nonmetal = np.isin(atoms.numbers, list(NONMETALS))
    bonded = (ratio < BONDED) & (nonmetal[i] | nonmetal[j] | (not nonmetal.any()))
    crystal = bool(atoms.pbc.all())
    volume = float(atoms.cell.volume) if crystal else None
    mass = float(atomic_masses[atoms.numbers].sum())
    return Measured(
        atoms=len(atoms),
        elements=dict(Counter(chemical_symbols[z] for z in atoms.numbers)),
        volume=None if volume is None else volume / len(atoms),
        density=None if not volume else mass / volume * AMU_PER_A3,
        nearest=float(d.min()) if len(d) else None,
        contact=float(ratio.min()) if len(d) else None,
        neighbours=_neighbours(atoms.numbers, i[bonded], j[bonded]),
        sums=_sums(atoms, (i[d < SIGHT], j[d < SIGHT], d[d < SIGHT])),
    )


def _sums(atoms: Atoms, pairs: Pairs) -> tuple[float, ...]:
    """The sums; of periodic structures without pairs the edges of the cell instead."""
    if atoms.pbc.any() and not len(pairs[2]):
        return tuple(sorted(float(x) for x in atoms.cell.lengths()))
    return geometry_sums(atoms.numbers, atoms.positions, atoms.pbc, pairs, SIGHT)


def _neighbours(numbers: np.ndarray, i: np.ndarray, j: np.ndarray) -> dict[str, dict[str, int]]:
    """How many atoms of each element have how many neighbours."""
    bonds = np.bincount(i, minlength=len(numbers)) + np.bincount(j, minlength=len(numbers))
    out: dict[str, dict[str, int]] = {}
    for z in np.unique(numbers):
        values, counts = np.unique(bonds[numbers == z], return_counts=True)
        out[chemical_symbols[z]] = {str(v): int(c) for v, c in zip(values, counts, strict=True)}
    return out


def guard(draft: Draft, guards: Guards) -> Measured:
    """Measure a structure that may be kept.

    Raises:
        Refused: too many atoms, atoms too close, volume out of the window, not finite.
    """
    atoms = draft.atoms
    if not len(atoms):
        raise Refused("no atoms left")
    if len(atoms) > guards.atoms:
        raise Refused("too many atoms")
    if not (np.isfinite(atoms.positions).all() and np.isfinite(atoms.cell.array).all()):
        raise Refused("not finite")
    if atoms.pbc.all() and abs(atoms.cell.volume) < 1e-3 * len(atoms):
        raise Refused("volume")
    if draft.volume is not None and guards.volume is not None:
        ratio = atoms.cell.volume / len(atoms) / draft.volume
        if not guards.volume[0] <= ratio <= guards.volume[1]:
            raise Refused("volume")
    measured = measure(atoms)
    if measured.contact is not None and measured.contact < guards.closest:
        raise Refused("atoms too close")
    return measured


class Known:
    """Structures so far: says whether another one is new."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, int], list[tuple[float, ...]]] = {}

    def add(self, measured: Measured, pbc: np.ndarray) -> bool:
        """Remember a structure; False: it was there before, whatever symmetry operation lies between."""
        formula = " ".join(f"{k}{n}" for k, n in sorted(measured.elements.items())) + str(int(np.sum(pbc)))
        sums = measured.sums
        place = int(np.floor(np.log(max(abs(sums[0]), 1e-3)) / (10 * LIKE)))
        for near in (place - 1, place, place + 1):
            for other in self._seen.get((formula, near), ()):
                if all(abs(a - b) <= LIKE * max(abs(a), 1e-3) for a, b in zip(sums, other, strict=True)):
                    return False
        self._seen.setdefault((formula, place), []).append(sums)
        return True
