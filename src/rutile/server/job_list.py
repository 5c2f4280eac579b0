"""Which jobs a list holds, in which order, and how many there are of each state."""

from __future__ import annotations

import json
import time
from typing import Annotated, Any, Literal

import sqlalchemy as sql
from pydantic import Field
from sqlalchemy import orm
from sqlalchemy.orm import Session

from rutile.core.settings import Settings
from rutile.jobs.rights import Thing, visible
from rutile.jobs.tables import STATES, Dataset, Job, StoredModel, StoredStructure, User
from rutile.server.people import Who
from rutile.server.platform import Platform

SORTS = {
    "id": Job.id, "name": Job.name, "task": Job.task, "state": Job.state, "created": Job.id,
    "started": Job.started, "ended": Job.ended, "cores": Job.cores, "owner": Job.owner_id, "queue": Job.queue,
    "progress": Job.progress, "core_seconds": Job.core_seconds, "memory": Job.memory, "priority": Job.priority,
}  # fmt: skip
"""Columns that a list can be sorted by."""
NOT_COUNTED = {"state", "sort", "page", "size"}
"""What of a filter does not change the counts."""
CHEAP, MOST_COUNTS = 0.005, 1000
"""Counts that take less (s) are not kept; so many are."""
LATE = 5.0
"""Old counts are shown for so long (s) while somebody counts again."""
READ: tuple[tuple[str, Any], ...] = (("model", StoredModel), ("dataset", Dataset), ("structure", StoredStructure))
"""Things that settings name by their number, with the word before it."""
MOST_NAMED = 10
"""So many things of each kind are looked for by their names, the newest."""


class Filter(Settings):
    """Which jobs a list holds, and in which order."""

    search: Annotated[str, Field(max_length=200)] = ""
    """The number; or part of name, task, tags, reason, settings, or of the name of a model, data set or structure."""
    state: Annotated[list[str], Field(max_length=20)] = []
    """Only these states."""
    task: Annotated[str, Field(max_length=100)] = ""
    """Only this task."""
    owner: Annotated[str, Field(max_length=200)] = ""
    """Only jobs of this account; me: one's own."""
    tag: Annotated[str, Field(max_length=50)] = ""
    """Only jobs with this tag."""
    queue: Annotated[str, Field(max_length=100)] = ""
    """Only this queue."""
    parent: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = None
    """Only jobs that belong to this one."""
    since: Annotated[float, Field(ge=0, le=1e11)] | None = None
    """Only jobs submitted later (s since 1970)."""
    until: Annotated[float, Field(ge=0, le=1e11)] | None = None
    """Only jobs submitted before."""
    sort: Literal[
        "id", "-id", "name", "-name", "task", "-task", "state", "-state", "created", "-created", "started", "-started",
        "ended", "-ended", "cores", "-cores", "owner", "-owner", "queue", "-queue", "progress", "-progress",
        "core_seconds", "-core_seconds", "memory", "-memory", "priority", "-priority",
    ] = "-id"  # fmt: skip
    """Column; with a minus downwards."""
    page: int = Field(default=1, ge=1, le=1_000_000)
    """Which page."""
    size: int = Field(default=10, ge=1, le=500)
    """Jobs on a page."""


def jobs_on_page(
    session: Session, platform: Platform, filter: Filter, who: Who
) -> tuple[list[int], int, dict[str, int]]:
    """Numbers of the jobs of a page, how many fit the filter, and how many fit all of it but its states, by state."""
    conditions = _all_but_states(session, filter, who)
    counts = _counts(session, platform, filter, conditions, who)
    query = _numbers(filter, conditions).limit(filter.size).offset((filter.page - 1) * filter.size)
    numbers = list(session.scalars(query))
    wanted = [s for s in filter.state if s in STATES]
    total = sum(counts.get(s, 0) for s in wanted) if filter.state else sum(counts.values())
    return numbers, total, {state: counts.get(state, 0) for state in STATES}


def numbers_of(session: Session, filter: Filter, who: Who) -> list[int]:
    """The numbers of all jobs that fit, in order."""
    return list(session.scalars(_numbers(filter, _all_but_states(session, filter, who))))


def _numbers(filter: Filter, conditions: list[sql.ColumnElement[bool]]) -> sql.Select[int]:
    """Numbers alone: what is passed over on the way to a page is then read from an index, not from whole rows."""
    return sql.select(Job.id).where(*conditions, *_states(filter)).order_by(*_order(filter))


