"""Melting points from crystal and liquid side by side: which of the two grows, by temperature.

A crystal is equilibrated, half of it is melted while the other half is held, and then both are let go at a temperature
and a pressure. Above the melting point the liquid grows, below it the crystal. The crystalline part of a run is

    f = (s - s_liquid) / (s_crystal - s_liquid)

with the mean order s of all atoms (`order`), and its values in the equilibrated crystal and in the melted half.

Sources: J. R. Morris, C. Z. Wang, K. M. Ho and C. T. Chan, Phys. Rev. B 49, 3109 (1994), doi:10.1103/PhysRevB.49.3109;
J. R. Morris and X. Song, J. Chem. Phys. 116, 9352 (2002), doi:10.1063/1.1474581. Letters of shapes: N atoms, F frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from rutile.core.errors import GeometryError
from rutile.simulate.md.means import slope
from rutile.simulate.settings import MeltSettings
from rutile.simulate.supercells import repeated
from rutile.structures.structures import Structures

Verdict = Literal["froze", "melted", "undecided"]
FROZEN, MOLTEN = 0.85, 0.15
"""Crystalline parts at which a run is decided, and ends."""
CHANGE = 0.1
"""At the end of its time a run is decided by a smaller change, of this at least, if it is thrice its error."""
BLOCKS = 5
"""Parts of a run that its trend comes from."""
UPRIGHT = 1e-3
"""Cosine of the angle between c and a or b, at most."""


@dataclass(frozen=True)
class Bracket:
    """What runs say about the melting point."""

    low: float | None
    """Highest temperature at which crystal grew, below all at which it melted (K); None: there is none."""
    high: float | None
    """Lowest temperature at which it melted, above all at which it grew (K)."""
    contradiction: bool
    """A run melted below one that froze: chance decides between them, and the bracket spans all of these."""
    undecided: tuple[float, ...] = ()
    """Temperatures inside at which nothing was decided (K)."""

    @property
    def point(self) -> float | None:
        """The middle (K)."""
        return None if self.low is None or self.high is None else 0.5 * (self.low + self.high)

    @property
    def error(self) -> float | None:
        """Half the width (K)."""
        return None if self.low is None or self.high is None else 0.5 * (self.high - self.low)


def interface_repeats(crystal: Structures, atoms: int) -> tuple[int, int, int]:
    """Repeats that give about so many atoms in a box twice as long along c as it is wide; even along c.

    Raises:
        GeometryError: c is not upright on a and b.
    """
    a, b, c = crystal.cell[0]
    lengths = crystal.cell[0].norm(dim=1)
    if max(abs(float(a @ c / a.norm() / c.norm())), abs(float(b @ c / b.norm() / c.norm()))) > UPRIGHT:
        raise GeometryError("a melting point needs a cell whose third vector is upright on the first two")
    if abs(float(c[0])) + abs(float(c[1])) > UPRIGHT * float(c.norm()):
        raise GeometryError("a melting point needs a cell whose third vector lies along z: turn it")
    side = float((crystal.volume[0] / crystal.n_atoms * atoms / 2) ** (1 / 3))
    x, y = (max(1, round(side / float(length))) for length in lengths[:2])
    z = 2 * max(1, round(atoms / (2 * crystal.n_atoms * x * y)))
    return x, y, z


def boxes(crystal: Structures, atoms: int, copies: int) -> list[Structures]:
    """The box of crystal, once for each run."""
    return [repeated(crystal, interface_repeats(crystal, atoms))] * copies


def upper_half(crystal: Structures) -> Tensor:
    """Atoms of the half that is to melt, [N] bool."""
    height = torch.linalg.solve(crystal.cell[0].T, crystal.positions.T)[2]
    above: Tensor = (height - torch.floor(height + 1e-6)) >= 0.5 - 1e-6
    return above


def stretched(one: Structures, half: Tensor, by: float) -> Structures:
    """The box with its upper half longer along z, so that liquid has room.

    Args:
        one: one box.
        half: atoms of its upper half, [N] bool.
        by: growth of the length of that half (dimensionless).
    """
    c = one.cell[0, 2]
    height = torch.linalg.solve(one.cell[0].T, one.positions.T)[2]
    beside = height - torch.floor(height - 0.25)  # 0.25 to 1.25: also of atoms that moved across the top of the box
    more = torch.where(half, by * (beside - 0.5), 0.0)
    cell = one.cell.clone()
    cell[0, 2] = c * (1 + by / 2)
    return one.replace(positions=one.positions + more[:, None] * c, cell=cell)


def verdict(part: np.ndarray) -> Verdict:
    """What became of a run.

    Args:
        part: its crystalline part along the way, [F].
    """
    if len(part) == 0:
        return "undecided"
    if part[-1] >= FROZEN:
        return "froze"
    if part[-1] <= MOLTEN:
        return "melted"
    if len(part) < 2 * BLOCKS:
        return "undecided"
    blocks = np.array([b.mean() for b in np.array_split(part, BLOCKS)])
    rate, error = trend(np.arange(BLOCKS, dtype=float), blocks)
    change = rate * (BLOCKS - 1)
    if abs(change) < CHANGE or abs(rate) < 3 * error:
        return "undecided"
    return "froze" if rate > 0 else "melted"


def trend(time: np.ndarray, values: np.ndarray) -> tuple[float, float]:
    """Slope of a line through points, and its standard error; three points at least, else an error of 0."""
    rate = slope(time, values)
    if len(values) < 3:
        return rate, 0.0
    x = time - time.mean()
    residual = values - values.mean() - rate * x
    return rate, float(np.sqrt((residual**2).sum() / (len(values) - 2) / (x**2).sum()))


def growth_rate(time: np.ndarray, part: np.ndarray) -> float | None:
    """Rate of the crystalline part while both phases are there (1 / the unit of time); None: too short a time."""
    inside = (part > 1.5 * MOLTEN) & (part < 1 - 1.5 * (1 - FROZEN))
    end = int(np.argmin(inside)) if not inside.all() else len(part)
    return slope(time[:end], part[:end]) if end >= 3 else None


def bracket(temperatures: Sequence[float], verdicts: Sequence[Verdict]) -> Bracket:
    """Where the melting point lies.

    Args:
        temperatures: of all runs so far (K).
        verdicts: of each.
    """
    froze = sorted(t for t, v in zip(temperatures, verdicts, strict=True) if v == "froze")
    melted = sorted(t for t, v in zip(temperatures, verdicts, strict=True) if v == "melted")
    if not froze or not melted:
        return Bracket(froze[-1] if froze else None, melted[0] if melted else None, False)
    crossed = melted[0] <= froze[-1]
    low, high = (melted[0], froze[-1]) if crossed else (froze[-1], melted[0])
    if crossed:  # chance decides within; certain are only the neighbours outside
        low = max((t for t in froze if t < low), default=low)
        high = min((t for t in melted if t > high), default=high)
    between = (t for t, v in zip(temperatures, verdicts, strict=True) if v == "undecided" and low < t < high)
    return Bracket(low, high, crossed, tuple(sorted(between)))


def next_temperatures(found: Bracket, tried: Sequence[float], settings: MeltSettings) -> list[float]:
    """Temperatures of the next round (K); none: the melting point is known as well as it will be.

    Without a bracket they go on above or below those tried, else they divide it evenly.
    """
    n = settings.runs
    width = settings.highest - settings.lowest
    if not tried:
        return [settings.lowest + width * k / (n - 1) for k in range(n)]
    if found.low is None and found.high is None:
        return []
    if found.high is None:
        return [max(tried) + width * (k + 1) / n for k in range(n)]
    if found.low is None:
        return [t for t in (min(tried) * (k + 1) / (n + 1) for k in range(n)) if t > 0]
    if found.contradiction or found.high - found.low <= 2 * settings.within or len(found.undecided) >= n:
        return []
    return [found.low + (found.high - found.low) * (k + 1) / (n + 1) for k in range(n)]


def points_of_members(
    point: float,
    parts: Sequence[np.ndarray],
    energies: Sequence[np.ndarray],
    volumes: Sequence[np.ndarray],
    pressure: float,
) -> np.ndarray | None:
    """Melting points that the members of a committee would have, from runs that their mean has moved (K), [M].

    To first order a member whose energy differs by d from that of the mean melts at

        T' = T [1 + (<d>_liquid - <d>_crystal) / (H_liquid - H_crystal)]

    The differences between liquid and crystal are slopes over the crystalline part, within each run. Source: D. Alfe,
    M. J. Gillan and G. D. Price, J. Chem. Phys. 116, 6170 (2002), doi:10.1063/1.1460865 (arXiv:cond-mat/0111510).

    Args:
        point: melting point of the mean (K).
        parts: crystalline part of some frames of each run, [F].
        energies: of the members there (eV/atom), [M, F].
        volumes: there (Angstrom^3/atom), [F].
        pressure: (eV/Angstrom^3).

    Returns:
        None: the runs do not tell crystal from liquid.
    """
    x = np.concatenate([p - p.mean() for p in parts])
    e = np.concatenate([one - one.mean(1, keepdims=True) for one in energies], axis=1)
    v = np.concatenate([one - one.mean() for one in volumes])
    heat = -float(x @ (e.mean(0) + pressure * v))  # of fusion, times the sum of squares of x, as the shift
    if not (x @ x > 0 and heat > 0):
        return None
    shift = -(e - e.mean(0)) @ x
    return np.asarray(point * (1 + shift / heat))


def zero_of_rates(temperatures: np.ndarray, rates: np.ndarray, found: Bracket) -> float | None:
    """Temperature at which nothing would grow: of the line through the rates nearest to the bracket (K).

    None without a bracket, or without three rates within twice its width of its middle that fall with temperature.
    """
    if found.point is None or found.error is None:
        return None
    near = np.abs(temperatures - found.point) <= 4 * max(found.error, 1e-9) + 1e-9
    if near.sum() < 3:
        return None
    rate = slope(temperatures[near], rates[near])
    if not rate < 0:
        return None
    return float(temperatures[near].mean() - rates[near].mean() / rate)
