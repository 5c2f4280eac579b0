"""Random numbers of runs: each run has streams of its own, counted by the time step.

The numbers of a step follow from seed, run, purpose and step alone (Philox: J. K. Salmon et al., SC11 (2011),
doi:10.1145/2063384.2063405). So a run is the same alone and in company, and the same when it goes on after a kill:
there is no state to store. Letters of shapes: N atoms, S systems.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from rutile.structures.structures import Structures

BLOCK = 64
"""Steps whose numbers are drawn together, where each step needs a few only."""


@lru_cache(maxsize=100_000)
def _key(seed: int, run: int, purpose: str) -> tuple[int, int]:
    digest = hashlib.sha256(repr((seed, "md", run, purpose)).encode()).digest()
    return int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:16], "little")


def generator(seed: int, run: int, purpose: str, step: int) -> np.random.Generator:
    """The generator of one step of one run for one purpose."""
    key = np.array(_key(seed, run, purpose), dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=np.array([0, 0, step, 0], dtype=np.uint64)))


@lru_cache(maxsize=20_000)
def _chi_squares(seed: int, run: int, dof: float, block: int) -> tuple[list[float], list[float]]:
    rng = generator(seed, run, "csvr", block)
    others = 2 * rng.standard_gamma((dof - 1) / 2, BLOCK) if dof > 1 else np.zeros(BLOCK)
    return rng.standard_normal(BLOCK).tolist(), others.tolist()


def chi_square(seed: int, run: int, dof: float, step: int) -> tuple[float, float]:
    """A standard normal number, and the sum of the squares of dof - 1 others, for one step of one run.

    They are drawn for many steps at once: to begin a generator takes longer than to draw.
    """
    normal, others = _chi_squares(seed, run, dof, step // BLOCK)
    return normal[step % BLOCK], others[step % BLOCK]


def noise(structures: Structures, seed: int, runs: Tensor, purpose: str, step: int) -> Tensor:
    """Three standard normal numbers for each atom, [N, 3] float64, where the structures are."""
    sizes = structures.counts.tolist()
    parts = [
        generator(seed, run, purpose, step).standard_normal((n, 3)) for run, n in zip(runs.tolist(), sizes, strict=True)
    ]
    return torch.from_numpy(np.concatenate(parts)).to(structures.positions.device)
