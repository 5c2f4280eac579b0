"""Settings of TeaNet potentials. Imports no torch."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator

from rutile.core.units import Angstrom
from rutile.potentials.parts.choices import ActivationName
from rutile.potentials.settings.network import NetworkSettings


class TeaNetSettings(NetworkSettings):
    """TeaNet potential: scalars, vectors and rank-2 tensors on atoms, scalars and vectors on bonds."""

    TRAINING: ClassVar[dict[str, Any]] = {}
    """What suits it in the train task: settings that hold unless others are given."""

    name: Literal["teanet"] = "teanet"
    """Which potential."""
    cutoffs: tuple[Annotated[Angstrom, Field(gt=0)], ...] = Field(default=(3.0, 3.0, 4.0, 6.0, 6.0), min_length=1)
    """Cutoff of each layer, not decreasing: bonds enter as the layers go outward. Their sum is how far an atom sees."""
    channels: int = Field(default=64, ge=1)
    """Scalars, vectors and tensors on each atom."""
    bond_channels: int = Field(default=24, ge=1)
    """Scalars and vectors on each bond; they set the cost, as there are many more bonds than atoms."""
    hidden: int = Field(default=64, ge=1)
    """Width of the hidden layer of each perceptron."""
    n_radial: int = Field(default=8, ge=1)
    """Number of radial functions of the distance."""
    activation: ActivationName = "silu"
    """Activation of the perceptrons; the paper's is "softplus_integral"."""

    @field_validator("cutoffs")
    @classmethod
    def _bonds_only_enter(cls, cutoffs: tuple[float, ...]) -> tuple[float, ...]:
        if any(b < a for a, b in pairwise(cutoffs)):
            raise ValueError(f"cutoffs must not decrease from layer to layer, got {cutoffs}")
        return cutoffs
