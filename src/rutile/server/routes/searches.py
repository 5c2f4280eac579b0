"""Searches: what was found, how the best energy fell, who descends from whom, and what an adaptive search learned."""

from __future__ import annotations

import functools
import math
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import sqlalchemy as sql
from fastapi import APIRouter, HTTPException, Query

from rutile.core.elements import symbol
from rutile.core.settings import Result
from rutile.jobs.folder import FILES
from rutile.jobs.rights import visible
from rutile.jobs.series import rows_of as rows_in
from rutile.jobs.tables import Job
from rutile.server import safe_files, shapes
from rutile.server.finding import SEARCHES
from rutile.server.frames import FrameView
from rutile.server.job_views import JobPage, rows_of
from rutile.server.people import Here, Reading, Somebody
from rutile.server.platform import Platform
from rutile.server.shapes import FrameNumber, Number

router = APIRouter(prefix="/searches", tags=["searches"])
LOGS = ("search.jsonl", "adapt.jsonl")
NO_CELL = [[0.0] * 3] * 3
"""Of clusters and molecules."""


class FoundRow(Result):
    """A structure that was made and relaxed."""

    number: int
    """In the order in which they were made."""
    formula: str
    """Of all its atoms."""
    elements: dict[str, int]
    """Element -> atoms."""
    energy: float | None
    """Of each atom (eV); null: it failed."""
    operator: str
    """How it was made."""
    parents: list[int]
    """Of whom."""
    failure: str
    """Why it failed."""


class BestPoint(Result):
    """The lowest energy so far."""

    done: int
    """After so many structures."""
    energy: float
    """Of each atom (eV)."""


class LabelPoint(Result):
    """A structure that was labelled in an adaptive search."""

    number: int
    """Which label."""
    at: float
    """When it was asked for (s since 1970)."""
    seconds: float | None
    """How long the engine took."""
    why: str
    """Why it was chosen."""
    spread: float | None
    """Disagreement of the committee, as the search measures it."""
    error: float | None
    """Energy of the potential less that of the engine, of each atom (eV)."""


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
    best: list[BestPoint]
    """Lowest energy of each atom against structures, where it fell."""
    found: list[FoundRow]
    """Structures of the lowest energies first."""
    labels: list[LabelPoint]
    """What was labelled (adaptive)."""
    trainings: int
    """How often the potential was trained (adaptive)."""


@router.get("")
def list_searches(
    who: Somebody,
    session: Reading,
    page: Annotated[int, Query(ge=1, le=1_000_000)] = 1,
    size: Annotated[int, Query(ge=1, le=200)] = 20,
    search: Annotated[str, Query(max_length=200)] = "",
) -> JobPage:
    """Jobs that search, newest first; `search` is a part of their names."""
    conditions = [visible(Job, who.user), Job.task.in_(SEARCHES)]
    if search:
        conditions.append(Job.name.icontains(search, autoescape=True))
    counted = session.execute(sql.select(Job.state, sql.func.count()).where(*conditions).group_by(Job.state)).all()
    query = sql.select(Job).where(*conditions).order_by(Job.id.desc()).limit(size).offset((page - 1) * size)
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
    log = _log(platform, job)
    found, best, counts, labels, trainings = _story(*log) if log else ([], [], Counter(), [], 0)
    good = sorted((f for f in found if f.energy is not None), key=lambda f: f.energy or 0.0)
    failed = [f for f in found if f.energy is None]
    return SearchView(
        job=job.id, task=job.task, state=job.state, made=sum(counts.values()), done=len(found), failed=len(failed),
        operators=dict(counts), best=best, found=[*good, *failed][:most], labels=labels, trainings=trainings,
    )  # fmt: skip


@router.get("/{number}/structures/{structure}")
def see_found(number: Number, structure: FrameNumber, who: Somebody, platform: Here, session: Reading) -> FrameView:
    """A structure as it was relaxed."""
    log = _log(platform, shapes.seen(session, Job, number, who))
    for row in rows_in(log[0]) if log else ():
        for done in _several((row.get("came") or row).get("done")):
            if done.get("number") == structure:
                return _frame(structure, done)
    raise HTTPException(404, "no such structure")


