"""What references mean: which file or folder of this machine a user may read under a name."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any

from sqlalchemy.orm import Session

from rutile.core.errors import SettingsError
from rutile.jobs import folder as kept
from rutile.jobs.home import Home
from rutile.jobs.permissions import is_shared, own_copy
from rutile.jobs.references import REFERENCE, Input, references_in, unlike
from rutile.jobs.rights import found
from rutile.jobs.tables import Dataset, Job, StoredModel, StoredStructure, Upload, User


def inputs_of(session: Session, home: Home, user: User, given: dict[str, Any]) -> list[Input]:
    """What the references of settings mean.

    Raises:
        SettingsError: something that does not exist, or that this user may not read; one line for each.
    """
    out, problems = [], []
    taken: set[str] = set()
    for key, reference in references_in(given):
        try:
            name, source, sha256 = _meaning(session, home, user, reference)
        except SettingsError as error:
            problems.append(f"{key} = {reference}: {error}")
            continue
        out.append(Input(key, reference, unlike(name, taken), str(source), sha256))
    if problems:
        raise SettingsError("\n".join(problems))
    return out


def _meaning(session: Session, home: Home, user: User, reference: str) -> tuple[str, Path, str]:
    """Name, path and hash of the content of one reference."""
    match = REFERENCE.fullmatch(reference)
    assert match is not None
    kind, number, version, inside = match.groups()
    if kind == "upload":
        upload = session.get(Upload, number)
        if upload is None or upload.owner_id != user.id or upload.received != upload.size:
            raise SettingsError("no such upload of yours, or it is not complete")
        return upload.name, home.upload(upload.id), upload.sha256
    if not number.isdigit():
        raise SettingsError(f"expected a number after {kind}:")
    if kind == "job":
        return _of_job(session, home, user, int(number), inside or "")
    if kind == "dataset":
        return _of_dataset(session, home, user, int(number), version)
    if kind == "model":
        model = found(session, StoredModel, int(number), user)
        if model is None:
            raise SettingsError("no such model, or you may not read it")
        return file_name(model.name, ".rutile"), home.model(model.sha256), model.sha256
    structure = found(session, StoredStructure, int(number), user)
    if structure is None:
        raise SettingsError("no such structure, or you may not read it")
    return file_name(structure.name, ".extxyz"), home.structure(structure.id), ""


def _of_job(session: Session, home: Home, user: User, number: int, inside: str) -> tuple[str, Path, str]:
    """A file or folder that a job wrote."""
    job = found(session, Job, number, user)
    if job is None:
        raise SettingsError("no such job, or you may not read it")
    parts = PurePosixPath(inside).parts
    if any(p in ("..", "/") for p in parts):
        raise SettingsError("a name inside the job's folder is expected")
    try:
        path = readable(home, job, "/".join(parts))
    except OSError:
        raise SettingsError(f"job {number} has no {inside or 'files'}") from None
    return (file_name(path.name) if parts else f"job-{number}"), path, ""


def readable(home: Home, job: Job, inside: str) -> Path:
    """Path of what a job wrote, for what opens files by their names: of a job under an account a copy.

    Args:
        home: with the folders.
        job: that wrote it.
        inside: path within its files; "": all of them.

    Raises:
        OSError: there is none, or it leads out.
    """
    files = home.job(job.id) / kept.FILES
    if is_shared(files.parent):
        return own_copy(home, files, inside)
    path = files / inside
    if not path.exists() or not path.resolve().is_relative_to(files.resolve()):
        raise FileNotFoundError(inside)
    return path


def _of_dataset(session: Session, home: Home, user: User, number: int, version: str | None) -> tuple[str, Path, str]:
    """The file of a version of a data set."""
    dataset = found(session, Dataset, number, user)
    if dataset is None:
        raise SettingsError("no such data set, or you may not read it")
    ready = [v for v in dataset.versions if v.state == "ready" and (version is None or v.number == int(version))]
    if not ready:
        raise SettingsError("it has no such version that is ready")
    one = ready[-1]
    return file_name(one.file), home.dataset(one.sha256) / one.file, one.sha256


def file_name(text: str, ending: str = "") -> str:
    """A text as the name of a file: without separators, not hidden, not long; with an ending, once."""
    kept_signs = "".join(c if c.isalnum() or c in "._-+" else "_" for c in text)
    return (kept_signs.removesuffix(ending).lstrip(".")[-120:] or "file") + ending
