"""What a search found hard to learn: the FL_i weights of the newest potential that was trained in it."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from rutile.core.settings import Result
from rutile.jobs import safe_files
from rutile.train.settings import WEIGHTS_FILE

MOST = 2000
"""Weights that are shown."""
NAMED = 10
"""Structures that are named, the hardest."""


class HardRow(Result):
    """A structure that is hard to learn."""

    structure: str
    """File and 0-based number."""
    loss: float
    """Its last loss (dimensionless)."""
    weight: float
    """How much it counts beside the others (dimensionless; the mean is 1)."""


class HardView(Result):
    """How much the structures of a training counted at its end."""

    file: str
    """The table, in the files of the job."""
    weights: list[float]
    """The hardest first (dimensionless)."""
    hardest: list[HardRow]
    """The first of them."""


def hardest_of(root: Path) -> HardView | None:
    """Weights of the newest training below a folder; None: there is none, or all counted alike."""
    tables = [e for e in safe_files.listing(root) if e.path.rsplit("/", 1)[-1] == WEIGHTS_FILE]
    if not tables:
        return None
    newest = max(tables, key=lambda e: e.changed).path
    with safe_files.open_inside(root, newest) as stream:
        rows = list(csv.DictReader(io.StringIO(stream.read().decode(errors="replace"))))[:MOST]
    found = [HardRow(structure=row["structure"], loss=float(row["loss"]), weight=float(row["weight"])) for row in rows]
    return HardView(file=newest, weights=[row.weight for row in found], hardest=found[:NAMED])
