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
WAYWARD = 100
"""Of these the ones by the ways of its order; after them it is a new one, for no other may be possible."""
ATTEMPTS = 5
"""Attempts at each further variant of a child."""


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

    def create(self, rng: np.random.Generator, before: int) -> Atoms:
        """A new structure, or `Refused`; so many structures of any kind were made before it."""
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
        return self.variants(order, 1)[0]

    def variants(self, order: Order, many: int) -> list[Candidate]:
        """So many children of an order, or fewer, made in the same way and with the same composition.

        Raises:
            SettingsError: none can be made.
        """
        rng = stream(self.seed, "child", order.number)
        reason = ""
        for attempt in range(TRIES):
            way = order.ways[attempt % len(order.ways)] if attempt < WAYWARD else Way(NEW)
            try:
                made = [self._made(way, order, rng)]
            except Refused as refused:
                reason = f"{way.operator}: {refused}"
                continue
            made += self._like(made[0], way, order, rng, many - 1)
            return [Candidate(order.number, atoms, way.operator, way.parents) for atoms in made]
        raise SettingsError(
            f"no structure could be made in {TRIES} attempts; the last: {reason}; ask for fewer atoms (formula, "
            "structure.units or structure.atoms)"
        )

    def _like(self, first: Atoms, way: Way, order: Order, rng: np.random.Generator, many: int) -> list[Atoms]:
        """More of the composition of the first."""
        out: list[Atoms] = []
        for _ in range(ATTEMPTS * many):
            if len(out) == many:
                break
            try:
                made = self._made(way, order, rng)
            except Refused:
                continue
            if np.array_equal(_parts(made), _parts(first)):
                out.append(made)
        return out

    def _made(self, way: Way, order: Order, rng: np.random.Generator) -> Atoms:
        """One attempt at it."""
        if way.operator == NEW:
            return self.problem.tidied(self.problem.create(rng, order.number))
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


def _parts(atoms: Atoms) -> np.ndarray:
    """Part of the atoms that each element has, [119]."""
    return np.asarray(np.bincount(atoms.numbers, minlength=119) / len(atoms))
