"""What an operator is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from ase import Atoms


@dataclass(frozen=True)
class Breed:
    """What operators know of the search."""

    distance: float
    """Usual distance of neighbours (Angstrom)."""
    times: int = 0
    """How often this operator was used on the first parent before."""


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
