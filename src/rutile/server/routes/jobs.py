"""Jobs: submit, list, look, change, cancel, do again, delete, one or many at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

from fastapi import APIRouter, HTTPException, Query
from fastapi.responses import Response, StreamingResponse
from pydantic import Field
from sqlalchemy.orm import Session

from rutile.core.errors import SettingsError
from rutile.core.settings import Result, Settings
from rutile.jobs import check, queue
from rutile.jobs.queue import Wish
from rutile.jobs.references import Input
from rutile.jobs.rights import may_change
from rutile.jobs.sources import inputs_of
from rutile.jobs.tables import FAIL, Job, Template, User
from rutile.server import comparing, forms, notebooks, shapes
from rutile.server.comparing import Compared
from rutile.server.job_export import WAYS, Export, exported
from rutile.server.job_list import Filter, jobs_on_page
from rutile.server.job_views import JobPage, JobRow, JobView, rows_of, view_of
from rutile.server.people import Here, Reading, Somebody, Who, Writing
from rutile.server.platform import Platform
from rutile.server.remedies import Failed, Remedy, go_on, last_error, rule_of, was_stopped
from rutile.server.routes.files import archive_of
from rutile.server.shapes import Name, Number, Tags

router = APIRouter(prefix="/jobs", tags=["jobs"])
Ids = Annotated[list[Annotated[int, Field(ge=1, le=2**31 - 1)]], Query(min_length=1, max_length=20)]
Selected = Annotated[list[Annotated[int, Field(ge=1, le=2**31 - 1)]], Query(min_length=1, max_length=100)]
"""As many as a page of the list shows."""
Privacy = Literal["private", "group", "public"]


class JobRequest(Settings):
    """A job that is asked for."""

    task: Annotated[str, Field(max_length=100)]
    """What to do."""
    settings: shapes.Settings = {}
    """Of the task, as in its schema; files by reference."""
    name: Annotated[str, Field(max_length=200, pattern=r"^[^\x00-\x1f]*$")] = ""
    """By default that of the task."""
    privacy: Privacy = "private"
    """Who may see it."""
    queue: Annotated[str, Field(max_length=100)] = "local"
    """Where to run."""
    cores: int = Field(default=1, ge=1, le=100_000)
    """Cores."""
    gpus: int = Field(default=0, ge=0, le=1000)
    """GPUs."""
    memory: float = Field(default=4.0, gt=0, le=1e6)
    """Memory (GB); a job that uses more is ended."""
    wall_time: Annotated[float, Field(gt=0, le=1e8)] | None = None
    """Longest time (s); null: any."""
    priority: int = Field(default=50, ge=1, le=100)
    """Higher ones start first; at most that of the account."""
    tags: Tags = []
    """Words to find it by."""
    parent_id: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = None
    """The job that it belongs to."""
    cloned_from: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = None
    """The job that it repeats with changes: one that may be seen."""
    template_id: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = None
    """The template that its settings began with: one of the same task that may be seen."""


class RemedyView(Result):
    """Something that helps."""

    name: str
    """What is different: memory, time, learning_rate, go_on (from a copy of what was kept), again, edit."""
    shown: str
    """The new value, with its unit."""
    edit: bool
    """Something has to be chosen first: open the form."""
    job: JobRequest
    """What to submit."""


class FailureView(Result):
    """Why a job failed, and what helps."""

    rule: str
    """Which rule fits: memory, time, nan, element, disk, lost, missing, format, bug, input."""
    line: str
    """The line that says most."""
    cause: str
    """The likely cause, in one sentence."""
    remedies: list[RemedyView]
    """What helps, the best first."""


class FormView(Result):
    """What a form needs to show the settings of a job."""

    form: dict[str, Any]
    """JSON schema of the settings of its task."""
    suited: dict[str, Any]
    """Defaults that follow from what was given: they hold before those of the schema."""


class JobChange(Settings):
    """What is to be changed; what is not given stays."""

    name: Name | None = None
    """Its name."""
    privacy: Privacy | None = None
    """Who may see it."""
    tags: Tags | None = None
    """Words to find it by."""
    priority: Annotated[int, Field(ge=1, le=100)] | None = None
    """Of a job that waits."""


class Action(Settings):
    """The same for many jobs."""

    action: Literal["cancel", "rerun", "delete"]
    """What to do."""
    ids: Annotated[list[Annotated[int, Field(ge=1, le=2**31 - 1)]], Field(min_length=1, max_length=1000)]
    """With which jobs."""


class ActionView(Result):
    """What became of it."""

    done: list[int]
    """Jobs for which it was done; of rerun the new ones."""
    problems: list[str]
    """Why it was not, one line for each other job."""


@router.post("", status_code=201)
def submit_job(wish: JobRequest, who: Somebody, platform: Here, session: Writing) -> JobView:
    """Submit a job."""
    task = forms.known(wish.task)
    if task is None:
        raise HTTPException(404, f"no task {wish.task!r}")
    if wish.queue not in platform.places:
        raise SettingsError(f"queue = {wish.queue}: unknown; known are {', '.join(platform.places)}")
    _refuse_origin(session, wish, who)
    notebooks.refuse(platform.settings, who.user, task.name)
    inputs = inputs_of(session, platform.home, who.user, wish.settings)
    check.validated(task, wish.settings, inputs, platform.settings.commands)
    owner = session.get_one(User, who.user.id)
    platform.places[wish.queue].account_of(owner)
    platform.limits.refuse(owner, wish.queue, wish.cores, wish.gpus)
    asked = Wish(**wish.model_dump(exclude={"task", "settings"}))
    key = check.job_key(task, wish.settings, inputs)
    job = queue.submit(session, owner, task.name, wish.settings, key, inputs, asked)
    who.did(session, "submitted", f"job {job.id}", after={"task": task.name, "name": job.name})
    platform.reconciler.wake_after(session)
    return view_of(session, platform, job, who)


def _refuse_origin(session: Session, wish: JobRequest, who: Who) -> None:
    """Refuse a job that belongs to, repeats or begins with something that it cannot.

    Raises:
        HTTPException: there is no such thing, or it may not be seen or changed.
        SettingsError: the template is of another task.
    """
    if wish.parent_id is not None:
        shapes.changed(session, Job, wish.parent_id, who)
    if wish.cloned_from is not None:
        shapes.seen(session, Job, wish.cloned_from, who)
    if wish.template_id is not None:
        template = shapes.seen(session, Template, wish.template_id, who)
        if template.task != wish.task:
            raise SettingsError(
                f"template_id = {template.id}: the template {template.name} is of the task {template.task}, this job "
                f"of {wish.task}: submit task={template.task}, or leave template_id out"
            )


@router.get("", response_model=JobPage)
async def list_jobs(filter: Annotated[Filter, Query()], who: Somebody, platform: Here, session: Reading) -> Response:
    """Jobs that one may see, newest first unless sorted otherwise, with counts by state."""
    page = await platform.briefly(_page, session, platform, filter, who)
    return Response(page, media_type="application/json")  # written there: not checked a second time


def _page(session: Session, platform: Platform, filter: Filter, who: Who) -> str:
    numbers, total, counts = jobs_on_page(session, platform, filter, who)
    page = JobPage(items=rows_of(session, numbers, who), total=total, page=filter.page, size=filter.size, counts=counts)
    return page.model_dump_json()


@router.get("/export", response_class=Response)
def export_jobs(filter: Annotated[Export, Query()], who: Somebody, platform: Here) -> Response:
    """All jobs that fit, as a file; page and size do not count."""
    written, media = WAYS[filter.format]
    headers = {"Content-Disposition": f'attachment; filename="jobs.{filter.format}"'}
    return StreamingResponse(written(exported(platform, filter, who)), media_type=media, headers=headers)


@router.get("/compare")
def compare_jobs(
    ids: Ids, who: Somebody, platform: Here, session: Reading, same: Annotated[bool, Query()] = False
) -> dict[str, list[Any]]:
    """Settings, places and results of jobs: dotted key -> value of each job, in the order given.

    Only what differs, unless `same` is asked for, too.
    """
    jobs = [shapes.seen(session, Job, number, who) for number in ids]
    return comparing.rows_of(platform.home, jobs, same)


@router.get("/compare/curves")
def compare_curves(
    ids: Ids, who: Somebody, platform: Here, session: Reading, points: Annotated[int, Query(ge=10, le=5000)] = 500
) -> Compared:
    """Curves of jobs beside each other, and the best, not the last, of losses and errors."""
    jobs = [shapes.seen(session, Job, number, who) for number in dict.fromkeys(ids)]
    return comparing.curves_of(platform.home, jobs, points)


@router.get("/zip", response_class=Response)
def download_jobs(ids: Selected, who: Somebody, platform: Here, session: Reading) -> Response:
    """Everything that some jobs wrote in one archive, a folder for each."""
    jobs = [shapes.seen(session, Job, number, who) for number in dict.fromkeys(ids)]
    return archive_of(platform, jobs, "jobs.zip")


@router.post("/actions")
def act_on_jobs(wish: Action, who: Somebody, platform: Here, session: Writing) -> ActionView:
    """Cancel, rerun or delete many jobs; those that cannot be are named, the others are done."""
    done, problems = [], []
    for number in dict.fromkeys(wish.ids):
        try:
            job = shapes.changed(session, Job, number, who)
            done.append(_ACTIONS[wish.action](session, platform, job, who))
        except HTTPException as error:
            problems.append(f"job {number}: {error.detail}")
        except SettingsError as error:
            problems.append(str(error))
    platform.reconciler.wake_after(session)
    return ActionView(done=done, problems=problems)


@router.get("/{number}")
def see_job(number: Number, who: Somebody, platform: Here, session: Reading) -> JobView:
    """Everything about a job."""
    return view_of(session, platform, shapes.seen(session, Job, number, who), who)


@router.get("/{number}/form")
def see_form(number: Number, who: Somebody, session: Reading) -> FormView:
    """What a form needs to show its settings, with the defaults that held; 404 where its task is not known here."""
    job = shapes.seen(session, Job, number, who)
    task = forms.known(job.task)
    if task is None:
        raise HTTPException(404, f"no task {job.task!r}")
    inputs = [Input(**one) for one in job.inputs]
    return FormView(form=forms.form_schema(task.name), suited=forms.suited(task, job.settings, inputs))


@router.patch("/{number}")
def change_job(number: Number, wish: JobChange, who: Somebody, platform: Here, session: Writing) -> JobView:
    """Change name, privacy, tags or priority."""
    job = shapes.changed(session, Job, number, who)
    given = wish.model_dump(exclude_none=True)
    if "priority" in given:
        given["priority"] = min(given["priority"], job.owner.priority)
    shapes.alter(session, job, given, who, f"job {number}")
    return view_of(session, platform, job, who)


@router.post("/{number}/cancel")
def cancel_job(number: Number, who: Somebody, platform: Here, session: Writing) -> JobView:
    """End a job: one that waits at once, one at work when it has written what it must."""
    job = shapes.changed(session, Job, number, who)
    _cancel(session, platform, job, who)
    platform.reconciler.wake_after(session)
    return view_of(session, platform, job, who)


@router.post("/{number}/rerun", status_code=201)
def rerun_job(number: Number, who: Somebody, platform: Here, session: Writing) -> JobView:
    """The same job once more, as a new one."""
    job = shapes.changed(session, Job, number, who)
    fresh = _rerun(session, platform, job, who)
    platform.reconciler.wake_after(session)
    return view_of(session, platform, session.get_one(Job, fresh), who)


@router.get("/{number}/clone")
def clone_job(number: Number, who: Somebody, session: Reading) -> JobRequest:
    """What to submit for a job like this one: to be edited first."""
    job = shapes.seen(session, Job, number, who)
    return _wish_of(job)


@router.get("/{number}/failure")
def see_failure(number: Number, who: Somebody, platform: Here, session: Reading) -> FailureView:
    """Why a job failed, the likely cause, and what helps: jobs that can be submitted as they are here.

    A job that did not fail has no cause; one that was cancelled can go on where it kept something.
    """
    job = shapes.seen(session, Job, number, who)
    failed = Failed(job, platform.home.job(job.id))
    rule, remedies = None, list[Remedy]()
    if job.state == FAIL:
        rule = rule_of(failed)
        remedies = rule.remedies(failed)
    elif was_stopped(failed):
        remedies = go_on(failed)
    wish = _wish_of(job)
    return FailureView(
        rule=rule.name if rule else "", cause=rule.cause if rule else "", line=last_error(failed) if rule else "",
        remedies=[RemedyView(name=r.name, shown=r.shown, edit=r.edit, job=wish.model_copy(update=r.changes))
                  for r in remedies],
    )  # fmt: skip


@router.delete("/{number}", status_code=204)
def delete_job(number: Number, who: Somebody, platform: Here, session: Writing) -> None:
    """Remove a job that has ended, with everything that it wrote."""
    _delete(session, platform, shapes.changed(session, Job, number, who), who)


@router.get("/{number}/tree")
def see_tree(number: Number, who: Somebody, session: Reading) -> list[JobRow]:
    """The job and all that belong to it, and to those; `parent_id` tells whose child each is."""
    job = shapes.seen(session, Job, number, who)
    below = [j for j in queue.tree_below(session, number) if may_change(j, who.user) or j.owner_id == job.owner_id]
    return rows_of(session, [number, *(j.id for j in below)], who)


def _wish_of(job: Job) -> JobRequest:
    """What to submit for a job like this one."""
    names = set(JobRequest.model_fields) - {"cloned_from", "template_id"}
    return JobRequest.model_validate({name: getattr(job, name) for name in names} | {"cloned_from": job.id})


def _cancel(session: Session, platform: Platform, job: Job, who: Who) -> int:
    queue.cancel(session, platform.home, job)
    who.did(session, "cancelled", f"job {job.id}")
    return job.id


def _rerun(session: Session, platform: Platform, job: Job, who: Who) -> int:
    if job.queue not in platform.places:
        raise SettingsError(f"job {job.id}: its queue {job.queue} is not there any more")
    notebooks.refuse(platform.settings, who.user, job.task)
    inputs_of(session, platform.home, who.user, job.settings)  # they must still be there
    owner = session.get_one(User, who.user.id)
    platform.places[job.queue].account_of(owner)
    platform.limits.refuse(owner, job.queue, job.cores, job.gpus)
    fresh = queue.again(session, job, owner)
    who.did(session, "reran", f"job {job.id}", after={"job": fresh.id})
    return fresh.id


def _delete(session: Session, platform: Platform, job: Job, who: Who) -> int:
    number, name = job.id, job.name
    queue.delete(session, platform.home, platform.places, job)
    who.did(session, "deleted", f"job {number}", before={"name": name})
    return number


_ACTIONS: dict[str, Callable[[Session, Platform, Job, Who], int]] = {
    "cancel": _cancel, "rerun": _rerun, "delete": _delete,
}  # fmt: skip
