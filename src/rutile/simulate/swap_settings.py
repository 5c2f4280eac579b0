"""Settings of Monte Carlo exchanges of atoms. Imports no torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from rutile.core.settings import Settings
from rutile.core.units import HOTTEST, EVPerAngstrom, Femtosecond, Kelvin, Picosecond

Warm = Annotated[Kelvin, Field(gt=0, le=HOTTEST)]


class SwapSettings(Settings):
    """How atoms of different elements change places, and what else moves."""

    steps: int = Field(default=1000, ge=1)
    """Exchanges that are tried in each run."""
    temperatures: tuple[Warm, ...] = Field(default=(300.0,), min_length=1)
    """Each particle has a run at each of these."""
    hot: Warm | None = None
    """Runs begin at this temperature and cool evenly in its logarithm to their own over the first half of the steps;
    null: they do not."""
    relax: Literal["trial", "sometimes", "never"] = "trial"
    """trial: the structure with each exchange is relaxed before it is judged, and stays so if it is accepted.
    sometimes: after every relax_every steps. never: atoms stay on their places, as in a lattice model."""
    relax_every: int = Field(default=50, ge=1)
    """Steps between relaxations, with relax=sometimes."""
    fmax: EVPerAngstrom = Field(default=0.05, gt=0)
    """Relaxed when no atom feels a larger force than this."""
    max_steps: int = Field(default=100, ge=0)
    """Relaxations end after so many steps, wherever they are."""
    md_every: int = Field(default=0, ge=0)
    """Steps between bursts of molecular dynamics at the temperature of each run (Langevin), after which the atoms are
    relaxed again unless relax=never; 0: none."""
    md_time: Picosecond = Field(default=0.1, gt=0)
    """Length of a burst."""
    timestep: Femtosecond = Field(default=2.0, gt=0)
    """Of the bursts."""
    observe_every: int = Field(default=10, ge=1)
    """Steps between observations of order, in the second half of a run."""
    seed: int = 0
    """Of the exchanges, bursts and particles that are built."""
