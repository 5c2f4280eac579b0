"""Neighbour lists and descriptors of a large store: made for each batch when its turn comes, never for all frames.

They have the layout of the caches (`train.caches.Ragged`), so that whoever asks does not know the difference.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from rutile.core.reporting import Reporter, SilentReporter
from rutile.core.seeds import stream
from rutile.data.kept import LARGE, kept
from rutile.data.store import Store
from rutile.graph.neighbors import find_edges
from rutile.potentials.evaluate import linearise
from rutile.potentials.potential import DescriptorPotential

Rows = dict[str, tuple[np.ndarray, np.ndarray]]
"""Name -> rows of some frames one after another, and the rows of each frame."""
SAMPLE, OF_ELEMENT = 1000, 20
"""Frames from which scaling is learnt where the store is large, and frames of an element that is rare among them."""
COUNTED = 2000
"""Frames whose neighbours are counted together."""


class OnDemand:
    """Ragged arrays of the frames that are asked for.

    Args:
        compute: makes the rows of all arrays for some frames.
        count: gives the rows of every frame of the store, [frames]; called when sizes are asked for.
        again: function and arguments that make the same in another process.
    """

    def __init__(
        self,
        compute: Callable[[np.ndarray], Rows],
        count: Callable[[], np.ndarray],
        again: tuple[Callable[..., OnDemand], tuple[Any, ...]],
    ) -> None:
        self._compute, self._count, self._again = compute, count, again
        self._last = threading.local()  # asked from the thread that prepares batches and from the one that validates

    def __reduce__(self) -> tuple[Callable[..., OnDemand], tuple[Any, ...]]:
        return self._again

    def sizes(self, name: str) -> np.ndarray:
        """Neighbour pairs of each frame, [frames] int64."""
        del name
        return self._count()

    def get(self, name: str, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rows of some frames one after another, and the rows of each."""
        if getattr(self._last, "ids", None) is None or not np.array_equal(self._last.ids, ids):
            self._last.rows, self._last.ids = self._compute(ids), np.array(ids)
        rows: tuple[np.ndarray, np.ndarray] = self._last.rows[name]
        return rows


def edges_on_demand(store: Store, cutoff: float, reporter: Reporter | None = None) -> OnDemand:
    """Neighbour lists of the frames that are asked for, as `train.caches.cache_edges` keeps them."""

    def compute(ids: np.ndarray) -> Rows:
        structures = store.structures(ids)
        edges = find_edges(structures, cutoff)
        system = structures.system[edges.i].numpy()
        ij = torch.stack([edges.i, edges.j], 1).numpy() - _starts(store, ids)[system][:, None]
        sizes = np.bincount(system, minlength=len(ids))
        return {"ij": (ij.astype(np.int32), sizes), "shift": (edges.shift.numpy().astype(np.int32), sizes)}

    count = _counter(store, cutoff, reporter or SilentReporter())
    return OnDemand(compute, count, (edges_on_demand, (store, cutoff)))


def descriptors_on_demand(
    store: Store, potential: DescriptorPotential, dtype: torch.dtype, reporter: Reporter | None = None
) -> OnDemand:
    """Descriptors of the frames that are asked for, as `train.caches.cache_descriptors` keeps them.

    The rows counted for each frame are its neighbour pairs, images apart.
    """

    def compute(ids: np.ndarray) -> Rows:
        one = linearise(potential, store.structures(ids))
        system = one.system[one.pair_i].numpy()
        pairs = torch.stack([one.pair_i, one.pair_j], 1).numpy() - _starts(store, ids)[system][:, None]
        n_pairs, n_atoms = np.bincount(system, minlength=len(ids)), store.sizes[ids]
        return {
            "pairs": (pairs.astype(np.int32), n_pairs),
            "descriptors": (one.descriptors.to(dtype).numpy(), n_atoms),
            "d_pair": (one.d_pair.to(dtype).numpy(), n_pairs),
            "d_strain": (one.d_strain.to(dtype).numpy(), n_atoms),
        }

    count = _counter(store, potential.cutoff, reporter or SilentReporter())
    return OnDemand(compute, count, (descriptors_on_demand, (store, potential, dtype)))


def _starts(store: Store, ids: np.ndarray) -> np.ndarray:
    """First atom of each frame in a batch, [len(ids)]."""
    return np.concatenate([[0], np.cumsum(store.sizes[ids])[:-1]]).astype(np.int64)


def _counter(store: Store, cutoff: float, reporter: Reporter) -> Callable[[], np.ndarray]:
    """Counts the neighbour pairs of every frame, once for each store and cutoff."""

    def count() -> np.ndarray:
        portions = np.split(np.arange(len(store)), range(COUNTED, len(store), COUNTED))
        out = np.empty(len(store), np.int64)
        for ids in reporter.track(portions, "counting neighbours", len(portions)):
            structures = store.structures(ids)
            system = structures.system[find_edges(structures, cutoff).i].numpy()
            out[ids] = np.bincount(system, minlength=len(ids))
        return out

    found: list[np.ndarray] = []

    def once() -> np.ndarray:
        if not found:
            found.append(kept(store, "neighbours", count, cutoff))
        return found[0]

    return once


def sample(store: Store, ids: np.ndarray, most: int = SAMPLE) -> np.ndarray:
    """Places in `ids` of the frames from which scaling is learnt: all; of a large store some, with every element.

    The choice depends on the frames alone.
    """
    if len(store) < LARGE or len(ids) <= most:
        return np.arange(len(ids))
    chosen = np.sort(stream(0, "sample").choice(len(ids), most, replace=False))
    there = set(np.unique(store.structures(ids[chosen]).numbers.numpy()).tolist())
    more = [_holding(store, ids, z) for z in store.elements if z not in there]
    return np.unique(np.concatenate([chosen, *more]))


def _holding(store: Store, ids: np.ndarray, z: int) -> np.ndarray:
    """Places in `ids` of the first frames that hold an element."""
    atoms = np.flatnonzero(np.asarray(store.array("numbers")) == z)
    frames = np.unique(np.searchsorted(np.asarray(store.array("offsets")), atoms, side="right") - 1)
    return np.flatnonzero(np.isin(ids, frames))[:OF_ELEMENT]


def portions(places: np.ndarray, size: int) -> Iterator[np.ndarray]:
    """Places in parts of at most `size`."""
    yield from np.split(places, range(size, len(places), size)) if len(places) else ()
