"""How much the members of a committee disagree about a structure, and what follows from it.

    of a force     eps_i = sqrt(mean over members of |F_i^k - <F_i>|^2),  of a structure the largest over its atoms
    of an energy   standard deviation over members, per atom

The largest deviation of a force finds new surroundings best (DP-GEN: Y. Zhang et al., Comput. Phys. Commun. 253, 107206
(2020), doi:10.1016/j.cpc.2020.107206). A calibrated model gives the standard deviation of the error instead: alpha eps,
with spreads below its floor raised to that (`potentials.calibration`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from rutile.potentials.calibration import BarScale, Calibration
from rutile.potentials.combine import mean, spread
from rutile.potentials.potential import Prediction
from rutile.structures.structures import Structures

SURE = 2.0
"""Standard deviations by which a force is smaller than predicted, at the least that one believes."""


@dataclass(frozen=True)
class Disagreement:
    """What members say about S structures."""

    energy: np.ndarray
    """Standard deviation of the energy, [S] (eV/atom)."""
    force: np.ndarray
    """Largest deviation of a force, [S] (eV/Angstrom)."""
    atom: np.ndarray
    """The atom whose force that is, counted inside its structure, [S]."""
    largest: np.ndarray
    """Largest force that members agree about: a mean force less `SURE` standard deviations, [S] (eV/Angstrom)."""


def disagreement(
    predictions: Sequence[Prediction], structures: Structures, calibration: Calibration | None = None
) -> Disagreement:
    """How much members disagree.

    Args:
        predictions: of each member, at least two.
        structures: that they are about.
        calibration: turns spreads into the standard deviations of errors.

    Raises:
        ValueError: fewer than two members.
    """
    if len(predictions) < 2:
        raise ValueError("one potential cannot disagree with itself")
    between = spread(predictions)
    n_atoms = torch.bincount(structures.system, minlength=structures.n_systems).to(between.energy.device)
    energy = _scaled((between.energy / n_atoms).cpu().double(), calibration.energy if calibration else None)
    force = _scaled(between.forces.norm(dim=1).cpu().double(), calibration.forces if calibration else None)
    size = (mean(predictions).forces.norm(dim=1).cpu().double() - SURE * force).clamp_min(0.0)
    sizes = n_atoms.tolist()
    parts = force.split(sizes)
    return Disagreement(
        energy.numpy(),
        np.array([float(part.max()) for part in parts]),
        np.array([int(part.argmax()) for part in parts]),
        np.array([float(part.max()) for part in size.split(sizes)]),
    )


def joined(parts: Sequence[Disagreement]) -> Disagreement:
    """One after another."""
    return Disagreement(
        *(np.concatenate([getattr(p, name) for p in parts]) for name in ("energy", "force", "atom", "largest"))
    )


def _scaled(values: Tensor, bars: BarScale | None) -> Tensor:
    """Standard deviations of errors from spreads."""
    return values if bars is None else bars.scale * values.clamp_min(bars.floor)
