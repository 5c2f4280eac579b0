"""Settings of active learning. Imports no torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from rutile.core.settings import Settings
from rutile.core.units import EVPerAngstrom, EVPerAtom


class ChoiceSettings(Settings):
    """Which structures are worth a label."""

    low: EVPerAngstrom | None = Field(default=None, gt=0)
    """Below it the force on every atom is known well enough. What is compared with it is the largest over the atoms of
    the spread of the force, scaled to the size of errors if the model is calibrated. Default: 0.05, or twice the
    model's validation RMSE of force vectors, whichever is larger."""
    high: EVPerAngstrom | None = Field(default=None, gt=0)
    """Above it a structure is taken for one that went wrong, and not labelled. Default: ten times low, which suits
    snapshots of dynamics on the model itself. Of structures that builders made, and guards have looked at, those with
    the largest disagreement are what the data lack most: say high=1000 there."""
    energy_low: EVPerAtom | None = Field(default=None, gt=0)
    """With it a structure is a candidate, too, where the members disagree more than this about its energy."""
    budget: int = Field(default=100, ge=1)
    """How many structures are chosen at most."""
    method: Literal["farthest", "determinant", "largest", "random"] = "farthest"
    """How they are chosen among the candidates. farthest: each as unlike the others and the known data as there is;
    determinant: each the one whose features, as a linear model, are least determined by the others and the known data;
    largest: by disagreement; random: by lot, for comparison, from all that are possible, candidates or not."""
    shortlist: float = Field(default=4.0, ge=1)
    """farthest and determinant look at the candidates with the largest disagreement only: so many times the budget
    (dimensionless). A large number: at all candidates alike."""
    near: float = Field(default=0.02, ge=0)
    """A candidate is left out if its features lie nearer than this to those of known data or of another choice
    (dimensionless: root mean square over features, each in its standard deviations)."""
    closest: float = Field(default=0.6, ge=0)
    """Structures with atoms nearer than this fraction of the sum of their covalent radii (dimensionless) are not
    labelled."""
    max_force: EVPerAngstrom = Field(default=50.0, gt=0)
    """Nor are those with a larger predicted force, even if it is two standard deviations smaller: where members
    disagree, a large force says more about the data than about the structure."""
    seed: int = Field(default=0, ge=0)
    """Of the lot."""

    @model_validator(mode="after")
    def _ordered(self) -> ChoiceSettings:
        if self.low is not None and self.high is not None and self.high <= self.low:
            raise ValueError(f"high ({self.high:g} eV/Å) must be above low ({self.low:g} eV/Å)")
        return self
