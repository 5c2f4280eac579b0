"""What a search found: different structures, lowest first, how often each, and where it comes from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms

from rutile.core.errors import GeometryError
from rutile.search.fingerprint import apart, fingerprint
from rutile.search.individual import PART, Found
from rutile.search.log import Done
from rutile.search.point_groups import point_group_of
from rutile.search.population import ON_HULL
from rutile.search.ranking import ByEnergy, Ranking
from rutile.search.settings import PoolSettings
from rutile.structures.symmetry import SYMPREC, describe_crystal


@dataclass(frozen=True)
class Distinct:
    """One structure."""

    found: Found
    """Its lowest copy."""
    numbers: tuple[int, ...]
    """Of all copies."""

    @property
    def first(self) -> int:
        """Number of the first copy."""
        return min(self.numbers)

    @property
    def hits(self) -> int:
        """Copies in all."""
        return len(self.numbers)


def distinct(
    done: Sequence[Done], settings: PoolSettings, distance: float, window: float, most: int,
    ranking: Ranking | None = None, marks: dict[tuple[int, int], np.ndarray] | None = None,
) -> list[Distinct]:  # fmt: skip
    """Different structures, lowest first.

    Args:
        done: all that was relaxed.
        settings: when two structures are the same.
        distance: usual distance of neighbours (Angstrom).
        window: how far above the lowest one they may be (eV/atom).
        most: how many; of variable composition all on the hull in any case.
        ranking: what is low; default: what has a low energy.
        marks: fingerprints that are known, by number and how many elements they know; new ones are added.
    """
    order, known_marks = ranking or ByEnergy(), {} if marks is None else marks
    ranked = sorted(
        ((order.of(d.relaxed.atoms, d.relaxed.energy), d.candidate.number, d) for d in done if not d.relaxed.failure),
        key=lambda r: r[:2],
    )
    elements = sorted({int(z) for _, _, d in ranked for z in d.relaxed.atoms.numbers})
    kept: list[Found] = []
    copies: list[list[int]] = []
    for rank, number, one in ranked:
        if rank > ranked[0][0] + window:
            break
        at = number, len(elements)
        if at not in known_marks:
            known_marks[at] = fingerprint(one.relaxed.atoms, distance, elements)
        mark, c, kind = known_marks[at], one.candidate, order.kind(one.relaxed.atoms)
        for known, numbers in zip(reversed(kept), reversed(copies), strict=True):
            near = one.relaxed.energy - known.energy < settings.same_energy
            if near and order.kind(known.atoms) == kind and apart(known.fingerprint, mark) < settings.same:
                numbers.append(c.number)
                break
        else:
            if len(kept) < most or (order.places > 1 and rank <= ON_HULL):
                kept.append(Found(c.number, one.relaxed.atoms, one.relaxed.energy, c.operator, c.parents, mark))
                copies.append([c.number])
    return [Distinct(found, tuple(numbers)) for found, numbers in zip(kept, copies, strict=True)]


def symmetry_of(atoms: Atoms, symprec: float = SYMPREC) -> str:
    """Space group of a crystal or a slab, point group of a cluster (Schoenflies); "" where none is found.

    Args:
        atoms: crystal, slab or cluster.
        symprec: distance (Angstrom) within which atoms of crystals are taken for symmetric.
    """
    if not atoms.pbc.any():
        return point_group_of(atoms)
    if PART in atoms.arrays:
        atoms = Atoms(atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=True)
    try:
        return describe_crystal(atoms, symprec).spacegroup
    except GeometryError:
        return ""


def lineage(number: int, done: Mapping[int, Done]) -> list[Done]:
    """A structure and all it descends from, the youngest first, each once."""
    out: dict[int, Done] = {}
    waiting = [number]
    while waiting:
        k = waiting.pop()
        if k in out or k not in done:
            continue
        out[k] = done[k]
        waiting += done[k].candidate.parents
    return [out[k] for k in sorted(out, reverse=True)]
