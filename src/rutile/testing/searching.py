"""Structures of a search, for tests."""

from __future__ import annotations

import numpy as np
from ase import Atoms

from rutile.build.recipe import Refused
from rutile.search.breeding import Problem

TRIES = 1000
"""Attempts at one structure."""


def new_structure(problem: Problem, seed: int | np.random.Generator) -> Atoms:
    """A new structure as the search would relax it.

    Args:
        problem: what is searched for.
        seed: of the random numbers, or these themselves.

    Raises:
        AssertionError: none could be made.
    """
    rng = np.random.default_rng(seed)
    for _ in range(TRIES):
        try:
            return problem.tidied(problem.create(rng, 0))
        except Refused:
            continue
    raise AssertionError(f"no structure in {TRIES} attempts")
