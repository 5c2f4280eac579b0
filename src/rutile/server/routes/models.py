"""The registry of models: where they come from, how good they are, and trying them at once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import quote

import sqlalchemy as sql
from fastapi import APIRouter, HTTPException, Query
from fastapi.responses import FileResponse, Response
from pydantic import Field

from rutile.core.settings import Result, Settings
from rutile.core.units import ERROR_UNITS
from rutile.jobs import check, queue
from rutile.jobs.known_errors import LISTED, best_known, next_version
from rutile.jobs.queue import Wish
from rutile.jobs.registry import register
from rutile.jobs.rights import found, may_change, visible
from rutile.jobs.sources import file_name, inputs_of
from rutile.jobs.tables import Job, StoredModel, User
from rutile.server import forms, shapes
from rutile.server.job_views import JobRow, JobView, rows_of, view_of
from rutile.server.people import Here, Reading, Somebody, Who, Writing
from rutile.server.routes.files import LOCKED
from rutile.server.routes.model_references import said_by_file
from rutile.server.shapes import Name, Number

router = APIRouter(prefix="/models", tags=["models"])
Privacy = Literal["private", "group", "public"]
Stage = Literal["draft", "validated", "production"]
MOST_JOBS = 200
"""Jobs of a model that are listed."""
TRY = 90
"""Priority of trying a model: somebody waits for it."""
SORTED_BY = ("name", "version", "stage", "bytes", *LISTED, "created")
"""Columns that give a list its order."""


class ModelWish(Settings):
    """A model for the registry. Models of jobs that train come by themselves."""

    name: Name
    """Its name."""
    file: Annotated[str, Field(max_length=500)]
    """upload:abc or job:12/run/model.rutile."""
    description: Annotated[str, Field(max_length=20_000)] = ""
    """What it is good for."""
    privacy: Privacy = "private"
    """Who may see it."""


class ModelChange(Settings):
    """What is to be changed; what is not given stays."""

    name: Name | None = None
    """Its name."""
    description: Annotated[str, Field(max_length=20_000)] | None = None
    """What it is good for."""
    stage: Stage | None = None
    """draft, validated or production."""
    privacy: Privacy | None = None
    """Who may see it."""


class Trial(Settings):
    """A structure to try a model on."""

    structure: Annotated[str, Field(min_length=1, max_length=500)]
    """structure:7, upload:abc or job:12/x.extxyz."""
    relax: bool = False
    """Relax atoms and cell instead of energy and forces alone."""


class Metrics(Result):
    """Errors, and perhaps the speed, on one set."""

    set: str
    """Name of the set: train, valid, test, or a reference."""
    job: int | None
    """The job that measured them."""
    values: dict[str, float]
    """energy_rmse (eV/atom), force_rmse (eV/Å), stress_rmse (eV/Å³), atoms_per_second, ..."""
    device: str | None = None
    """What the speed was measured on: the name of the processor or GPU; null: it was not noted."""
    threads: int | None = None
    """Threads of the processor meanwhile; null: it was not noted, or a GPU computed."""


class ModelView(Result):
    """A model."""

    id: int
    """Its number: model:ID in settings."""
    name: str
    """Its name."""
    version: int
    """Its number among the models of its owner that have its name."""
    owner: str
    """Whose it is."""
    mine: bool
    """Whether the one who asks may change it."""
    privacy: str
    """Who may see it."""
    stage: str
    """draft, validated or production."""
    description: str
    """What it is good for."""
    created: float
    """When it came (s since 1970)."""
    bytes: int
    """Size of the file."""
    sha256: str
    """Of the file."""
    elements: list[str]
    """That it knows."""
    card: dict[str, Any]
    """What the file says: potential, members of a committee, calc modes, training data, version of rutile."""
    metrics: list[Metrics]
    """How good it is."""
    known: dict[str, Metrics]
    """Of energy_rmse, force_rmse and speed the measurement that says most: errors on a set that it was not trained on,
    else on the test set of its training, else on the validation set; the newest speed."""
    job_id: int | None
    """The job that made it."""
    parent_id: int | None
    """The model that it was trained from."""
    datasets: list[dict[str, Any]]
    """What it was trained on: reference and hash."""
    children: list[int]
    """Models that were trained from it."""


class ModelPage(Result):
    """A page of the list."""

    items: list[ModelView]
    """Models of this page."""
    total: int
    """Models that fit the filter."""


class ModelFilter(Settings):
    """Which models a list holds."""

    search: Annotated[str, Field(max_length=200)] = ""
    """Part of the name."""
    stage: Stage | None = None
    """Only of this stage."""
    elements: Annotated[str, Field(max_length=500, pattern=r"^([A-Z][a-z]?(,[A-Z][a-z]?)*)?$")] = ""
    """Only those that know all of these: Ti,O."""
    job: int | None = Field(default=None, ge=1, le=2**31 - 1)
    """Only those that this job made."""
    page: int = Field(default=1, ge=1, le=1_000_000)
    """Which page."""
    size: int = Field(default=20, ge=1, le=200)
    """Models on a page."""
    sort: Annotated[str, Field(pattern=f"^-?({'|'.join(SORTED_BY)})$")] = "-created"
    """Column; with - the largest, last or newest first; models of which it is not known come last."""


@router.get("")
def list_models(filter: Annotated[ModelFilter, Query()], who: Somebody, session: Reading) -> ModelPage:
    """Models that one may see."""
    conditions = shapes.listed(StoredModel, filter.search, who)
    if filter.stage:
        conditions.append(StoredModel.stage == filter.stage)
    if filter.job:
        conditions.append(StoredModel.job_id == filter.job)
    for element in filter.elements.split(",") if filter.elements else []:
        conditions.append(sql.cast(StoredModel.elements, sql.String).like(f'%"{element}"%'))
    rows, total = shapes.paged(session, StoredModel, conditions, filter.page, filter.size, filter.sort)
    return ModelPage(items=[_view(session, m, who) for m in rows], total=total)


@router.post("", status_code=201)
def add_model(wish: ModelWish, who: Somebody, platform: Here, session: Writing) -> ModelView:
    """Put a model file into the registry; only its header is read."""
    given = inputs_of(session, platform.home, who.user, {"file": wish.file})
    if not given or not Path(given[0].source).is_file():
        raise HTTPException(422, f"file = {wish.file}: expected upload:... or job:12/run/model.rutile")
    shapes.refuse_without_room(session, who, Path(given[0].source).stat().st_size)
    row = StoredModel(**wish.model_dump(exclude={"file"}), owner_id=who.user.id, datasets=[])
    model = register(session, platform.home, Path(given[0].source), row)
    session.refresh(model)
    who.did(session, "added", f"model {model.id}", after={"name": model.name, "sha256": model.sha256})
    return _view(session, model, who)


@router.get("/compare")
def compare_models(
    ids: Annotated[list[Annotated[int, Field(ge=1, le=2**31 - 1)]], Query(min_length=1, max_length=20)],
    who: Somebody,
    session: Reading,
) -> dict[str, list[Any]]:
    """What differs between models: card and errors, each with the value of each model in the order given."""
    trees = []
    for number in ids:
        model = shapes.seen(session, StoredModel, number, who)
        errors = {f"{m['set']} {_with_unit(name)}": value for m in model.metrics for name, value in m["values"].items()}
        plain = {k: v for k, v in said_by_file(model).items() if k != "info"}
        trees.append(plain | {"stage": model.stage, "bytes": model.bytes} | errors)
    keys = dict.fromkeys(key for tree in trees for key in tree)
    rows = {key: [tree.get(key) for tree in trees] for key in keys}
    return {key: values for key, values in rows.items() if any(v != values[0] for v in values)}


def _with_unit(metric: str) -> str:
    """A metric such as force_rmse, and its unit."""
    unit = ERROR_UNITS.get(metric.rpartition("_")[0])
    return f"{metric} ({unit})" if unit else metric


@router.get("/{number}")
def see_model(number: Number, who: Somebody, session: Reading) -> ModelView:
    """One model."""
    return _view(session, shapes.seen(session, StoredModel, number, who), who)


@router.get("/{number}/jobs")
def jobs_of_model(number: Number, who: Somebody, session: Reading) -> list[JobRow]:
    """Jobs that read the model, newest first, of those that one may see: evaluations, calibrations, relaxations."""
    shapes.seen(session, StoredModel, number, who)
    named = sql.cast(Job.inputs, sql.String).like(f'%"model:{number}"%')
    query = sql.select(Job.id).where(visible(Job, who.user), named).order_by(Job.id.desc()).limit(MOST_JOBS)
    return rows_of(session, list(session.scalars(query)), who)


@router.patch("/{number}")
def change_model(number: Number, wish: ModelChange, who: Somebody, session: Writing) -> ModelView:
    """Change name, description, stage or privacy; under another name it is the newest version of that one."""
    model = shapes.changed(session, StoredModel, number, who)
    if wish.name and wish.name != model.name:
        model.version = next_version(session, model.owner_id, wish.name)
    shapes.alter(session, model, wish.model_dump(exclude_none=True), who, f"model {number}")
    return _view(session, model, who)


@router.delete("/{number}", status_code=204)
def delete_model(number: Number, who: Somebody, platform: Here, session: Writing) -> None:
    """Remove a model from the registry; the job that made it keeps its file."""
    model = shapes.changed(session, StoredModel, number, who)
    if model.stage == "production":
        raise HTTPException(409, "a model in production cannot be deleted: change its stage first")
    sha256 = model.sha256
    queue.refuse_in_use(session, f"model:{number}")
    session.delete(model)
    session.flush()
    if session.scalar(sql.select(StoredModel.id).where(StoredModel.sha256 == sha256).limit(1)) is None:
        platform.home.model(sha256).unlink(missing_ok=True)
    who.did(session, "deleted", f"model {number}", before={"name": model.name})


@router.get("/{number}/download", response_class=Response)
def download_model(number: Number, who: Somebody, platform: Here, session: Reading) -> Response:
    """The file: safetensors with a description in JSON."""
    model = shapes.seen(session, StoredModel, number, who)
    path = platform.home.model(model.sha256)
    if not path.is_file():
        raise HTTPException(404, "its file is gone")
    headers = LOCKED | {
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(file_name(model.name, '.rutile'))}"
    }
    return FileResponse(path, media_type="application/octet-stream", headers=headers)


@router.post("/{number}/try", status_code=201)
def try_model(number: Number, wish: Trial, who: Somebody, platform: Here, session: Writing) -> JobView:
    """Energy, forces and stress of a structure, or its relaxation: a small job that goes before others."""
    model = shapes.seen(session, StoredModel, number, who)
    name = "relax" if wish.relax else "predict"
    task = forms.known(name)
    assert task is not None
    settings = {"structures": [wish.structure], "model": f"model:{number}", "out": "result.extxyz"}
    settings |= {"cell": "full"} if wish.relax else {}
    inputs = inputs_of(session, platform.home, who.user, settings)
    check.validated(task, settings, inputs, platform.settings.commands)
    owner = session.get_one(User, who.user.id)
    asked = Wish(name=f"try {model.name}", priority=TRY, memory=3.0, wall_time=600.0, tags=["try"])
    job = queue.submit(session, owner, name, settings, check.job_key(task, settings, inputs), inputs, asked)
    platform.reconciler.wake_after(session)
    return view_of(session, platform, job, who)


def _view(session: Reading, model: StoredModel, who: Who) -> ModelView:
    names = ("id", "name", "version", "privacy", "stage", "description", "created", "bytes", "sha256", "elements",
             "parent_id", "datasets")  # fmt: skip
    below = sql.select(StoredModel.id).where(StoredModel.parent_id == model.id, visible(StoredModel, who.user))
    job = model.job_id if model.job_id and found(session, Job, model.job_id, who.user) else None
    return ModelView(
        **{name: getattr(model, name) for name in names},
        owner=model.owner.name,
        mine=may_change(model, who.user),
        job_id=job,
        card=said_by_file(model),
        metrics=[Metrics(**m) for m in model.metrics],
        known={
            column: Metrics(**m)
            for column, m in best_known(model.metrics, [one["reference"] for one in model.datasets]).items()
        },
        children=list(session.scalars(below)),
    )
