"""Settings of all engines; `EngineSettings` is any of them, told apart by `name`. Imports no torch."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from pydantic import Field

from rutile.label.settings.cheap import (
    AseSettings,
    EmtSettings,
    LennardJonesSettings,
    RigidIonSettings,
    TeacherSettings,
)
from rutile.label.settings.common import EngineBase, ProgramSettings, Protocol, PythonSettings
from rutile.label.settings.crystals import (
    AbinitSettings,
    AimsSettings,
    Cp2kSettings,
    EspressoSettings,
    GpawSettings,
    VaspSettings,
)
from rutile.label.settings.molecules import GaussianSettings, OrcaSettings, PyscfSettings, XtbSettings

EngineSettings: TypeAlias = Annotated[
    GpawSettings
    | EspressoSettings
    | Cp2kSettings
    | AbinitSettings
    | XtbSettings
    | PyscfSettings
    | EmtSettings
    | LennardJonesSettings
    | RigidIonSettings
    | TeacherSettings
    | AseSettings
    | VaspSettings
    | AimsSettings
    | OrcaSettings
    | GaussianSettings,
    Field(discriminator="name"),
]
"""Settings of any engine."""

__all__ = [
    "AbinitSettings",
    "AimsSettings",
    "AseSettings",
    "Cp2kSettings",
    "EmtSettings",
    "EngineBase",
    "EngineSettings",
    "EspressoSettings",
    "GaussianSettings",
    "GpawSettings",
    "LennardJonesSettings",
    "OrcaSettings",
    "ProgramSettings",
    "Protocol",
    "PyscfSettings",
    "PythonSettings",
    "RigidIonSettings",
    "TeacherSettings",
    "VaspSettings",
    "XtbSettings",
]
