"""Arrays computed once from a large store and kept in its folder, so that a second start does not wait for them.

They lie in the folder `derived` of the store, one .npy file each, named by what was computed from what. A store that
cannot be written is read all the same: then they are computed at every start.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable
from typing import Any

import numpy as np

from rutile.core.errors import FileError
from rutile.core.files import write_atomically
from rutile.data.store import Store

LARGE = 50_000
"""Frames from which on a store is large: nothing is computed for all of its frames that can wait."""
FOLDER = "derived"


def kept(
    store: Store, name: str, compute: Callable[[], np.ndarray], *parts: Any, rows: int | None = None
) -> np.ndarray:
    """What `compute` gives for a store; of a large one, what it gave the first time.

    Args:
        store: what it is computed from.
        name: begins the name of the file.
        compute: makes the array.
        parts: what else the array depends on, as JSON values.
        rows: length of the array; default: the number of frames.
    """
    if len(store) < LARGE:
        return compute()
    key = hashlib.sha256(json.dumps([store.hash, *parts]).encode()).hexdigest()[:32]
    path = store.folder / FOLDER / f"{name}-{key}.npy"
    try:
        found: np.ndarray = np.load(path, allow_pickle=False)
        if len(found) == (len(store) if rows is None else rows):
            return found
    except (OSError, ValueError, EOFError):
        pass  # not there yet, or damaged: made again
    out = compute()
    file = io.BytesIO()
    np.save(file, out, allow_pickle=False)
    try:
        path.parent.mkdir(exist_ok=True)
        write_atomically(path, file.getvalue())
    except (OSError, FileError):
        pass  # a store that may not be written
    return out


def hash_of(ids: np.ndarray) -> str:
    """Names a choice of frames, among the `parts` of what is computed from them alone."""
    return hashlib.blake2b(np.ascontiguousarray(ids, np.int64).tobytes(), digest_size=16).hexdigest()
