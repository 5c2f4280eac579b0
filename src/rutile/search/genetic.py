"""A genetic search in steady state: whenever a worker is free, children are made of the pool as it is then.

    search = Genetic(problem, settings, seed)
    for number, relaxed in executor.each(work, search.batches(16)):
        search.receive(relaxed)

There are no generations, and nobody waits. What child number n is made of follows from the seed, n, and the pool of
that moment; the pool follows from the order in which results came. So a search goes on from its log as if it had never
stopped: see `log`. Children are made here (`batches`), or it is only said of what, and whoever relaxes them makes them
(`orders`, `breeding`). Operators are drawn by weights that follow success (a child that enters the pool), as in
Z.-L. Liu, Comput. Phys. Commun. 185, 1893 (2014), doi:10.1016/j.cpc.2014.03.017.
"""

from __future__ import annotations

import difflib
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms

from rutile.build.guards import measure
from rutile.core.errors import SettingsError
from rutile.core.seeds import stream
from rutile.search.breeding import NEW, Breeder, Problem
from rutile.search.individual import Candidate, Found, Order, Relaxed, Way
from rutile.search.population import Population
from rutile.search.settings import GeneticSettings

SEED = "seed"
"""What structures are called that were given."""
WAYS = 4
"""Different operators that are drawn for each child: if none succeeds, they are tried again, with other chances."""
USES = 500
"""Uses of operators on parents are counted of so many at least; those of parents that left are forgotten beyond."""


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
            near = difflib.get_close_matches(unknown[0], self.weights, 1)
            hint = f"did you mean {near[0]}? " if near else ""
            there = ", ".join(self.weights)
            raise SettingsError(
                f"operators={{{unknown[0]}: ...}}: no such operator; {hint}For this search there are {there}"
            )
        self.success = {name: 0.5 for name in self.weights}
        self.record = {name: Record() for name in (*self.weights, *([SEED] if seeds else []))}
        self.uses: Counter[tuple[str, int]] = Counter()
        """How often an operator was used on a first parent, by its name and the parent's number."""
        self._most_uses = USES
        self.ranking = problem.ranking()
        self.first = settings.first * self.ranking.places
        self.population = Population(settings.pool, self.ranking)
        self.best, self.best_at, self.pools, self.made, self.done = None, 0, 1, 0, 0
        self.waiting: dict[int, Order | Candidate] = {}
        """Ordered or made, and not relaxed yet."""
        self.breeder = Breeder(problem, seed)
        self._first = 0
        """Number of the first structure of this pool."""
        self.before = Population(settings.pool)
        """The pool of an older energy, see `renew`."""

    def batches(self, size: int, most: int) -> Iterator[list[Candidate]]:
        """Children in groups, made when they are asked for, until so many structures were made in all.

        First come those that were made before the search stopped, and wait.
        """
        for group in self._left(size):
            children = [one if isinstance(one, Candidate) else self.breeder(one) for one in group]
            for child in children:
                self.settle(child)
            yield children
        while self.made < most:
            yield [self.child() for _ in range(min(size, most - self.made))]

    def orders(self, size: int, most: int) -> Iterator[list[Order | Candidate]]:
        """The same, where others make the children, and `settle` hears of it; what was given comes as it is."""
        yield from self._left(size)
        while self.made < most:
            yield [self.order() for _ in range(min(size, most - self.made))]

    def _left(self, size: int) -> Iterator[list[Order | Candidate]]:
        """What waits, in groups."""
        left = list(self.waiting.values())
        for k in range(0, len(left), size):
            yield left[k : k + size]

    def order(self) -> Order | Candidate:
        """The next structure to be relaxed: a child that is to be made of the pool of now, or one that was given.

        Raises:
            SettingsError: all operators are turned off.
        """
        one = self._next()
        self.begin(one)
        return one

    def child(self, variants: int = 1) -> Candidate:
        """The next structure to be relaxed, made here.

        Args:
            variants: of it that are made; it is the one whose nearest atoms are farthest apart.

        Raises:
            SettingsError: none can be made.
        """
        one = self._next()
        made = [one] if isinstance(one, Candidate) else self.breeder.variants(one, variants)
        child = max(made, key=lambda v: measure(v.atoms).nearest or math.inf) if len(made) > 1 else made[0]
        self.begin(child)
        return child

    def _next(self) -> Order | Candidate:
        """Given ones first."""
        number = self.made
        if number < len(self.seeds):
            return Candidate(number, self.seeds[number], SEED, ())
        return self._ordered(number, stream(self.seed, "ways", number))

    def _ordered(self, number: int, rng: np.random.Generator) -> Order:
        """Some ways to make a child, as the pool is now."""
        ways, parents, pool = [], dict[int, Atoms](), self.breeders
        weights = None if self._begins else pool.weights()
        for name in [NEW] if self._begins else self._drawn(rng):
            found = [] if name == NEW else pool.parents(self.operators[name].parents, rng, weights)
            parents |= {p.number: p.atoms for p in found}
            times = self.uses[name, found[0].number] if found else 0
            ways.append(Way(name, tuple(p.number for p in found), times))
        return Order(number, tuple(ways), parents)

    def _drawn(self, rng: np.random.Generator) -> list[str]:
        """Different operators, by weight and success."""
        shares = {name: share for name, share in self.shares().items() if share > 0}
        many = min(WAYS, len(shares))
        return [str(name) for name in rng.choice(list(shares), size=many, replace=False, p=list(shares.values()))]

    @property
    def _begins(self) -> bool:
        """Whether only new ones are made: the pool begins."""
        given = len(self.seeds) if self._first == 0 else 0
        return self.made - self._first - given < self.first or len(self.breeders.members) < 2

    def begin(self, one: Order | Candidate) -> None:
        """Take down that a structure was made, or ordered (its first way counts); also for what a log says."""
        self.waiting[one.number] = one
        self.made = one.number + 1
        likely = one.ways[0] if isinstance(one, Order) else one
        self.record[likely.operator].made += 1
        self.breeders.children.update(likely.parents)
        if likely.parents:
            self.uses[likely.operator, likely.parents[0]] += 1
        if len(self.uses) > self._most_uses:
            there = {m.number for pool in (self.population, self.before) for m in pool.members}
            self.uses = Counter({use: many for use, many in self.uses.items() if use[1] in there})
            self._most_uses = USES + 2 * len(self.uses)

    def settle(self, child: Candidate) -> None:
        """A structure that was ordered was made, by one of its ways."""
        order = self.waiting[child.number]
        if isinstance(order, Order):
            self.record[order.ways[0].operator].made -= 1
            self.record[child.operator].made += 1
        self.waiting[child.number] = child

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
        assert isinstance(child, Candidate), "it is said first what was made: see `settle`"
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
            self.breeder.mark(relaxed.atoms) if relaxed.mark is None else relaxed.mark,
        )  # fmt: skip

    def _learn(self, operator: str, entered: bool) -> None:
        """Success as a running mean; of new ones that begin a pool it says nothing."""
        self.record[operator].entered += entered
        if operator != SEED and (operator != NEW or self.done > self.first + len(self.seeds)):
            step = self.settings.learning
            self.success[operator] += step * (float(entered) - self.success[operator])
