"""Convex hull of energies over composition: which phases are stable, and what the others decay into.

    e_hull(x) = min sum_k w_k e_k,   w_k >= 0,   sum_k w_k x_k = x,

a linear programme over all phases for the composition x of each (energies per atom, compositions in parts of one). Its
solution is a corner: at most as many phases as elements take part.

Source: S. P. Ong, L. Wang, B. Kang, G. Ceder, Chem. Mater. 20, 1798 (2008), doi:10.1021/cm702327g.
Letters of shapes: P phases, X elements.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import linprog
from scipy.spatial import ConvexHull

NOTHING = 1e-9
"""Parts of a mixture below this are none."""
SAME = 1e-8
"""A phase so near to the hull (eV/atom) is on it."""


@dataclass(frozen=True)
class Hull:
    """Where phases stand."""

    formation: np.ndarray
    """Energy of formation from the lowest phases of the elements (eV/atom), [P]."""
    above: np.ndarray
    """Energy above the hull (eV/atom), 0 on it, [P]."""
    decay: tuple[dict[int, float], ...]
    """What each phase decays into: number of a phase -> part of the atoms; itself where it is stable, [P]."""


def convex_hull(parts: np.ndarray, energy: np.ndarray) -> Hull:
    """The hull of phases that include every element.

    Args:
        parts: of each element in each phase, rows sum to 1, [P, X].
        energy: eV/atom, [P].

    Raises:
        ValueError: an element has no phase of its own.
    """
    formation = energy - parts @ _ends(parts, energy)
    above, decay = np.zeros(len(energy)), []
    for p, x in enumerate(parts):
        mixture = _lowest(parts, formation, x)
        above[p] = formation[p] - sum(w * formation[k] for k, w in mixture.items())
        if above[p] < SAME:
            above[p], mixture = 0.0, {p: 1.0}
        decay.append(mixture)
    return Hull(formation, above, tuple(decay))


def chemical_potentials(parts: np.ndarray, energy: np.ndarray) -> np.ndarray:
    """The planes that the hull is made of, by what they say of each element: e_hull(x) = max over planes of mu . x.

    Quick where many compositions are asked for, by qhull: C. B. Barber, D. P. Dobkin, H. Huhdanpaa, ACM Trans. Math.
    Softw. 22, 469 (1996), doi:10.1145/235815.235821.

    Args:
        parts: of each element in each phase, rows sum to 1; every element has a phase of its own, [P, X].
        energy: eV/atom, [P].

    Returns:
        mu: energy of each element on each plane (eV/atom), [planes, X].

    Raises:
        ValueError: an element has no phase of its own.
    """
    ends = _ends(parts, energy)
    formation = energy - parts @ ends
    low = formation < -NOTHING
    if not low.any():
        return ends[None]
    corners = np.eye(parts.shape[1])
    points = np.vstack([corners, parts[low], corners.mean(0)])
    heights = np.concatenate([np.zeros(len(corners)), formation[low], [1.0]])
    facets = ConvexHull(np.column_stack([points[:, 1:], heights])).equations  # n . (x, y) + offset = 0
    facets = facets[facets[:, -2] < -NOTHING]  # that face down
    at_corners = corners[:, 1:] @ facets[:, :-2].T + facets[:, -1]
    return np.asarray(ends + (-at_corners / facets[:, -2]).T)


def _ends(parts: np.ndarray, energy: np.ndarray) -> np.ndarray:
    """Lowest energy of each element (eV/atom), [X].

    Raises:
        ValueError: an element has no phase of its own.
    """
    pure = [np.nonzero(np.abs(parts[:, k] - 1) < NOTHING)[0] for k in range(parts.shape[1])]
    if not all(len(rows) for rows in pure):
        raise ValueError("an element has no phase of its own")
    return np.array([energy[rows].min() for rows in pure])


def _lowest(parts: np.ndarray, formation: np.ndarray, x: np.ndarray) -> dict[int, float]:
    """The mixture of composition x with the lowest energy."""
    found = linprog(formation, A_eq=parts.T, b_eq=x, bounds=(0, None), method="highs-ds")
    assert found.success, "the pure elements are always a mixture"
    taken = np.nonzero(found.x > NOTHING)[0]
    weights = np.linalg.lstsq(parts[taken].T, x, rcond=None)[0]  # exact where the solver stopped at its tolerance
    return {int(k): float(w) for k, w in zip(taken, weights, strict=True)}
