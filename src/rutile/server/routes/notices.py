"""What one should know: the list behind the bell, and what of it is sent by mail or webhook."""

from __future__ import annotations

import time
from typing import Annotated, Literal

import sqlalchemy as sql
from fastapi import APIRouter, HTTPException, Query
from pydantic import Field
from sqlalchemy.orm import Session

from rutile.core.settings import Result, Settings
from rutile.jobs.tables import Notice, NoticeChoice, Sending, User
from rutile.server import webhook
from rutile.server.people import Here, InBrowser, Reading, Somebody, Writing
from rutile.server.secrets import new_secret

router = APIRouter(prefix="/account/notices", tags=["account"])
Kinds = Annotated[list[Literal["done", "failed", "held", "news"]], Field(max_length=4)]


class NoticeView(Result):
    """Something that one should know."""

    id: int
    """Its number."""
    kind: str
    """done, failed, held or news."""
    text: str
    """What."""
    job_id: int | None
    """The job that it is about."""
    created: float
    """Since when (s since 1970)."""
    read: bool
    """Whether it was read."""


class NoticePage(Result):
    """What one should know, newest first."""

    items: list[NoticeView]
    """The newest ones."""
    unread: int
    """Of all, those that were not read."""


class ReadWish(Settings):
    """What was read."""

    ids: Annotated[list[Annotated[int, Field(ge=1, le=2**31 - 1)]], Field(max_length=1000)] | None = None
    """These; null: all."""


class Choices(Settings):
    """What is to be sent, besides being shown on the page."""

    mail: Annotated[str, Field(max_length=200, pattern=r"^([^\s@,;<>]+@[^\s@,;<>]+)?$")] = ""
    """Address for mail."""
    mail_kinds: Kinds = []
    """What comes by mail."""
    webhook: Annotated[str, Field(max_length=500)] = ""
    """Address that is posted to."""
    webhook_kinds: Kinds = []
    """What is posted."""


class ChoicesView(Choices):
    """What is sent."""

    secret: str
    """Signs what is posted: X-Rutile-Signature is sha256= and the HMAC-SHA256 of the body with it."""
    can_mail: bool
    """Whether this server sends mail."""
    trouble: list[str]
    """Why the last mail or the last message to the webhook has not arrived; empty where they have."""


@router.get("")
def list_notices(who: Somebody, session: Reading, most: Annotated[int, Query(ge=1, le=500)] = 50) -> NoticePage:
    """What one should know, newest first."""
    mine = Notice.user_id == who.user.id
    rows = session.scalars(sql.select(Notice).where(mine).order_by(Notice.id.desc()).limit(most))
    unread = session.scalar(sql.select(sql.func.count(Notice.id)).where(mine, Notice.read.is_(None))) or 0
    return NoticePage(items=[_view(row) for row in rows], unread=unread)


@router.post("/read", status_code=204)
def mark_read(wish: ReadWish, who: Somebody, session: Writing) -> None:
    """Some of it, or all, was read."""
    unread = sql.update(Notice).where(Notice.user_id == who.user.id, Notice.read.is_(None))
    chosen = unread if wish.ids is None else unread.where(Notice.id.in_(wish.ids))
    session.execute(chosen.values(read=time.time()))


@router.get("/choices")
def see_choices(who: InBrowser, platform: Here, session: Reading) -> ChoicesView:
    """What is sent, and where to."""
    row = session.get(NoticeChoice, who.user.id) or NoticeChoice(
        mail="", mail_kinds=[], webhook="", webhook_kinds=[], secret=""
    )
    return _choices(session, who.user, row, platform)


@router.put("/choices")
def choose(wish: Choices, who: InBrowser, platform: Here, session: Writing) -> ChoicesView:
    """Say what is sent, and where to; another webhook gets another secret."""
    if wish.webhook:
        _, host, port, _ = webhook.checked(wish.webhook)
        webhook.outside(host, port, platform.settings.webhooks_inside)
    if wish.mail_kinds and platform.settings.mail is None:
        raise HTTPException(409, "this server sends no mail: ask the administrator (setting mail)")
    row = session.get(NoticeChoice, who.user.id)
    if row is None:
        row = NoticeChoice(user_id=who.user.id, webhook="", secret="")
        session.add(row)
    if wish.webhook != row.webhook:
        row.secret = new_secret() if wish.webhook else ""
    for name, value in wish.model_dump().items():
        setattr(row, name, value)
    who.did(session, "chose notices", after=wish.model_dump())
    return _choices(session, who.user, row, platform)


def _choices(session: Session, user: User, row: NoticeChoice, platform: Here) -> ChoicesView:
    given = {name: getattr(row, name) for name in (*Choices.model_fields, "secret")}
    wanted = [way for way, place in (("mail", row.mail), ("webhook", row.webhook)) if place]
    last = [_last_error(session, user, way) for way in wanted]
    return ChoicesView(**given, can_mail=platform.settings.mail is not None, trouble=list(filter(None, last)))


def _last_error(session: Session, user: User, way: str) -> str:
    """Why the newest message that was tried has not arrived; "" where it has, or none was."""
    tried = sql.select(Sending.error).join(Notice, Notice.id == Sending.notice_id)
    tried = tried.where(Notice.user_id == user.id, Sending.way == way, Sending.tries > 0)
    return session.scalar(tried.order_by(Sending.id.desc()).limit(1)) or ""


def _view(row: Notice) -> NoticeView:
    return NoticeView(
        id=row.id, kind=row.kind, text=row.text, job_id=row.job_id, created=row.created, read=row.read is not None
    )
