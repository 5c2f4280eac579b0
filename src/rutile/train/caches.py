"""What does not change while training, computed once for all frames: neighbour lists, descriptors with derivatives.

With the descriptors goes the core repulsion of their potential. All is kept in memory, or in memory-mapped files where
it outgrows that.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from rutile.core.reporting import Reporter, SilentReporter
from rutile.core.seeds import stream
from rutile.data.ragged import open_or_build, opened
from rutile.data.store import Store
from rutile.graph.neighbors import find_edges
from rutile.potentials.evaluate import linearise
from rutile.potentials.potential import DescriptorPotential, Prediction

SAMPLED = 32
"""Frames, at most, from which the size of all descriptors is estimated."""


@dataclass(frozen=True)
class Room:
    """For what is computed once."""

    folder: Path | None
    """Where files go; None: all is kept in memory."""
    memory: float
    """Limit (MB) beyond which arrays go to files."""
    disk: float
    """Limit (GB) of the files."""


class Ragged(Protocol):
    """Named ragged arrays of every frame of a store: in memory, or a memory-mapped `RaggedStore`."""

    def sizes(self, name: str) -> np.ndarray:
        """Rows of each frame, [frames] int64."""
        ...

    def get(self, name: str, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rows of some frames one after another, and the rows of each."""
        ...


class RaggedMemory:
    """Ragged arrays in memory, from one row of arrays for each frame."""

    def __init__(self, rows: list[dict[str, np.ndarray]]) -> None:
        self._offsets: dict[str, np.ndarray] = {}
        self._rows: dict[str, np.ndarray] = {}
        for name in list(rows[0]) if rows else []:
            self._offsets[name] = np.concatenate([[0], np.cumsum([len(row[name]) for row in rows])])
            self._rows[name] = np.concatenate([row.pop(name) for row in rows])

    def sizes(self, name: str) -> np.ndarray:
        """Rows of each frame."""
        return np.diff(self._offsets[name])

    def get(self, name: str, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rows of some frames one after another (a copy), and the rows of each."""
        offsets, rows = self._offsets[name], self._rows[name]
        parts = [rows[offsets[k] : offsets[k + 1]] for k in ids]
        return (np.concatenate(parts) if parts else rows[:0]), offsets[ids + 1] - offsets[ids]


def cache_edges(
    store: Store,
    cutoff: float,
    *,
    folder: Path | None = None,
    memory: float = 4000.0,
    reporter: Reporter | None = None,
) -> Ragged:
    """Neighbour lists of every frame.

    Args:
        store: the frames.
        cutoff: radius (Angstrom).
        folder: where to keep them if they outgrow `memory`; None: always in memory.
        memory: limit (MB).
        reporter: shows progress.
    """

    def rows() -> Iterator[dict[str, np.ndarray]]:
        for k in range(len(store)):
            edges = find_edges(store.structures([k]), cutoff)
            ij = torch.stack([edges.i, edges.j], 1).numpy().astype(np.int32)
            yield {"ij": ij, "shift": edges.shift.numpy().astype(np.int32)}

    key = _key(store.hash, "edges", cutoff)
    return _keep(rows, len(store), key, folder, memory, reporter or SilentReporter(), "neighbour lists")


def cache_descriptors(
    store: Store,
    potential: DescriptorPotential,
    dtype: torch.dtype,
    *,
    folder: Path | None = None,
    memory: float = 4000.0,
    reporter: Reporter | None = None,
) -> Ragged:
    """Descriptors of every frame with their derivatives, and its core repulsion, computed in float64, kept in `dtype`.

    Args:
        store: the frames.
        potential: whose descriptors.
        dtype: precision to keep.
        folder: where to keep them if they outgrow `memory`; None: always in memory.
        memory: limit (MB).
        reporter: shows progress.
    """

    def rows() -> Iterator[dict[str, np.ndarray]]:
        for k in range(len(store)):
            yield _linearised(store, potential, dtype, k)

    key = _key(store.hash, potential.descriptor_key, str(dtype))
    return _keep(rows, len(store), key, folder, memory, reporter or SilentReporter(), "descriptors")


def fits(store: Store, potential: DescriptorPotential, dtype: torch.dtype, room: Room, reporter: Reporter) -> bool:
    """Whether there is room for the descriptors of all frames with their derivatives, by those of a few frames.

    Args:
        store: the frames.
        potential: whose descriptors.
        dtype: precision to keep.
        room: what there is; without a folder everything is taken to fit.
        reporter: hears where they do not fit.
    """
    if room.folder is None:
        return True
    few = min(SAMPLED, 1 + len(store) // 20)
    size = 0
    for k in np.sort(stream(0, "sizes").choice(len(store), few, replace=False)).tolist():
        size += sum(array.nbytes for array in _linearised(store, potential, dtype, k).values())
    needed = size / few * len(store)
    if needed <= max(1e6 * room.memory / 2, 1e9 * room.disk):
        return True
    reporter.info(
        f"descriptors of {len(store)} frames would need about {needed / 1e9:.3g} GB, more than cache_disk="
        f"{room.disk:g} GB: they are computed in every step"
    )
    return False


def _linearised(store: Store, potential: DescriptorPotential, dtype: torch.dtype, k: int) -> dict[str, np.ndarray]:
    """Descriptors of one frame with their derivatives, as they are kept."""
    one = linearise(potential, store.structures([k]))
    return {
        "pairs": torch.stack([one.pair_i, one.pair_j], 1).numpy().astype(np.int32),
        "descriptors": one.descriptors.to(dtype).numpy(),
        "d_pair": one.d_pair.to(dtype).numpy(),
        "d_strain": one.d_strain.to(dtype).numpy(),
        **({} if one.core is None else _core_rows(one.core, dtype)),
    }


def _core_rows(core: Prediction, dtype: torch.dtype) -> dict[str, np.ndarray]:
    """Core repulsion of one frame: energy (eV) and force (eV/Angstrom) of each atom, stress (eV/Angstrom^3)."""
    of_atoms = torch.cat([core.atom_energy[:, None], core.forces], 1)
    return {"core": of_atoms.to(dtype).numpy(), "core_stress": core.stress.to(dtype).numpy()}


def _key(*parts: Any) -> str:
    """Name of a cache: same content, same name."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def _keep(
    rows: Callable[[], Iterator[dict[str, np.ndarray]]],
    total: int,
    key: str,
    folder: Path | None,
    memory: float,
    reporter: Reporter,
    label: str,
) -> Ragged:
    """Rows in memory; in files when they outgrow the limit (MB) and there is a folder; files from before are reused."""
    if folder is not None and (found := opened(folder / key, key, reporter)) is not None:
        reporter.info(f"{label}: read from {folder / key}")
        return found
    kept: list[dict[str, np.ndarray]] = []
    size = 0.0
    source = iter(reporter.track(rows(), label, total))
    for row in source:
        kept.append(row)
        size += sum(array.nbytes for array in row.values()) / 1e6
        if folder is not None and size > memory / 2:  # joining them needs the same memory once more
            break
    else:
        return RaggedMemory(kept)
    reporter.info(f"{label}: more than {memory:g} MB in memory, kept in {folder / key}")

    def again() -> Iterator[dict[str, np.ndarray]]:
        yield from _drain(kept)
        yield from source

    return open_or_build(folder, key, again, SilentReporter(), label=label)


def _drain(rows: list[dict[str, np.ndarray]]) -> Iterator[dict[str, np.ndarray]]:
    """The rows in order, each forgotten once given."""
    rows.reverse()
    while rows:
        yield rows.pop()
