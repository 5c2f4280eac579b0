"""What a model file says of itself, read without torch and without the tensors: for defaults and warnings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rutile.structures.surroundings import Surroundings

MODEL_FILE = "model.rutile"
"""Name of the model in the folder of a run."""
LONGEST = 100_000_000
"""Bytes of a header that is believed."""
SURROUNDINGS = "surroundings"
"""Key of the ranges of the training structures."""


def stored_members(path: Path) -> list[str]:
    """Name of the architecture of each member; empty where there is no such file or it cannot be understood.

    Whoever loads the model says what is wrong with it.

    Args:
        path: of a model file, or the folder of a run.
    """
    try:
        return [str(member["potential"]) for member in _description(path)["members"]]
    except (LookupError, TypeError):
        return []


def stored_surroundings(path: Path) -> Surroundings | None:
    """Surroundings that a model was trained on; None where it does not say, or cannot be understood.

    Args:
        path: of a model file, or the folder of a run.
    """
    try:
        return Surroundings.model_validate(_description(path)[SURROUNDINGS])
    except (LookupError, ValueError):
        return None


def _description(path: Path) -> dict[str, Any]:
    """The description in the header of a model file; empty where there is none."""
    path = path / MODEL_FILE if path.is_dir() else path
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length)) if length < LONGEST else {}
        found = json.loads(header["__metadata__"]["rutile"])
    except (OSError, ValueError, LookupError, TypeError):
        return {}
    return found if isinstance(found, dict) else {}
