"""What ends a run: a committee that disagrees, atoms too close, a burst. Says why; the other runs go on."""

from __future__ import annotations

from math import isfinite

import numpy as np
import torch
from torch import Tensor

from rutile.core.units import KB
from rutile.graph.graph import squared_lengths
from rutile.simulate.md.motion import largest_square
from rutile.simulate.md.settings import WatchSettings
from rutile.simulate.md.state import State, kinetic_of

LEAP = 2.0
"""No atom may move farther in one time step (Angstrom)."""
BURST = 20.0
"""A run hotter than so many times the temperature asked for has burst (dimensionless)."""
LUKEWARM = 1000.0
"""Below this nothing counts as too hot (K)."""


class Watch:
    """Looks at every step.

    Args:
        settings: limits.
        hottest: highest temperature that may be met (K), [S0]: of all runs that were begun.
        volume: of the cells at the start (Angstrom^3), [S0].
    """

    def __init__(self, settings: WatchSettings, hottest: Tensor, volume: Tensor) -> None:
        self.settings, self.hottest, self.volume = settings, hottest, volume
        self._of: tuple[Tensor, Tensor] | None = None
        self._limits = np.zeros((4, 0))

    def after(self, state: State) -> list[str]:
        """For each run why it ends here, or ""."""
        s, n = self.settings, state.n_systems
        apart = np.zeros(n, bool) if s.disagreement is None else _numpy(state.deviation > s.disagreement)
        # a few numbers of each run: NumPy is quicker than tensors are
        sums = (state.energy, kinetic_of(state), state.closest, state.stress.sum((1, 2)), state.forces.sum().expand(n))
        energy, kinetic, closest, stress, force = _numpy(torch.stack(sums))
        hottest, dof, began, growth = self._slow(state)
        hot = 2 * kinetic / (KB * np.maximum(dof, 1))
        wild = ~np.isfinite(energy + hot + stress + force)
        burst = hot > hottest
        near = closest < s.closest
        swollen = (began > 0) & ((growth > s.growth) | (growth < 1 / s.growth))
        if not (wild | burst | near | apart | swollen).any():
            return [""] * n
        reasons = []
        for k in range(state.n_systems):
            if near[k]:
                why = f"two atoms are {state.closest[k]:.2f} Å apart (watch.closest: {s.closest:g} Å)"
            elif apart[k]:
                why = f"the members disagree by {state.deviation[k]:.3g} eV/Å (watch.disagreement: {s.disagreement:g})"
            elif not bool(_finite(state, k)):
                why = f"energy, forces or stress are not finite (energy {state.energy[k]:g} eV)"
            elif burst[k]:
                why = f"it burst: {hot[k]:.0f} K (watch.hottest: {hottest[k]:.0f} K)"
            elif swollen[k]:
                why = f"the volume of the cell changed by a factor of {growth[k]:.3g} (watch.growth: {s.growth:g})"
            else:
                why = ""
            reasons.append(why)
        return reasons

    def _slow(self, state: State) -> np.ndarray:
        """Highest temperature (K), degrees of freedom, volume at the start (Angstrom^3) and growth, [4, S].

        They are as they were while the same runs have the same cells.
        """
        of = state.number, state.structures.cell
        if self._of is None or any(a is not b for a, b in zip(of, self._of, strict=True)):
            began = self.volume[state.number]
            rows = (self.hottest[state.number], state.dof, began, state.structures.volume / began.clamp(min=1e-300))
            self._of, self._limits = of, _numpy(torch.stack(rows))
        return self._limits


def _numpy(tensor: Tensor) -> np.ndarray:
    return np.asarray(tensor.cpu().numpy())


def _finite(state: State, k: int) -> bool:
    """Whether everything about a run is a number."""
    mine = state.structures.system == k
    numbers = (state.energy[k], state.stress[k], state.forces[mine], state.velocities[mine])
    return all(bool(torch.isfinite(x).all()) for x in numbers)


def leaps(after: State, dt: float) -> list[str]:
    """For each run why its new positions cannot be used, or "".

    Args:
        after: with new positions, forces not known yet.
        dt: time step (fs).
    """
    if largest_square(after.velocities) * dt**2 <= LEAP**2 and isfinite(float(after.structures.cell.sum())):
        return [""] * after.n_systems
    length = squared_lengths(after.velocities) * dt**2
    cells = torch.isfinite(after.structures.cell).all(2).all(1)
    longest = length.new_zeros(after.n_systems).scatter_reduce(
        0, after.structures.system, length.nan_to_num(torch.inf, torch.inf), "amax"
    )
    return [
        "" if x <= LEAP and c else f"it burst: an atom moves {x:.3g} Å in one time step of {dt:g} fs; is that too long?"
        for x, c in zip(longest.sqrt().tolist(), cells.tolist(), strict=True)
    ]


def highest(temperatures: Tensor) -> Tensor:
    """Default of `watch.hottest` for runs with these temperatures at start and end (K), [S, 2] -> [S]."""
    return (BURST * temperatures.amax(1)).clamp(min=LUKEWARM)
