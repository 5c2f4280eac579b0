"""Data-parallel training: several processes (ranks) that each compute a part of every batch and take the same steps.

Started by `torchrun --nproc-per-node=2 -m rutile train ...`. Each rank holds all weights. After the backward pass the
gradients of all ranks are summed, once, as one flat array; since the loss of a structure is divided by the weight of
the whole batch, the sum is the gradient of that batch, and the result is that of one process up to rounding.

Whatever decides how the loop goes on (an error, a signal, the time) is told to all ranks before any of them acts on it,
so that none waits for one that has left.

Each process of a machine with GPUs takes one of its own, by its number there. Gradients are then summed between the
GPUs (NCCL); everything else is said through the CPUs (gloo), which notice at once when another process is lost.
"""

from __future__ import annotations

import heapq
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, distributed
from torch.nn import Parameter

from rutile.core.errors import SettingsError, TrainingError
from rutile.potentials.placement import chosen, usable_device

T = TypeVar("T")
REASONS = ("time", "SIGINT", "SIGTERM", "stopped by another process")
"""Why a run can end at any step, by rising precedence."""
PATIENCE = timedelta(minutes=30)
"""A rank that waits longer for another one gives up."""
LONG = timedelta(days=7)
"""While the first one reads the data."""


@dataclass(frozen=True)
class Said:
    """What a process tells the others after a step."""

    reason: str | None = None
    """Why to stop."""
    save: bool = False
    """A checkpoint is due."""
    pieces: int = 1
    """Parts of its batches that it had memory for, one after another."""


