"""Settings of ANI potentials, with the published constants. Imports no torch."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from rutile.core.elements import number
from rutile.core.settings import Settings
from rutile.core.units import Angstrom, Unit
from rutile.potentials.parts.choices import ActivationName, ScalingMode
from rutile.potentials.parts.symmetry import CutoffName
from rutile.potentials.settings.network import DescriptorNetworkSettings

PerSquareAngstrom = Annotated[float, Unit("1/Å²"), Field(gt=0)]


class AevSettings(Settings):
    """Constants of atomic environment vectors; the defaults are those of ANI-2x."""

    radial_cutoff: Angstrom = Field(default=5.1, gt=0)
    """Cutoff of the radial functions."""
    angular_cutoff: Angstrom = Field(default=3.5, gt=0)
    """Cutoff of the angular functions."""
    start: Angstrom = Field(default=0.8, ge=0)
    """First shift of the radial and of the angular functions; n shifts divide the way to the cutoff into n parts."""
    radial_shifts: int = Field(default=16, ge=1)
    """Number of radial functions for each element."""
    radial_eta: PerSquareAngstrom = 19.7
    """Width of the radial functions."""
    angular_shifts: int = Field(default=8, ge=1)
    """Number of mean distances in the angular functions."""
    angular_eta: PerSquareAngstrom = 12.5
    """Width of the angular functions in the mean distance."""
    sections: int = Field(default=4, ge=1)
    """Number of angles in the angular functions: the middles of so many equal parts of 0..180 degrees."""
    zeta: float = Field(default=14.1, ge=1)
    """Sharpness of the angular functions in the angle."""
    cutoff_function: CutoffName = "cosine"
    """Cutoff function. The published cosine gives forces that are continuous but not smooth at the cutoff."""

    @model_validator(mode="after")
    def _starts_inside(self) -> AevSettings:
        if self.start >= min(self.radial_cutoff, self.angular_cutoff):
            raise ValueError(f"the first shift ({self.start:g} Å) is not inside the cutoffs")
        return self


PUBLISHED: dict[str, AevSettings] = {
    "ani1x": AevSettings(
        radial_cutoff=5.2, start=0.9, radial_eta=16.0, angular_shifts=4, angular_eta=8.0, sections=8, zeta=32.0
    ),
    "ani2x": AevSettings(),
}
"""Constants of the published potentials."""
_HIDDEN: dict[str, dict[int, tuple[int, ...]]] = {
    "ani1x": {1: (160, 128, 96), 6: (144, 112, 96), 0: (128, 112, 96)},
    "ani2x": {
        1: (256, 192, 160), 6: (224, 192, 160), 7: (192, 160, 128), 8: (192, 160, 128), 0: (160, 128, 96)
    },
}  # fmt: skip
"""Published widths by atomic number; 0: all other elements."""
PUBLISHED_ORDER = tuple(map(number, ("H", "C", "N", "O", "S", "F", "Cl")))
"""Order of the elements in the published vectors; others come after them."""


class AniSettings(DescriptorNetworkSettings):
    """ANI potential: one network for each element on atomic environment vectors (AEVs)."""

    TRAINING: ClassVar[dict[str, Any]] = {}
    """What suits it in the train task: settings that hold unless others are given."""

    name: Literal["ani"] = "ani"
    """Which potential."""
    aev: Literal["ani1x", "ani2x"] | AevSettings = "ani2x"
    """Constants of the atomic environment vectors: those of ANI-1x, of ANI-2x, or others. They serve any elements."""
    hidden: Literal["published"] | tuple[Annotated[int, Field(ge=1)], ...] = "published"
    """Widths of the hidden layers of every element; "published": those of ANI-1x (hydrogen 160, 128, 96; carbon 144,
    112, 96; others 128, 112, 96) with its constants, else those of ANI-2x (256, 192, 160; 224, 192, 160; nitrogen and
    oxygen 192, 160, 128; others 160, 128, 96)."""
    activation: ActivationName = "celu"
    """Activation of the hidden layers."""
    scaling: ScalingMode = "none"
    """Scaling of the vectors by the training set, as for Behler-Parrinello potentials; the published potentials have
    none."""

    @property
    def constants(self) -> AevSettings:
        """The constants themselves."""
        return PUBLISHED[self.aev] if isinstance(self.aev, str) else self.aev

    def widths(self, element: int) -> tuple[int, ...]:
        """Widths of the hidden layers of an element (atomic number)."""
        if not isinstance(self.hidden, str):
            return self.hidden
        of = _HIDDEN["ani1x" if self.aev == "ani1x" else "ani2x"]
        return of.get(element, of[0])
