"""How far a job is, from what its task reports."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rutile.jobs import folder as kept
from rutile.jobs.folder import is_plain, last_lines, read_json

MOST_SIGNS = 1000
"""Of what is being done."""


def progress(folder: Path) -> tuple[float | None, str]:
    """Part done (0 to 1; None where it is not known) and what is being done, in words."""
    try:
        part, words = _told(folder)
        sound = (part is None or 0 <= part <= 1) and is_plain(words)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):  # anything may be written there
        sound = False
    return (part, words[:MOST_SIGNS]) if sound else (None, "")


def _told(folder: Path) -> tuple[float | None, str]:
    row = _last_row(folder)
    levels = (read_json(folder / kept.PROGRESS) or {}).get("levels", [])
    words = "; ".join(_level(level) for level in levels)
    if row and isinstance(row.get("epoch"), int) and row.get("epochs"):
        done = row["epoch"] + 1  # the first one is 0
        return min(1.0, done / row["epochs"]), f"epoch {done} of {row['epochs']}"
    if not levels:
        return None, ""
    part, share = 0.0, 1.0
    for level in levels:
        if not level["total"]:
            return (part or None), words
        part += share * min(1.0, level["done"] / level["total"])
        share /= level["total"]
    return min(1.0, part), words


def _level(level: dict[str, Any]) -> str:
    total = f" of {level['total']}" if level["total"] else ""
    return f"{level['label']}: {level['done']}{total}"


def _last_row(folder: Path) -> dict[str, Any] | None:
    lines = last_lines(folder / kept.METRICS)
    try:
        row = json.loads(lines[-1]) if lines else None
    except ValueError:
        return None
    return row if isinstance(row, dict) else None
