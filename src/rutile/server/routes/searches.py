"""Searches: what was found, how the best energy fell, who descends from whom, and what an adaptive search learned."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import sqlalchemy as sql
from fastapi import APIRouter, HTTPException, Query
from fastapi.responses import Response
from pydantic import Field

from rutile.core.elements import symbol
from rutile.core.settings import Result, Settings
from rutile.jobs import safe_files
from rutile.jobs.folder import FILES
from rutile.jobs.rights import visible
from rutile.jobs.tables import Job
from rutile.server import shapes
from rutile.server.finding import SEARCHES
from rutile.server.found import Named, atoms_of, named, packed
from rutile.server.frames import FrameView, shelf_of
from rutile.server.hard import HardView, hardest_of
from rutile.server.job_views import JobPage, rows_of
from rutile.server.people import Here, Reading, Somebody
from rutile.server.platform import Platform
from rutile.server.routes.files import LOCKED
from rutile.server.routes.structures import StructureView, keep_frames
from rutile.server.search_hull import HullView, hull_of
from rutile.server.search_story import FoundRow, LabelPoint, SavedStep, Story, WorkStep, made_of, story_of
from rutile.server.shapes import FrameNumber, Name, Number

if TYPE_CHECKING:
    from ase import Atoms

router = APIRouter(prefix="/searches", tags=["searches"])
Step = TypeVar("Step")
NO_LOG = ".no log"
"""Log of a search that has not begun."""
MOST_STEPS = 2000
"""Steps of the curves of workers that a page is sent, of each kind."""
ENDINGS = {"extxyz": "extxyz", "cif": "zip"}
LOGS = ("search.jsonl", "adapt.jsonl")
NO_CELL = [[0.0] * 3] * 3
"""Of clusters and molecules."""


class ExportOf(Settings):
    """What is written into a file."""

    format: Literal["extxyz", "cif"] = "extxyz"
    """One file, or an archive of one file for each crystal."""
    most: int | None = Field(default=None, ge=1, le=100_000)
    """So many, lowest first; default all."""


class Keep(Settings):
    """Structures to be kept."""

    name: Name
    """Under this name."""
    most: int = Field(default=10, ge=1, le=1000)
    """So many, lowest first."""
    structure: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = None
    """This one alone, by its number in the search."""


class SearchView(Result):
    """How a search is."""

    job: int
    """Its job."""
    task: str
    """search or adapt."""
    state: str
    """Of the job."""
    made: int
    """Structures that were made."""
    done: int
    """Structures that were relaxed."""
    failed: int
    """Of these, those that failed."""
    operators: dict[str, int]
    """How many each operator made."""
    found: list[FoundRow]
    """Structures of the lowest energies first."""
    labels: list[LabelPoint]
    """What was labelled (adaptive)."""
    trainings: int
    """How often the potential was trained (adaptive)."""
    work: dict[str, list[WorkStep]]
    """Workers at work over time, by kind: search, label, train (adaptive)."""
    saved: list[SavedStep]
    """Structures and labels over the same time (adaptive)."""
    hull: HullView | None
    """Of three elements and more."""
    hard: HardView | None
    """What the newest potential finds hard to learn (adaptive)."""


@router.get("")
def list_searches(
    who: Somebody,
    session: Reading,
    page: Annotated[int, Query(ge=1, le=1_000_000)] = 1,
    size: Annotated[int, Query(ge=1, le=200)] = 20,
    search: Annotated[str, Query(max_length=200)] = "",
    sort: Annotated[str, Query(pattern="^-?(id|name|task|state|started)$")] = "-id",
) -> JobPage:
    """Jobs that search; `search` is a part of their names; `sort`: -name begins with the last."""
    conditions = [visible(Job, who.user), Job.task.in_(SEARCHES)]
    if search:
        conditions.append(Job.name.icontains(search, autoescape=True))
    counted = session.execute(sql.select(Job.state, sql.func.count()).where(*conditions).group_by(Job.state)).all()
    query = sql.select(Job.id).where(*conditions).order_by(*shapes.ordered(Job, sort))
    query = query.limit(size).offset((page - 1) * size)
    counts = {row[0]: row[1] for row in counted}
    items = rows_of(session, list(session.scalars(query)), who)
    return JobPage(items=items, total=sum(counts.values()), page=page, size=size, counts=counts)


@router.get("/{number}")
def see_search(
    number: Number,
    who: Somebody,
    platform: Here,
    session: Reading,
    most: Annotated[int, Query(ge=1, le=20_000)] = 2000,
) -> SearchView:
    """How a search is, and what it found."""
    job = shapes.seen(session, Job, number, who)
    story = _story(platform, job)
    good, failed = _sorted(story)
    operators = story.operators
    kinds = {element for one in good for element in one.elements}
    work = {kind: _thin(steps) for kind, steps in story.work.items() if steps}
    hard = hardest_of(platform.home.job(job.id) / FILES) if story.trainings else None
    return SearchView(
        job=job.id, task=job.task, state=job.state, made=sum(operators.values()), done=story.done,
        failed=len(failed), operators=operators, found=[*good, *failed][:most], labels=story.labels,
        trainings=story.trainings, work=work, saved=_thin(story.saved),
        hull=hull_of(good) if len(kinds) > 2 else None, hard=hard,
    )  # fmt: skip


@router.get("/{number}/structures/{structure}")
def see_found(number: Number, structure: FrameNumber, who: Somebody, platform: Here, session: Reading) -> FrameView:
    """A structure as it was relaxed."""
    story = _story(platform, shapes.seen(session, Job, number, who))
    done = story.record(structure)
    if done is None:
        raise HTTPException(404, "no such structure")
    return _frame(structure, done)


@router.get("/{number}/names")
def see_names(
    number: Number,
    structures: Annotated[list[FrameNumber], Query(min_length=1, max_length=100)],
    who: Somebody,
    platform: Here,
    session: Reading,
) -> list[Named]:
    """Space groups (of clusters point groups) and names of known structure types."""
    story = _story(platform, shapes.seen(session, Job, number, who))
    known = ((k, story.record(k)) for k in structures)
    return [named(k, atoms_of(one)) for k, one in known if one is not None]


@router.get("/{number}/export", response_class=Response)
def export_search(
    number: Number, wish: Annotated[ExportOf, Query()], who: Somebody, platform: Here, session: Reading
) -> Response:
    """The lowest structures, or all: one file of extended XYZ, or an archive of CIF files."""
    job = shapes.seen(session, Job, number, who)
    images = _lowest(platform, job, wish.most)
    headers = LOCKED | {"Content-Disposition": f"attachment; filename=search-{number}.{ENDINGS[wish.format]}"}
    with tempfile.TemporaryDirectory() as folder:
        content = packed(images, wish.format, Path(folder))
    return Response(content, media_type="application/octet-stream", headers=headers)


@router.post("/{number}/keep", status_code=201)
def keep_found(number: Number, wish: Keep, who: Somebody, platform: Here, session: Reading) -> StructureView:
    """Keep the lowest structures, or a chosen one, among one's structures, as one of many frames."""
    job = shapes.seen(session, Job, number, who)
    images = _lowest(platform, job, wish.most) if wish.structure is None else [_chosen(platform, job, wish.structure)]
    with tempfile.TemporaryDirectory(dir=platform.home.cache) as folder:
        file = Path(folder) / "found.extxyz"
        file.write_bytes(packed(images, "extxyz", Path(folder)))
        return keep_frames(platform, who, wish.name, shelf_of(platform.home, file), None, number)


