"""Properties that a model found beside references: chosen once for each task, and kept with the model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Annotated, Any, Literal

import sqlalchemy as sql
from fastapi import APIRouter, HTTPException, Query
from pydantic import Field
from sqlalchemy.orm import Session

from rutile.core.settings import Result, Settings
from rutile.jobs import folder as kept
from rutile.jobs.disk import SHELF
from rutile.jobs.folder import read_json
from rutile.jobs.home import Home
from rutile.jobs.rights import visible
from rutile.jobs.shelf import Shelf
from rutile.jobs.tables import DONE, Dataset, Job, StoredModel
from rutile.server import reference_values, shapes
from rutile.server.figures import Figure
from rutile.server.people import Here, Reading, Somebody, Who, Writing
from rutile.server.platform import Platform
from rutile.server.reference_figures import figures_beside
from rutile.server.reference_values import PROPERTIES, TYPED, ComparedValue, Known, TypedValue
from rutile.server.shapes import Number
from rutile.server.volume_curves import FEWEST, frames_of, reduced, volume_curves

router = APIRouter(prefix="/models", tags=["models"])
KEPT = "references"
"""Key beside what the file of a model says."""
MOST = 50
"""Newest jobs and data sets that are looked through for references."""
Reference = Annotated[str, Field(pattern=r"^(typed|(job|dataset):[1-9]\d{0,8})?$")]
Knows = Callable[[Mapping[str, Any]], Known | None]


class ModelReferences(Settings):
    """What a model is compared with; what is not given stays."""

    chosen: dict[Literal["eos", "elastic", "phonons"], Reference] | None = None
    """Task -> job:12, dataset:3 (equations of state), typed, or empty for none."""
    typed: Annotated[list[TypedValue], Field(max_length=500)] | None = None
    """Values known from elsewhere; these replace those that were there."""


class Choice(Result):
    """A possible reference."""

    reference: str
    """job:12, dataset:3 or typed."""
    name: str
    """Of the job or data set; empty for typed values."""
    structures: int
    """Structures of the result that it has values of; of a data set those that it may have."""


class BesideReference(Result):
    """Properties of one job beside a reference."""

    reference: str
    """What it is compared with; empty: nothing."""
    choices: list[Choice]
    """What it can be compared with."""
    rows: list[ComparedValue]
    """Values of both."""
    figures: list[Figure]
    """Curves of both: lines are called model and reference."""
    structures: list[str]
    """Structures and compositions that typed values can be of."""
    properties: dict[str, list[str]]
    """Property that typed values can be of -> units that they can have."""
    typed: list[TypedValue]
    """All typed values of the model."""


def said_by_file(model: StoredModel) -> dict[str, Any]:
    """What the file of a model says about itself."""
    return {key: value for key, value in model.card.items() if key != KEPT}


@router.get("/{number}/properties/{job}")
def see_properties(
    number: Number,
    job: Number,
    who: Somebody,
    platform: Here,
    session: Reading,
    reference: Annotated[Reference | None, Query()] = None,
) -> BesideReference:
    """What a job found with the model, beside a reference: the one asked for, or the one kept with the model."""
    model, found = shapes.seen(session, StoredModel, number, who), _job(session, number, job, who)
    rows = _rows(platform.home, found)
    own = _kept(model)
    choices = list(_choices(session, platform, found, rows, own, who))
    asked = reference
    if asked is None:  # what was kept may be gone since
        remembered = next((chosen for task, chosen in (own.chosen or {}).items() if task == found.task), "")
        asked = remembered if remembered in [one.reference for one in choices] else ""
    known, theirs = _known(session, platform, found, rows, asked, own, who)
    pairs = [(row, there) for row in rows if (there := known(row)) is not None]
    mine, other = platform.home.job(found.id), platform.home.job(theirs) if theirs else None
    units = reference_values.units_of_properties(found.task)
    return BesideReference(
        reference=asked,
        choices=choices,
        rows=[one for row, there in pairs for one in reference_values.compared(found.task, row, there)],
        figures=[one for row, there in pairs for one in figures_beside(found.task, row, there, mine, other)],
        structures=list(dict.fromkeys(name for row in rows for name in (row["structure"], reduced(row["formula"])))),
        properties={name: list(reference_values.FACTORS[unit]) for name, unit in units.items()},
        typed=own.typed or [],
    )


@router.put("/{number}/references", status_code=204)
def choose_references(number: Number, wish: ModelReferences, who: Somebody, session: Writing) -> None:
    """Keep what the model is compared with, and values that are known from elsewhere."""
    model = shapes.changed(session, StoredModel, number, who)
    wrong = [
        f"typed[{k}]: {text}" for k, one in enumerate(wish.typed or []) if (text := reference_values.wrong_with(one))
    ]
    if wrong:
        raise HTTPException(422, "\n".join(wrong[:10]))
    before = _kept(model)
    after = ModelReferences(
        chosen={**(before.chosen or {}), **(wish.chosen or {})},
        typed=before.typed if wish.typed is None else wish.typed,
    )
    model.card = {**model.card, KEPT: after.model_dump(mode="json")}
    who.did(session, "changed", f"model {number}", before={KEPT: before.model_dump()}, after={KEPT: after.model_dump()})


def _kept(model: StoredModel) -> ModelReferences:
    return ModelReferences(**model.card.get(KEPT, {}))


def _job(session: Session, model: int, number: int, who: Who) -> Job:
    """A job of the model that has ended well and whose properties are compared.

    Raises:
        HTTPException: 404 there is none.
    """
    job = shapes.seen(session, Job, number, who)
    reads = any(one["reference"] == f"model:{model}" for one in job.inputs)
    if not reads or job.task not in PROPERTIES or job.state != DONE:
        raise HTTPException(404, f"job {number} is none of {', '.join(PROPERTIES)} that is done and used model {model}")
    return job


def _rows(home: Home, job: Job) -> list[dict[str, Any]]:
    return reference_values.rows_of_result(read_json(home.job(job.id) / kept.RESULT) or {})


def _choices(
    session: Session, platform: Platform, job: Job, rows: list[dict[str, Any]], own: ModelReferences, who: Who
) -> Iterator[Choice]:
    """References that have values of some of the structures."""
    typed = reference_values.of_typed(own.typed or [], job.task)
    if count := sum(typed(row) is not None for row in rows):
        yield Choice(reference=TYPED, name="", structures=count)
    like = sql.select(Job).where(visible(Job, who.user), Job.task == job.task, Job.state == DONE, Job.id != job.id)
    for other in session.scalars(like.order_by(Job.id.desc()).limit(MOST)):
        known = reference_values.of_job(job, other, _rows(platform.home, other), rows)
        if count := sum(known(row) is not None for row in rows):
            yield Choice(reference=f"job:{other.id}", name=other.name, structures=count)
    formulas = {reduced(row["formula"]) for row in rows} if job.task == "eos" else set()
    sets = sql.select(Dataset).where(visible(Dataset, who.user)).order_by(Dataset.id.desc()).limit(MOST)
    for data in session.scalars(sets) if formulas else []:
        shelf = _shelf(platform, data)
        if shelf and (count := sum(len(frames_of(shelf, one)) >= FEWEST for one in formulas)):
            yield Choice(reference=f"dataset:{data.id}", name=data.name, structures=count)


def _known(
    session: Session, platform: Platform, job: Job, rows: list[dict[str, Any]], reference: str, own: ModelReferences,
    who: Who,
) -> tuple[Knows, int | None]:  # fmt: skip
    """What a reference says of each row, and the number of the job that it is, if it is one.

    Raises:
        HTTPException: 404 there is no such job or data set; 422 it cannot be compared with.
    """
    kind, _, number = reference.partition(":")
    if kind == "job":
        other = shapes.seen(session, Job, int(number), who)
        if other.task != job.task or other.state != DONE:
            raise HTTPException(422, f"reference = {reference}: expected a job of the task {job.task} that is done")
        return reference_values.of_job(job, other, _rows(platform.home, other), rows), other.id
    if kind == "dataset":
        shelf = _shelf(platform, shapes.seen(session, Dataset, int(number), who))
        if job.task != "eos" or shelf is None:
            raise HTTPException(422, f"reference = {reference}: a data set that is ready is a reference of eos only")
        return reference_values.of_curves(partial(volume_curves, shelf), reference), None
    return reference_values.of_typed((own.typed or []) if kind == TYPED else [], job.task), None


def _shelf(platform: Platform, data: Dataset) -> Shelf | None:
    """The structures of its newest version that is ready."""
    ready = [version for version in data.versions if version.state == "ready"]
    return Shelf(platform.home.dataset(ready[-1].sha256) / SHELF) if ready else None
