"""Data sets in the table and on the disk: a version is named by the SHA-256 of its file, which is kept once."""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Iterable
from pathlib import Path

import sqlalchemy as sql
from sqlalchemy.orm import Session

from rutile.jobs.home import Home
from rutile.jobs.tables import Dataset, DatasetVersion


def sha256_of(path: Path) -> str:
    """Of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def keep_file(home: Home, source: Path, name: str) -> tuple[str, Path]:
    """Keep a file by its content; its hash, and where it is.

    Args:
        home: of the platform.
        source: the file.
        name: that it is to have.
    """
    sha256 = sha256_of(source)
    folder = home.dataset(sha256)
    folder.mkdir(mode=0o700, exist_ok=True)
    there = next((p for p in folder.iterdir() if p.is_file()), None)
    if there is None:
        there = folder / name
        shutil.copyfile(source, there)
        there.chmod(0o400)
    return sha256, there


def add_version(session: Session, dataset: Dataset, sha256: str, there: Path, job: int | None = None) -> DatasetVersion:
    """A version of a data set that is in the table; it has not been read yet.

    Args:
        session: that writes.
        dataset: which.
        sha256: of its content.
        there: its file.
        job: the one that wrote it; None: none of the platform.
    """
    version = DatasetVersion(
        number=1 + max((v.number for v in dataset.versions), default=0), sha256=sha256, file=there.name,
        format=there.suffix, created=time.time(), bytes=there.stat().st_size, summary={},
        job_id=job,
    )  # fmt: skip
    dataset.versions.append(version)
    session.flush()
    return version


def forget_unused(session: Session, home: Home, contents: Iterable[str]) -> None:
    """Remove contents (SHA-256) that no version has any more."""
    for sha256 in contents:
        if session.scalar(sql.select(DatasetVersion.id).where(DatasetVersion.sha256 == sha256).limit(1)) is None:
            shutil.rmtree(home.dataset(sha256), ignore_errors=True)
