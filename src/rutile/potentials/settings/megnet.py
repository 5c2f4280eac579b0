"""Settings of MEGNet. Imports no torch."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from rutile.core.units import Angstrom
from rutile.potentials.parts.choices import ActivationName
from rutile.potentials.parts.symmetry import CutoffName
from rutile.potentials.settings.network import NetworkSettings


class MEGNetSettings(NetworkSettings):
    """MatErials Graph Network: features of edges, atoms and states that update each other, made smooth and local."""

    TRAINING: ClassVar[dict[str, Any]] = {"optimizer": {"name": "adam", "learning_rate": 0.005}, "clip_norm": 10.0}
    """What suits it in the train task: settings that hold unless others are given."""

    name: Literal["megnet"] = "megnet"
    """Which potential."""
    cutoff: Angstrom = Field(default=5.0, gt=0)
    """Radius in which every atom is a neighbour."""
    cutoff_function: CutoffName = "exp"
    """What edges are multiplied by in every sum; "exp" has all derivatives."""
    channels: int = Field(default=32, ge=1)
    """Features of an edge, of an atom and of a state."""
    blocks: int = Field(default=3, ge=1)
    """Rounds of updates; the energy of an atom depends on atoms up to 2 x blocks x cutoff away."""
    gaussians: int = Field(default=30, ge=2)
    """Number of Gaussians of the distance, with centres from 0 to the cutoff."""
    width: Angstrom = Field(default=0.5, gt=0)
    """Width w of the Gaussians exp(-(r - r_k)^2 / w^2)."""
    hidden: tuple[Annotated[int, Field(ge=1)], ...] = Field(default=(64, 64), min_length=1)
    """Widths of the hidden layers of the update networks."""
    readout: tuple[Annotated[int, Field(ge=1)], ...] = (32, 16)
    """Widths of the hidden layers of the network that turns features into the energy of an atom."""
    activation: ActivationName = "shifted_softplus"
    """Activation of the hidden layers."""
