"""Batches prepared by threads while the loop computes; the results are those of batches made when they are needed.

A batch depends on the numbers of its structures alone, not on weights or random numbers, so that nothing changes but
the time that the loop waits, which is measured. Threads suffice: the search for neighbours, descriptors and copying of
arrays run outside of Python.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from itertools import tee

import numpy as np
import torch

from rutile.core.machine import cores
from rutile.data.frames import Labelled
from rutile.train.examples import Examples, Predict

AHEAD = 4
"""Batches that are made or ready at most."""
THREADS = max(1, min(AHEAD, cores() - 1))
"""Threads that make them: one core is left to the loop."""

Batch = tuple[Labelled, Predict]


class Loader:
    """Gives the batches of an epoch, prepared ahead.

    Args:
        examples: what batches are made of.
        ahead: batches that are made or ready at most; 0: each is made when it is asked for.
    """

    def __init__(self, examples: Examples, ahead: int = AHEAD) -> None:
        self._examples, self._ahead = examples, ahead
        self._ready: list[tuple[np.ndarray, Batch]] = []
        self.waited = self.passed = 0.0
        """Seconds in which the loop waited for batches, and seconds of the steps, waiting included."""

    def steps(self, groups: Iterable[list[np.ndarray]]) -> Generator[list[np.ndarray]]:
        """The batches of each step, by the numbers of their structures; `batch` gives them until the next step."""
        if not self._ahead:
            yield from groups
            return
        groups, early = tee(groups)
        coming = (ids for group in early for ids in group)
        made = deque[Future[Batch]]()
        pool = ThreadPoolExecutor(THREADS, thread_name_prefix="loader")
        try:
            for group in groups:
                began = time.perf_counter()
                self._ready = []
                for ids in group:
                    while len(made) < self._ahead and (following := next(coming, None)) is not None:
                        made.append(pool.submit(self._examples.batch, following))
                    with suppress(torch.OutOfMemoryError):  # made again when it is asked for, by then in parts
                        self._ready.append((ids, made.popleft().result()))
                self.waited += time.perf_counter() - began
                yield group
                self.passed += time.perf_counter() - began
        finally:
            self._ready = []
            pool.shutdown(cancel_futures=True)

    def batch(self, ids: np.ndarray) -> Batch:
        """Labels of some structures, and the function that predicts them."""
        for known, batch in self._ready:
            if known is ids:
                return batch
        return self._examples.batch(ids)

    def wait(self) -> float | None:
        """Part of the time of the steps in which the loop waited, since this was last asked; None without steps."""
        part = self.waited / self.passed if self.passed else None
        self.waited = self.passed = 0.0
        return part
