"""Who may see and change what."""

from __future__ import annotations

import time
from typing import Any, TypeVar

import sqlalchemy as sql
from sqlalchemy.orm import Session

from rutile.jobs.tables import (
    ADMIN,
    GROUP,
    GUEST,
    PUBLIC,
    VIEWER,
    Dataset,
    Job,
    StoredModel,
    StoredStructure,
    Template,
    User,
)

Thing = TypeVar("Thing", Job, Dataset, StoredModel, StoredStructure, Template)


def visible(kind: type[Thing], user: User) -> sql.ColumnElement[bool]:
    """The condition under which a user sees things of a kind.

    It is written so that no index fits it: it holds for many rows, and SQLite would collect and sort them all where
    walking along the order of the list finds ten at once.
    """
    if user.role == ADMIN:
        return sql.true()
    if user.role == GUEST:
        return sql.false()
    owner, privacy = kind.owner_id + 0, kind.privacy.concat("")
    if user.group_id is None:
        return sql.or_(owner == user.id, privacy == PUBLIC)
    mates = sql.select(User.id).where(User.group_id == user.group_id)
    return sql.or_(owner == user.id, privacy == PUBLIC, sql.and_(privacy == GROUP, owner.in_(mates)))


def ended(user: User) -> bool:
    """Whether an account has ended or is closed."""
    return user.disabled or (user.expires is not None and user.expires < time.time())


def may_change(thing: Any, user: User) -> bool:
    """Whether a user may change a thing that is seen: its owner and administrators, who are no mere viewers."""
    return user.role == ADMIN or (thing.owner_id == user.id and user.role != VIEWER)


def found(session: Session, kind: type[Thing], number: int, user: User) -> Thing | None:
    """A thing by its number; None where there is none that this user may see."""
    return session.scalar(sql.select(kind).where(kind.id == number, visible(kind, user)))
