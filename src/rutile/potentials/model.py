"""A trained model: one potential or a committee, and what is known about its making."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from pydantic import Field, JsonValue

from rutile import __version__
from rutile.core.settings import Result
from rutile.potentials.combine import Mean
from rutile.potentials.potential import Potential

if TYPE_CHECKING:
    pass


class ModelInfo(Result):
    """What a model file says about the model besides its numbers."""

    elements: tuple[int, ...]
    """Atomic numbers it was trained on, ascending."""
    calc_modes: tuple[str, ...] = ()
    """Reference methods of the training data."""
    training_data: str = ""
    """SHA-256 of the training data; empty: unknown."""
    metrics: dict[str, JsonValue] = Field(default_factory=dict)
    """Errors measured at the end of training, by data set."""
    rutile: str = __version__
    """Version of rutile that trained it."""


class Model:
    """Potentials (float32 or float64 modules of the catalogue) with their description."""

    def __init__(self, potentials: Sequence[torch.nn.Module], info: ModelInfo) -> None:
        assert potentials, "a model without potentials"
        self.potentials = list(potentials)
        self.info = info

    @property
    def committee(self) -> bool:
        """Whether there are several members, so that predictions have a spread."""
        return len(self.potentials) > 1

    @property
    def potential(self) -> Potential:
        """The energy function: the only member, or the mean of the committee."""
        return self.potentials[0] if len(self.potentials) == 1 else Mean(self.potentials)  # type: ignore[return-value]

    def save(self, path: str | Path) -> None:
        """Write the model to one file, atomically.

        Raises:
            FileError: the place cannot be written.
        """
        from rutile.potentials.save import save_model

        save_model(Path(path), self)

    def members(self, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> list[Potential]:
        """Frozen copies of the potentials for evaluation, in a precision (default: as trained) and on a device."""
        copies = [copy.deepcopy(p).to(device=device, dtype=dtype).eval().requires_grad_(False) for p in self.potentials]
        return copies  # type: ignore[return-value]
