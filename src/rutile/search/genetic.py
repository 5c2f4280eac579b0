"""A genetic search in steady state: whenever a worker is free, children are made of the pool as it is then.

    search = Genetic(problem, settings, seed)
    for number, relaxed in executor.each(work, search.batches(16)):
        search.receive(relaxed)

There are no generations, and nobody waits. What child number n is made of follows from the seed, n, and the pool of
that moment; the pool follows from the order in which results came. So a search goes on from its log as if it had never
stopped: see `log`. Operators are drawn by weights that follow success (a child that enters the pool), as in
Z.-L. Liu, Comput. Phys. Commun. 185, 1893 (2014), doi:10.1016/j.cpc.2014.03.017.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from ase import Atoms

from rutile.build.recipe import Refused
from rutile.core.errors import SettingsError
from rutile.core.seeds import stream
from rutile.search.fingerprint import apart, fingerprint
from rutile.search.individual import Candidate, Found, Relaxed
from rutile.search.operators.operator import Breed, Operator
from rutile.search.population import Population
from rutile.search.ranking import Ranking
from rutile.search.settings import GeneticSettings

NEW = "new"
"""Name of the operator that takes no parents."""
SEED = "seed"
"""What structures are called that were given."""
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


@dataclass
class Record:
    """How an operator did."""

    made: int = 0
    entered: int = 0
    """Of those, that entered the pool."""


class Genetic:
    """A search.

    Args:
        problem: what is searched for.
        settings: how.
        seed: of all random numbers.
        seeds: structures that are relaxed first, as `Problem.adopted` gives them.

    Raises:
        SettingsError: an operator is not known, or all are turned off.
    """

    best: Found | None
    """The lowest of all pools; of variable composition the last one that lowered the hull."""
    best_at: int
    """Structures that were relaxed when it came."""
    pools: int
    """Pools that were begun."""

    def __init__(self, problem: Problem, settings: GeneticSettings, seed: int, seeds: Sequence[Atoms] = ()) -> None:
        self.problem, self.settings, self.seed, self.seeds = problem, settings, seed, seeds
        self.operators = {op.name: op for op in problem.operators}
        usual = {NEW: 1.0} | {name: op.weight for name, op in self.operators.items()}
        self.weights = {name: settings.operators.get(name, weight) for name, weight in usual.items()}
        if unknown := sorted(set(settings.operators) - set(self.weights)):
            raise SettingsError(f"operators: {unknown[0]}; for this problem there are {', '.join(self.weights)}")
        self.success = {name: 0.5 for name in self.weights}
        self.record = {name: Record() for name in (*self.weights, *([SEED] if seeds else []))}
        self.uses: Counter[tuple[str, int]] = Counter()
        """How often an operator was used on a first parent, by its name and the parent's number."""
        self.ranking = problem.ranking()
        self.first = settings.first * self.ranking.places
        self.population = Population(settings.pool, self.ranking)
        self.best, self.best_at, self.pools, self.made, self.done = None, 0, 1, 0, 0
        self.waiting: dict[int, Candidate] = {}
        """Made, and not relaxed yet."""
        self._first = 0
        """Number of the first structure of this pool."""
        self.before = Population(settings.pool)
        """The pool of an older energy, see `renew`."""

    def batches(self, size: int, most: int) -> Iterator[list[Candidate]]:
        """Children in groups, made when they are asked for, until so many structures were made in all.

        First come those that were made before the search stopped, and wait.
        """
        left = list(self.waiting.values())
        for k in range(0, len(left), size):
            yield left[k : k + size]
        while self.made < most:
            yield [self.child() for _ in range(min(size, most - self.made))]

    def child(self) -> Candidate:
        """The next structure to be relaxed.

        Raises:
            SettingsError: none can be made.
        """
        number = self.made
        if number < len(self.seeds):
            child = Candidate(number, self.seeds[number], SEED, ())
            self.begin(child)
            return child
        rng = stream(self.seed, "child", number)
        refusals: list[str] = []
        for _ in range(TRIES):
            name = self._operator(rng)
            try:
                made, parents = self._make(name, rng)
                atoms = self.problem.tidied(made)
                mark = self._mark(atoms)
                if any(apart(mark, p.fingerprint) < CHANGED for p in parents):
                    raise Refused("like its parent")
                child = Candidate(number, atoms, name, tuple(p.number for p in parents))
            except Refused as reason:
                refusals.append(f"{name}: {reason}")
                continue
            self.begin(child)
            return child
        raise SettingsError(f"no structure could be made in {TRIES} attempts; the last: {refusals[-1]}")

    def begin(self, child: Candidate) -> None:
        """Take down that a structure was made; also for what a log says."""
        self.waiting[child.number] = child
        self.made = child.number + 1
        self.record[child.operator].made += 1
        self.breeders.children.update(child.parents)
        if child.parents:
            self.uses[child.operator, child.parents[0]] += 1

    def _make(self, name: str, rng: np.random.Generator) -> tuple[Atoms, list[Found]]:
        if name == NEW:
            return self.problem.create(rng), []
        operator = self.operators[name]
        parents = self.breeders.parents(operator.parents, rng)
        breed = replace(self.problem.breed, times=self.uses[name, parents[0].number])
        return operator.make([p.atoms for p in parents], breed, rng), parents

    def _operator(self, rng: np.random.Generator) -> str:
        """Drawn by weight and success; new ones while the pool begins."""
        given = len(self.seeds) if self._first == 0 else 0
        if self.made - self._first - given < self.first or len(self.breeders.members) < 2:
            return NEW
        share = self.shares()
        names = list(share)
        return names[rng.choice(len(names), p=list(share.values()))]

    def shares(self) -> dict[str, float]:
        """Part of the children that each operator makes now.

        Raises:
            SettingsError: all weights are 0.
        """
        wanted = {name: self.weights[name] * self.success[name] for name in self.weights}
        on = [name for name, weight in self.weights.items() if weight > 0]
        if not on:
            raise SettingsError("operators: all weights are 0")
        whole, least = sum(wanted.values()), self.settings.least
        return {name: least + (1 - least * len(on)) * wanted[name] / whole for name in on}

    def receive(self, relaxed: Sequence[tuple[int, Relaxed]]) -> list[Found]:
        """Numbers of candidates with what became of them, in any order; gives the structures that entered the pool."""
        return [f for number, one in relaxed if (f := self._take(number, one)) is not None]

    def _take(self, number: int, relaxed: Relaxed) -> Found | None:
        child = self.waiting.pop(number)
        self.done += 1
        entered = None
        if not relaxed.failure:
            found = self.found(child, relaxed)
            if self.ranking.take(found.atoms, found.energy):
                self.best, self.best_at = found, self.done
            if number >= self._first and self.population.add(found):
                entered = found
        self._learn(child.operator, entered is not None)
        if self.population.since_best >= self.settings.pool.patience * self.ranking.places:
            self.population.clear()
            self.before.clear()
            self.pools, self._first = self.pools + 1, self.made
        return entered

    def renew(self) -> list[Found]:
        """Rank by another energy from now on: the pool begins empty, and `again` fills it.

        Until it is half as large as it was, parents come from the old pool, which is ranked by the old energy.

        Returns:
            The members that the pool had.
        """
        self.before, self.population = self.population, Population(self.settings.pool, self.ranking.again())
        self.ranking = self.population.ranking
        self.best, self.best_at = None, self.done
        return self.before.members

    @property
    def breeders(self) -> Population:
        """The pool that parents come from."""
        few = 2 * len(self.population.members) < len(self.before.members)
        return self.before if few else self.population

    def again(self, candidate: Candidate, relaxed: Relaxed) -> Found | None:
        """Take in a structure that was received before, by its energy of now; gives it where it entered the pool."""
        if relaxed.failure:
            return None
        found = self.found(candidate, relaxed)
        if self.ranking.take(found.atoms, found.energy):
            self.best, self.best_at = found, self.done
        return found if self.population.add(found) else None

    def drop(self, number: int) -> None:
        """A candidate is of no use any more, without blame for its operator."""
        del self.waiting[number]
        self.done += 1

    def found(self, candidate: Candidate, relaxed: Relaxed) -> Found:
        """A relaxed structure with its fingerprint."""
        return Found(
            candidate.number, relaxed.atoms, relaxed.energy, candidate.operator, candidate.parents,
            self._mark(relaxed.atoms),
        )  # fmt: skip

    def _mark(self, atoms: Atoms) -> np.ndarray:
        """The fingerprint."""
        return fingerprint(atoms, self.problem.distance, self.problem.elements)

    def _learn(self, operator: str, entered: bool) -> None:
        """Success as a running mean; of new ones that begin a pool it says nothing."""
        self.record[operator].entered += entered
        if operator != SEED and (operator != NEW or self.done > self.first + len(self.seeds)):
            step = self.settings.learning
            self.success[operator] += step * (float(entered) - self.success[operator])
