"""Means of correlated series with error bars, by blocks.

The series is cut into blocks of growing length; once blocks are longer than the correlation time, the standard error
that their means give stays the same. The error bar is the largest over block lengths that leave at least FEWEST blocks:
an underestimate only where the series is shorter than some ten correlation times.

Source: H. Flyvbjerg and H. G. Petersen, J. Chem. Phys. 91, 461 (1989), doi:10.1063/1.457480.
"""

from __future__ import annotations

import numpy as np

FEWEST = 10
"""Blocks needed for an error bar."""


def mean_with_error(values: np.ndarray) -> tuple[float, float | None]:
    """Mean and its standard error; None where the series is too short for one.

    Args:
        values: of equal distances in time, [T]; those that are not finite are left out.
    """
    x = np.asarray(values, dtype=float)
    x = x[np.isfinite(x)]
    if not len(x):
        return float("nan"), None
    errors = []
    length = 1
    while len(x) // length >= FEWEST:
        blocks = x[: len(x) // length * length].reshape(-1, length).mean(1)
        errors.append(blocks.std(ddof=1) / np.sqrt(len(blocks)))
        length *= 2
    return float(x.mean()), float(max(errors)) if errors else None


def slope(time: np.ndarray, values: np.ndarray) -> float:
    """Slope of the line through a series; NaN for fewer than two finite points."""
    good = np.isfinite(values)
    if good.sum() < 2:
        return float("nan")
    t, x = time[good] - time[good].mean(), values[good]
    return float((t * x).sum() / (t * t).sum())
