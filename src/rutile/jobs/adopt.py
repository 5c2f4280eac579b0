"""Runs that were made outside the platform, put in as jobs that have ended, with their files, data sets and models.

What is to be put in stands in a file `jobs.json` in their folder (`rutile demo` writes one; a script can):

    {"folder": "demo",
     "datasets": [{"name": "training set", "file": "train.extxyz", "licence": "CC-BY-4.0", "source": "..."}],
     "jobs": [{"task": "train", "name": "my training", "settings": {"data": ["demo/train.extxyz"], "out": "demo/run"},
               "result": {"model": "demo/run/model.rutile"}, "files": ["run"], "metrics": "run/metrics.csv",
               "started": 1.7e9, "ended": 1.7e9}]}

`folder` is how settings and results name that folder. A data set that a later job reads becomes a reference to it, a
folder with a model one to the model.
"""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import sqlalchemy as sql
from sqlalchemy.orm import Session

import rutile
from rutile.core.errors import FileError
from rutile.jobs import folder as kept
from rutile.jobs.data_sets import add_version, keep_file
from rutile.jobs.folder import read_json, write_json
from rutile.jobs.home import Home
from rutile.jobs.references import Input, leaves, replaced, unlike
from rutile.jobs.tables import DONE, Dataset, Job, StoredModel, User

RECORD = "jobs.json"
TAG = "adopted"


@dataclass
class Adoption:
    """One folder on its way into the platform."""

    home: Home
    owner: User
    folder: Path
    given: str
    """How its settings name the folder."""
    known: dict[str, Input] = field(default_factory=dict)
    """Name within the folder -> what it is now."""

    def inside(self, text: str) -> str:
        """A path as a name within the folder; other text as it is."""
        if text == self.given:
            return "."
        return text.removeprefix(f"{self.given}/") if self.given else text

    def file(self, name: str) -> Path:
        """A file or folder within the folder.

        Raises:
            FileError: it is not there, or leads out.
        """
        path = (self.folder / name).resolve()
        if not path.exists() or not path.is_relative_to(self.folder.resolve()):
            raise FileError(f"{self.folder / RECORD}: {name!r} is not in this folder")
        return path


def adopt(session: Session, home: Home, owner: User, folder: Path, ended: Callable[[Session, Job], None]) -> list[int]:
    """Put the runs of a folder into the table; numbers of the new jobs, none where they are there already.

    Args:
        session: that writes.
        home: of the platform.
        owner: whose they will be.
        folder: with the file `jobs.json`.
        ended: is called for each job, in order; it registers models.

    Raises:
        FileError: there is no such file, or it names what is not there.
    """
    record = read_json(folder.resolve() / RECORD)
    if record is None:
        raise FileError(f"{folder}: no {RECORD} that says what was done here (rutile demo writes one)")
    work = Adoption(home, owner, folder, str(record.get("folder", "")))
    try:
        fresh = [one for one in record["jobs"] if not _known(session, work, one)]
        if fresh:
            for one in record.get("datasets", []):
                _dataset(session, work, one)
        return [_job(session, work, one, ended) for one in fresh]
    except (KeyError, TypeError, ValueError) as error:
        raise FileError(f"{folder / RECORD}: not as expected: {type(error).__name__} {error}") from None


def _key(work: Adoption, one: dict[str, Any]) -> str:
    told = json.dumps([str(work.folder.resolve()), one["task"], one["started"], one["settings"]], sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def _known(session: Session, work: Adoption, one: dict[str, Any]) -> bool:
    return session.scalar(sql.select(Job.id).where(Job.key == _key(work, one))) is not None


def _dataset(session: Session, work: Adoption, one: dict[str, Any]) -> None:
    """A data set of one file."""
    sha256, there = keep_file(work.home, work.file(one["file"]), Path(one["file"]).name)
    about = {name: str(one.get(name, "")) for name in ("description", "licence", "source")}
    dataset = Dataset(name=one["name"], owner_id=work.owner.id, created=time.time(), **about)
    session.add(dataset)
    session.flush()
    add_version(session, dataset, sha256, there)
    work.known[one["file"]] = Input("", f"dataset:{dataset.id}", there.name, str(there), sha256)


def _job(session: Session, work: Adoption, one: dict[str, Any], ended: Callable[[Session, Job], None]) -> int:
    """A job that has ended, with its folder."""
    plain = replaced(one["settings"], work.inside)
    inputs = _inputs(work, plain)
    settings = replaced(plain, lambda text: work.known[text].reference if text in work.known else text)
    seconds = max(0.0, float(one["ended"]) - float(one["started"]))
    job = Job(
        name=one.get("name") or one["task"], task=one["task"], settings=settings, key=_key(work, one),
        owner_id=work.owner.id, owner=work.owner, state=DONE, exit_code=0, tags=[TAG], progress=1.0,
        created=one["started"], started=one["started"], ended=one["ended"], core_seconds=seconds, cpu_seconds=seconds,
        version=rutile.__version__, inputs=[asdict(i) for i in inputs],
    )  # fmt: skip
    session.add(job)
    session.flush()
    place = work.home.job(job.id)
    shutil.rmtree(place, ignore_errors=True)
    for made in (place, place / kept.FILES):
        made.mkdir(mode=0o700)
    for name in one.get("files", []):
        source, target = work.file(name), place / kept.FILES / name
        if source.is_dir():
            shutil.copytree(source, target, symlinks=True)
        else:
            shutil.copyfile(source, target)
    write_json(place / kept.FILES / kept.SETTINGS, settings)
    write_json(place / kept.RESULT, replaced(one.get("result", {}), work.inside))
    if one.get("metrics"):
        (place / kept.METRICS).write_text(_lines(work.file(one["metrics"])), encoding="utf-8")
    job.bytes = sum(p.stat().st_size for p in place.rglob("*") if p.is_file())
    ended(session, job)
    _know(session, work, job, one.get("files", []))
    return job.id


def _inputs(work: Adoption, plain: dict[str, Any]) -> list[Input]:
    """What the settings of a job name, of what is known by now."""
    taken: set[str] = set()
    found: dict[str, str] = {}
    for key, value in leaves(plain):
        if isinstance(value, str) and value in work.known:
            found.setdefault(value, key)
    return [replace(work.known[name], setting=key, name=unlike(work.known[name].name, taken))
            for name, key in found.items()]  # fmt: skip


def _know(session: Session, work: Adoption, job: Job, names: list[str]) -> None:
    """Later jobs may read what this one wrote: its model, or its folders."""
    model = session.scalar(sql.select(StoredModel).where(StoredModel.job_id == job.id))
    for name in names:
        source = work.home.job(job.id) / kept.FILES / name
        one = Input("", f"job:{job.id}/{name}", Path(name).name, str(source))
        if model is not None and source.is_dir():
            path = work.home.model(model.sha256)
            one = Input("", f"model:{model.id}", f"{Path(name).name}.rutile", str(path), model.sha256)
        work.known[name] = one


def _lines(path: Path) -> str:
    """A table of numbers (CSV) as JSON lines, as jobs write their metrics."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = [{name: _number(text) for name, text in row.items()} for row in csv.DictReader(file)]
    there = ({name: value for name, value in row.items() if value is not None} for row in rows)
    return "".join(json.dumps(row) + "\n" for row in there)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
