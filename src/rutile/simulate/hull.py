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
    pure = [np.nonzero(np.abs(parts[:, k] - 1) < NOTHING)[0] for k in range(parts.shape[1])]
    if not all(len(rows) for rows in pure):
        raise ValueError("an element has no phase of its own")
    ends = np.array([energy[rows].min() for rows in pure])
    formation = energy - parts @ ends
    above, decay = np.zeros(len(energy)), []
    for p, x in enumerate(parts):
        mixture = _lowest(parts, formation, x)
        above[p] = formation[p] - sum(w * formation[k] for k, w in mixture.items())
        if above[p] < SAME:
            above[p], mixture = 0.0, {p: 1.0}
        decay.append(mixture)
    return Hull(formation, above, tuple(decay))


def _lowest(parts: np.ndarray, formation: np.ndarray, x: np.ndarray) -> dict[int, float]:
    """The mixture of composition x with the lowest energy."""
    found = linprog(formation, A_eq=parts.T, b_eq=x, bounds=(0, None), method="highs-ds")
    assert found.success, "the pure elements are always a mixture"
    taken = np.nonzero(found.x > NOTHING)[0]
    weights = np.linalg.lstsq(parts[taken].T, x, rcond=None)[0]  # exact where the solver stopped at its tolerance
    return {int(k): float(w) for k, w in zip(taken, weights, strict=True)}
