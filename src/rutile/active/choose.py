"""Which structures are worth a label: trust levels, then as much variety as the budget allows.

Each structure is (after DP-GEN, doi:10.1016/j.cpc.2020.107206)

    impossible   atoms too close, or a force beyond reason: no reference code should be asked
    accurate     the members agree: the data hold such structures
    candidate    they disagree: the data lack such structures
    failed       they disagree so much that the structure itself is likely to be broken

Farthest-point selection and selection by determinant look at the candidates with the largest disagreement only, a few
times the budget: variety among what is doubtful, not for its own sake (F. Zhdanov, arXiv:1901.05954 (2019)).

Among the candidates a structure is described by the mean and the standard deviation over its atoms of the potential's
features, each column in its own standard deviations; distances are root mean squares over the columns. Farthest-point
selection takes the structure farthest from all known and chosen ones, again and again (T. F. Gonzalez, Theor. Comput.
Sci. 38, 293 (1985), doi:10.1016/0304-3975(85)90224-5). Selection by determinant takes the one with the largest
x^T (A + ridge)^-1 x, A the sum of x x^T over known and chosen ones: the largest variance of a linear model, so that
det(A + ridge) grows most (D-optimality; E. V. Podryabinkin and A. V. Shapeev, Comput. Mater. Sci. 140, 171 (2017),
doi:10.1016/j.commatsci.2017.08.031). Letters of shapes: S structures, K known ones, F columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from rutile.active.disagreement import Disagreement
from rutile.active.settings import ChoiceSettings

Kind = Literal["impossible", "accurate", "candidate", "failed"]
RIDGE = 1e-3
"""Added to the sum of x x^T, in its mean diagonal element per structure."""
REACH = 10.0
"""Beyond so many half-widths of the middle of all values a feature counts as no larger for what is usual."""
AT_ONCE = 2_000_000
"""Numbers of one block of distances."""


@dataclass(frozen=True)
class Levels:
    """Trust levels."""

    low: float
    """Of the force (eV/Angstrom)."""
    high: float
    """Of the force (eV/Angstrom)."""
    energy_low: float | None = None
    """Of the energy (eV/atom)."""


@dataclass(frozen=True)
class Decision:
    """What becomes of one structure."""

    kind: Kind
    """Its class."""
    rank: int | None
    """Its place among the chosen, from 0; None: not chosen."""
    reason: str
    """Why."""


def classify(found: Disagreement, impossible: Sequence[str], levels: Levels) -> list[Kind]:
    """Class of each structure.

    Args:
        found: of S structures.
        impossible: why a structure cannot be; empty: it can, [S].
        levels: where to divide.
    """
    kinds: list[Kind] = []
    for energy, force, why in zip(found.energy, found.force, impossible, strict=True):
        doubtful = force >= levels.low or (levels.energy_low is not None and energy >= levels.energy_low)
        if why:
            kinds.append("impossible")
        elif force >= levels.high or not np.isfinite([energy, force]).all():
            kinds.append("failed")
        else:
            kinds.append("candidate" if doubtful else "accurate")
    return kinds


def choose(
    found: Disagreement,
    features: np.ndarray,
    known: np.ndarray,
    impossible: Sequence[str],
    levels: Levels,
    settings: ChoiceSettings,
) -> list[Decision]:
    """Decide about each structure.

    Args:
        found: how much members disagree about S structures.
        features: of each, [S, F].
        known: of structures that have labels, [K, F]; may be empty.
        impossible: why a structure cannot be; empty: it can, [S].
        levels: trust levels.
        settings: budget and method.

    Returns:
        S decisions.
    """
    kinds = classify(found, impossible, levels)
    wanted = {"accurate", "candidate"} if settings.method == "random" else {"candidate"}
    open_ = np.array([k for k, kind in enumerate(kinds) if kind in wanted], dtype=int)
    x, base = standardised(features[open_], known)  # not by the others: broken ones would make all alike
    order, close = _pick(found.force[open_], x, base, settings)
    place, near = {int(open_[k]): rank for rank, k in enumerate(order)}, {int(open_[k]) for k in close}
    return [_decision(k, kinds[k], place, near, impossible[k], found, levels) for k in range(len(kinds))]


def standardised(features: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both with every column in its standard deviations over all, divided by sqrt(F): distances are root mean squares.

    A few structures unlike all others, whose features may be a thousand times theirs, do not make the others alike:
    for the standard deviation values are kept within `REACH` half-widths of the middle 68 % of each column. Columns
    that do not vary are left out.
    """
    whole = np.concatenate([known, features]) if len(known) else features
    if not len(whole):
        return features, features
    low, high = np.quantile(whole, (0.16, 0.84), axis=0)
    reach = np.where(high > low, REACH * (high - low) / 2, np.inf)
    kept = np.clip(whole, low - reach, high + reach)
    std = kept.std(0)
    varies = std > 1e-9 * max(float(np.abs(kept).max(initial=0.0)), 1e-300)
    centre, scale = kept[:, varies].mean(0), std[varies] * np.sqrt(max(int(varies.sum()), 1))
    return (features[:, varies] - centre) / scale, (known[:, varies] - centre) / scale if len(known) else known[:, :0]


