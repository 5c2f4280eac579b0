"""Writing a store: frames as blocks of arrays, appended to its files; `data.store` has the layout.

A block holds some frames one after another, so that the cost of a frame is that of its numbers. What the files hold
does not depend on how the frames were cut into blocks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rutile.core.elements import MAX_Z
from rutile.core.errors import DataError, LabelError
from rutile.data.arrays import ArrayWriters
from rutile.data.frames import Frame

KIND, VERSION = "rutile-store", 1
ARRAYS: dict[str, tuple[type, tuple[int, ...]]] = {
    "offsets": (np.int64, ()),
    "numbers": (np.uint8, ()),
    "positions": (np.float64, (3,)),
    "forces": (np.float64, (3,)),
    "cell": (np.float64, (3, 3)),
    "pbc": (np.bool_, (3,)),
    "energy": (np.float64, ()),
    "stress": (np.float64, (3, 3)),
    "weight": (np.float64, ()),
    "has_energy": (np.bool_, ()),
    "has_forces": (np.bool_, ()),
    "has_stress": (np.bool_, ()),
    "group": (np.int32, ()),
    "mode": (np.int32, ()),
    "source": (np.uint8, ()),
    "source_offsets": (np.int64, ()),
}
"""Name -> (dtype, shape of one row)."""
OFFSETS = ("offsets", "source_offsets")
BLOCK_FRAMES, BLOCK_ATOMS = 256, 20_000
"""Frames and atoms from which on a block is closed."""


@dataclass(frozen=True)
class Block:
    """Some frames, one after another."""

    sizes: np.ndarray
    """Atoms of each frame, [F]."""
    source_sizes: np.ndarray
    """Bytes of the source of each frame, [F]."""
    arrays: dict[str, np.ndarray]
    """All arrays of the layout but the offsets; `group` and `mode` are indices into the names below."""
    groups: tuple[str, ...]
    """Names of groups, in order of appearance."""
    modes: tuple[str, ...]
    """Names of calc modes, in order of appearance."""

    def __len__(self) -> int:
        return len(self.sizes)


def block_of(frames: Sequence[Frame]) -> Block:
    """Frames (at least one, checked) as a block."""
    groups: dict[str, int] = {}
    modes: dict[str, int] = {}
    texts = [f.source.encode() for f in frames]
    nan = float("nan")
    absent = np.full((3, 3), nan)
    arrays: dict[str, np.ndarray] = {
        "numbers": np.concatenate([f.numbers for f in frames]).astype(np.uint8),
        "positions": np.concatenate([f.positions for f in frames]),
        "forces": np.concatenate([np.full((len(f.numbers), 3), nan) if f.forces is None else f.forces for f in frames]),
        "cell": np.stack([f.cell for f in frames]),
        "pbc": np.stack([f.pbc for f in frames]),
        "energy": np.array([nan if f.energy is None else f.energy for f in frames]),
        "stress": np.stack([absent if f.stress is None else f.stress for f in frames]),
        "weight": np.array([f.weight for f in frames]),
        "has_energy": np.array([f.energy is not None for f in frames]),
        "has_forces": np.array([f.forces is not None for f in frames]),
        "has_stress": np.array([f.stress is not None for f in frames]),
        "group": np.array([groups.setdefault(f.group, len(groups)) for f in frames]),
        "mode": np.array([modes.setdefault(f.calc_mode, len(modes)) for f in frames]),
        "source": np.frombuffer(b"".join(texts), dtype=np.uint8),
    }
    sizes = np.array([len(f.numbers) for f in frames])
    return Block(sizes, np.array([len(t) for t in texts]), arrays, tuple(groups), tuple(modes))


def blocks_of(frames: Iterable[Frame]) -> Iterator[Block]:
    """A stream of frames as blocks; each frame is checked when its turn comes.

    Raises:
        DataError: see `check_frame`.
    """
    waiting: list[Frame] = []
    atoms = 0
    for k, frame in enumerate(frames):
        check_frame(frame, k)
        waiting.append(frame)
        atoms += len(frame.numbers)
        if len(waiting) >= BLOCK_FRAMES or atoms >= BLOCK_ATOMS:
            yield block_of(waiting)
            waiting, atoms = [], 0
    if waiting:
        yield block_of(waiting)


class StoreWriter:
    """Appends blocks to the files of a store, and writes its manifest.

    Args:
        out: writers of the files, in the folder to be filled.
        state: of an earlier writer of the same files (`state`), to go on behind what it had written.
    """

    def __init__(self, out: ArrayWriters, state: dict[str, Any] | None = None) -> None:
        self._out = out
        state = state or {"frames": 0, "atoms": 0, "bytes": 0, "groups": [], "modes": [], "elements": []}
        self.frames, self.atoms, self._text = int(state["frames"]), int(state["atoms"]), int(state["bytes"])
        self._groups = {name: k for k, name in enumerate(state["groups"])}
        self._modes = {name: k for k, name in enumerate(state["modes"])}
        self._present = np.zeros(MAX_Z + 1, dtype=bool)
        self._present[state["elements"]] = True
        rows = {"numbers": self.atoms, "positions": self.atoms, "forces": self.atoms, "source": self._text}
        rows |= {name: self.frames + 1 if self.frames else 0 for name in OFFSETS}
        for name, (dtype, item) in ARRAYS.items():
            out.add(name, dtype, item, rows.get(name, self.frames))
        if not self.frames:
            for name in OFFSETS:
                out[name].append(np.zeros(1))

    def add(self, block: Block) -> None:
        """Append a block."""
        ends = self.atoms + np.cumsum(block.sizes), self._text + np.cumsum(block.source_sizes)
        group = np.array([self._groups.setdefault(name, len(self._groups)) for name in block.groups])
        mode = np.array([self._modes.setdefault(name, len(self._modes)) for name in block.modes])
        rows = block.arrays | {"group": group[block.arrays["group"]], "mode": mode[block.arrays["mode"]]}
        for name, array in rows.items():
            self._out[name].append(array)
        for name, end in zip(OFFSETS, ends, strict=True):
            self._out[name].append(end)
        self._present |= np.bincount(block.arrays["numbers"], minlength=MAX_Z + 1)[: MAX_Z + 1] > 0
        self.frames, self.atoms, self._text = self.frames + len(block), int(ends[0][-1]), int(ends[1][-1])

    def state(self) -> dict[str, Any]:
        """What another writer needs to go on from here, as JSON values; what was added is flushed to the disk."""
        self._out.flush()
        names = {"groups": list(self._groups), "modes": list(self._modes)}
        elements = np.flatnonzero(self._present).tolist()
        return {"frames": self.frames, "atoms": self.atoms, "bytes": self._text, **names, "elements": elements}

    def finish(self) -> None:
        """Write the manifest.

        Raises:
            DataError: nothing was added.
        """
        if self.frames == 0:
            raise DataError("no frames to put into the store: the files are empty or every frame was refused")
        head = {"format": KIND, "version": VERSION, "frames": self.frames, "atoms": self.atoms}
        names = {"groups": list(self._groups), "modes": list(self._modes)}
        self._out.finish({**head, "elements": np.flatnonzero(self._present).tolist(), **names})


def check_frame(frame: Frame, k: int) -> None:
    """Refuse what no store should hold; `k` is the number of the frame, for the message.

    Raises:
        DataError: empty, wrong shapes, not finite, an atomic number outside 1..118, or periodic without a cell.
        LabelError: a label that is not finite.
    """
    place = f"frame {k}" + (f" ({frame.source})" if frame.source else "")
    n = len(frame.numbers)
    if n == 0:
        raise DataError(f"{place}: no atoms")
    if frame.numbers.min() < 1 or frame.numbers.max() > MAX_Z:
        bad = int(frame.numbers[(frame.numbers < 1) | (frame.numbers > MAX_Z)][0])
        raise DataError(f"{place}: atomic number {bad} is not an element (1 to {MAX_Z})")
    geometry = (("positions", frame.positions, (n, 3)), ("cell", frame.cell, (3, 3)), ("pbc", frame.pbc, (3,)))
    labels = (("forces", frame.forces, (n, 3)), ("stress", frame.stress, (3, 3)), ("energy", frame.energy, ()))
    for error, items in ((DataError, (*geometry, ("weight", frame.weight, ()))), (LabelError, labels)):
        for name, value, shape in items:
            if value is None:
                continue
            if np.shape(value) != shape:
                raise error(f"{place}: {name} of shape {np.shape(value)}, expected {shape} for {n} atoms")
            if not np.isfinite(value).all():
                raise error(f"{place}: {name} holds NaN or infinity; repair or remove the frame")
    vectors = frame.cell[np.asarray(frame.pbc, bool)]
    gram = vectors @ vectors.T
    if np.linalg.det(gram) <= 1e-12 * np.prod(np.diag(gram)):
        raise DataError(f"{place}: the cell vectors of its periodic directions are zero or not independent")
