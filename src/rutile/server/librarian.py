"""Reads data sets in the background, one after another, each in a child with limits; goes on after a restart."""

from __future__ import annotations

import logging
import shutil
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import numpy as np
import sqlalchemy as sql

from rutile.core.errors import FileError
from rutile.jobs.database import Database
from rutile.jobs.home import Home
from rutile.jobs.reading import DATA, FOR_DATA, read_limited
from rutile.jobs.shelf import Shelf
from rutile.jobs.tables import DatasetVersion

SHELF = "shelf"
"""Folder of the index, beside the file."""
FORCE_OUTLIER = 30.0
"""Forces above this (eV/Å) are rarely meant."""
log = logging.getLogger("rutile.server")


class Librarian:
    """One thread."""

    def __init__(self, database: Database, home: Home) -> None:
        self.database, self.home = database, home
        self._thread = ThreadPoolExecutor(1, "librarian")
        self._reading: dict[int, Future[None]] = {}

    def begin(self) -> None:
        """Go on with what was being read when the server ended."""
        with self.database.reading() as session:
            left = session.scalars(sql.select(DatasetVersion.id).where(DatasetVersion.state == "reading")).all()
        for number in left:
            self.read(number)

    def read(self, number: int) -> None:
        """Read a version soon."""
        self._reading[number] = self._thread.submit(self._read, number)

    def wait(self) -> None:
        """Until all that was asked for is done."""
        for future in list(self._reading.values()):
            future.result()

    def stop(self) -> None:
        """Read no more."""
        self._thread.shutdown(wait=False, cancel_futures=True)

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
            if not (folder / SHELF).exists():
                warnings = read_limited(DATA, folder / version.file, folder / SHELF, FOR_DATA).warnings
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
                row.frames = int(str(summary.pop("frames")))
                row.summary = summary


def summary_of(shelf: Shelf) -> dict[str, Any]:
    """What the database keeps of a version that was read."""
    return {
        "atoms": shelf.atoms, "elements": shelf.elements, "labels": shelf.labels, "checks": checks_of(shelf),
    }  # fmt: skip


def checks_of(shelf: Shelf) -> list[str]:
    """What should be looked at, in words."""
    out = []
    total = len(shelf)
    for label in ("energy", "forces", "stress"):
        there = shelf.labels.get(label, 0)
        if there < total:
            out.append(f"{total - there} of {total} structures have no {label}")
    large = shelf.column("fmax")
    count = int((large > FORCE_OUTLIER).sum())
    if count:
        out.append(f"{count} structures have forces above {FORCE_OUTLIER:g} eV/Å (the largest: {np.nanmax(large):.1f})")
    keys = np.stack([shelf.column("energy_per_atom"), shelf.column("fmax"), shelf.column("volume_per_atom")], axis=1)
    known = keys[np.isfinite(keys[:, 0])]
    copies = len(known) - len(np.unique(np.round(known, 9), axis=0)) if len(known) else 0
    if copies:
        out.append(f"{copies} structures have the energy, force and volume of another one: copies")
    return out
