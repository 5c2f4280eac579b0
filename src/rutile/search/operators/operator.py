"""What an operator is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms

if TYPE_CHECKING:
    from rutile.build.random_crystal import Group
    from rutile.search.compositions import Compositions


@dataclass(frozen=True)
class Breed:
    """What operators know of the search."""

    distance: float
    """Usual distance of neighbours (Angstrom)."""
    times: int = 0
    """How often this operator was used on the first parent before."""
    plane: Group | None = None
    """Operations that leave a slab as it is, in its cell; none of them turns it over."""
    compositions: Compositions | None = None
    """What children may be made of, where the composition is variable."""

    @property
    def mixture(self) -> Compositions:
        """`compositions`, for operators that serve variable composition only."""
        assert self.compositions is not None, "the problem has operators that fit it"
        return self.compositions


@dataclass(frozen=True)
class Operator:
    """One way to make a child."""

    name: str
    """As settings and results call it."""
    parents: int
    """How many it takes."""
    make: Callable[[list[Atoms], Breed, np.random.Generator], Atoms]
    """A child of them, or `Refused`; parents are not changed."""
    weight: float = 1.0
    """How often it is used at the beginning where settings do not say it; 0: not."""
    atom_energies: bool = False
    """It needs the energies of the parents' atoms (see `individual.ATOM_ENERGY`)."""
