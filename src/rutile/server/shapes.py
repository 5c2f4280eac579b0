"""Forms that many routes share."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

import sqlalchemy as sql
from fastapi import HTTPException, Path
from pydantic import Field
from sqlalchemy.orm import Session

from rutile.jobs import queue
from rutile.jobs.rights import Thing, found, may_change, visible
from rutile.jobs.tables import Share
from rutile.server.people import Who
from rutile.server.shares import KINDS, number_of

Number = Annotated[int, Path(ge=1, le=2**31 - 1)]
"""Number of a thing in an address."""
FrameNumber = Annotated[int, Path(ge=0, le=2**31 - 1)]
"""Number of a structure in a file; the first one is 0."""
Settings = Annotated[dict[str, Any], Field(max_length=500)]
Name = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f]+$")]
Tags = Annotated[
    list[Annotated[str, Field(min_length=1, max_length=50, pattern=r"^[^\x00-\x1f]+$")]], Field(max_length=20)
]
T = TypeVar("T")


def paged(
    session: Session, kind: type[Thing], conditions: list[sql.ColumnElement[bool]], page: int, size: int, sort: str
) -> tuple[list[Thing], int]:
    """One page of the things that fit, in an order (see `ordered`), and how many fit."""
    total = session.scalar(sql.select(sql.func.count(kind.id)).where(*conditions)) or 0
    query = sql.select(kind).where(*conditions).order_by(*ordered(kind, sort))
    return list(session.scalars(query.limit(size).offset((page - 1) * size))), total


def listed(kind: type[Thing], search: str, who: Who) -> list[sql.ColumnElement[bool]]:
    """What a list of things asks of them: to be visible, and to have a text in the name."""
    conditions = [visible(kind, who.user)]
    if search:
        conditions.append(kind.name.icontains(search, autoescape=True))
    return conditions


def ordered(kind: type[Thing], sort: str) -> tuple[Any, Any]:
    """By a column, downwards where its name begins with -; upper case as lower case, equal ones newest first.

    Things of which the column knows nothing come last in both directions.
    """
    column = getattr(kind, sort.removeprefix("-"))
    key = sql.func.lower(column) if isinstance(column.type, sql.String) else column
    order = key.desc() if sort.startswith("-") else key.asc()
    return (order.nulls_last() if column.nullable else order), kind.id.desc()


def seen(session: Session, kind: type[Thing], number: int, who: Who) -> Thing:
    """A thing that somebody may see.

    Raises:
        HTTPException: 404 where there is none, or it is not theirs to see: the two look the same.
    """
    thing = found(session, kind, number, who.user) if who.link is None else _linked(session, kind, number, who.link)
    if thing is None:
        raise HTTPException(404, f"no such {kind.__tablename__[:-1]}, or you may not see it")
    return thing


def _linked(session: Session, kind: type[Thing], number: int, link: Share) -> Thing | None:
    """The thing of a link; None where another one is asked for."""
    same = KINDS[link.kind] is kind and number_of(link) == number
    return session.get(kind, number) if same else None


def changed(session: Session, kind: type[Thing], number: int, who: Who) -> Thing:
    """A thing that somebody may change.

    Raises:
        HTTPException: 404 as above; 403 where it may only be looked at.
    """
    thing = seen(session, kind, number, who)
    if not may_change(thing, who.user):
        raise HTTPException(403, f"this {kind.__tablename__[:-1]} is {thing.owner.name}'s")
    return thing


def refuse_without_room(session: Session, who: Who, size: int) -> None:
    """Refuse to keep what a quota of disk has no room for.

    Args:
        session: that reads or writes.
        who: who wants to keep it.
        size: bytes that it has.

    Raises:
        HTTPException: 409, with what is left and what helps.
    """
    if over := queue.over_quota(session, who.user, size / 1e9):
        raise HTTPException(409, over)


def alter(session: Session, thing: Thing, given: dict[str, Any], who: Who, what: str) -> None:
    """Change columns of a thing, and note it.

    Args:
        session: that writes.
        thing: that `who` may change.
        given: column -> new value.
        who: who asks.
        what: the thing, such as "model 5".
    """
    before = {name: getattr(thing, name) for name in given}
    for name, value in given.items():
        setattr(thing, name, value)
    who.did(session, "changed", what, before=before, after=given)