class Alone:
    """One process: nothing to agree on."""

    rank, size = 0, 1
    first = True
    """Whether this process writes files and talks."""

    def place(self, name: str) -> torch.device:
        """The device of this process.

        Raises:
            SettingsError: it cannot be used.
        """
        return usable_device(name)

    def share(self, ids: np.ndarray, costs: Callable[[], np.ndarray]) -> np.ndarray:
        """The structures of a batch that this rank computes."""
        del costs
        return ids

    def sum_gradients(self, parameters: list[Parameter], loss: float, problem: Exception | None) -> float:
        """Sum the gradients of all ranks in place; the loss of all.

        Raises:
            Exception: `problem`, on the rank that has one; all others fail with it.
        """
        del parameters
        if problem is not None:
            raise problem
        return loss

    def sum(self, *tensors: Tensor) -> list[Tensor]:
        """Sums over the ranks."""
        return list(tensors)

    def assemble(self, whole: np.ndarray, ids: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Values of all structures of a batch, from those that each rank has."""
        del whole
        return ids, values

    def agree(self, said: Said) -> tuple[str | None, bool, int]:
        """Why to stop, if any rank has a reason; whether to save, if the first rank wants it; most pieces."""
        return said.reason, said.save, said.pieces

    @contextmanager
    def together(self) -> Iterator[None]:
        """What one rank fails at, all fail at."""
        yield

    def begin(self, potential: torch.nn.Module) -> None:
        """All ranks are here; parameters and buffers become those of the first."""

    def from_first(self, make: Callable[[], str]) -> str:
        """A text that the first rank makes."""
        return make()


class Ranks(Alone):
    """The ranks of the process group that is open."""

    def __init__(self) -> None:
        self.rank, self.size = distributed.get_rank(), distributed.get_world_size()
        self.first = self.rank == 0
        self.device = torch.device("cpu")

    def place(self, name: str) -> torch.device:
        """Of several processes of a machine each takes the GPU of its number there.

        Raises:
            SettingsError: it cannot be used, or one GPU is asked for all.
        """
        kind, _, number = chosen(name).partition(":")
        if number:
            raise SettingsError(f"device={name}: {self.size} processes take a GPU each; say device={kind}")
        own = os.environ.get("LOCAL_RANK", "0")
        self.device = usable_device(kind if kind == "cpu" else f"{kind}:{own}")
        if self.device.type == "cuda":
            torch.cuda.set_device(self.device)
        return self.device

    def share(self, ids: np.ndarray, costs: Callable[[], np.ndarray]) -> np.ndarray:
        """The structures that this rank computes: the dearest first, each to the rank that has least to do."""
        cost = costs()[ids].tolist()
        load, mine = [(0, rank) for rank in range(self.size)], np.zeros(len(ids), bool)
        for k in sorted(range(len(ids)), key=lambda k: -cost[k]):
            least, rank = load[0]
            heapq.heapreplace(load, (least + cost[k] + 1, rank))
            mine[k] = rank == self.rank
        return ids[mine]

    def sum_gradients(self, parameters: list[Parameter], loss: float, problem: Exception | None) -> float:
        """One sum of one flat array: all gradients, the loss, and the number of ranks that have a problem."""
        blank = problem is not None
        if self.device.type != "cpu":  # nobody waits in NCCL for one that has a problem or is lost
            self._raise(problem, self._count(blank))
        parts = [(torch.zeros_like(p) if blank or p.grad is None else p.grad).reshape(-1) for p in parameters]
        flat = torch.cat([*parts, parts[0].new_tensor([0.0 if blank else loss, float(blank)])])
        self._reduce(flat)
        self._raise(problem, float(flat[-1]))
        for p, gradient in zip(parameters, flat[:-2].split([p.numel() for p in parameters]), strict=True):
            p.grad = gradient.view_as(p)
        return float(flat[-2])

    def sum(self, *tensors: Tensor) -> list[Tensor]:
        """Sums over the ranks, in float64 on the CPU."""
        flat = torch.cat([t.detach().double().cpu().reshape(-1) for t in tensors])
        self._reduce(flat)
        parts = flat.split([t.numel() for t in tensors])
        return [part.view_as(t) for part, t in zip(parts, tensors, strict=True)]

    def assemble(self, whole: np.ndarray, ids: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Values of all structures of a batch, in the order of their numbers."""
        order = np.sort(whole)
        out = torch.zeros(len(order), dtype=torch.float64)
        out[torch.from_numpy(np.searchsorted(order, ids.numpy()))] = values.double()
        return torch.from_numpy(order), self.sum(out)[0]

    def agree(self, said: Said) -> tuple[str | None, bool, int]:
        """The reason of highest precedence; the first rank says when to save; most pieces."""
        reason = said.reason
        code = 0 if reason is None else 1 + (REASONS.index(reason) if reason in REASONS else len(REASONS) - 1)
        numbers = torch.tensor([code, int(said.save and self.first), said.pieces])
        self._reduce(numbers, distributed.ReduceOp.MAX)
        code, saving, pieces = numbers.tolist()
        if code and reason in (None, *REASONS):
            reason = REASONS[code - 1]
        return reason if code else None, bool(saving), pieces

    @contextmanager
    def together(self) -> Iterator[None]:
        """What one rank fails at, all fail at; also waits for all."""
        problem: Exception | None = None
        try:
            yield
        except Exception as error:
            problem = error
        self._raise(problem, self._count(problem is not None))

    def begin(self, potential: torch.nn.Module) -> None:
        """Parameters and buffers become those of the first rank."""
        for tensor in potential.state_dict().values():
            if tensor.is_floating_point():
                placed = tensor.to(self.device).contiguous()
                distributed.broadcast(placed, 0)
                tensor.copy_(placed)

    def from_first(self, make: Callable[[], str]) -> str:
        """A text that the first rank makes, however long that takes.

        Raises:
            Exception: it could not be made.
        """
        group = distributed.new_group(backend="gloo", timeout=LONG)
        content: list[str | None] = [None]
        problem: Exception | None = None
        if self.first:
            try:
                content = [make()]
            except Exception as error:
                problem = error
        distributed.broadcast_object_list(content, 0, group=group)
        self._raise(problem, float(content[0] is None))
        return content[0] or ""

    def require_alike(self) -> None:
        """Refuse processes of which some compute on a GPU and others do not.

        Raises:
            SettingsError: there are such.
        """
        if self._count(self.device.type != "cpu") not in (0, self.size):
            raise SettingsError(
                "some processes have a GPU and others do not: say device=cpu, or start as many on each machine as it "
                "has GPUs"
            )

    def _count(self, yes: bool) -> float:
        """Ranks that say yes."""
        return float(self.sum(torch.tensor(float(yes)))[0])

    def _reduce(self, tensor: Tensor, how: distributed.ReduceOp.RedOpType = distributed.ReduceOp.SUM) -> None:
        try:
            distributed.all_reduce(tensor, how)
        except RuntimeError as error:
            first = str(error).strip().splitlines()[0]
            raise TrainingError(
                f"process {self.rank} of {self.size}: another one was lost or does not answer ({first}); the last "
                "checkpoint is kept: run the same command again to go on"
            ) from None

    def _raise(self, problem: Exception | None, failed: float) -> None:
        if problem is not None:
            raise problem
        if failed:
            raise TrainingError(f"process {self.rank} of {self.size} stops: another one failed, and says why")


def team() -> Alone:
    """The ranks that train together, or this process alone."""
    return Ranks() if distributed.is_available() and distributed.is_initialized() else Alone()


@contextmanager
def started_by_torchrun(device: str = "cpu") -> Iterator[Alone]:
    """The ranks that torchrun started, connected while this is open; without torchrun this process alone.

    Args:
        device: on which they will train.

    Raises:
        SettingsError: some have a GPU and others do not.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or "RANK" not in os.environ:
        yield Alone()
        return
    backend = "cpu:gloo,cuda:nccl" if chosen(device).startswith("cuda") else "gloo"
    distributed.init_process_group(backend, timeout=PATIENCE)
    try:
        ranks = Ranks()
        with ranks.together():
            ranks.place(device)
        ranks.require_alike()
        yield ranks
    finally:
        distributed.destroy_process_group()


def or_problem(items: Iterable[T]) -> Iterator[T | Exception]:
    """The items; if one cannot be made, what went wrong is the last item."""
    try:
        yield from items
    except Exception as error:
        yield error
