"""Settings of engines that cost little: potentials of pairs and of metals, trained potentials, ASE calculators."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field, JsonValue

from rutile.core.units import Angstrom, ElectronVolt, Second
from rutile.label.settings.common import PythonSettings


class EmtSettings(PythonSettings):
    """Effective medium theory of ASE: Al, Cu, Ag, Au, Ni, Pd, Pt, and H, C, N, O for tests."""

    name: Literal["emt"] = "emt"
    """Which engine."""
    time_limit: Second = Field(default=300.0, gt=0)
    """A calculation that takes longer is ended, and is a failure."""


class LennardJonesSettings(PythonSettings):
    """Lennard-Jones pairs, the same for all elements, smooth at the cutoff."""

    name: Literal["lennard_jones"] = "lennard_jones"
    """Which engine."""
    sigma: Angstrom = Field(default=3.4, gt=0)
    """Distance at which the energy of a pair is 0."""
    epsilon: ElectronVolt = Field(default=0.0104, gt=0)
    """Depth of the well."""
    cutoff: Angstrom = Field(default=10.2, gt=0)
    """Radius of the interaction, which goes to 0 over its last third."""
    time_limit: Second = Field(default=300.0, gt=0)
    """A calculation that takes longer is ended, and is a failure."""


class RigidIonSettings(PythonSettings):
    """TiO2 of rigid ions (Matsui and Akaogi 1991): crystals and molecules of Ti and O."""

    name: Literal["rigid_ion"] = "rigid_ion"
    """Which engine."""
    cutoff: Angstrom = Field(default=10.0, gt=4)
    """Radius of the pairs and of the real-space part of Ewald's sum."""
    time_limit: Second = Field(default=300.0, gt=0)
    """A calculation that takes longer is ended, and is a failure."""


class TeacherSettings(PythonSettings):
    """A trained potential as teacher: its energies, forces and stresses become labels (distillation)."""

    RUNNING: ClassVar[frozenset[str]] = PythonSettings.RUNNING | {"model", "device"}
    name: Literal["potential"] = "potential"
    """Which engine."""
    model: Path
    """Model file, or the folder of a training run."""
    mode: str | None = None
    """Reference method (calc mode) to predict; needed only if the model knows several."""
    device: str = "cpu"
    """cpu, cuda or cuda:1."""
    time_limit: Second = Field(default=600.0, gt=0)
    """A calculation that takes longer is ended, and is a failure."""


class AseSettings(PythonSettings):
    """Any ASE calculator."""

    name: Literal["ase"] = "ase"
    """Which engine."""
    calculator: str
    """Where its class is: `package.module:Class`, or `file.py:Class`."""
    arguments: dict[str, JsonValue] = {}
    """Arguments of the class."""
    safer: dict[str, JsonValue] = {}
    """Arguments that change when a calculation is tried again: how a result is found, not which."""
    version: str = ""
    """Of the calculator, as the labels will say; part of their identity."""
