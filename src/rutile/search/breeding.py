"""Makes children as they were ordered: in any process, which needs the problem and the seed, and no pool.

What child number n becomes follows from the seed, n and its order alone, so that whoever makes it again makes the same.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from ase import Atoms

from rutile.build.recipe import Refused
from rutile.core.errors import SettingsError
from rutile.core.seeds import stream
from rutile.search.fingerprint import apart, fingerprint
from rutile.search.individual import Candidate, Order, Way
from rutile.search.operators.operator import Breed, Operator
from rutile.search.ranking import Ranking

NEW = "new"
"""Name of the operator that takes no parents."""
CHANGED = 0.01
"""A child whose fingerprint is nearer than this to that of a parent is not worth a relaxation."""
TRIES = 200
"""Attempts at one child, after which the search gives up."""


class Problem(Protocol):
    """What is searched for."""

    distance: float
    """Usual distance of neighbours (Angstrom)."""
    breed: Breed
    """For the operators."""
    operators: tuple[Operator, ...]
    """That serve this kind of structure."""
    elements: tuple[int, ...]
    """Atomic numbers, ascending."""

    def ranking(self) -> Ranking:
        """What counts as low, from the beginning."""
        ...

    def create(self, rng: np.random.Generator) -> Atoms:
        """A new structure, or `Refused`."""
        ...

    def tidied(self, atoms: Atoms) -> Atoms:
        """A child as it is relaxed, or `Refused`."""
        ...

    def adopted(self, atoms: Atoms) -> Atoms:
        """A structure that was given, as one of this problem, or `Refused`: it is none."""
        ...


@dataclass(frozen=True)
class Breeder:
    """Makes the children of one search; picklable."""

    problem: Problem
    seed: int

    def __call__(self, order: Order) -> Candidate:
        """The child of an order.

        Raises:
            SettingsError: none can be made.
        """
        rng = stream(self.seed, "child", order.number)
        reason = ""
        for attempt in range(TRIES):
            way = order.ways[attempt % len(order.ways)]
            try:
                return Candidate(order.number, self._made(way, order, rng), way.operator, way.parents)
            except Refused as refused:
                reason = f"{way.operator}: {refused}"
        raise SettingsError(f"no structure could be made in {TRIES} attempts; the last: {reason}")

    def _made(self, way: Way, order: Order, rng: np.random.Generator) -> Atoms:
        """One attempt at it."""
        if way.operator == NEW:
            return self.problem.tidied(self.problem.create(rng))
        parents = [order.parents[number] for number in way.parents]
        operator = next(op for op in self.problem.operators if op.name == way.operator)
        atoms = self.problem.tidied(operator.make(parents, replace(self.problem.breed, times=way.times), rng))
        mark = self.mark(atoms)
        if any(apart(mark, self.mark(p)) < CHANGED for p in parents):
            raise Refused("like its parent")
        return atoms

    def mark(self, atoms: Atoms) -> np.ndarray:
        """The fingerprint."""
        return fingerprint(atoms, self.problem.distance, self.problem.elements)
