"""Neighbour lists of a large store: made for each batch when its turn comes, and kept, never for all frames before.

They have the layout of the caches (`train.caches.Ragged`), so that whoever asks does not know the difference.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rutile.core.reporting import Reporter, SilentReporter
from rutile.core.seeds import stream
from rutile.data.growing import GrowingRows, Row
from rutile.data.kept import LARGE, kept
from rutile.data.store import Store
from rutile.graph.neighbors import find_edges

Rows = dict[str, tuple[np.ndarray, np.ndarray]]
"""Name -> rows of some frames one after another, and the rows of each frame."""
SAMPLE, OF_ELEMENT = 1000, 20
"""Frames from which scaling is learnt where the store is large, and frames of an element that is rare among them."""
COUNTED = 2000
"""Frames whose neighbours are counted together."""
LAYOUT = {"ij": ("<i4", (2,)), "shift": ("<i4", (3,))}
"""Of the rows of a frame: dtype and shape of one."""


class EdgesOnDemand:
    """Neighbour lists of the frames that are asked for, as `train.caches.cache_edges` keeps them.

    Args:
        store: the frames.
        cutoff: radius (Angstrom).
        reporter: shows progress where sizes are asked for, hears when no more are kept.
        folder: where lists that were made are kept; None: nowhere.
        most: bytes that they may need there.
    """

    def __init__(
        self,
        store: Store,
        cutoff: float,
        reporter: Reporter | None = None,
        folder: Path | None = None,
        most: float = 0.0,
    ) -> None:
        self._store, self._cutoff, self._reporter = store, cutoff, reporter or SilentReporter()
        self._folder, self._most = folder, most
        self._kept: GrowingRows | None = None
        if folder is not None and most > 0:
            self._kept = GrowingRows(folder / f"growing-{self._key()}", LAYOUT, len(store), most, self._reporter)
        self._last = threading.local()  # asked from the thread that prepares batches and from the one that validates

    def _key(self) -> str:
        return hashlib.sha256(json.dumps([self._store.hash, "edges", self._cutoff]).encode()).hexdigest()[:32]

    def __reduce__(self) -> tuple[Callable[..., EdgesOnDemand], tuple[Any, ...]]:
        return EdgesOnDemand, (self._store, self._cutoff, None, self._folder, self._most)

    def sizes(self, name: str) -> np.ndarray:
        """Neighbour pairs of each frame, [frames] int64; counted once for each store and cutoff."""
        del name
        if not hasattr(self, "_sizes"):
            self._sizes = kept(self._store, "neighbours", self._count, self._cutoff)
        return self._sizes

    def _count(self) -> np.ndarray:
        store = self._store
        parts = np.split(np.arange(len(store)), range(COUNTED, len(store), COUNTED))
        out = np.empty(len(store), np.int64)
        for ids in self._reporter.track(parts, "counting neighbours", len(parts)):
            structures = store.structures(ids)
            system = structures.system[find_edges(structures, self._cutoff).i].numpy()
            out[ids] = np.bincount(system, minlength=len(ids))
        return out

    def get(self, name: str, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rows of some frames one after another, and the rows of each."""
        if getattr(self._last, "ids", None) is None or not np.array_equal(self._last.ids, ids):
            self._last.rows, self._last.ids = self._rows(ids), np.array(ids)
        rows: tuple[np.ndarray, np.ndarray] = self._last.rows[name]
        return rows

    def save(self) -> None:
        """Make what is kept safe on the disk."""
        if self._kept is not None:
            self._kept.save()

    def _rows(self, ids: np.ndarray) -> Rows:
        """Read where they are kept, else made."""
        if self._kept is None:
            return self._compute(ids)
        found = self._kept.read(ids)
        absent = [k for k, row in enumerate(found) if row is None]
        if len(absent) == len(ids):
            made = self._compute(ids)
            self._kept.add(ids.tolist(), _divided(made))
            return made
        if absent:
            made_rows = _divided(self._compute(ids[absent]))
            self._kept.add(ids[absent].tolist(), made_rows)
            for k, row in zip(absent, made_rows, strict=True):
                found[k] = row
        rows = [row for row in found if row is not None]
        sizes = np.array([len(row["ij"]) for row in rows])
        return {name: (np.concatenate([row[name] for row in rows]), sizes) for name in LAYOUT}

    def _compute(self, ids: np.ndarray) -> Rows:
        structures = self._store.structures(ids)
        edges = find_edges(structures, self._cutoff)
        system = structures.system[edges.i].numpy()
        ij = torch.stack([edges.i, edges.j], 1).numpy() - _starts(self._store, ids)[system][:, None]
        sizes = np.bincount(system, minlength=len(ids))
        return {"ij": (ij.astype(np.int32), sizes), "shift": (edges.shift.numpy().astype(np.int32), sizes)}


def _divided(rows: Rows) -> list[Row]:
    """The rows of each frame."""
    ends = np.cumsum(rows["ij"][1])[:-1]
    parts = {name: np.split(array, ends) for name, (array, _) in rows.items()}
    return [dict(zip(parts, of_frame, strict=True)) for of_frame in zip(*parts.values(), strict=True)]


def _starts(store: Store, ids: np.ndarray) -> np.ndarray:
    """First atom of each frame in a batch, [len(ids)]."""
    return np.concatenate([[0], np.cumsum(store.sizes[ids])[:-1]]).astype(np.int64)


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
