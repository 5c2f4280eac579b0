"""Settings of all potentials, one file for each; `PotentialSettings` is any of them, told apart by `name`.

Imports no torch, so that help is instant.
"""

from __future__ import annotations

from typing import TypeAlias

from rutile.potentials.settings.behler import BehlerSettings

PotentialSettings: TypeAlias = BehlerSettings
"""Settings of any potential."""

__all__ = ["BehlerSettings", "PotentialSettings"]
