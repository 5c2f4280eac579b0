"""Molecules that structures are made of: by name, how many, whether they are whole, and found again in files.

A structure has its molecules one after another, kind by kind, with their numbers in the array `MOLECULE` and, where it
is periodic, whole (atoms of a molecule are not wrapped one by one).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.geometry import find_mic
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial.transform import Rotation

from rutile.build.molecules_source import molecule_called
from rutile.build.recipe import Refused
from rutile.build.sizes import radii, van_der_waals, volume_of_spheres
from rutile.core.elements import formula
from rutile.search.individual import MOLECULE
from rutile.structures.fingerprint import pairs_within

BONDED = 1.25
"""Atoms nearer than this times the sum of their covalent radii are bonded."""
BROKEN = 1.4
"""A bond that is longer than this times the sum is broken."""
SQUEEZED = 0.75
"""A bond that is shorter than this times its usual length is in a hole of the potential."""
REACTED = 1.15
"""Atoms without a bond, of one molecule or two, that are nearer than this times the sum have reacted."""


@dataclass(frozen=True)
class Kind:
    """One kind of molecule."""

    name: str
    atoms: Atoms
    """Its geometry, about its centre."""
    bonds: np.ndarray
    """Pairs of bonded atoms, [B, 2]."""
    volume: float
    """Of its spheres of van der Waals (Angstrom^3)."""


def kinds_of(names: Sequence[str]) -> list[Kind]:
    """Molecules by names of ASE, SMILES or files.

    Raises:
        RutileError: one is not known, or a package is missing.
    """
    out = []
    for name in names:
        atoms = molecule_called(name, seed=0)
        x = atoms.positions - atoms.positions.mean(0)
        bare = Atoms(atoms.numbers, positions=x)
        out.append(
            Kind(name, bare, _bonds(bare, BONDED), volume_of_spheres(bare.positions, van_der_waals(bare.numbers)))
        )
    return out


def _bonds(atoms: Atoms, within: float) -> np.ndarray:
    """Pairs nearer than so many times the sum of their covalent radii, [B, 2]."""
    r = radii(atoms.numbers)
    i, j, d = pairs_within(atoms.positions, atoms.cell.array, atoms.pbc, within * 2 * float(r.max()) + 1e-9)
    return np.asarray(np.stack([i, j], 1)[d < within * (r[i] + r[j])])


@dataclass(frozen=True)
class Kit:
    """The molecules of a structure."""

    kinds: tuple[Kind, ...]
    """Different ones."""
    counts: tuple[int, ...]
    """How many of each."""

    @property
    def order(self) -> list[int]:
        """Number of the kind of each molecule."""
        return [k for k, n in enumerate(self.counts) for _ in range(n)]

    @property
    def volume(self) -> float:
        """Of the spheres of all (Angstrom^3)."""
        return sum(n * kind.volume for kind, n in zip(self.kinds, self.counts, strict=True))

    def times(self, units: int) -> Kit:
        """So many times as many."""
        return Kit(self.kinds, tuple(units * n for n in self.counts))

    def units(self, atoms: Atoms) -> int:
        """How many times the molecules are in a structure that is made of them."""
        return len(atoms) // sum(n * len(kind.atoms) for kind, n in zip(self.kinds, self.counts, strict=True))


def joined(molecules: Sequence[Atoms], cell: np.ndarray | None = None) -> Atoms:
    """One structure of molecules in their order; a crystal if a cell is given."""
    out = Atoms(
        np.concatenate([m.numbers for m in molecules]), positions=np.concatenate([m.positions for m in molecules]),
        cell=cell, pbc=cell is not None,
    )  # fmt: skip
    out.set_array(MOLECULE, np.repeat(np.arange(len(molecules)), [len(m) for m in molecules]))
    return out


def apart_of(atoms: Atoms) -> list[Atoms]:
    """The molecules of a structure in their order, without cell."""
    owner = atoms.arrays[MOLECULE]
    return [
        Atoms(atoms.numbers[owner == k], positions=atoms.positions[owner == k]) for k in range(int(owner.max()) + 1)
    ]


def centres(atoms: Atoms) -> np.ndarray:
    """Of the molecules of a structure, [M, 3]."""
    owner = atoms.arrays[MOLECULE]
    return np.stack([np.bincount(owner, x) for x in atoms.positions.T], 1) / np.bincount(owner)[:, None]


def turned(molecule: Atoms, rotation: np.ndarray) -> Atoms:
    """A molecule turned about its centre by a matrix [3, 3] (x -> R x)."""
    middle = molecule.positions.mean(0)
    return Atoms(molecule.numbers, positions=(molecule.positions - middle) @ rotation.T + middle)


def randomly_turned(molecule: Atoms, rng: np.random.Generator) -> Atoms:
    """A molecule turned at random about its centre."""
    return turned(molecule, Rotation.random(rng=rng).as_matrix())


@dataclass(frozen=True)
class Whole:
    """Says whether the molecules of relaxed structures are still those that they were; picklable."""

    kit: Kit

    def __call__(self, atoms: Atoms) -> str:
        """Which molecule is broken or has reacted, or ""."""
        units = self.kit.units(atoms)
        r, start = radii(atoms.numbers), 0
        for number, k in enumerate(self.kit.times(units).order):
            kind = self.kit.kinds[k]
            mine = slice(start, start + len(kind.atoms))
            if _changed(kind, atoms.positions[mine], r[mine]):
                return f"a molecule is broken: {kind.name} (number {number})"
            start += len(kind.atoms)
        i, j, d = contacts(atoms, REACTED * 2 * float(r.max()))
        if (d < REACTED * (r[i] + r[j])).any():
            return "molecules have reacted with each other"
        return ""


def _changed(kind: Kind, x: np.ndarray, r: np.ndarray) -> bool:
    """Whether bonds of a molecule at positions x [N, 3] are gone or squeezed, or new ones have come; r: radii [N]."""
    i, j = np.triu_indices(len(x), 1)
    d = np.linalg.norm(x[i] - x[j], axis=1)
    bonded = np.zeros((len(x), len(x)), dtype=bool)
    bonded[kind.bonds[:, 0], kind.bonds[:, 1]] = bonded[kind.bonds[:, 1], kind.bonds[:, 0]] = True
    mine, sums = bonded[i, j], r[i] + r[j]
    usual = np.linalg.norm(kind.atoms.positions[i] - kind.atoms.positions[j], axis=1)
    gone = mine & ((d > BROKEN * sums) | (d < SQUEEZED * usual))
    return bool((gone | (~mine & (d < REACTED * sums))).any())


def contacts(atoms: Atoms, cutoff: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs of atoms of different molecules, or of a molecule and its image, nearer than a cutoff (Angstrom)."""
    i, j, d = pairs_within(atoms.positions, atoms.cell.array, atoms.pbc, cutoff)
    between = between_molecules(atoms, i, j, d)
    return i[between], j[between], d[between]


