"""Clusters and crystals of whole molecules: how new ones are made, and which operators breed them."""

from __future__ import annotations

from itertools import count

import numpy as np
import spglib
from ase import Atoms
from scipy.spatial.transform import Rotation

from rutile.build.liquid import nearest_contact
from rutile.build.packing import push_molecules_apart
from rutile.build.random_crystal import Group, multiplicity, random_cell, space_group, special_point
from rutile.build.recipe import Refused
from rutile.search.individual import MOLECULE
from rutile.search.molecules import Kit, Whole, centres, found_in, joined, kinds_of, randomly_turned, turned
from rutile.search.operators import molecule_heredity, molecule_move, molecule_strain, molecule_swap, molecule_turn
from rutile.search.operators.operator import Breed, Operator
from rutile.search.ranking import ByEnergy
from rutile.search.settings import ClusterSearch, CrystalSearch

APART = 0.65
"""Molecules are pushed apart to this part of the sum of the van der Waals radii: hydrogen bonds are that short."""
TOUCHING = 0.9
"""They stay no nearer than this times that."""
PACKED = 0.7
"""Part of the volume of usual molecular crystals that spheres of van der Waals fill (A. I. Kitaigorodskii, Molecular
Crystals and Molecules, Academic Press 1973)."""
DENSITY = (0.7, 1.1)
"""Density of new crystals, in units of the usual one, is drawn between these."""
LONG = 4.0
"""No cell vector of a child is longer than this times the cube root of its volume, after reduction."""
PLAIN = 0.25
"""Part of the new crystals without symmetry."""
MATCH = 0.2
"""Atoms of a molecule on a special site are not farther than this from their images (Angstrom)."""
SITES, TURNS = 40, 12
"""Random sites of a group, and orientations of a molecule on one, that are tried."""


def kit_of(molecules: dict[str, int]) -> Kit:
    """The molecules by name.

    Raises:
        RutileError: one is not known.
    """
    return Kit(tuple(kinds_of(list(molecules))), tuple(molecules.values()))


class _Molecular:
    """What both have in common."""

    def __init__(self, kit: Kit) -> None:
        self.kit = kit
        each = kit.volume / PACKED / sum(kit.counts)
        self.distance = float((each * np.sqrt(2)) ** (1 / 3))
        self.elements = tuple(sorted({int(z) for kind in kit.kinds for z in kind.atoms.numbers}))
        self.breed = Breed(self.distance)
        self.check = Whole(kit)
        many = [molecule_swap.OPERATOR] if len(kit.kinds) > 1 else []
        ours = (molecule_heredity, molecule_turn, molecule_move)
        self.operators: tuple[Operator, ...] = (*(m.OPERATOR for m in ours), *many)

    def ranking(self) -> ByEnergy:
        """By energy."""
        return ByEnergy()

    def _pushed(self, atoms: Atoms) -> Atoms:
        """Molecules pushed apart as rigid bodies.

        Raises:
            Refused: they stay too near each other.
        """
        owner = atoms.arrays[MOLECULE]
        out = push_molecules_apart(atoms, owner, APART)
        out.set_array(MOLECULE, owner)
        if nearest_contact(out, owner) < TOUCHING * APART:
            raise Refused("molecules too close")
        return out


class MolecularClusters(_Molecular):
    """Clusters of whole molecules.

    Args:
        settings: the molecules and how many.

    Raises:
        RutileError: a molecule is not known, or a package is missing.
    """

    def __init__(self, settings: ClusterSearch) -> None:
        super().__init__(kit_of(settings.molecules))
        if settings.distance is not None:
            self.distance, self.breed = settings.distance, Breed(settings.distance)

    def create(self, rng: np.random.Generator, before: int) -> Atoms:
        """Molecules at random in a ball, turned at random."""
        radius = (3 * self.kit.volume / PACKED / (4 * np.pi)) ** (1 / 3)
        made = []
        for k in self.kit.order:
            one = randomly_turned(self.kit.kinds[k].atoms, rng)
            x = rng.normal(size=3)
            one.positions += x * (radius * rng.random() ** (1 / 3) / np.linalg.norm(x))
            made.append(one)
        return joined(made)

    def tidied(self, atoms: Atoms) -> Atoms:
        """A child as it is relaxed: centred, its molecules pushed apart.

        Raises:
            Refused: molecules stay too near each other.
        """
        out = self._pushed(atoms)
        out.positions -= out.positions.mean(0)
        return out

    def adopted(self, atoms: Atoms) -> Atoms:
        """A cluster that was given.

        Raises:
            Refused: it is periodic, or not of these molecules.
        """
        if atoms.pbc.any():
            raise Refused("it is periodic, no cluster")
        out = found_in(atoms, self.kit)
        if self.kit.units(out) != 1:
            raise Refused("it has another number of molecules")
        return out


