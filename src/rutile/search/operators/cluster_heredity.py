"""Cut and splice of clusters: the upper part of one parent on the lower part of the other.

Source: D. M. Deaven and K. M. Ho, Phys. Rev. Lett. 75, 288 (1995), doi:10.1103/PhysRevLett.75.288.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from ase import Atoms

from rutile.build.recipe import Refused
from rutile.search.operators.operator import Breed, Operator
from rutile.search.operators.rotation import turned

LEAST = 0.2
"""Each parent gives at least this part of the atoms."""


@dataclass(frozen=True)
class Cut:
    """Two clusters, turned, and what is taken of them."""

    one: Atoms
    """The first parent."""
    other: Atoms
    """The second one."""
    top: np.ndarray
    """Atoms of the first, numbers."""
    bottom: list[int]
    """Atoms of the second."""

    def child(self) -> Atoms:
        """Both parts in one."""
        upper, lower = self.one[self.top], self.other[self.bottom]
        whole: Atoms = upper + lower
        return Atoms(whole.numbers, positions=whole.positions)


def splice(parents: list[Atoms], breed: Breed, rng: np.random.Generator) -> Atoms:
    """Both parents are turned at random about their centres; the composition stays."""
    del breed
    return draw(parents, rng).child()


def draw(parents: list[Atoms], rng: np.random.Generator) -> Cut:
    """A random cut.

    Raises:
        Refused: there are too few atoms.
    """
    one, other = (a.copy() for a in parents)
    for a in (one, other):
        a.positions = turned(a.positions, rng)
    n = len(one)
    least = max(1, round(LEAST * n))
    if n < 2 * least:
        raise Refused("too few atoms to cut")
    top = np.argsort(-one.positions[:, 2])[: rng.integers(least, n - least, endpoint=True)]
    wanted = Counter(one.numbers.tolist()) - Counter(one.numbers[top].tolist())
    bottom = []
    for k in np.argsort(other.positions[:, 2]):
        z = int(other.numbers[k])
        if wanted[z] > 0:
            wanted[z] -= 1
            bottom.append(int(k))
    return Cut(one, other, top, bottom)


OPERATOR = Operator("heredity", 2, splice)
