"""All potentials by name. A new one is one file and one line here."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, cast

from rutile.core.errors import SettingsError
from rutile.core.seeds import integer

if TYPE_CHECKING:
    from rutile.potentials.parts.network import TrainablePotential
    from rutile.potentials.settings import PotentialSettings

POTENTIALS = {
    "anatase": "rutile.potentials.anatase:Anatase",
    "ani": "rutile.potentials.ani:Ani",
    "behler": "rutile.potentials.behler:Behler",
    "cgcnn": "rutile.potentials.cgcnn:CGCNN",
    "megnet": "rutile.potentials.megnet:MEGNet",
    "d3": "rutile.potentials.dispersion:Dispersion",
    "sum": "rutile.potentials.combine:Sum",
    "zbl": "rutile.potentials.zbl:ZBL",
    "painn": "rutile.potentials.painn:PaiNN",
    "schnet": "rutile.potentials.schnet:SchNet",
    "teanet": "rutile.potentials.teanet:TeaNet",
    "deepmd": "rutile.potentials.deepmd:DeepMD",
    "deeppot_se": "rutile.potentials.deeppot_se:DeepPotSE",
}
"""Name -> "module:Class"; the class is made from (settings, elements, generator, modes)."""


def make(
    settings: PotentialSettings, elements: tuple[int, ...], seed: int = 0, modes: tuple[str, ...] = ("",)
) -> TrainablePotential:
    """A new potential (a `torch.nn.Module` in float64) with random weights; the same seed gives the same weights.

    Args:
        settings: which potential, and its parameters.
        elements: atomic numbers.
        seed: of the weights.
        modes: names of the calc modes it tells apart, in the order of `graph.mode`.

    Raises:
        SettingsError: no potential of that name, or the settings do not fit the elements or the modes.
    """
    import torch

    generator = torch.Generator().manual_seed(integer(seed, "weights"))
    return class_of(settings)(settings, elements, generator, modes)


def class_of(settings: PotentialSettings) -> Callable[..., TrainablePotential]:
    """What makes the potential of these settings from (settings, elements, generator, modes).

    Raises:
        SettingsError: no potential of that name.
    """
    if settings.name not in POTENTIALS:
        raise SettingsError(f"no potential {settings.name!r} (known: {', '.join(POTENTIALS)})")
    module, name = POTENTIALS[settings.name].split(":")
    return cast("Callable[..., TrainablePotential]", getattr(import_module(module), name))
