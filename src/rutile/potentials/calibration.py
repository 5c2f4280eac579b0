"""What `rutile calibrate` learned of a model: how far the reference may lie from the prediction, given the spread.

An error bar is quantile * max(std, floor): the reference value lies within it with the stated coverage. It is about the
energy of a structure (eV, to both sides) and about the force on an atom (eV/Angstrom, radius of a ball around the
predicted vector); std of a force is the norm of the standard deviations of its three components. How the numbers come
about, and what the coverage promises: `train.calibration`.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from pydantic import Field

from rutile.core.settings import Result

VERSION = 2
"""Of the layout of `Calibration` that this rutile writes into model files."""


class BarScale(Result):
    """How the error of one quantity follows from the spread of the members."""

    scale: float = Field(gt=0)
    """alpha: alpha times the spread is the standard deviation of the error, alpha^2 = mean(error^2 / spread^2)."""
    quantile: float = Field(gt=0)
    """The error stays below quantile times the spread with the stated coverage."""
    floor: float = Field(gt=0)
    """A smaller spread counts as this (eV/atom, eV/Angstrom): members may agree by chance, or by symmetry."""
    frames: int = Field(ge=1)
    """Validation frames that it was fitted on."""


class ModeBars(Result):
    """Error bars in one calc mode."""

    energy: BarScale | None = None
    """None: those of all modes."""
    forces: BarScale | None = None
    """None: those of all modes."""
    measured: dict[str, float] = Field(default_factory=dict)
    """Coverage on test frames of this mode, of "energy" and "forces"."""


class Calibration(Result):
    """Error bars of a model with a spread."""

    version: Literal[2] = 2
    """Of this layout."""
    coverage: float = Field(gt=0, lt=1)
    """Fraction of the reference values that lie within their error bars."""
    members: int = Field(ge=2)
    """Members, or heads, whose spread was calibrated."""
    energy: BarScale | None = None
    """None: the validation data had no energies."""
    forces: BarScale | None = None
    """None: the validation data had no forces."""
    data: str = ""
    """SHA-256 of the frames that it was fitted and tested on."""
    measured: dict[str, float] = Field(default_factory=dict)
    """Coverage on test frames, of "energy" and "forces"."""
    by_mode: dict[str, ModeBars] = Field(default_factory=dict)
    """Of the calc modes with enough validation frames; in others the bars of all modes together hold."""

    def of(self, mode: str) -> Calibration:
        """The error bars that hold in a calc mode."""
        own = self.by_mode.get(mode)
        if own is None:
            return self
        both = {"energy": own.energy or self.energy, "forces": own.forces or self.forces}
        return self.model_copy(update={**both, "measured": self.measured | own.measured, "by_mode": {}})

    def energy_error(self, std: np.ndarray, atoms: np.ndarray) -> np.ndarray | None:
        """Error bars of the energies of structures.

        Args:
            std: of the energies over the members, [S] (eV).
            atoms: number of atoms of each structure, [S].

        Returns:
            [S] (eV); None where energies are not calibrated.
        """
        if self.energy is None:
            return None
        return np.asarray(self.energy.quantile * np.maximum(std / atoms, self.energy.floor) * atoms)

    def forces_error(self, std: np.ndarray) -> np.ndarray | None:
        """Error bars of the forces on atoms.

        Args:
            std: of the components over the members, [N, 3] (eV/Angstrom).

        Returns:
            Radius of the ball around each predicted force, [N] (eV/Angstrom); None where forces are not calibrated.
        """
        if self.forces is None:
            return None
        return np.asarray(self.forces.quantile * np.maximum(np.linalg.norm(std, axis=1), self.forces.floor))

    def error_bars(self, energy_std: float, forces_std: np.ndarray) -> dict[str, Any]:
        """Error bars of one structure by the names of the results: energy_error, forces_error, error_coverage."""
        out: dict[str, Any] = {"error_coverage": self.coverage}
        energy = self.energy_error(np.array([energy_std]), np.array([len(forces_std)]))
        forces = self.forces_error(forces_std)
        if energy is not None:
            out["energy_error"] = float(energy[0])
        if forces is not None:
            out["forces_error"] = forces
        return out


def upgraded(found: dict[str, Any]) -> dict[str, Any]:
    """A calibration as older rutiles wrote it, in the layout of today: version 1 knew no calc modes."""
    return found | {"version": 2, "by_mode": {}} if found.get("version") == 1 else found
