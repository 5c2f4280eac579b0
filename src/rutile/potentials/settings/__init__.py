"""Settings of all potentials, one file for each; `PotentialSettings` is any of them, told apart by `name`.

Imports no torch, so that help is instant.
"""

from __future__ import annotations

from typing import Any, TypeAlias

from rutile.potentials.settings.behler import BehlerSettings

PotentialSettings: TypeAlias = BehlerSettings
"""Settings of any potential."""
_ALL = (BehlerSettings,)


def training_defaults(name: str) -> dict[str, Any]:
    """Settings of training that suit a potential; nothing for the defaults of the train task or an unknown name."""
    found = {c.model_fields["name"].default: c.TRAINING for c in _ALL}
    return found.get(name, {})


__all__ = ["BehlerSettings", "PotentialSettings", "training_defaults"]
