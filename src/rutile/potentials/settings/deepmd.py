"""Settings of DeePMD potentials with local frames. Imports no torch."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from rutile.core.settings import Settings
from rutile.core.units import Angstrom
from rutile.potentials.parts.choices import ActivationName
from rutile.potentials.settings.network import NetworkSettings

Slots = Annotated[int, Field(ge=0)]


class AxisRule(Settings):
    """Which neighbours the axes of a centre's local frame point to."""

    first: tuple[str, ...] = ()
    """Elements that the first axis prefers; empty: any. Where there is no such neighbour, the nearest of any counts."""
    second: tuple[str, ...] = ()
    """Elements that the second axis prefers, among neighbours not in line with the first."""


class DeepMDSettings(NetworkSettings):
    """DeePMD with local frames (2018): sorted neighbours in a frame of two of them, one network for each element.

    Its energy jumps where neighbours exchange rank or cross the cutoff; `deeppot_se` is the smooth successor.
    """

    TRAINING: ClassVar[dict[str, Any]] = {
        "optimizer": {"name": "adam", "learning_rate": 0.001},
        "batch_size": 4,
        "epochs": 200,
        "loss": {"energy": {"start": 0.02, "limit": 20.0}},
    }
    """What suits it in the train task: settings that hold unless others are given."""

    name: Literal["deepmd"] = "deepmd"
    """Which potential."""
    cutoff: Angstrom = Field(default=6.0, gt=0)
    """Radius of the neighbourhood. There is no cutoff function."""
    sel_full: dict[str, Slots] | None = None
    """So many nearest neighbours of each element enter with distance and direction, such as {O: 16, H: 32}; by default
    all that were within `full_cutoff` of any atom of the training set. A trained model has the numbers here."""
    sel_radial: dict[str, Slots] | None = None
    """So many further neighbours of each element enter with their distance only; by default all that were within
    `cutoff` in the training set. Neighbours beyond both are dropped, the farthest first, with a warning."""
    full_cutoff: Angstrom = Field(default=4.0, gt=0)
    """Radius for the default of `sel_full`."""
    axes: dict[str, AxisRule] = {}
    """Rules for the frames of some elements, such as {H: {first: [O]}}; by default axes point to the two nearest."""
    hidden: tuple[Annotated[int, Field(ge=1)], ...] = (240, 120, 60, 30, 10)
    """Widths of the hidden layers."""
    activation: ActivationName = "tanh"
    """Activation of the hidden layers."""
