"""The registry of models: files kept by their content, with what they say about themselves."""

from __future__ import annotations

import shutil
import time
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any

import sqlalchemy as sql
from sqlalchemy.orm import Session

from rutile.core.elements import symbol
from rutile.core.errors import ModelFileError
from rutile.core.units import GPA
from rutile.jobs import folder as kept
from rutile.jobs.data_sets import sha256_of
from rutile.jobs.folder import read_json
from rutile.jobs.home import Home
from rutile.jobs.known_errors import SPEED, next_version, note_known
from rutile.jobs.references import REFERENCE
from rutile.jobs.sources import readable
from rutile.jobs.tables import Job, StoredModel
from rutile.potentials.settings.stored import core_of, cutoff_of, stored_description

CARD = ("info", "kind", "format")
MAKERS = ("train", "retrain", "learn", "adapt", "calibrate")
"""Tasks whose result names a model that is put into the registry."""


def card_of(path: Path) -> dict[str, Any]:
    """What a model file says about itself; only its header is read, and no code of it is run.

    Raises:
        ModelFileError: it is no model file.
    """
    found = stored_description(path)
    try:
        info, members = found["info"], found["members"]
        return {
            **{name: found[name] for name in CARD if name in found},
            "elements": [symbol(int(z)) for z in info["elements"]],
            "members": len(members),
            "potential": members[0]["potential"],
            "precision": members[0]["dtype"],
            "cutoff": cutoff_of(members),
            "core_repulsion": core_of(members[0].get("settings")),
            "calibrated": "calibration" in found,
            "parameters": None,
        }
    except (ValueError, LookupError, TypeError, RecursionError):
        raise ModelFileError(f"{path.name}: not a model file of rutile (.rutile)") from None


def keep_file(home: Home, path: Path) -> str:
    """Keep a model file by its content; its SHA-256."""
    sha256 = sha256_of(path)
    target = home.model(sha256)
    if not target.exists():
        temporary = target.with_suffix(".unfinished")
        shutil.copyfile(path, temporary)
        temporary.chmod(0o400)
        temporary.replace(target)
    return sha256


def register(session: Session, home: Home, path: Path, row: StoredModel) -> StoredModel:
    """Put a model file into the registry.

    Args:
        session: that writes.
        home: of the platform.
        path: of the file.
        row: with name and owner.

    Raises:
        ModelFileError: it is no model file.
    """
    row.card = card_of(path)
    row.sha256, row.bytes, row.created = keep_file(home, path), path.stat().st_size, time.time()
    row.elements = row.card["elements"]
    row.version = next_version(session, row.owner_id, row.name)
    row.metrics = [
        {"set": part, "job": row.job_id, "values": values}
        for part, values in row.card["info"].get("metrics", {}).items()
    ]
    note_known(row)
    session.add(row)
    session.flush()
    return row


def model_of(home: Home, job: Job) -> Path | None:
    """The model file that a job made; None where it made none."""
    result = read_json(home.job(job.id) / kept.RESULT) or {}
    name = result.get("model")
    if job.task not in MAKERS or not isinstance(name, str) or PurePosixPath(name).suffix != ".rutile":
        return None
    with suppress(OSError):
        path = readable(home, job, str(PurePosixPath(name)))
        return path if path.is_file() else None
    return None


def register_of_job(session: Session, home: Home, job: Job) -> StoredModel | None:
    """Put the model that a job made into the registry, with where it comes from."""
    path = model_of(home, job)
    if path is None:
        return None
    named = [one["reference"] for one in job.inputs]
    found = [match for match in map(REFERENCE.fullmatch, named) if match]
    parent = next((int(m[2]) for m in found if m[1] == "model"), None)
    data = [{"reference": one["reference"], "sha256": one["sha256"]} for one in job.inputs
            if one["reference"].startswith(("dataset:", "upload:", "job:"))]  # fmt: skip
    row = StoredModel(
        name=job.name, owner_id=job.owner_id, privacy=job.privacy, job_id=job.id, parent_id=parent, datasets=data
    )
    return register(session, home, path, row)


def note_errors(session: Session, home: Home, job: Job) -> None:
    """Errors that an evaluation found, noted with the model that it was of."""
    given = job.settings.get("model")
    match = REFERENCE.fullmatch(given) if isinstance(given, str) else None
    result = read_json(home.job(job.id) / kept.RESULT) or {}
    if job.task != "evaluate" or match is None or match[1] != "model" or not result.get("errors"):
        return
    model = session.scalar(sql.select(StoredModel).where(StoredModel.id == int(match[2])))
    if model is None or (model.owner_id != job.owner_id and model.privacy == "private"):
        return
    sets = ", ".join(one["reference"] for one in job.inputs if one["setting"] == "data") or "data"
    rows = [row for row in result["errors"] if row.get("subset") == "all"]
    values = {
        f"{row['quantity']}_{kind}": row[kind] * (GPA if row.get("unit") == "GPa" else 1.0)  # as training notes them
        for row in rows
        for kind in ("mae", "rmse")
        if kind in row
    }
    if result.get("speed"):
        values[SPEED] = float(result["speed"])
    where = {name: result.get(name) for name in ("device", "threads")}
    model.metrics = [*model.metrics, {"set": sets, "job": job.id, "values": values, **where}]
    note_known(model)
