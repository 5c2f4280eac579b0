"""Settings of PaiNN. Imports no torch."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from rutile.core.units import Angstrom
from rutile.potentials.parts.symmetry import CutoffName
from rutile.potentials.settings.network import NetworkSettings


class PaiNNSettings(NetworkSettings):
    """PaiNN: equivariant message passing with scalar and vector features."""

    TRAINING: ClassVar[dict[str, Any]] = {
        "optimizer": {"name": "adam", "learning_rate": 0.003},
        "schedule": {"name": "cosine", "stop": 0.01},
        "keep": "last",
        "warmup": 50,
        "batch_size": 4,
        "epochs": 200,
        "clip_norm": 10.0,
        "ema": 0.99,
    }
    """What suits it in the train task: settings that hold unless others are given."""

    name: Literal["painn"] = "painn"
    """Which potential."""
    cutoff: Angstrom = Field(default=5.0, gt=0)
    """Radius of the neighbourhood of one message."""
    cutoff_function: CutoffName = "exp"
    """What takes the messages to 0 at the cutoff: "exp" with all derivatives, "cosine" (as in the paper) with one."""
    features: int = Field(default=128, ge=2)
    """Channels of the scalars and of the vectors of an atom."""
    interactions: int = Field(default=3, ge=1)
    """Number of message and update blocks; an atom sees as many cutoffs far."""
    radial: int = Field(default=20, ge=1)
    """Number of radial Bessel functions."""
