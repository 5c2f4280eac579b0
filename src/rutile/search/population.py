"""The pool: who stays, who leaves, who becomes a parent.

A structure enters if it is new and lower than the worst one; of one niche (structures that are alike) only so many
stay, so that a pool does not fill with variants of one structure. Those that have been there long leave, but for the
best. Parents are drawn by energy, f = (1 - tanh(2 x - 1))/2 with x from 0 (best) to 1 (worst), less often the more
children they have: f / sqrt(1 + children) (R. L. Johnston, Dalton Trans. 2003, 4193, doi:10.1039/b305686d).

Of variable composition the energy above the convex hull takes the place of the energy, and changes whenever the hull
does; only so many of one composition stay, those on the hull whatever their age, and parents are drawn less often the
more of their composition there are, so that a pool does not collapse to a few compositions.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter

import numpy as np

from rutile.search.fingerprint import apart_from
from rutile.search.individual import Found
from rutile.search.ranking import ByEnergy, Ranking
from rutile.search.settings import PoolSettings

ON_HULL = 1e-6
"""Energy above the hull (eV/atom) of what is on it."""


class Population:
    """The pool.

    Args:
        settings: sizes and ages.
        ranking: what is low; default: what has a low energy.
    """

    members: list[Found]
    """Lowest first."""
    received: int
    """Structures seen since the pool began."""
    since_best: int
    """Structures seen since the lowest energy came."""

    def __init__(self, settings: PoolSettings, ranking: Ranking | None = None) -> None:
        self.settings, self.ranking = settings, ranking or ByEnergy()
        self.mixed, self.size = self.ranking.places > 1, settings.size * self.ranking.places
        self.clear()

    def clear(self) -> None:
        """Begin anew."""
        self.members, self.received, self.since_best = [], 0, 0
        self._born: dict[int, int] = {}
        self.marks = np.zeros((0, 0))
        """Fingerprints of the members, [M, length]."""
        self.children: Counter[int] = Counter()
        """How many each member has, by its number; whoever makes one counts it."""

    def add(self, found: Found) -> bool:
        """Take a structure in, or not; says whether it is in the pool now and was not there before."""
        self.received += 1
        self.since_best += 1
        self._sort()
        entered = self._enter(found)
        if entered and self.rank(found) <= self.rank(self.members[0]):
            self.since_best = 0
        if self.received - min(self._born.values(), default=self.received) >= self.settings.age:
            self._retire()
        return entered

    def _retire(self) -> None:
        """Old ones leave, but for the best."""
        s = self.settings
        kept = [k < s.elite or (self.mixed and self.rank(m) <= ON_HULL) for k, m in enumerate(self.members)]
        young = [self.received - self._born[m.number] < s.age for m in self.members]
        for k in reversed([k for k, stays in enumerate(zip(kept, young, strict=True)) if not any(stays)]):
            self._leave(k)

    def rank(self, one: Found) -> float:
        """What the pool is sorted by (eV/atom): energy, or energy above the hull."""
        return self.ranking.of(one.atoms, one.energy)

    def _enter(self, found: Found) -> bool:
        s, kind = self.settings, self.ranking.kind(found.atoms)
        away = apart_from(self.marks, found.fingerprint)
        mine = [not self.mixed or self.ranking.kind(m.atoms) == kind for m in self.members]
        where = np.flatnonzero(np.array(mine, dtype=bool))
        for k in where[away[where] < s.same]:
            m = self.members[k]
            if abs(m.energy - found.energy) < s.same_energy:
                if found.energy < m.energy - s.same_energy / 10:  # the same, relaxed better
                    self._replace(int(k), found)
                return False
        alike = where[away[where] < s.niche]
        if len(alike) >= s.in_niche:
            return self._instead(int(alike[-1]), found)
        if self.mixed and len(where) >= s.in_composition:
            return self._instead(int(where[-1]), found)
        if len(self.members) >= self.size:
            return self._instead(len(self.members) - 1, found)
        self._insert(found)
        return True

    def _instead(self, worst: int, found: Found) -> bool:
        """Take a structure in instead of a worse one."""
        if self.rank(found) >= self.rank(self.members[worst]):
            return False
        self._replace(worst, found)
        return True

    def _replace(self, k: int, found: Found) -> None:
        self._leave(k)
        self._insert(found)

    def _leave(self, k: int) -> None:
        """Nothing is kept of the one that goes."""
        number = self.members.pop(k).number
        self.marks = np.delete(self.marks, k, axis=0)
        self._born.pop(number, None)
        del self.children[number]

    def _insert(self, found: Found) -> None:
        self._born[found.number] = self.received
        k = bisect_left(self.members, self._order(found), key=self._order)
        self.members.insert(k, found)
        self.marks = np.insert(self.marks.reshape(-1, len(found.fingerprint)), k, found.fingerprint, axis=0)

    def _order(self, one: Found) -> tuple[float, int]:
        return self.rank(one), one.number

    def _sort(self) -> None:
        """Ranks change where they are of a hull."""
        if self.mixed:
            order = sorted(range(len(self.members)), key=lambda k: self._order(self.members[k]))
            self.members, self.marks = [self.members[k] for k in order], self.marks[order]

    def weights(self) -> np.ndarray:
        """Of members as parents, by energy and number of children, [M]; their sum is 1."""
        energy = np.array([self.rank(m) for m in self.members] if self.mixed else [m.energy for m in self.members])
        x = (energy - energy[0]) / max(energy[-1] - energy[0], 1e-12)
        weight = 0.5 * (1 - np.tanh(2 * x - 1)) / np.sqrt([1 + self.children[m.number] for m in self.members])
        if self.mixed:
            kinds = [self.ranking.kind(m.atoms) for m in self.members]
            many_of = Counter(kinds)
            weight = weight / np.array([many_of[k] for k in kinds])
        return np.asarray(weight / weight.sum())

    def parents(self, many: int, rng: np.random.Generator, weights: np.ndarray | None = None) -> list[Found]:
        """Different members.

        Args:
            many: how many.
            rng: random numbers.
            weights: of the members; default: `weights`.

        Raises:
            ValueError: the pool has fewer members.
        """
        if len(self.members) < many:
            raise ValueError(f"{many} parents of a pool of {len(self.members)}")
        chosen = rng.choice(
            len(self.members), size=many, replace=False, p=self.weights() if weights is None else weights
        )
        return [self.members[k] for k in chosen]
