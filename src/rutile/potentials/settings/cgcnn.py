"""Settings of CGCNN. Imports no torch."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from rutile.core.units import Angstrom
from rutile.potentials.parts.symmetry import CutoffName
from rutile.potentials.settings.network import NetworkSettings


class CGCNNSettings(NetworkSettings):
    """Crystal graph convolutional network with gated messages, made smooth and extensive."""

    TRAINING: ClassVar[dict[str, Any]] = {"optimizer": {"name": "adam", "learning_rate": 0.005}, "clip_norm": 10.0}
    """What suits it in the train task: settings that hold unless others are given."""

    name: Literal["cgcnn"] = "cgcnn"
    """Which potential."""
    cutoff: Angstrom = Field(default=5.0, gt=0)
    """Radius in which every atom is a neighbour (the original: the 12 nearest within 8 Å)."""
    cutoff_function: CutoffName = "exp"
    """What messages are multiplied by; "exp" has all derivatives."""
    channels: int = Field(default=64, ge=1)
    """Features of an atom."""
    layers: int = Field(default=3, ge=1)
    """Convolutions; the energy of an atom depends on atoms up to layers x cutoff away."""
    spacing: Angstrom = Field(default=0.2, gt=0)
    """Between the centres of the Gaussians of the distance, from 0 to the cutoff; also their width."""
    hidden: tuple[Annotated[int, Field(ge=1)], ...] = (128,)
    """Widths of the hidden layers of the network that turns an atom's features into its energy."""
