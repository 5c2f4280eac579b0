"""Which architecture a model file holds, without loading torch or the tensors: for defaults that depend on it."""

from __future__ import annotations

import json
from pathlib import Path

MODEL_FILE = "model.rutile"
"""Name of the model in the folder of a run."""
LONGEST = 100_000_000
"""Bytes of a header that is believed."""


def stored_members(path: Path) -> list[str]:
    """Name of the architecture of each member; empty where there is no such file or it cannot be understood.

    Whoever loads the model says what is wrong with it.

    Args:
        path: of a model file, or the folder of a run.
    """
    path = path / MODEL_FILE if path.is_dir() else path
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length)) if length < LONGEST else {}
        return [str(member["potential"]) for member in json.loads(header["__metadata__"]["rutile"])["members"]]
    except (OSError, ValueError, LookupError, TypeError):
        return []
