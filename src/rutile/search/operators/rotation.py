"""Random rotations, which several operators need."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation


def turned(positions: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Positions [N, 3] about their centre, turned at random."""
    centred = positions - positions.mean(0)
    return np.asarray(Rotation.random(rng=rng).apply(centred))
