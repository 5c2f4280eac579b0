"""The gradient of one step: batches predicted and differentiated, in smaller parts where memory is short."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import Parameter

from rutile.core.errors import TrainingError
from rutile.core.seeds import integer
from rutile.potentials.parts.heads import one_head_each
from rutile.potentials.parts.products import products
from rutile.potentials.placement import short_of_memory
from rutile.train.examples import Examples
from rutile.train.loader import Loader
from rutile.train.loss import Prefactors, RunningErrors, errors, structure_losses
from rutile.train.reweight import Reweighter
from rutile.train.settings import TrainSettings

NAMED = 8
"""How many structures an error message names."""


class Gradient:
    """Computes gradients, and keeps what was seen on the way.

    Args:
        potential: what is trained.
        parameters: get the gradients.
        train: the structures.
        settings: of the training.
        loader: has the batches.
        reweighter: weights of structures.
        blame: message that names structures whose "loss" or other quantity is not finite.
    """

    def __init__(
        self,
        potential: torch.nn.Module,
        parameters: list[Parameter],
        train: Examples,
        settings: TrainSettings,
        loader: Loader,
        reweighter: Reweighter,
        blame: Callable[[np.ndarray, str], str],
    ) -> None:
        self.potential, self.parameters, self.train, self.settings = potential, parameters, train, settings
        self.loader, self.reweighter, self.blame = loader, reweighter, blame
        self.pieces = 1
        """Parts of what was given that memory had room for; 1: all at once."""
        self.running = RunningErrors.zero(parameters[0].device)
        """Errors of this epoch."""
        self.seen: list[tuple[Tensor, Tensor]] = []
        """Numbers (on the CPU) and losses of the structures of the last step."""

    def __call__(
        self, group: list[np.ndarray] | Exception, p: Prefactors, total: float, step: int, *, count: bool
    ) -> float:
        """Set the gradients to those of some batches, in smaller ones where memory is short; their loss.

        Args:
            group: the structures of each batch, or why there are none.
            p: weights of the terms of the loss.
            total: what the weights of the structures are divided by.
            step: its number.
            count: add the errors to the running ones.

        Raises:
            TrainingError: a loss is not finite, or one structure alone needs too much memory.
        """
        if isinstance(group, Exception):
            raise group
        before = self.running.copy()
        pieces = 1
        while True:
            for parameter in self.parameters:
                parameter.grad = None
            try:
                if count:
                    self.running, self.seen = before.copy(), []
                return sum(self._backward(ids, p, total, step, count=count) for ids in group)
            except (RuntimeError, MemoryError) as error:
                if not short_of_memory(error):
                    raise
                largest = max(group, key=len)
                if len(largest) < 2:
                    text = f"too little memory for {named(self.train, largest)} alone"
                    raise TrainingError(text) from None
            group = [half for ids in group for half in np.array_split(ids, 2) if len(half)]
            pieces *= 2
            self.pieces = max(self.pieces, pieces)
            torch.cuda.empty_cache()  # nothing without a GPU

    def _backward(self, ids: np.ndarray, p: Prefactors, total: float, step: int, *, count: bool) -> float:
        """Add the gradient of one batch; its part of the loss."""
        labelled, predict = self.loader.batch(ids)
        with one_head_each(self.potential, integer(self.settings.seed, "heads", step)), products(self.settings.matmul):
            prediction = predict(True)
        e = errors(prediction, labelled)
        losses = structure_losses(e, p, self.settings.loss)
        index = torch.from_numpy(ids)
        weights = self.reweighter.weights(index) * self.train.weights[index] / total
        loss = torch.dot(weights.to(losses), losses)
        value = float(loss.detach())
        if not np.isfinite(value):
            raise TrainingError(self.blame(ids[~torch.isfinite(losses.detach()).cpu().numpy()], "loss"))
        if loss.requires_grad:
            loss.backward(inputs=self.parameters)
        if count:
            self.running.add(e, labelled, losses.detach())
            self.seen.append((index, losses.detach()))
        return value

    def last_losses(self) -> tuple[Tensor, Tensor]:
        """Numbers and losses of the structures of the last step, [n] each, on the CPU."""
        empty = (torch.zeros(0, dtype=torch.int64), torch.zeros(0))
        ids, losses = zip(*self.seen, strict=True) if self.seen else zip(empty, strict=True)
        return torch.cat(ids), torch.cat(losses).cpu()


def named(examples: Examples, ids: np.ndarray) -> str:
    """Where some structures came from."""
    more = f" and {len(ids) - NAMED} more" if len(ids) > NAMED else ""
    return ", ".join(examples.source(i) for i in ids[:NAMED].tolist()) + more
