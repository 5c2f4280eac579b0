"""Structures for the page: one frame of anything, read in a child the first time and mapped from then on."""

from __future__ import annotations

import hashlib
import math
import threading
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from fastapi import HTTPException

from rutile.core.elements import symbol
from rutile.core.settings import Result
from rutile.jobs.home import Home
from rutile.jobs.reading import FOR_VIEW, VIEW, read_limited
from rutile.jobs.shelf import VERSION, Picture, Shelf

_locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
MOST_ATOMS = 50_000
"""Atoms of a frame that a page is sent."""


class FrameView(Result):
    """One structure."""

    number: int
    """Which frame; the first one is 0."""
    frames: int
    """So many there are."""
    formula: str
    """Of the frame."""
    symbols: list[str]
    """Element of each atom."""
    positions: list[list[float]]
    """Of each atom (Å)."""
    cell: list[list[float]]
    """Rows are vectors (Å)."""
    pbc: list[bool]
    """Whether it repeats along each."""
    energy: float | None
    """eV."""
    forces: list[list[float]] | None
    """On each atom (eV/Å)."""
    stress: list[list[float]] | None
    """eV/Å³, positive under tension."""
    fmax: float | None
    """Largest force (eV/Å)."""


class Track(Result):
    """A number of every frame of a file."""

    frames: int
    """So many there are."""
    energy_per_atom: list[float | None]
    """eV."""
    fmax: list[float | None]
    """eV/Å."""


def shelf_of(home: Home, file: Path) -> Shelf:
    """The shelf of a file, made the first time.

    Raises:
        FileError: the file cannot be read.
    """
    info = file.stat()
    text = f"{VERSION} {file} {info.st_size} {info.st_mtime_ns} {info.st_ino}"
    key = hashlib.sha256(text.encode()).hexdigest()[:32]
    folder = home.cache / key
    with _locks[key]:
        if not folder.exists():
            read_limited(VIEW, file, folder, FOR_VIEW)
    return Shelf(folder)


def frame_view(shelf: Shelf, number: int) -> FrameView:
    """A frame as the page draws it.

    Raises:
        HTTPException: 404 there is none of that number; 413 it has too many atoms.
    """
    try:
        one = shelf.frame(number)
    except IndexError:
        raise HTTPException(404, f"there are {len(shelf)} frames, from 0 on") from None
    if len(one.numbers) > MOST_ATOMS:
        raise HTTPException(413, f"a structure of {len(one.numbers)} atoms is too large to be drawn: download it")
    return FrameView(**drawn(one), number=number, frames=len(shelf), formula=shelf.formula(number))


def drawn(one: Picture) -> dict[str, Any]:
    """A structure in plain lists."""
    forces = None if one.forces is None else np.asarray(one.forces, float)
    return {
        "symbols": [symbol(int(z)) for z in one.numbers],
        "positions": one.positions.tolist(),
        "cell": one.cell.tolist(),
        "pbc": one.pbc.tolist(),
        "energy": one.energy,
        "forces": None if forces is None else np.nan_to_num(forces).tolist(),
        "stress": None if one.stress is None else np.nan_to_num(one.stress).tolist(),
        "fmax": None if forces is None or not len(forces) else float(np.linalg.norm(forces, axis=1).max()),
    }


def numbers(column: np.ndarray) -> list[float | None]:
    """A column as JSON has it: what is not finite is null."""
    return [x if math.isfinite(x) else None for x in column.tolist()]


def track(shelf: Shelf, most: int = 20_000) -> Track:
    """Energies and forces along a file, of its first frames."""
    return Track(
        frames=len(shelf),
        energy_per_atom=numbers(shelf.column("energy_per_atom")[:most]),
        fmax=numbers(shelf.column("fmax")[:most]),
    )
