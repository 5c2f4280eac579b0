"""Reads data sets in the background, small beside large ones, each in a child with limits; goes on after a restart."""

from __future__ import annotations

import logging
import shutil
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sql

from rutile.core.errors import FileError
from rutile.core.files import remove_unfinished
from rutile.jobs import quality
from rutile.jobs.database import Database
from rutile.jobs.disk import SHELF, bytes_in, note_sizes
from rutile.jobs.home import Home
from rutile.jobs.reading import DATA, FOR_DATA, read_limited
from rutile.jobs.shelf import VERSION, Shelf
from rutile.jobs.tables import DatasetVersion

MOST_NAMES = 200
"""Kinds of structures that a page is told of."""
LARGE = 20_000_000
"""Bytes of a file from which it waits for other large ones."""
log = logging.getLogger("rutile.server")


class Librarian:
    """Two threads: nobody waits for what takes minutes with what takes seconds."""

    def __init__(self, database: Database, home: Home) -> None:
        self.database, self.home = database, home
        self._small, self._large = (ThreadPoolExecutor(1, f"librarian-{what}") for what in ("small", "large"))
        self._reading: dict[int, Future[None]] = {}

    def begin(self) -> None:
        """Go on with what was being read when the server ended, and read again what an older version read."""
        with self.database.writing() as session:
            note_sizes(session, self.home)
            for row in session.scalars(sql.select(DatasetVersion).where(DatasetVersion.state == "ready")):
                if row.summary.get("shelf") != VERSION:
                    row.state = "reading"
        with self.database.reading() as session:
            left = session.scalars(sql.select(DatasetVersion.id).where(DatasetVersion.state == "reading")).all()
        for number in left:
            self.read(number)

    def read(self, number: int) -> None:
        """Read a version soon."""
        lane = self._large if self._size(number) > LARGE else self._small  # the same file is always in the same one
        self._reading[number] = lane.submit(self._read, number)

    def wait(self) -> None:
        """Until all that was asked for is done."""
        for future in list(self._reading.values()):
            future.result()

    def stop(self) -> None:
        """Read no more."""
        for lane in (self._small, self._large):
            lane.shutdown(wait=False, cancel_futures=True)

    def _size(self, number: int) -> int:
        """Bytes of the file of a version; 0: it is not there."""
        with self.database.reading() as session:
            version = session.get(DatasetVersion, number)
        try:
            return (self.home.dataset(version.sha256) / version.file).stat().st_size if version else 0
        except FileNotFoundError:
            return 0

    def _read(self, number: int) -> None:
        try:
            self._read_one(number)
        except Exception:
            log.exception("data set version %d", number)
            with suppress(sql.exc.SQLAlchemyError):
                self._say(number, "refused", "it could not be read: a bug of rutile", None)
        finally:
            self._reading.pop(number, None)

    def _read_one(self, number: int) -> None:
        with self.database.reading() as session:
            version = session.get(DatasetVersion, number)
        if version is None:
            return
        folder = self.home.dataset(version.sha256)
        try:
            warnings: list[str] = []
            if not _is_read(folder):
                if not (folder / version.file).is_file():
                    raise FileError(f"{version.file} is not there any more: add the data again")
                shutil.rmtree(folder / SHELF, ignore_errors=True)
                remove_unfinished(folder)
                try:
                    warnings = read_limited(DATA, folder / version.file, folder / SHELF, FOR_DATA).warnings
                except FileError:
                    if not _is_read(folder):  # a reader that a killed server left was faster
                        raise
            shelf = Shelf(folder / SHELF)
        except FileError as error:
            shutil.rmtree(folder / SHELF, ignore_errors=True)
            self._say(number, "refused", str(error), None)
            return
        summary = summary_of(shelf)
        self._say(number, "ready", "; ".join(warnings)[:2000], summary | {"frames": len(shelf)})

    def _say(self, number: int, state: str, reason: str, summary: dict[str, object] | None) -> None:
        with self.database.writing() as session:
            row = session.get(DatasetVersion, number)
            if row is None:
                return
            row.state, row.reason = state, reason
            if summary is not None:
                row.index_bytes = bytes_in(self.home.dataset(row.sha256) / SHELF)
                row.frames = int(str(summary.pop("frames")))
                row.summary = summary


def _is_read(folder: Path) -> bool:
    """Whether there is an index that this version can open."""
    try:
        Shelf(folder / SHELF)
    except FileError:
        return False
    return True


def summary_of(shelf: Shelf) -> dict[str, Any]:
    """What the database keeps of a version that was read."""
    return {
        "atoms": shelf.atoms, "elements": shelf.elements, "labels": shelf.labels, "shelf": VERSION,
        "checks": quality.findings(shelf), "groups": counts_of(shelf, "group", shelf.groups),
        "modes": counts_of(shelf, "mode", shelf.modes), "periodic": shelf.periodic,
    }  # fmt: skip


def counts_of(shelf: Shelf, column: str, names: list[str]) -> dict[str, int]:
    """How many structures have each name, the most frequent first; one that none has is left out."""
    counts = np.bincount(shelf.column(column), minlength=len(names)).tolist()
    ranked = sorted(zip(names, counts, strict=True), key=lambda row: -row[1])[:MOST_NAMES]
    return {name: count for name, count in ranked if count}
