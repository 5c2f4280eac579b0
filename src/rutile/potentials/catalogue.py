"""All potentials by name. A new one is one file and one line here."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from rutile.core.errors import SettingsError
from rutile.core.seeds import integer

if TYPE_CHECKING:
    from rutile.potentials.behler import Behler
    from rutile.potentials.settings import PotentialSettings

POTENTIALS = {
    "behler": "rutile.potentials.behler:Behler",
}
"""Name -> "module:Class"; the class is made from (settings, elements, generator)."""


def make(settings: PotentialSettings, elements: tuple[int, ...], seed: int = 0) -> Behler:
    """A new potential with random weights; the same seed gives the same weights.

    Raises:
        SettingsError: no potential of that name, or the settings do not fit the elements.
    """
    import torch

    if settings.name not in POTENTIALS:
        raise SettingsError(f"no potential {settings.name!r} (known: {', '.join(POTENTIALS)})")
    module, name = POTENTIALS[settings.name].split(":")
    generator = torch.Generator().manual_seed(integer(seed, "weights"))
    potential: Behler = getattr(import_module(module), name)(settings, elements, generator)
    return potential