def between_molecules(atoms: Atoms, i: np.ndarray, j: np.ndarray, d: np.ndarray) -> np.ndarray:
    """Which pairs are of different molecules, or of one and its image, [P] bool."""
    owner = atoms.arrays[MOLECULE]
    inside = np.linalg.norm(atoms.positions[i] - atoms.positions[j], axis=1)
    return np.asarray((owner[i] != owner[j]) | (np.abs(inside - d) > 1e-6))


def found_in(atoms: Atoms, kit: Kit) -> Atoms:
    """A structure that was given, as one of molecules in their order.

    Args:
        atoms: any structure, wrapped or not, in any order.
        kit: molecules of one formula unit.

    Raises:
        Refused: it is not made of them.
    """
    pairs = _bonds(atoms, BONDED)
    graph = coo_matrix((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(len(atoms), len(atoms)))
    count, label = connected_components(graph, directed=False)
    by_kind: list[list[Atoms]] = [[] for _ in kit.kinds]
    for k in range(count):
        piece = _in_one_piece(atoms, np.flatnonzero(label == k), pairs)
        fits = [n for n, kind in enumerate(kit.kinds) if sorted(kind.atoms.numbers) == sorted(piece.numbers)]
        if not fits:
            raise Refused(f"it holds {formula(piece.numbers)}, which is none of the molecules")
        ordered = [(n, *_ordered(piece, kit.kinds[n].atoms)) for n in fits]
        best = min(ordered, key=lambda one: one[2])
        by_kind[best[0]].append(best[1])
    units = len(by_kind[0]) // kit.counts[0]
    if [len(m) for m in by_kind] != [units * n for n in kit.counts]:
        told = ", ".join(f"{len(m)} {kind.name}" for m, kind in zip(by_kind, kit.kinds, strict=True))
        raise Refused(f"it holds {told}, not so many as are asked for")
    return joined([m for each in by_kind for m in each], atoms.cell.array if atoms.pbc.all() else None)


def _in_one_piece(atoms: Atoms, members: np.ndarray, pairs: np.ndarray) -> Atoms:
    """A molecule whose atoms the faces of the cell may have parted."""
    x = {int(members[0]): atoms.positions[members[0]].copy()}
    front = [int(members[0])]
    neighbours: Mapping[int, list[int]] = {int(k): [] for k in members}
    for a, b in pairs:
        if int(a) in neighbours:
            neighbours[int(a)].append(int(b))
            neighbours[int(b)].append(int(a))
    for k in front:  # grows while it is walked through
        for other in neighbours[k]:
            if other not in x:
                step = find_mic((atoms.positions[other] - atoms.positions[k])[None], atoms.cell, atoms.pbc)[0][0]
                x[other] = x[k] + step
                front.append(other)
    return Atoms(atoms.numbers[list(x)], positions=np.array(list(x.values())))


def _ordered(piece: Atoms, like: Atoms) -> tuple[Atoms, float]:
    """Atoms in the order of a molecule that they match best, by their distances; and how badly they match."""
    own, wanted = (np.sort(a.get_all_distances(), axis=1) for a in (piece, like))
    cost = np.abs(wanted[:, None] - own[None]).sum(2) + 1e3 * (like.numbers[:, None] != piece.numbers)
    row, column = linear_sum_assignment(cost)
    ordered: Atoms = piece[column]
    return ordered, float(cost[row, column].sum())
