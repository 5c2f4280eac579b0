"""Settings of SchNet. Imports no torch."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from rutile.core.units import Angstrom
from rutile.potentials.parts.symmetry import CutoffName
from rutile.potentials.settings.network import NetworkSettings


class SchNetSettings(NetworkSettings):
    """SchNet: continuous-filter convolutions, with scalar features that see distances only."""

    TRAINING: ClassVar[dict[str, Any]] = {
        "optimizer": {"name": "adam", "learning_rate": 0.005},
        "schedule": {"name": "cosine", "stop": 0.01},
        "keep": "last",
        "warmup": 50,
        "batch_size": 4,
        "epochs": 200,
        "clip_norm": 10.0,
        "ema": 0.99,
    }
    """What suits it in the train task: settings that hold unless others are given."""

    name: Literal["schnet"] = "schnet"
    """Which potential."""
    cutoff: Angstrom = Field(default=5.0, gt=0)
    """Radius of the neighbourhood of one interaction block."""
    cutoff_function: CutoffName = "exp"
    """What takes the filters to 0 at the cutoff: "exp" with all derivatives, "cosine" (as in SchNetPack) with one."""
    features: int = Field(default=128, ge=2)
    """Channels of an atom and of the filters."""
    interactions: int = Field(default=3, ge=1)
    """Number of interaction blocks; an atom sees as many cutoffs far."""
    radial: int = Field(default=20, ge=2)
    """Number of Gaussians, evenly spaced from 0 to the cutoff, as wide (standard deviation) as they are apart."""