def _log(platform: Platform, job: Job) -> tuple[Path, int] | None:
    """The log of a search and its size; its newest one where there are several, None before there is one.

    Raises:
        HTTPException: 404 it is no search.
    """
    if job.task not in SEARCHES:
        raise HTTPException(404, "this job is no search")
    root = platform.home.job(job.id) / FILES
    there = [e for e in safe_files.listing(root) if not e.folder and e.path.rsplit("/", 1)[-1] in LOGS]
    if not there:
        return None
    newest = max(there, key=lambda e: e.changed)
    safe_files.open_inside(root, newest.path).close()
    return root / newest.path, newest.size


@functools.lru_cache(16)
def _story(path: Path, size: int) -> tuple[list[FoundRow], list[BestPoint], Counter[str], list[LabelPoint], int]:
    """What a log tells; `size` only tells that it has grown."""
    del size
    made: dict[int, dict[str, Any]] = {}
    counts: Counter[str] = Counter()
    found: list[FoundRow] = []
    best: list[BestPoint] = []
    gave: dict[int, dict[str, Any]] = {}
    labels: list[LabelPoint] = []
    trainings = 0
    for row in rows_in(path):
        gone, came = row.get("gave") or row, row.get("came") or row
        for one in _several(gone.get("made")):
            made[one.get("number", -1)] = one
        for one in _several(came.get("done")):
            fresh = _found(one, one.get("made") or made.pop(one.get("number", -1), {}))
            found.append(fresh)
            counts[fresh.operator] += 1
            if fresh.energy is not None and (not best or fresh.energy < best[-1].energy):
                best.append(BestPoint(done=len(found), energy=fresh.energy))
        if gone.get("kind") == "label" and "gave" in row:
            gave[gone.get("number", -1)] = gone
        elif came.get("kind") == "label":
            labels.append(_label(gave.pop(came.get("number", -1), {}), came))
        elif came.get("kind") == "train" and "came" in row:
            trainings += 1
    counts.update(_operator(one) for one in made.values())
    return found, best, counts, labels, trainings


def _several(value: Any) -> list[dict[str, Any]]:
    """Records of a line: a search writes one, an adaptive search many."""
    return [one for one in (value if isinstance(value, list) else [value]) if isinstance(one, dict)]


def _operator(made: dict[str, Any]) -> str:
    ways = made.get("ways") or [[""]]
    return str(made.get("operator") or ways[0][0])


def _found(done: dict[str, Any], made: dict[str, Any]) -> FoundRow:
    atoms = Counter(int(z) for z in done.get("atoms", {}).get("numbers", []))
    energy = done.get("energy")
    parts = {symbol(z): n for z, n in sorted(atoms.items())}
    return FoundRow(
        number=int(done.get("number", -1)), formula="".join(f"{s}{n if n > 1 else ''}" for s, n in parts.items()),
        elements=parts, energy=energy if energy is not None and math.isfinite(energy) else None,
        operator=_operator(made), parents=[int(p) for p in made.get("parents", [])],
        failure=str(done.get("failure") or ""),
    )  # fmt: skip


def _label(gave: dict[str, Any], came: dict[str, Any]) -> LabelPoint:
    truth, guess = came.get("energy"), gave.get("energy")  # of each atom, both
    error = None if truth is None or guess is None else guess - truth
    begin, end = gave.get("at"), came.get("at")
    return LabelPoint(
        number=int(came.get("number", -1)), at=float(begin or end or 0.0), why=str(gave.get("why", "")),
        seconds=None if begin is None or end is None else end - begin, spread=gave.get("spread"), error=error,
    )  # fmt: skip


def _frame(number: int, done: dict[str, Any]) -> FrameView:
    atoms, one = done["atoms"], _found(done, {})
    symbols = [symbol(int(z)) for z in atoms["numbers"]]
    total = None if one.energy is None else one.energy * len(symbols)
    return FrameView(
        number=number, frames=1, formula=one.formula, symbols=symbols, positions=atoms["positions"],
        cell=atoms.get("cell", NO_CELL), pbc=atoms.get("pbc", [False] * 3), energy=total, forces=None, stress=None,
        fmax=None,
    )  # fmt: skip
