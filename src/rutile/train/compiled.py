"""Compiled training: the first derivative traced into the graph, checked against plain training before it is used.

Two batches are computed both ways at the start: energies, forces, stress and the gradient of the loss with respect to
all parameters must agree. On a difference, or where the compiler fails, at the start or later, training goes on
operation by operation, with one warning. Compiled and plain runs differ in the last bits; a run that goes on compiles
the same graph from the same structures, and continues bit for bit on the same machine.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rutile.core.reporting import Reporter
from rutile.graph.graph import Graph
from rutile.potentials.compiled import CompiledSlopes
from rutile.potentials.parts.heads import one_head_each
from rutile.potentials.parts.products import products
from rutile.train.examples import Examples, GraphExamples
from rutile.train.loss import errors, prefactors, structure_losses
from rutile.train.settings import TrainSettings

TOLERANCE = {torch.float32: 2e-4, torch.float64: 1e-9}
"""Largest difference from plain training, relative to the largest number of each quantity."""
ROUNDED = 0.03
"""The same where matrix products are rounded (matmul): a compiler may leave some of the rounding out."""
MOST = 64
"""Structures of the batch that is compiled, at most."""


class DifferenceError(Exception):
    """Compiled and plain numbers differ."""


@contextmanager
def compiled_training(
    potential: torch.nn.Module, train: Examples, settings: TrainSettings, reporter: Reporter
) -> Iterator[None]:
    """Compile for the time of the `with`, if the settings ask for it and it works.

    Args:
        potential: what is trained.
        train: on what; its predictions for training become compiled ones.
        settings: of the training.
        reporter: hears how long it took, or why it is not done.
    """
    if settings.compile and not isinstance(train, GraphExamples):
        reporter.warn("compile: nothing to compile, as the descriptors are computed once and kept")
    if not settings.compile or not isinstance(train, GraphExamples):
        yield
        return
    with _repeatable():
        try:
            _Guarded(potential, train, reporter).start(settings)
            yield
        finally:
            train.compiled = None


@contextmanager
def _repeatable() -> Iterator[None]:
    """Sums in the same order every time; compiled kernels of several threads add in the order in which they come."""
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    memory: Any = torch.utils.deterministic
    fill = memory.fill_uninitialized_memory
    if torch.get_num_threads() > 1:
        torch.use_deterministic_algorithms(True, warn_only=True)
        memory.fill_uninitialized_memory = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        memory.fill_uninitialized_memory = fill


class _Guarded:
    """A compiled function that gives way to plain training when it fails."""

    def __init__(self, potential: torch.nn.Module, train: GraphExamples, reporter: Reporter) -> None:
        self.potential, self.train, self.reporter = potential, train, reporter

    def start(self, settings: TrainSettings) -> None:
        """Compile and compare."""
        began = time.monotonic()
        self.reporter.info("compiling energies and forces (minutes, unless this machine has compiled the same before)")
        try:
            self.function = CompiledSlopes(self.potential)
            self.train.compiled = self.function
            batches = _batches(self.train, settings)
            worst = max(_difference(self.potential, self.train, ids, settings) for ids in batches)
        except Exception as error:  # the compiler raises whatever it likes
            self._give_up(error)
            return
        self.train.compiled = self
        seconds = time.monotonic() - began
        self.reporter.info(f"compiled in {seconds:.0f} s; largest relative difference from plain training {worst:.1e}")

    def __call__(self, graph: Graph) -> tuple[Tensor, Tensor] | None:
        """As `CompiledSlopes`; None from the first failure on."""
        try:
            return self.function(graph)
        except Exception as error:
            self._give_up(error)
            return None

    def _give_up(self, error: Exception) -> None:
        self.train.compiled = None
        self.reporter.warn(f"compile: training goes on without it, as {_reason(error)}")


@dataclass(frozen=True)
class _Numbers:
    """What is compared."""

    energy: Tensor
    forces: Tensor
    stress: Tensor
    gradient: Tensor
    """Of the loss with respect to all parameters."""


def _batches(train: GraphExamples, settings: TrainSettings) -> list[np.ndarray]:
    """The structures that are compiled for, and others, one fewer where possible, so that all sizes change."""
    n, size = len(train), min(settings.batch_size, MOST)
    if settings.batch_edges is not None:
        size = max(1, int(np.searchsorted(np.cumsum(train.costs), settings.batch_edges, side="right")))
    first = np.arange(min(n, size))
    return [first, np.arange(n)[::-1][: max(1, len(first) - 1)].copy()]


def _difference(potential: torch.nn.Module, train: GraphExamples, ids: np.ndarray, settings: TrainSettings) -> float:
    """Largest difference between compiled and plain numbers.

    Raises:
        DifferenceError: it is above the tolerance.
    """
    compiled, train.compiled = train.compiled, None
    plain = _numbers(potential, train, ids, settings)
    train.compiled = compiled
    found = _numbers(potential, train, ids, settings)
    worst = 0.0
    for name, right in vars(plain).items():
        scale = float(right.abs().max()) or 1.0
        off = float((vars(found)[name] - right).abs().max()) / scale
        limit = TOLERANCE[plain.forces.dtype] if settings.matmul == "full" else ROUNDED
        if not off <= limit:
            raise DifferenceError(f"{name} differs from plain training by {off:.1e} of its largest (> {limit:g})")
        worst = max(worst, off)
    return worst


def _numbers(potential: torch.nn.Module, train: GraphExamples, ids: np.ndarray, settings: TrainSettings) -> _Numbers:
    """Energies, forces, stress and gradient for some structures."""
    labelled, predict = train.batch(ids)
    with one_head_each(potential, 0), products(settings.matmul):
        prediction = predict(True)
    losses = structure_losses(errors(prediction, labelled), prefactors(settings.loss, 1.0), settings.loss)
    parameters = [p for p in potential.parameters() if p.requires_grad]
    kept = [p.grad for p in parameters]
    for parameter in parameters:
        parameter.grad = None
    losses.mean().backward(inputs=parameters)
    gradient = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in parameters])
    for parameter, before in zip(parameters, kept, strict=True):
        parameter.grad = before
    p = prediction
    return _Numbers(p.energy.detach(), p.forces.detach(), p.stress.detach(), gradient)


def _reason(error: BaseException) -> str:
    """The first line that says most, of the innermost error."""
    while (inner := error.__cause__ or getattr(error, "inner_exception", None)) is not None:
        error = inner
    text = next(filter(None, map(str.strip, str(error).splitlines())), type(error).__name__)
    return text if isinstance(error, DifferenceError | NotImplementedError) else f"{type(error).__name__}: {text}"
