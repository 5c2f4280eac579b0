"""Metrics of every epoch to a CSV file and, where that package is installed, to TensorBoard."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from rutile.core.reporting import Reporter

Row = dict[str, float | int | str]
METRICS_FILE = "metrics.csv"
"""Name of the table inside the folder of a training run."""


class MetricsLog:
    """Writes rows as they come; starts with the rows of the run so far.

    Args:
        folder: of the run.
        history: rows of earlier epochs, when the run goes on.
        tensorboard: write TensorBoard events too.
        reporter: hears when TensorBoard is missing.
    """

    def __init__(self, folder: Path, history: list[Row], *, tensorboard: bool, reporter: Reporter) -> None:
        self._path, self._rows = folder / METRICS_FILE, list(history)
        self._columns: list[str] = []
        self._rewrite()
        self._writer = _tensorboard(folder / "tensorboard", len(history), reporter) if tensorboard else None

    def add(self, row: Row) -> None:
        """Write one row."""
        self._rows.append(row)
        if all(key in self._columns for key in row):
            with self._path.open("a", newline="") as file:
                csv.DictWriter(file, self._columns).writerow(row)
        else:
            self._rewrite()
        if self._writer is not None:
            for key, value in row.items():
                if key != "epoch" and not isinstance(value, str):
                    self._writer.add_scalar(key, value, int(row["epoch"]))

    def close(self) -> None:
        """Flush and close the TensorBoard file."""
        if self._writer is not None:
            self._writer.close()

    def _rewrite(self) -> None:
        """The whole table, with a column for every key seen."""
        self._columns = list(dict.fromkeys(key for row in self._rows for key in row))
        with self._path.open("w", newline="") as file:
            writer = csv.DictWriter(file, self._columns)
            if self._columns:
                writer.writeheader()
            writer.writerows(self._rows)


def _tensorboard(folder: Path, first: int, reporter: Reporter) -> Any | None:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        reporter.info("no TensorBoard events: the package tensorboard is not installed (metrics.csv has the numbers)")
        return None
    return SummaryWriter(str(folder), purge_step=first or None)
