"""Settings of all potentials, one file for each; `PotentialSettings` is any of them, told apart by `name`.

Imports no torch, so that help is instant.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, TypeAlias

from pydantic import Field

from rutile.core.settings import Settings
from rutile.potentials.settings.anatase import AnataseSettings
from rutile.potentials.settings.ani import AevSettings, AniSettings
from rutile.potentials.settings.around import DispersionSettings, ZBLSettings
from rutile.potentials.settings.behler import BehlerSettings
from rutile.potentials.settings.cgcnn import CGCNNSettings
from rutile.potentials.settings.deepmd import DeepMDSettings
from rutile.potentials.settings.deeppot_se import DeepPotSESettings
from rutile.potentials.settings.megnet import MEGNetSettings
from rutile.potentials.settings.painn import PaiNNSettings
from rutile.potentials.settings.schnet import SchNetSettings
from rutile.potentials.settings.teanet import TeaNetSettings

TermSettings: TypeAlias = Annotated[
    AnataseSettings
    | AniSettings
    | BehlerSettings
    | CGCNNSettings
    | DeepMDSettings
    | DeepPotSESettings
    | MEGNetSettings
    | PaiNNSettings
    | SchNetSettings
    | TeaNetSettings
    | DispersionSettings
    | ZBLSettings,
    Field(discriminator="name"),
]
"""Settings of any potential that is no sum."""


class SumSettings(Settings):
    """A sum of potentials."""

    TRAINING: ClassVar[dict[str, Any]] = {}

    name: Literal["sum"] = "sum"
    """Which potential."""
    terms: tuple[TermSettings, ...] = Field(min_length=1)
    """What is added up."""


PotentialSettings: TypeAlias = Annotated[
    AnataseSettings
    | AniSettings
    | BehlerSettings
    | CGCNNSettings
    | DeepMDSettings
    | DeepPotSESettings
    | MEGNetSettings
    | PaiNNSettings
    | SchNetSettings
    | TeaNetSettings
    | DispersionSettings
    | ZBLSettings
    | SumSettings,
    Field(discriminator="name"),
]
"""Settings of any potential."""
_ALL: tuple[Any, ...] = (
    AnataseSettings,
    AniSettings,
    BehlerSettings,
    CGCNNSettings,
    DeepMDSettings,
    DeepPotSESettings,
    MEGNetSettings,
    PaiNNSettings,
    SchNetSettings,
    TeaNetSettings,
    DispersionSettings,
    ZBLSettings,
    SumSettings,
)


def training_defaults(name: str) -> dict[str, Any]:
    """Settings of training that suit a potential; nothing for the defaults of the train task or an unknown name."""
    found: dict[str, dict[str, Any]] = {c.model_fields["name"].default: c.TRAINING for c in _ALL}
    return found.get(name, {})


__all__ = [
    "AevSettings",
    "AnataseSettings",
    "AniSettings",
    "BehlerSettings",
    "CGCNNSettings",
    "DeepMDSettings",
    "DeepPotSESettings",
    "DispersionSettings",
    "MEGNetSettings",
    "PaiNNSettings",
    "PotentialSettings",
    "SchNetSettings",
    "SumSettings",
    "TeaNetSettings",
    "TermSettings",
    "ZBLSettings",
    "training_defaults",
]
