"""What can be done: every task, its form, and what can be said before a job is submitted."""

from __future__ import annotations

import inspect
from typing import Annotated, Any

import sqlalchemy as sql
from fastapi import APIRouter, HTTPException
from pydantic import Field
from sqlalchemy.orm import Session

from rutile.core.errors import RutileError, SettingsError
from rutile.core.settings import Result, Settings
from rutile.jobs import check
from rutile.jobs.queue import Wish
from rutile.jobs.references import Input
from rutile.jobs.rights import visible
from rutile.jobs.sources import inputs_of
from rutile.jobs.tables import DONE, Job, User
from rutile.server import forms, notebooks, shapes
from rutile.server.cautions import cautions
from rutile.server.estimates import Estimate, Expected, estimate_of, expected_of
from rutile.server.people import Here, Reading, Somebody
from rutile.server.unlike import unlike_training
from rutile.tasks.catalogue import all_tasks
from rutile.tasks.task import Task

router = APIRouter(prefix="/tasks", tags=["tasks"])


class TaskRow(Result):
    """A task in the list."""

    name: str
    """Its name, as on the command line."""
    summary: str
    """What it does, in one line."""
    group: str
    """Tasks that stand together."""


class TaskView(TaskRow):
    """A task."""

    text: str
    """What it does, in full."""
    positional: str | None
    """The setting that a bare word on the command line fills."""
    examples: list[str]
    """Command lines."""
    essential: list[str]
    """Settings that most users give."""


class CheckRequest(Settings):
    """Settings that are to be looked at."""

    settings: shapes.Settings = {}
    """Of the task, as in its schema; files by reference: job:12/relaxed.extxyz, dataset:3, model:5, structure:7,
    upload:abc."""
    cores: int = Field(default=1, ge=1, le=100_000)
    """Cores that the job would have."""
    gpus: int = Field(default=0, ge=0, le=1000)
    """GPUs that the job would have."""
    memory: float = Field(default=4.0, gt=0, le=1e6)
    """Memory (GB) that it would ask for."""
    priority: int = Field(default=50, ge=1, le=100)
    """Its priority."""
    queue: Annotated[str, Field(max_length=100)] = "local"
    """Where it would run."""


class ProblemView(Result):
    """Something that must be changed."""

    key: str
    """Dotted key of the setting; empty: of the whole."""
    message: str
    """What and how, in one line."""
    missing: bool
    """Whether it was not given, and has no default."""


class CheckView(Result):
    """What can be said about a job before it is submitted."""

    ok: bool
    """It can be submitted."""
    problems: list[ProblemView]
    """What must be changed first."""
    warnings: list[str]
    """What should be looked at."""
    settings: dict[str, Any] | None
    """All settings, defaults included."""
    suited: dict[str, Any]
    """Defaults that follow from what is given, such as those that suit the potential: they hold before those of the
    schema."""
    command: str
    """The same as a command line."""
    yaml: str
    """The same as a job file."""
    python: str
    """The same in Python."""
    client: str
    """The same through this server, in Python."""
    same: int | None
    """A finished job that answered the same question."""
    expected: Expected | None
    """From jobs that were done here."""
    estimate: Estimate
    """What it is likely to wait and to cost."""


@router.get("")
def list_tasks() -> list[TaskRow]:
    """Every task, in the order in which they are mostly needed."""
    return [TaskRow(name=t.name, summary=t.summary, group=forms.group_of(t.name)) for t in all_tasks()]


@router.get("/{name}")
def see_task(name: str) -> TaskView:
    """One task."""
    task = _task(name)
    return TaskView(
        name=task.name, summary=task.summary, group=forms.group_of(name), text=inspect.cleandoc(task.run.__doc__ or ""),
        positional=task.positional, examples=list(task.examples), essential=sorted(forms.essentials(task)),
    )  # fmt: skip


@router.get("/{name}/schema")
def see_schema(name: str) -> dict[str, Any]:
    """JSON schema of its settings, for a form."""
    return forms.form_schema(_task(name).name)


@router.post("/{name}/check")
def check_settings(name: str, wish: CheckRequest, who: Somebody, platform: Here, session: Reading) -> CheckView:
    """Look at settings without submitting: problems, warnings, and how to do the same elsewhere."""
    task = _task(name)
    problems: list[check.Problem] = []
    inputs: list[Input] = []
    full = None
    try:
        notebooks.refuse(platform.settings, who.user, task.name)
        inputs = inputs_of(session, platform.home, who.user, wish.settings)
        full = check.validated(task, wish.settings, inputs, platform.settings.commands)
        if wish.queue in platform.places:
            platform.places[wish.queue].account_of(who.user)
        platform.limits.refuse(who.user, wish.queue, wish.cores, wish.gpus)
    except SettingsError as error:
        problems = check.problems_of(error)
    except RutileError as error:
        problems = [check.Problem("", str(error))]
    asked = Wish(**wish.model_dump(exclude={"settings"}))
    expected = expected_of(session, task.name)
    plain = check.local_names(wish.settings, inputs)
    return CheckView(
        ok=not problems,
        problems=[ProblemView(key=p.key, message=p.message, missing=p.missing) for p in problems],
        warnings=[
            *cautions(session, who.user, task.name, wish.settings, full),
            *unlike_training(platform.home, inputs if full else []),
        ],
        settings=None if full is None else full.model_dump(mode="json"),
        suited=forms.suited(task, wish.settings, inputs),
        command=check.as_command(task, plain),
        yaml=check.as_yaml(plain),
        python=check.as_python(task, plain),
        client=check.as_client(task, wish.settings, platform.address),
        same=None
        if task.name == notebooks.NOTEBOOK
        else _same(session, who.user, check.job_key(task, wish.settings, inputs)),
        expected=expected,
        estimate=estimate_of(session, platform, who.user, asked, expected),
    )


def _task(name: str) -> Task:
    task = forms.known(name)
    if task is None:
        raise HTTPException(404, f"no task {name[:100]!r}")
    return task


def _same(session: Session, user: User, key: str) -> int | None:
    return session.scalar(
        sql.select(Job.id).where(Job.key == key, Job.state == DONE, visible(Job, user)).order_by(Job.id.desc()).limit(1)
    )