def _thin(steps: list[Step]) -> list[Step]:
    """At most about 2000 of all steps, the last one among them."""
    return [*steps[: -1 : max(1, len(steps) // MOST_STEPS)], *steps[-1:]]


def _sorted(story: Story) -> tuple[list[FoundRow], list[FoundRow]]:
    """What was relaxed, lowest first, and what failed."""
    good = sorted((f for f in story.found.values() if f.energy is not None), key=lambda f: f.energy or 0.0)
    return good, [f for f in story.found.values() if f.energy is None]


def _lowest(platform: Platform, job: Job, most: int | None) -> list[Atoms]:
    """The lowest structures that a search found, with their energies."""
    story = _story(platform, job)
    records = (story.record(one.number) for one in _sorted(story)[0][:most])
    images = [atoms_of(one) for one in records if one is not None]
    if not images:
        raise HTTPException(404, "nothing has been found yet")
    return images


def _chosen(platform: Platform, job: Job, number: int) -> Atoms:
    """One structure as it was relaxed."""
    done = _story(platform, job).record(number)
    if done is None:
        raise HTTPException(404, f"structure = {number}: the search of job {job.id} has none of this number (yet)")
    return atoms_of(done)


def _story(platform: Platform, job: Job) -> Story:
    """What the log of a search tells; its newest one where there are several, nothing before there is one.

    Raises:
        HTTPException: 404 it is no search.
    """
    if job.task not in SEARCHES:
        raise HTTPException(404, "this job is no search")
    root = platform.home.job(job.id) / FILES
    there = [e for e in safe_files.listing(root) if not e.folder and e.path.rsplit("/", 1)[-1] in LOGS]
    newest = max(there, key=lambda e: e.changed).path if there else NO_LOG
    return story_of(root / newest, root)


def _frame(number: int, done: dict[str, Any]) -> FrameView:
    atoms, energy = done["atoms"], done.get("energy")
    symbols = [symbol(int(z)) for z in atoms["numbers"]]
    total = None if energy is None or not math.isfinite(energy) else energy * len(symbols)
    return FrameView(
        number=number, frames=1, formula=made_of(done)[0], symbols=symbols, positions=atoms["positions"],
        cell=atoms.get("cell", NO_CELL), pbc=atoms.get("pbc", [False] * 3), energy=total, forces=None, stress=None,
        fmax=None,
    )  # fmt: skip