class MolecularCrystals(_Molecular):
    """Crystals of whole molecules.

    Args:
        settings: the molecules of a formula unit, and how many units.

    Raises:
        RutileError: a molecule is not known, or a package is missing.
    """

    def __init__(self, settings: CrystalSearch) -> None:
        super().__init__(kit_of(settings.molecules))
        self.settings = settings
        self.operators = (*self.operators, molecule_strain.OPERATOR)

    def create(self, rng: np.random.Generator, before: int) -> Atoms:
        """A crystal with a random primitive space group, molecules on general and special sites.

        Raises:
            Refused: the sites do not add up.
        """
        kit = self.kit.times(int(rng.choice(self.settings.units)))
        group = space_group(1 if rng.random() < PLAIN else int(rng.integers(2, 231)))
        if group.centrings > 1 or len(group.rotations) > 4 * sum(kit.counts):
            raise Refused("group")
        cell = random_cell(group, rng)
        volume = kit.volume / PACKED / rng.uniform(*DENSITY)
        cell *= (volume / abs(np.linalg.det(cell))) ** (1 / 3)
        made = [
            m for kind, n in zip(kit.kinds, kit.counts, strict=True) for m in on_sites(group, kind.atoms, n, cell, rng)
        ]
        return joined(made, cell)

    def tidied(self, atoms: Atoms) -> Atoms:
        """A child as it is relaxed: in its reduced cell, its molecules pushed apart, their centres in the cell.

        Raises:
            Refused: molecules too close, a volume out of the window, or a cell that is too long.
        """
        low, high = self.settings.volume
        usual = self.kit.times(self.kit.units(atoms)).volume / PACKED
        if not low <= abs(atoms.cell.volume) / usual <= high:
            raise Refused("volume")
        cell = spglib.niggli_reduce(atoms.cell.array, eps=1e-5)
        if cell is None or np.linalg.norm(cell, axis=1).max() > LONG * abs(np.linalg.det(cell)) ** (1 / 3):
            raise Refused("long cell")
        whole = Atoms(atoms.numbers, positions=atoms.positions, cell=cell, pbc=True)  # the same lattice
        whole.set_array(MOLECULE, atoms.arrays[MOLECULE])
        out = self._pushed(whole)
        out.positions -= (np.floor(centres(out) @ np.linalg.inv(cell)) @ cell)[out.arrays[MOLECULE]]
        return out

    def adopted(self, atoms: Atoms) -> Atoms:
        """A crystal that was given.

        Raises:
            Refused: it is not periodic in three directions, or not of so many of these molecules.
        """
        if not atoms.pbc.all():
            raise Refused("it is not periodic in three directions, no crystal")
        out = found_in(atoms, self.kit)
        if self.kit.units(out) not in self.settings.units:
            raise Refused(f"it has {self.kit.units(out)} formula units (structure.units)")
        return out


def on_sites(group: Group, molecule: Atoms, many: int, cell: np.ndarray, rng: np.random.Generator) -> list[Atoms]:
    """Copies of a molecule on random sites of a group; on special sites it is turned so that it has their symmetry.

    Raises:
        Refused: the multiplicities that came up do not add up to the number.
    """
    out: list[Atoms] = []
    inverse = np.linalg.inv(cell)
    matrices = np.einsum("ij,nkj,kl->nil", inverse, group.rotations, cell)  # rows: v -> v M
    for tried in count():
        if len(out) == many:
            return out
        if tried == SITES:
            break
        x = special_point(group, rng)
        if multiplicity(group, x) > many - len(out):
            continue
        images = x @ group.rotations.transpose(0, 2, 1) + group.translations
        still = np.abs((images - x + 0.5) % 1.0 - 0.5).max(1) < 1e-6
        one = _with_symmetry(molecule, matrices[still], rng)
        if one is None:
            continue
        first: list[np.ndarray] = []
        for image, m in zip(images, matrices, strict=True):
            if all(np.abs((image - other + 0.5) % 1.0 - 0.5).max() > 1e-6 for other in first):
                first.append(image)
                out.append(Atoms(one.numbers, positions=one.positions @ m + image % 1.0 @ cell))
    raise Refused("sites do not add up")


def _with_symmetry(molecule: Atoms, matrices: np.ndarray, rng: np.random.Generator) -> Atoms | None:
    """The molecule turned so that all operations [M, 3, 3] leave it as it is; None: not found."""
    for _ in range(TURNS):
        one = randomly_turned(molecule, rng)
        if len(matrices) > 1 and rng.random() < 0.8:
            one = turned(molecule, _onto(molecule, _axis(matrices[int(rng.integers(1, len(matrices)))]), rng))
        one.positions -= one.positions.mean(0)
        if all(_same(one, m) for m in matrices):
            return one
    return None


def _axis(matrix: np.ndarray) -> np.ndarray:
    """Of a rotation, or the normal of a mirror; anything for an inversion."""
    proper = matrix * np.sign(np.linalg.det(matrix))
    values, vectors = np.linalg.eig(proper.T)
    return np.asarray(np.real(vectors[:, np.abs(values - 1).argmin()]))


def _onto(molecule: Atoms, axis: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A rotation that takes a random principal axis of a molecule onto an axis, with a random angle about it."""
    x = molecule.positions - molecule.positions.mean(0)
    principal = np.linalg.svd(x)[2][int(rng.integers(3))]
    to = axis / np.linalg.norm(axis)
    turn, _ = Rotation.align_vectors(to[None], principal[None])
    about = Rotation.from_rotvec(to * rng.uniform(0, 2 * np.pi))
    return np.asarray((about * turn).as_matrix())


def _same(molecule: Atoms, matrix: np.ndarray) -> bool:
    """Whether an operation (v -> v M) leaves a centred molecule as it is, but for the order of like atoms."""
    apart = np.linalg.norm((molecule.positions @ matrix)[:, None] - molecule.positions, axis=2)
    apart[molecule.numbers[:, None] != molecule.numbers] = np.inf
    return bool((apart.min(1) < MATCH).all())
