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


@dataclass(frozen=True)
class Operator:
    """One way to make a child."""

    name: str
    """As settings and results call it."""
    parents: int
    """How many it takes."""
    make: Callable[[list[Atoms], Breed, np.random.Generator], Atoms]
    """A child of them, or `Refused`; parents are not changed."""
