"""Settings of forces that builders use."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from rutile.core.settings import Settings


class ModelForces(Settings):
    """Forces of a rutile model."""

    name: Literal["model"] = "model"
    file: Path
    """Model file, or the folder of a training run."""
    device: str = "cpu"
    """cpu, cuda or cuda:1."""
    mode: str | None = None
    """Reference method (calc mode); needed only if the model knows several."""


class EmtForces(Settings):
    """Effective medium theory of ASE: Al, Cu, Ag, Au, Ni, Pd, Pt and, roughly, H, C, N, O."""

    name: Literal["emt"] = "emt"


class XtbForces(Settings):
    """Extended tight binding by the package tblite; for molecules and clusters."""

    name: Literal["xtb"] = "xtb"
    method: Literal["GFN2-xTB", "GFN1-xTB"] = "GFN2-xTB"
    """Parametrisation."""


class MmffForces(Settings):
    """The force field MMFF94 by the package rdkit; for organic molecules given as SMILES."""

    name: Literal["mmff"] = "mmff"


class RigidIonForces(Settings):
    """Rigid ions of TiO2 (Matsui and Akaogi 1991); atoms that come too close fall together, and the run is refused."""

    name: Literal["rigid_ion"] = "rigid_ion"


CrystalForces = Annotated[ModelForces | EmtForces | RigidIonForces, Field(discriminator="name")]
MoleculeForces = Annotated[MmffForces | XtbForces | ModelForces | EmtForces, Field(discriminator="name")]
