"""Which frames go together into a batch: a pure function of (seed, epoch), so that a run resumes anywhere."""

from __future__ import annotations

import numpy as np

from rutile.core.seeds import stream


class BatchSampler:
    """Shuffled batches of positions 0..F-1, by number of structures or by a budget of edges.

    Stateless: `epoch(k)` depends on the seed and on k alone, in every process and after every resume. With a budget,
    a frame that alone exceeds it gets a batch of its own.

    Args:
        sizes: edges (or atoms) of each frame, [F]; only its length counts with `per_batch`.
        per_batch: structures in a batch; the last of an epoch may hold fewer.
        edges: most edges (in the unit of `sizes`) in a batch.
        seed: of the shuffling.

    Raises:
        ValueError: not exactly one of `per_batch` and `edges`, or one below 1.
    """

    def __init__(
        self, sizes: np.ndarray, *, per_batch: int | None = None, edges: int | None = None, seed: int = 0
    ) -> None:
        if (per_batch is None) == (edges is None):
            raise ValueError("give one of per_batch and edges")
        if (per_batch or edges or 0) < 1:
            raise ValueError(f"batches need at least one structure or edge (per_batch={per_batch}, edges={edges})")
        self._sizes, self._per_batch, self._budget, self._seed = np.asarray(sizes, np.int64), per_batch, edges, seed

    def epoch(self, k: int) -> list[np.ndarray]:
        """Batches of epoch k (0, 1, ...): every position once."""
        return self._cut(stream(self._seed, "batches", k).permutation(len(self._sizes)))

    def in_order(self) -> list[np.ndarray]:
        """Batches of ascending positions, not shuffled: for validation."""
        return self._cut(np.arange(len(self._sizes)))

    def _cut(self, order: np.ndarray) -> list[np.ndarray]:
        if len(order) == 0:
            return []
        if self._per_batch is not None:
            return np.split(order, range(self._per_batch, len(order), self._per_batch))
        return np.split(order, self._cuts(self._sizes[order]))

    def _cuts(self, sizes: np.ndarray) -> list[int]:
        """Where a new batch begins: greedily, before the frame that would exceed the budget."""
        assert self._budget is not None
        total = np.concatenate([[0], np.cumsum(sizes)])
        cuts: list[int] = []
        begin = 0
        while True:
            end = int(np.searchsorted(total, total[begin] + self._budget, side="right")) - 1
            begin = max(end, begin + 1)
            if begin >= len(sizes):
                return cuts
            cuts.append(begin)
