"""The best model so far, and stopping when it has not changed for long."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter


@dataclass
class Best:
    """Weights with the lowest validation score, and how many validations ago that was."""

    patience: int | None = None
    """Validations without a better score after which to stop; None: never."""
    score: float = math.inf
    epoch: int = 0
    waited: int = 0
    weights: list[Tensor] = field(default_factory=list)

    def observe(self, score: float, epoch: int, parameters: list[Parameter]) -> None:
        """Hear of a validation of these parameters."""
        if score < self.score:
            self.score, self.epoch, self.waited = score, epoch, 0
            self.weights = [p.detach().clone() for p in parameters]
        else:
            self.waited += 1

    @property
    def exhausted(self) -> bool:
        """Whether patience is over."""
        return self.patience is not None and self.waited >= self.patience

    def state(self) -> dict[str, Any]:
        """What is needed to go on."""
        return {"score": self.score, "epoch": self.epoch, "waited": self.waited, "weights": list(self.weights)}

    def restore(self, state: dict[str, Any], device: torch.device | str = "cpu") -> None:
        """Go on from `state()`, with the weights on a device."""
        self.score, self.epoch, self.waited = state["score"], state["epoch"], state["waited"]
        self.weights = [w.to(device) for w in state["weights"]]
