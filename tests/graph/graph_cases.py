"""Random structures of every periodicity for tests of neighbours."""

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st

from rutile.structures.structures import Structures

EXACT = settings(derandomize=True, database=None, deadline=None, max_examples=60)


@st.composite
def structures(draw, max_atoms=6):
    """One structure: 1 to `max_atoms` atoms, skewed cell, 0 to 3 periodic directions, atoms also outside the cell."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n = draw(st.integers(1, max_atoms))
    pbc = np.array(draw(st.tuples(*[st.booleans()] * 3)))
    skew = draw(st.sampled_from([0.0, 0.3, 1.0, 2.0]))
    cell = np.diag(rng.uniform(3.0, 6.0, size=3)) + np.tril(rng.normal(size=(3, 3)), -1) * skew
    if draw(st.booleans()):
        cell = cell @ np.linalg.qr(rng.normal(size=(3, 3)))[0]
    if draw(st.booleans()):
        cell[~pbc] = 0.0
    points = rng.normal(size=(n, 3)) * draw(st.sampled_from([0.5, 2.0, 6.0]))
    return Structures.from_arrays(rng.choice([1, 8, 22], size=n), points, cell, pbc)
