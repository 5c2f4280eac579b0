"""Templates: settings of a task that users keep under a name, to fill its form with."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import sqlalchemy as sql
from fastapi import APIRouter, HTTPException, Query
from pydantic import Field
from sqlalchemy.orm import Session

from rutile.core.settings import Result, Settings
from rutile.jobs.rights import may_change
from rutile.jobs.tables import Job, Template
from rutile.server import forms, shapes
from rutile.server.people import Reading, Somebody, Who, Writing
from rutile.server.shapes import Name, Number

router = APIRouter(prefix="/templates", tags=["templates"])
Privacy = Literal["private", "group", "public"]
TaskName = Annotated[str, Field(max_length=100)]


class TemplateWish(Settings):
    """A template to keep."""

    name: Name
    """Its name."""
    task: TaskName
    """The task that it is of."""
    settings: shapes.Settings
    """Of the task; they need not be complete."""
    privacy: Privacy = "private"
    """Who may see it."""


class TemplateChange(Settings):
    """What is to be changed; what is not given stays."""

    name: Name | None = None
    """Its name."""
    privacy: Privacy | None = None
    """Who may see it."""
    settings: shapes.Settings | None = None
    """Of its task."""


class TemplateView(Result):
    """A template."""

    id: int
    """Its number: `template_id` of a job that begins with it."""
    name: str
    """Its name."""
    task: str
    """The task that it is of."""
    settings: dict[str, Any]
    """Of the task."""
    owner: str
    """Whose it is."""
    mine: bool
    """Whether the one who asks may change it."""
    privacy: str
    """Who may see it."""
    created: float
    """When it was kept (s since 1970)."""
    jobs: int
    """So many jobs began with it."""


class TemplatePage(Result):
    """A page of the list."""

    items: list[TemplateView]
    """Templates of this page."""
    total: int
    """Templates that fit the filter."""


class TemplateFilter(Settings):
    """Which templates a list holds."""

    search: Annotated[str, Field(max_length=200)] = ""
    """Part of the name."""
    task: TaskName = ""
    """Only of this task."""
    page: int = Field(default=1, ge=1, le=1_000_000)
    """Which page."""
    size: int = Field(default=20, ge=1, le=200)
    """Templates on a page."""
    sort: Annotated[str, Field(pattern="^-?(name|task|privacy|created)$")] = "name"
    """Column; with - the last or newest first."""


@router.get("")
def list_templates(filter: Annotated[TemplateFilter, Query()], who: Somebody, session: Reading) -> TemplatePage:
    """Templates that one may see."""
    conditions = shapes.listed(Template, filter.search, who)
    if filter.task:
        conditions.append(Template.task == filter.task)
    rows, total = shapes.paged(session, Template, conditions, filter.page, filter.size, filter.sort)
    return TemplatePage(items=_views(session, rows, who), total=total)


@router.post("", status_code=201)
def keep_template(wish: TemplateWish, who: Somebody, session: Writing) -> TemplateView:
    """Keep settings of a task under a name."""
    if forms.known(wish.task) is None:
        raise HTTPException(404, f"no task {wish.task!r}: GET /api/tasks tells all")
    row = Template(**wish.model_dump(), owner_id=who.user.id, created=time.time())
    session.add(row)
    session.flush()
    session.refresh(row)
    who.did(session, "kept a template", f"template {row.id}", after={"name": row.name, "task": row.task})
    return _views(session, [row], who)[0]


@router.get("/{number}")
def see_template(number: Number, who: Somebody, session: Reading) -> TemplateView:
    """One template."""
    return _views(session, [shapes.seen(session, Template, number, who)], who)[0]


@router.patch("/{number}")
def change_template(number: Number, wish: TemplateChange, who: Somebody, session: Writing) -> TemplateView:
    """Change name, privacy or settings."""
    row = shapes.changed(session, Template, number, who)
    shapes.alter(session, row, wish.model_dump(exclude_none=True), who, f"template {number}")
    return _views(session, [row], who)[0]


@router.delete("/{number}", status_code=204)
def delete_template(number: Number, who: Somebody, session: Writing) -> None:
    """Remove a template; jobs that began with it stay as they are."""
    row = shapes.changed(session, Template, number, who)
    session.execute(sql.update(Job).where(Job.template_id == number).values(template_id=None))
    session.delete(row)
    who.did(session, "deleted", f"template {number}", before={"name": row.name})


def _views(session: Session, rows: Sequence[Template], who: Who) -> list[TemplateView]:
    names = ("id", "name", "task", "settings", "privacy", "created")
    used = sql.select(Job.template_id, sql.func.count(Job.id)).where(Job.template_id.in_([row.id for row in rows]))
    jobs = {number: count for number, count in session.execute(used.group_by(Job.template_id))}
    return [
        TemplateView(
            **{name: getattr(row, name) for name in names},
            owner=row.owner.name, mine=may_change(row, who.user), jobs=jobs.get(row.id, 0),
        )
        for row in rows
    ]  # fmt: skip
