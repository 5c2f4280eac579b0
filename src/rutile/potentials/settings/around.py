"""Settings of the terms that stand beside a network: core repulsion and dispersion. Imports no torch."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from rutile.core.settings import Settings
from rutile.core.units import Angstrom

Functional = Literal["pbe", "r2scan"]
DAMPING: dict[Functional, tuple[float, float, float, float]] = {
    "pbe": (1.0, 0.7875, 0.4289, 4.4407),
    "r2scan": (1.0, 0.78981345, 0.49484001, 5.73083694),
}
"""s6, s8, a1, a2 (Bohr) of rational (Becke-Johnson) damping."""


class ZBLSettings(Settings):
    """Repulsion of screened nuclei (Ziegler, Biersack, Littmark) at short distances."""

    TRAINING: ClassVar[dict[str, Any]] = {}

    name: Literal["zbl"] = "zbl"
    """Which potential."""
    end: float = Field(default=0.8, gt=0, le=1)
    """Where it ends: a fraction of the sum of the covalent radii (dimensionless)."""


class DispersionSettings(Settings):
    """D3 dispersion with Becke-Johnson damping, added to a trained potential, never fitted."""

    TRAINING: ClassVar[dict[str, Any]] = {}

    name: Literal["d3"] = "d3"
    """Which potential."""
    functional: Functional = "pbe"
    """Whose damping parameters."""
    cutoff: Angstrom = Field(default=14.0, gt=0)
    """Radius of the pair energy."""
    smoothing: Angstrom = Field(default=2.0, ge=0)
    """The pair energy goes smoothly to 0 over this distance before the cutoff; 0: it is cut."""
    cn_cutoff: Angstrom = Field(default=14.0, gt=0)
    """Radius of the coordination numbers; their terms go smoothly to 0 over the same distance."""
    three_body: bool = False
    """Add the Axilrod-Teller-Muto term of triples (slow)."""
    three_body_cutoff: Angstrom = Field(default=9.0, gt=0)
    """All three sides of a triple are shorter than this; cut, not smoothed."""

    @model_validator(mode="after")
    def _smoothing_fits(self) -> DispersionSettings:
        if self.smoothing >= min(self.cutoff, self.cn_cutoff):
            raise ValueError(f"smoothing ({self.smoothing:g}) must be less than cutoff and cn_cutoff")
        return self
