"""Settings of DeepPot-SE. Imports no torch."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from rutile.core.settings import Settings
from rutile.core.units import Angstrom
from rutile.potentials.parts.choices import ActivationName
from rutile.potentials.settings.network import NetworkSettings

Width = Annotated[int, Field(ge=1)]


class TableSize(Settings):
    """Number of intervals of the tables of a compressed model; made by `rutile compress`."""

    fine: int = Field(ge=1)
    """Intervals for distances above 0.5 Å."""
    coarse: int = Field(ge=1)
    """Intervals for distances from 0.1 to 0.5 Å."""


class DeepPotSESettings(NetworkSettings):
    """DeepPot-SE with radial and angular information (se_e2_a): embedding nets of the distance, fitting nets."""

    TRAINING: ClassVar[dict[str, Any]] = {"optimizer": {"name": "adam", "learning_rate": 0.0003}, "batch_size": 4}
    """What suits it in the train task: settings that hold unless others are given."""

    name: Literal["deeppot_se"] = "deeppot_se"
    """Which potential."""
    cutoff: Angstrom = Field(default=6.0, gt=0)
    """Radius r_c of the environment."""
    smooth_from: Angstrom = Field(default=0.5, gt=0)
    """Distance r_s from which 1/r is switched off, to be 0 at the cutoff (rcut_smth of DeePMD-kit)."""
    embedding: tuple[Width, ...] = Field(default=(25, 50, 100), min_length=1)
    """Widths of the embedding nets. A layer as wide as the one before, or twice as wide, is residual."""
    axis: int = Field(default=16, ge=1)
    """Number of embedding columns on the second side of the descriptor (axis_neuron of DeePMD-kit)."""
    fitting: tuple[Width, ...] = (240, 240, 240)
    """Widths of the hidden layers of the fitting nets; the same rule."""
    activation: ActivationName = "tanh"
    """Activation of all hidden layers."""
    type_one_side: bool = False
    """One embedding net for each element of the neighbour, whatever the centre; otherwise one for each pair."""
    resnet_dt: bool = True
    """Residual layers of the fitting nets learn their step, which begins near 0.1."""
    n_c: float | None = Field(default=None, gt=0)
    """Number N_c that the sums over neighbours are divided by; by default the mean number of neighbours in training."""
    tables: TableSize | None = None
    """The embedding nets are replaced by tables ("compressed"); written by `rutile compress`, not to be trained."""

    @model_validator(mode="after")
    def _consistent(self) -> DeepPotSESettings:
        if self.smooth_from >= self.cutoff:
            raise ValueError(f"smooth_from ({self.smooth_from:g}) must be below cutoff ({self.cutoff:g})")
        if self.axis > self.embedding[-1]:
            raise ValueError(f"axis ({self.axis}) must not be above the last width of embedding ({self.embedding[-1]})")
        return self
