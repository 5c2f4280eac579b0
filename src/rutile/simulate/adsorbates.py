"""What became of molecules on a slab: where they are, whether they are whole, and which structures are the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms

from rutile.build.bonds import LONGEST
from rutile.build.placing import LOW
from rutile.build.sites import Sites, top_plane
from rutile.build.sizes import radii
from rutile.structures.fingerprint import pairs_within

INSIDE = 0.5
"""A molecule with an atom so far below the highest plane of the slab (Angstrom) is in the slab."""
SIGHT = 5.0
"""Distances up to this (Angstrom) tell structures apart."""
ALIKE = 0.15
"""Structures are the same if no such distance differs by more (Angstrom)."""
ADSORBED, REARRANGED, DISSOCIATED, REACTED, DESORBED, ABSORBED = (
    "adsorbed", "rearranged", "dissociated", "bonded to another", "desorbed", "in the slab",
)  # fmt: skip


@dataclass(frozen=True)
class Fate:
    """Of one molecule."""

    site: str
    """Nearest site; "" if it has desorbed."""
    off: float
    """How far its lowest atoms are from there, along the surface (Angstrom)."""
    state: str
    """adsorbed, rearranged, dissociated, bonded to another, desorbed, in the slab."""
    distance: float
    """Shortest distance between it and the slab (Angstrom)."""


def fates(final: Atoms, molecules: Sequence[Atoms], sites: Sites, desorbed: float) -> list[Fate]:
    """What became of each molecule.

    Args:
        final: the slab, and the molecules behind it in this order.
        molecules: as they are alone.
        sites: of the slab alone.
        desorbed: a molecule farther from the slab has left it (Angstrom).
    """
    ends = len(final) - np.cumsum([0] + [len(m) for m in molecules[::-1]])[::-1]
    owner = np.zeros(len(final), dtype=int)  # 0: the slab
    for k in range(len(molecules)):
        owner[ends[k] : ends[k + 1]] = k + 1
    i, j, d = pairs_within(final.positions, final.cell.array, final.pbc, max(desorbed, SIGHT))
    r = radii(final.numbers)
    bonded = d < LONGEST * (r[i] + r[j])
    slab = final[owner == 0]
    floor = float(slab.positions[top_plane(slab), 2].mean()) - INSIDE
    out = []
    for k, molecule in enumerate(molecules, 1):
        mine = owner == k
        to_slab = d[(mine[i] & (owner[j] == 0)) | (mine[j] & (owner[i] == 0))]
        nearest = float(to_slab.min()) if len(to_slab) else float("inf")
        inside = bonded & mine[i] & mine[j]
        before = _bonds(molecule)
        after = {(int(a), int(b)) for a, b in np.sort(np.stack([i, j], 1)[inside] - ends[k - 1], axis=1)}
        x = final.positions[mine]
        low = x[:, 2] < x[:, 2].min() + LOW
        site, off = sites.nearest(x[low].mean(axis=0))
        if (bonded & (mine[i] != mine[j]) & (owner[i] > 0) & (owner[j] > 0)).any():
            state = REACTED
        elif _pieces(len(x), after) > 1:
            state = DISSOCIATED
        elif nearest > desorbed:
            state = DESORBED
        elif x[:, 2].min() < floor:
            state = ABSORBED
        else:
            state = ADSORBED if before == after else REARRANGED
        out.append(Fate("" if state == DESORBED else site.name, off, state, nearest))
    return out


def condition(final: Atoms, molecules: Sequence[Atoms]) -> str:
    """Whether molecules at the end of a structure are whole: "", dissociated, or bonded to another.

    Args:
        final: anything, and the molecules behind it in this order.
        molecules: as they are alone.
    """
    owner = np.zeros(len(final), dtype=int)
    owner[len(final) - sum(map(len, molecules)) :] = np.repeat(
        np.arange(1, len(molecules) + 1), [len(m) for m in molecules]
    )
    i, j, d = pairs_within(final.positions, final.cell.array, final.pbc, SIGHT)
    r = radii(final.numbers)
    bonded = (d < LONGEST * (r[i] + r[j])) & (owner[i] > 0) & (owner[j] > 0)
    if (bonded & (owner[i] != owner[j])).any():
        return REACTED
    guests = owner > 0
    place = np.cumsum(guests) - 1
    pairs = {(int(a), int(b)) for a, b in np.stack([place[i], place[j]], 1)[bonded]}
    return DISSOCIATED if _pieces(int(guests.sum()), pairs) > len(molecules) else ""


def surroundings(final: Atoms, slab: int) -> dict[tuple[int, int], np.ndarray]:
    """Sorted distances (Angstrom) between atoms behind the slab's and all others, by pair of elements."""
    i, j, d = pairs_within(final.positions, final.cell.array, final.pbc, SIGHT)
    near = (i >= slab) | (j >= slab)
    z = np.sort(final.numbers[np.stack([i, j], 1)[near]], axis=1)
    d = d[near]
    return {(int(a), int(b)): np.sort(d[(z == [a, b]).all(axis=1)]) for a, b in np.unique(z, axis=0)}


def same_surroundings(a: dict[tuple[int, int], np.ndarray], b: dict[tuple[int, int], np.ndarray]) -> bool:
    """Whether two structures are the same, as far as `surroundings` say; distances near their end may be missing."""
    for pair in a.keys() | b.keys():
        x, y = a.get(pair, np.zeros(0)), b.get(pair, np.zeros(0))
        n = min(len(x), len(y))
        rest = np.concatenate([x[n:], y[n:]])
        if (np.abs(x[:n] - y[:n]) > ALIKE).any() or (rest < SIGHT - ALIKE).any():
            return False
    return True


def _bonds(molecule: Atoms) -> set[tuple[int, int]]:
    """Pairs of atoms that are bonded."""
    r = radii(molecule.numbers)
    i, j, d = pairs_within(molecule.positions, np.zeros((3, 3)), np.zeros(3, dtype=bool), 2 * LONGEST * r.max() + 1e-6)
    near = d < LONGEST * (r[i] + r[j])
    return {(int(a), int(b)) for a, b in np.sort(np.stack([i, j], 1)[near], axis=1)}


def _pieces(count: int, pairs: set[tuple[int, int]]) -> int:
    """Connected parts of a graph."""
    label = list(range(count))
    for a, b in pairs:
        old, new = label[a], label[b]
        label = [new if x == old else x for x in label]
    return len(set(label))
