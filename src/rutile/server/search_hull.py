"""The convex hull of what a search found, for any number of elements, also where an element has no phase of its own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rutile.core.settings import Result
from rutile.server.search_story import FoundRow

FACING_DOWN = -1e-9
SAME = 1e-8


class HullView(Result):
    """Energies above the hull, and what the hull is made of."""

    elements: list[str]
    """In the order of the parts."""
    numbers: list[int]
    """The lowest structure of each composition."""
    parts: list[list[float]]
    """Of each element in each of these."""
    above: list[float]
    """Energy of each of these above the hull (eV/atom)."""
    facets: list[list[int]]
    """Corners of each facet: places in `numbers`."""


def hull_of(found: Sequence[FoundRow]) -> HullView | None:
    """The hull; None where there are too few compositions for one.

    Facets are those of the lower half of the convex hull of energies over compositions, by qhull: C. B. Barber,
    D. P. Dobkin, H. Huhdanpaa, ACM Trans. Math. Softw. 22, 469 (1996), doi:10.1145/235815.235821.
    """
    from scipy.spatial import ConvexHull, QhullError

    lowest: dict[tuple[float, ...], tuple[float, int]] = {}
    elements = sorted({e for one in found for e in one.elements})
    for one in found:
        if one.energy is None:
            continue
        size = sum(one.elements.values())
        parts = tuple(round(one.elements.get(e, 0) / size, 9) for e in elements)
        lowest[parts] = min(lowest.get(parts, (np.inf, -1)), (one.energy, one.number))
    if len(elements) < 2 or len(lowest) < len(elements):
        return None
    x = np.array(list(lowest))
    energy = np.array([e for e, _ in lowest.values()])
    plane, *_ = np.linalg.lstsq(x, energy, rcond=None)
    height = energy - x @ plane  # the same hull, without the slope that would make it thin
    lid = np.append(x.mean(0)[1:], height.max() + 1.0)
    try:
        hull = ConvexHull(np.vstack([np.column_stack([x[:, 1:], height]), lid]))
    except QhullError:
        return None
    down = (hull.equations[:, -2] < FACING_DOWN) & (hull.simplices < len(x)).all(axis=1)
    if not down.any():
        return None
    planes = hull.equations[down]
    on_hull = -(x[:, 1:] @ planes[:, :-2].T + planes[:, -1]) / planes[:, -2]
    above = height - on_hull.max(axis=1)
    return HullView(
        elements=elements, numbers=[number for _, number in lowest.values()], parts=x.tolist(),
        above=np.where(above < SAME, 0.0, above).tolist(), facets=hull.simplices[down].tolist(),
    )  # fmt: skip