def _decision(
    k: int, kind: Kind, place: dict[int, int], near: set[int], why: str, found: Disagreement, levels: Levels
) -> Decision:
    """Of one structure."""
    if k in place:
        return Decision(kind, place[k], "chosen")
    if kind == "impossible":
        return Decision(kind, None, why)
    if kind == "failed":
        return Decision(kind, None, f"members disagree by {found.force[k]:.3g} eV/Å, more than {levels.high:g}")
    if kind == "accurate":
        return Decision(kind, None, "members agree")
    return Decision(kind, None, "like known or chosen structures" if k in near else "beyond the budget")


def _pick(score: np.ndarray, x: np.ndarray, known: np.ndarray, settings: ChoiceSettings) -> tuple[list[int], set[int]]:
    """Chosen structures in their order, and those that are left out as too much like them or like known ones."""
    distance = _nearest(x, known)
    gain = _Determinant(x, known) if settings.method == "determinant" else None
    lot = np.random.default_rng(settings.seed).permutation(len(x)).astype(float)
    free = distance >= settings.near if settings.near > 0 else np.ones(len(x), dtype=bool)
    most = settings.shortlist * settings.budget if settings.method in ("farthest", "determinant") else np.inf
    order: list[int] = []
    short = np.zeros_like(free)
    while len(order) < settings.budget and free.any():
        if not (free & short).any():
            short = _largest(score, free, most)
        if settings.method == "farthest":
            # with nothing to be far from: the one that the members disagree about most
            value = distance if np.isfinite(distance[free & short]).any() else score
        elif gain is not None:
            value = gain.values()
        else:
            value = lot if settings.method == "random" else score
        best = int(np.where(free & short, value, -np.inf).argmax())
        order.append(best)
        free[best] = False
        distance = np.minimum(distance, np.linalg.norm(x - x[best], axis=1))
        free &= (distance >= settings.near) | (settings.near == 0)
        if gain is not None:
            gain.add(best)
    return order, set(np.flatnonzero(distance < settings.near).tolist()) - set(order)


def _largest(score: np.ndarray, free: np.ndarray, most: float) -> np.ndarray:
    """Which of the free ones have the largest scores, at most so many, [S] bool."""
    order = np.argsort(np.where(free, -score, np.inf), kind="stable")
    out = np.zeros_like(free)
    out[order[: int(min(most, free.sum()))]] = True
    return out


def _nearest(x: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Distance of each to the nearest known one, [S]; infinite where nothing is known."""
    out = np.full(len(x), np.inf)
    step = max(1, AT_ONCE // max(1, len(x)))
    for k in range(0, len(known), step):
        block = known[k : k + step]
        square = (x**2).sum(1)[:, None] + (block**2).sum(1)[None] - 2 * x @ block.T
        out = np.minimum(out, np.sqrt(np.maximum(square.min(1), 0.0)))
    return out


class _Determinant:
    """x^T (A + ridge)^-1 x of each structure while structures are added to A."""

    def __init__(self, x: np.ndarray, known: np.ndarray) -> None:
        self.x = np.concatenate([x, np.ones((len(x), 1))], 1)
        base = np.concatenate([known, np.ones((len(known), 1))], 1) if len(known) else self.x[:0]
        ridge = RIDGE * max(float((self.x**2).mean()), 1e-12)
        self.inverse = np.linalg.inv(base.T @ base + ridge * np.eye(self.x.shape[1]))

    def values(self) -> np.ndarray:
        """Of each structure, [S]."""
        return np.asarray(np.einsum("sf,fg,sg->s", self.x, self.inverse, self.x, optimize=True))

    def add(self, k: int) -> None:
        """Add a structure to A (Sherman and Morrison)."""
        v = self.inverse @ self.x[k]
        self.inverse -= np.outer(v, v) / (1 + self.x[k] @ v)