def matching(session: Session, text: str, user: User) -> sql.ColumnElement[bool]:
    """The condition that a job has a text in its name, task, tags, reason, settings or what these name, or its number.

    Args:
        session: to look for models, data sets and structures of that name.
        text: upper or lower case.
        user: who asks: what others named for themselves finds nothing.
    """
    inside = json.dumps(text, ensure_ascii=False)[1:-1]
    tags, settings = sql.cast(Job.tags, sql.String), sql.cast(Job.settings, sql.String)
    ways = [_has(session, column, text) for column in (Job.name, Job.task, Job.reason)]
    ways += [_has(session, column, inside) for column in (tags, settings)]
    for word, kind in READ:
        numbers = session.scalars(named(kind, text, user).with_only_columns(kind.id).limit(MOST_NAMED))
        references = [f'"{word}:{number}{end}' for number in numbers for end in ('"', "@")]
        ways += [settings.contains(reference, autoescape=True) for reference in references]
    if text.isascii() and text.isdigit() and len(text) < 10:
        ways.insert(0, Job.id == int(text))
    return sql.or_(*ways)


def _has(
    session: Session, column: orm.InstrumentedAttribute[str] | sql.ColumnElement[str], text: str
) -> sql.ColumnElement[bool]:
    """Text anywhere in a column, upper or lower case: what LIKE of SQLite does without being told, at half the cost."""
    lite = session.get_bind().dialect.name == "sqlite"
    return column.contains(text, autoescape=True) if lite else column.icontains(text, autoescape=True)


def named(kind: type[Thing], text: str, user: User) -> sql.Select[Any]:
    """Things of a kind that a user may see, with a text in their names, newest first."""
    fits = kind.name.icontains(text, autoescape=True)
    return sql.select(kind).where(visible(kind, user), fits).order_by(kind.id.desc())


def _order(filter: Filter) -> list[sql.ColumnElement[Any]]:
    column = SORTS[filter.sort.lstrip("-")]
    order: list[sql.ColumnElement[Any]]
    order = [column.desc(), Job.id.desc()] if filter.sort.startswith("-") else [column.asc(), Job.id.asc()]
    return order[: 1 if column is Job.id else 2]


def _states(filter: Filter) -> list[sql.ColumnElement[bool]]:
    """One state is walked along its index, newest first."""
    wanted = [s for s in filter.state if s in STATES]
    if not filter.state:
        return []
    return [Job.state == wanted[0] if len(wanted) == 1 else Job.state.in_(wanted)]


def _counts(
    session: Session, platform: Platform, filter: Filter, conditions: list[sql.ColumnElement[bool]], who: Who
) -> dict[str, int]:
    """Jobs by state; counted again after a second, or after 20 times as long as counting takes, if that is more."""
    key = (who.user.id, who.user.role, who.user.group_id, filter.model_dump_json(exclude=NOT_COUNTED))
    now = time.monotonic()
    known = platform.counts.get(key)
    if known is not None:
        if now < known[0]:
            return known[1]
        platform.counts[key] = (now + LATE, known[1])  # one counts, the others take what they have
    query = sql.select(Job.state, sql.func.count()).where(*conditions).group_by(Job.state)
    counts = {row[0]: row[1] for row in session.execute(query)}
    if len(platform.counts) > MOST_COUNTS:
        platform.counts.clear()
    cost = time.monotonic() - now
    platform.counts.pop(key, None)
    if cost > CHEAP:
        platform.counts[key] = (now + max(1.0, 20 * cost), counts)
    return counts


def _all_but_states(session: Session, filter: Filter, who: Who) -> list[sql.ColumnElement[bool]]:
    """The filter but for states; what costs most comes last."""
    out = [visible(Job, who.user)]
    if filter.task:
        out.append(Job.task == filter.task)
    if filter.queue:
        out.append(Job.queue == filter.queue)
    if filter.owner == "me":
        out.append(Job.owner_id == who.user.id)
    elif filter.owner:
        out.append(Job.owner_id.in_(sql.select(User.id).where(User.name == filter.owner)))
    if filter.parent is not None:
        out.append(Job.parent_id == filter.parent)
    if filter.since is not None:
        out.append(Job.created >= filter.since)
    if filter.until is not None:
        out.append(Job.created < filter.until)
    if filter.tag:
        out.append(sql.cast(Job.tags, sql.String).contains(f'"{filter.tag}"', autoescape=True))
    if filter.search:
        out.append(matching(session, filter.search, who.user))
    return out
