"""Weights of training structures from their losses: what is hard to learn counts more.

    FL_i = (n loss_i / sum_j loss_j)^gamma

over the n structures seen so far (design of the project; gamma = 0 is plain training). The weights are constants: no
gradient flows through them. The validation loss is never weighted.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from rutile.train.settings import ReweightSettings


class Reweighter(Protocol):
    """Weights of training structures from their losses.

    Structures are counted 0..n-1 as in the training examples.
    """

    def weights(self, ids: Tensor) -> Tensor:
        """Weights of some structures in the loss, [len(ids)] float64."""
        ...

    def observe(self, ids: Tensor, losses: Tensor) -> None:
        """Hear of the losses that these structures had in a step (unweighted, detached)."""
        ...

    def end_epoch(self) -> Tensor:
        """Every structure has been seen once more; those that are suspected of wrong labels for the first time."""
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

    def end_epoch(self) -> Tensor:
        """None."""
        return torch.zeros(0, dtype=torch.int64)

    def state(self) -> dict[str, Tensor]:
        """Nothing."""
        return {}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Nothing."""


class FocalLoss:
    """FL_i weights of n structures."""

    def __init__(self, settings: ReweightSettings, n: int) -> None:
        self.settings = settings
        self._state = {
            "losses": torch.full((n,), torch.nan, dtype=torch.float64),
            "weights": torch.ones(n, dtype=torch.float64),
            "suspected": torch.zeros(n, dtype=torch.bool),
            "waited": torch.zeros((), dtype=torch.int64),
        }

    def weights(self, ids: Tensor) -> Tensor:
        """Weights in the loss, [len(ids)] float64."""
        return self._state["weights"][ids]

    def observe(self, ids: Tensor, losses: Tensor) -> None:
        """Remember these losses; new weights, where they are due within an epoch."""
        table, memory = self._state["losses"], self.settings.memory
        new, old = losses.double().cpu(), table[ids]
        table[ids] = torch.where(old.isnan(), new, memory * old + (1 - memory) * new)
        self._state["waited"] += len(ids)
        if self.settings.every < 1 and self._state["waited"] >= self.settings.every * len(table):
            self._update()

    def end_epoch(self) -> Tensor:
        """New weights; structures that are suspected for the first time."""
        self._update()
        suspects = self._suspects() & ~self._state["suspected"]
        self._state["suspected"] |= suspects
        return suspects.nonzero()[:, 0]

    def state(self) -> dict[str, Tensor]:
        """Losses, weights, suspects."""
        return {name: tensor.clone() for name, tensor in self._state.items()}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Go on from `state()`."""
        self._state = {name: state[name].clone() for name in self._state}

    def _suspects(self) -> Tensor:
        losses, limit = self._state["losses"], self.settings.suspect
        if limit is None:
            return torch.zeros(len(losses), dtype=torch.bool)
        median = losses.nanmedian()
        return (losses > limit * median) & (median > 0)

    def _update(self) -> None:
        """The weights of all structures from their losses."""
        losses = self._state["losses"]
        counted = ~losses.isnan() & ~self._suspects()
        weights = torch.ones_like(losses)
        weights[counted] = fl(losses[counted], self.settings.gamma)
        if self.settings.clip is not None:
            weights.clamp_(*self.settings.clip)
        if self.settings.normalise:
            weights /= weights.mean()
        self._state["weights"], self._state["waited"] = weights, torch.zeros((), dtype=torch.int64)


def fl(losses: Tensor, gamma: float) -> Tensor:
    """FL_i = (n loss_i / sum_j loss_j)^gamma, [n]; ones where all losses are 0."""
    total = losses.sum()
    return (losses * (len(losses) / total)) ** gamma if total > 0 else torch.ones_like(losses)


def as_table(reweighter: Reweighter, source: Callable[[int], str]) -> bytes | None:
    """Structures with their losses and weights as CSV, what is hardest to learn first; None: all count alike.

    Args:
        reweighter: after some epochs.
        source: where structure i came from.
    """
    state = reweighter.state()
    if not {"losses", "weights"} <= set(state):
        return None
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("structure", "loss", "weight"))
    for i in torch.argsort(state["losses"].nan_to_num(-1.0), descending=True, stable=True).tolist():
        writer.writerow((source(i), f"{float(state['losses'][i]):.6g}", f"{float(state['weights'][i]):.6g}"))
    return text.getvalue().encode()


def make_reweighter(settings: ReweightSettings, n: int) -> Reweighter:
    """Weights of n structures as the settings ask."""
    return FocalLoss(settings, n) if settings.gamma else Uniform()
