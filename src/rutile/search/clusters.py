"""Clusters: how new ones are made, and which operators breed them."""

from __future__ import annotations

import numpy as np
from ase import Atoms

from rutile.build.guards import NONMETALS
from rutile.build.packing import push_apart
from rutile.build.recipe import Refused
from rutile.build.sizes import bond_length, radii
from rutile.core.elements import formula as symbols
from rutile.search.motifs import motif
from rutile.search.operators import (
    cluster_heredity,
    energy_heredity,
    permutation,
    rattle,
    relocate,
    resurface,
    soft_mode,
    symmetrise,
    twist,
)
from rutile.search.operators.operator import Breed, Operator
from rutile.search.point_groups import orbits, random_point_group
from rutile.search.ranking import ByEnergy
from rutile.search.settings import ClusterSearch, atoms_of

MOTIFS = 0.5
"""Part of the new clusters of metals and noble gases that are pieces of known packings."""
LATE = 100
"""None of so many structures, the first ones, is such a piece where settings do not ask for them: pieces lead away from
the lowest structure where it is found soon (Ar38: a median of 64 relaxations, 24 without), and to it where it hides
(Ar75)."""
ROOM = 1.15
"""Radius of the ball for random atoms, in units of that of a dense cluster."""
CLOSEST = 0.5
"""No two atoms of a child may be nearer than this times the distance of neighbours."""
APART = 0.8
"""Children are pushed apart to this part of the distance of neighbours."""


class Clusters:
    """Clusters of one composition.

    Args:
        formula: all atoms, such as Ar38.
        settings: what is asked of them.

    Raises:
        SettingsError: the formula cannot be read.
    """

    def __init__(self, formula: str, settings: ClusterSearch) -> None:
        self.settings, self.atoms = settings, atoms_of(formula)
        self.elements = tuple(sorted(self.atoms))
        self.numbers = np.repeat(list(self.atoms), list(self.atoms.values()))
        lengths = [bond_length(z) for z in self.numbers]
        self.distance = settings.distance or float(np.mean(lengths))
        packed = MOTIFS if NONMETALS.isdisjoint(self.numbers.tolist()) else 0.0
        self.motifs, self.late = (packed, LATE) if settings.motifs is None else (settings.motifs, 0)
        self.breed = Breed(self.distance)
        many = [permutation.OPERATOR] if len(self.atoms) > 1 else []
        ours = (cluster_heredity, twist, rattle, relocate, resurface, symmetrise)
        named = (soft_mode.OPERATOR, energy_heredity.CLUSTERS)
        self.operators: tuple[Operator, ...] = (*(m.OPERATOR for m in ours), *many, *named)
        n = len(self.numbers)
        self.radius = ROOM * self.distance * max(0.5, (3 * n / (4 * np.sqrt(2) * np.pi)) ** (1 / 3))

    def ranking(self) -> ByEnergy:
        """By energy."""
        return ByEnergy()

    def create(self, rng: np.random.Generator, before: int) -> Atoms:
        """Pieces of known packings, and atoms at random in a ball, a part of them with a random point group.

        Args:
            rng: drawn from.
            before: structures of any kind that were made before it; the first `late` are no pieces.

        Raises:
            Refused: the atoms do not fit the group.
        """
        if before >= self.late and rng.random() < self.motifs:
            sites = motif(len(self.numbers), rng) * self.distance
            return Atoms(self.numbers, positions=rng.permutation(sites))
        if rng.random() < self.settings.symmetric:
            group = random_point_group(rng)
            places = np.concatenate([orbits(group, n, rng) for n in self.atoms.values()])
        else:
            x = rng.normal(size=(len(self.numbers), 3))
            places = x * (rng.random(len(x)) ** (1 / 3) / np.linalg.norm(x, axis=1))[:, None]
        return Atoms(self.numbers, positions=places * self.radius)

    def tidied(self, atoms: Atoms) -> Atoms:
        """A child as it is relaxed: centred, its atoms pushed apart.

        Raises:
            Refused: atoms stay too near each other.
        """
        centred = Atoms(atoms.numbers, positions=atoms.positions - atoms.positions.mean(0))
        part = APART * self.distance / (2 * float(radii(self.numbers).mean()))
        out = push_apart(centred, part)
        gaps = out.get_all_distances() + np.eye(len(out)) * 1e9
        if gaps.min() < CLOSEST * self.distance:
            raise Refused("atoms too close")
        return out

    def adopted(self, atoms: Atoms) -> Atoms:
        """A cluster that was given, centred; its atoms come in the order of this problem.

        Raises:
            Refused: it is periodic, or has another composition.
        """
        if atoms.pbc.any():
            raise Refused("it is periodic, no cluster")
        if sorted(atoms.numbers) != sorted(self.numbers):
            raise Refused(f"it is {symbols(atoms.numbers)}, not {symbols(self.numbers.tolist())}")
        return Atoms(atoms.numbers, positions=atoms.positions - atoms.positions.mean(0))
