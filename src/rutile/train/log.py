"""Metrics of every epoch to a CSV file and to the loggers that are asked for."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

from rutile.core.errors import FileError
from rutile.core.files import write_atomically
from rutile.core.reporting import Reporter
from rutile.train.loggers import Logger, Row, make_loggers
from rutile.train.settings import TrainSettings

METRICS_FILE = "metrics.csv"
"""Name of the table inside the folder of a training run."""


class MetricsLog:
    """Writes rows as they come; starts with the rows of the run so far. A context manager that closes the loggers.

    metrics.csv must be written; a logger that fails is left out from then on, with one warning.

    Args:
        folder: of the run.
        history: rows of earlier epochs, when the run goes on.
        settings: which loggers.
        reporter: hears when a logger is missing or fails.
        config: settings of the run, shown beside its curves.

    Raises:
        MissingPackageError: a logger is asked for by its own settings and its package is not installed.
        SettingsError: it cannot begin: no account, no such place.
        FileError: metrics.csv cannot be written.
    """

    def __init__(
        self, folder: Path, history: list[Row], settings: TrainSettings, reporter: Reporter, config: dict[str, Any]
    ) -> None:
        self._path, self._rows = folder / METRICS_FILE, list(history)
        self._columns: list[str] = []
        self._reporter = reporter
        self._rewrite()
        self._loggers: list[Logger] = make_loggers(folder, self._rows, settings, reporter, config)

    def __enter__(self) -> MetricsLog:
        return self

    def __exit__(self, *error: object) -> None:
        self.close(failed=error[0] is not None)

    def add(self, row: Row) -> None:
        """Write one row.

        Raises:
            FileError: metrics.csv cannot be written.
        """
        self._rows.append(row)
        if all(key in self._columns for key in row):
            try:
                with self._path.open("a", newline="") as file:
                    csv.DictWriter(file, self._columns).writerow(row)
            except OSError as error:
                raise FileError(f"cannot write {self._path}: {error.strerror or error}; make room there") from None
        else:
            self._rewrite()
        for logger in list(self._loggers):
            try:
                logger.add(row)
            except Exception as error:  # a server that is down must not end a training
                self._loggers.remove(logger)
                first = str(error).strip().split("\n")[0]
                self._reporter.warn(f"{logger.name} gets no more metrics: {first}; {self._path} has all of them")

    def close(self, *, failed: bool = False) -> None:
        """Finish the loggers; `failed` marks the run."""
        loggers, self._loggers = self._loggers, []
        for logger in loggers:
            try:
                logger.close(failed=failed)
            except Exception as error:
                self._reporter.warn(f"{logger.name} was not closed in order: {str(error).strip().split(chr(10))[0]}")

    def _rewrite(self) -> None:
        """The whole table, with a column for every key seen."""
        self._columns = list(dict.fromkeys(key for row in self._rows for key in row))
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, self._columns)
        if self._columns:
            writer.writeheader()
        writer.writerows(self._rows)
        write_atomically(self._path, text.getvalue().encode())
