"""What ends a run: a committee that disagrees, atoms too close, a burst. Says why; the other runs go on."""

from __future__ import annotations

import torch
from torch import Tensor

from rutile.simulate.md.settings import WatchSettings
from rutile.simulate.md.state import State, kinetic_of, temperature

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

    def after(self, state: State) -> list[str]:
        """For each run why it ends here, or ""."""
        s = self.settings
        hot = temperature(kinetic_of(state), state.dof)
        growth = state.structures.volume / self.volume[state.number].clamp(min=1e-300)
        wild = ~torch.isfinite(state.energy + hot + state.stress.sum((1, 2)) + state.forces.sum())
        burst = hot > self.hottest[state.number]
        near = state.closest < s.closest
        apart = torch.zeros_like(near) if s.disagreement is None else state.deviation > s.disagreement
        swollen = (self.volume[state.number] > 0) & ((growth > s.growth) | (growth < 1 / s.growth))
        if not bool((wild | burst | near | apart | swollen).any()):
            return [""] * state.n_systems
        reasons = []
        for k in range(state.n_systems):
            if near[k]:
                why = f"two atoms are {state.closest[k]:.2f} Å apart (watch.closest: {s.closest:g} Å)"
            elif apart[k]:
                why = f"the members disagree by {state.deviation[k]:.3g} eV/Å (watch.disagreement: {s.disagreement:g})"
            elif not bool(_finite(state, k)):
                why = f"energy, forces or stress are not finite (energy {state.energy[k]:g} eV)"
            elif burst[k]:
                why = f"it burst: {hot[k]:.0f} K (watch.hottest: {self.hottest[state.number[k]]:.0f} K)"
            elif swollen[k]:
                why = f"the volume of the cell changed by a factor of {growth[k]:.3g} (watch.growth: {s.growth:g})"
            else:
                why = ""
            reasons.append(why)
        return reasons


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
    length = (dt * after.velocities).square().sum(1)
    cells = torch.isfinite(after.structures.cell).all(2).all(1)
    if bool((length <= LEAP**2).all() & cells.all()):
        return [""] * after.n_systems
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
