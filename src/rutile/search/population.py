"""The pool: who stays, who leaves, who becomes a parent.

A structure enters if it is new and lower than the worst one; of one niche (structures that are alike) only so many
stay, so that a pool does not fill with variants of one structure. Those that have been there long leave, but for the
best. Parents are drawn by energy, f = (1 - tanh(2 x - 1))/2 with x from 0 (best) to 1 (worst), less often the more
children they have: f / sqrt(1 + children) (R. L. Johnston, Dalton Trans. 2003, 4193, doi:10.1039/b305686d).
"""

from __future__ import annotations

from collections import Counter

import numpy as np

from rutile.search.fingerprint import apart_from
from rutile.search.individual import Found
from rutile.search.settings import PoolSettings


class Population:
    """The pool.

    Args:
        settings: sizes and ages.
    """

    members: list[Found]
    """Lowest energy first."""
    received: int
    """Structures seen since the pool began."""
    since_best: int
    """Structures seen since the lowest energy came."""

    def __init__(self, settings: PoolSettings) -> None:
        self.settings = settings
        self.clear()

    def clear(self) -> None:
        """Begin anew."""
        self.members, self.received, self.since_best = [], 0, 0
        self._born: dict[int, int] = {}
        self.children: Counter[int] = Counter()
        """How many each member has, by its number; whoever makes one counts it."""

    def add(self, found: Found) -> bool:
        """Take a structure in, or not; says whether it is in the pool now and was not there before."""
        s = self.settings
        self.received += 1
        self.since_best += 1
        entered = self._enter(found)
        if entered and self.members[0].number == found.number:
            self.since_best = 0
        keep = self.members[: s.elite]
        self.members = keep + [m for m in self.members[s.elite :] if self.received - self._born[m.number] < s.age]
        return entered

    def _enter(self, found: Found) -> bool:
        s = self.settings
        away = apart_from([m.fingerprint for m in self.members], found.fingerprint)
        distances = {m.number: float(d) for m, d in zip(self.members, away, strict=True)}
        for k, m in enumerate(self.members):
            if distances[m.number] < s.same and abs(m.energy - found.energy) < s.same_energy:
                if found.energy < m.energy - s.same_energy / 10:  # the same, relaxed better
                    self._replace(k, found)
                return False
        alike = [k for k, m in enumerate(self.members) if distances[m.number] < s.niche]
        if len(alike) >= s.in_niche:
            return self._instead(alike[-1], found)
        if len(self.members) >= s.size:
            return self._instead(len(self.members) - 1, found)
        self._insert(found)
        return True

    def _instead(self, worst: int, found: Found) -> bool:
        """Take a structure in instead of a worse one."""
        if found.energy >= self.members[worst].energy:
            return False
        self._replace(worst, found)
        return True

    def _replace(self, k: int, found: Found) -> None:
        del self.members[k]
        self._insert(found)

    def _insert(self, found: Found) -> None:
        self._born[found.number] = self.received
        self.members.append(found)
        self.members.sort(key=lambda m: (m.energy, m.number))

    def parents(self, many: int, rng: np.random.Generator) -> list[Found]:
        """Different members, drawn by energy and number of children.

        Raises:
            ValueError: the pool has fewer members.
        """
        if len(self.members) < many:
            raise ValueError(f"{many} parents of a pool of {len(self.members)}")
        energy = np.array([m.energy for m in self.members])
        x = (energy - energy[0]) / max(energy[-1] - energy[0], 1e-12)
        weight = 0.5 * (1 - np.tanh(2 * x - 1)) / np.sqrt([1 + self.children[m.number] for m in self.members])
        chosen = rng.choice(len(energy), size=many, replace=False, p=weight / weight.sum())
        return [self.members[k] for k in chosen]
