"""Which frames go together into a batch: a pure function of (seed, epoch), so that a run resumes anywhere."""

from __future__ import annotations

import numpy as np

from rutile.core.seeds import stream

WORTH = 0.75
"""Parts of a batch are taken apart only if they need less than this part of the places."""


def alike(atoms: np.ndarray, edges: np.ndarray) -> list[np.ndarray]:
    """Parts of a batch (positions) to be computed apart where that saves work: few neighbours per atom, then many.

    For potentials that lay the neighbours of all atoms in rows of equal length, as long as the longest: a molecule
    beside a compressed metal fills a tenth of its rows.

    Args:
        atoms: of each frame, [B].
        edges: of each frame, [B].

    Returns:
        One part, or two if they need less than `WORTH` of the places.
    """
    neighbours = edges / np.maximum(atoms, 1)
    order = np.argsort(neighbours, kind="stable")
    below = np.cumsum(atoms[order])
    whole = below[-1] * neighbours[order[-1]]
    halves = below * neighbours[order] + (below[-1] - below) * neighbours[order[-1]]
    k = int(np.argmin(halves)) + 1
    return [order[:k], order[k:]] if halves[k - 1] < WORTH * whole else [np.arange(len(atoms))]


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
        cuts = (
            range(self._per_batch, len(order), self._per_batch) if self._per_batch else self._cuts(self._sizes[order])
        )
        return [order[a:b] for a, b in zip((0, *cuts), (*cuts, len(order)), strict=True)]

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
