"""Settings of simulations. Imports no torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from rutile.core.settings import Settings
from rutile.core.units import Angstrom, EVPerAngstrom, GigaPascal

CellMode = Literal["none", "full", "isotropic", "volume"]


class RelaxSettings(Settings):
    """How to relax structures to the nearest minimum of energy (or of enthalpy E + PV)."""

    fmax: EVPerAngstrom = Field(default=0.01, gt=0)
    """Relaxed when no atom feels a larger force than this."""
    cell: CellMode = "none"
    """What of the cell moves: none; full: all six strains; isotropic: the size alone; volume: the shape at fixed
    volume."""
    pressure: GigaPascal = 0.0
    """Outer pressure, positive under compression; matters only when the cell moves."""
    smax: GigaPascal = Field(default=0.05, gt=0)
    """Relaxed when no stress component that may move differs more than this from the outer pressure."""
    max_steps: int = Field(default=1000, ge=0)
    """Give up on a structure after so many steps (0: only evaluate)."""
    max_move: Angstrom = Field(default=0.2, gt=0, le=1)
    """Longest move of an atom in one step."""
    closest: Angstrom = Field(default=0.5, gt=0)
    """A structure with two atoms nearer than this has failed: it fell into a hole of the potential."""
    atoms_at_once: int = Field(default=1000, ge=1)
    """Structures are moved together up to this many atoms; the next ones enter as relaxed ones leave."""
