"""The door to a notebook that is at work, for its owner."""

from __future__ import annotations

from fastapi import APIRouter, HTTPException, Request

from rutile.jobs.tables import Job
from rutile.server import notebooks, shapes
from rutile.server.notebooks import NOTEBOOK, NotebookView
from rutile.server.people import SUBMIT, Here, Reading, Somebody
from rutile.server.shapes import Number

router = APIRouter(prefix="/jobs/{number}", tags=["jobs"])


@router.get("/notebook")
def open_notebook(number: Number, who: Somebody, platform: Here, session: Reading, request: Request) -> NotebookView:
    """How a notebook is opened: only its owner is told, with the right to submit jobs."""
    job = shapes.seen(session, Job, number, who)
    if job.owner_id != who.user.id or SUBMIT not in who.scopes:
        raise HTTPException(403, "only its owner opens a notebook")
    if job.task != NOTEBOOK:
        raise HTTPException(404, "this job is no notebook")
    return notebooks.door_of(platform.home, platform.settings, job, request.url.hostname or "")
