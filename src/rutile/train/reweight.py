"""The hook that turns losses of single structures into their weights in later steps."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor


class Reweighter(Protocol):
    """Weights of training structures from their losses; no gradient flows through them.

    Structures are counted 0..n-1 as in the training examples.
    """

    def weights(self, ids: Tensor) -> Tensor:
        """Weights of some structures in the loss, [len(ids)] float64."""
        ...

    def observe(self, ids: Tensor, losses: Tensor) -> None:
        """Hear of the losses that these structures had in a step (unweighted, detached)."""
        ...

    def end_epoch(self) -> None:
        """Every structure has been seen once more."""
        ...

    def state(self) -> dict[str, Tensor]:
        """What is needed to go on."""
        ...

    def restore(self, state: dict[str, Tensor]) -> None:
        """Go on from `state()`."""
        ...


class Uniform:
    """Weight 1 for every structure."""

    def weights(self, ids: Tensor) -> Tensor:
        """Ones."""
        return torch.ones(len(ids), dtype=torch.float64)

    def observe(self, ids: Tensor, losses: Tensor) -> None:
        """Ignore them."""

    def end_epoch(self) -> None:
        """Nothing to do."""

    def state(self) -> dict[str, Tensor]:
        """Nothing."""
        return {}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Nothing."""
