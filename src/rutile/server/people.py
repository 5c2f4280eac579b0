"""Who asks: a browser with a cookie, a program with a token, or anybody with a link to one thing; what they may do."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Annotated

import sqlalchemy as sql
from fastapi import Depends, HTTPException, Request
from fastapi.concurrency import run_in_threadpool
from sqlalchemy.orm import Session

from rutile.jobs.rights import ended
from rutile.jobs.tables import ADMIN, GUEST, VIEWER, ApiToken, Share, SignIn, User
from rutile.server.job_tokens import is_good
from rutile.server.platform import Platform, note
from rutile.server.secrets import TOKEN, csrf_of, kept_of, same
from rutile.server.shares import opened

COOKIE = "rutile_session"
CSRF = "X-CSRF-Token"
IDLE, ABSOLUTE = 12 * 3600.0, 7 * 86400.0
"""A browser is signed out after so long without a request, and after so long in any case (s)."""
ENDED = "this account has ended or is closed: ask an administrator"
SAFE = ("GET", "HEAD", "OPTIONS")
LINK = "link"
"""In the path of a route: the secret of a link to one thing."""
READ, SUBMIT, MANAGE = "read", "submit", "admin"
SCOPES = (READ, SUBMIT, MANAGE)
OWN = ("/api/session", "/api/account")
"""Routes about oneself, open also to those who may only look."""
Entry = type[ApiToken] | type[Share] | type[SignIn]
"""Tables of what lets somebody in."""
BY_TOKEN, BY_COOKIE = (
    sql.select(kind, User).join(User, User.id == kind.user_id).where(kind.secret == sql.bindparam("secret"))
    for kind in (ApiToken, SignIn)
)
"""Who a secret lets in; asked by every request, so made once."""
NOTE_USE = 60.0
"""When somebody was last seen is written down at most this often (s)."""


async def platform_of(request: Request) -> Platform:
    """The platform that this request came to."""
    found = request.app.state.platform
    assert isinstance(found, Platform)
    return found


Here = Annotated[Platform, Depends(platform_of)]


async def _reading(platform: Here) -> AsyncIterator[Session]:
    """No thread is needed to make it, nor to give its connection back: only the route's own waits for the database."""
    with platform.database.reading() as session:
        yield session


def _writing(platform: Here) -> Iterator[Session]:
    with platform.database.writing() as session:
        yield session


Reading = Annotated[Session, Depends(_reading, scope="function")]
"""A session that reads."""
Writing = Annotated[Session, Depends(_writing, scope="function")]
"""A session that writes; what it wrote is kept before the answer is sent."""


@dataclass(frozen=True)
class Who:
    """Somebody who has shown who they are."""

    user: User
    scopes: frozenset[str]
    address: str
    by: tuple[Entry, int]
    """What lets them in, and its number."""
    csrf: str = ""
    """Of a browser."""
    link: Share | None = None
    """By which somebody without an account sees one thing."""

    @property
    def sign_in(self) -> int | None:
        """Number of the browser's sign-in."""
        kind, number = self.by
        return number if kind is SignIn else None

    def did(self, session: Session, action: str, thing: str = "", **what: dict[str, object]) -> None:
        """Write into the audit log what was done."""
        note(session, self.user.name, action, thing, self.address, what.get("before"), what.get("after"))


def address_of(request: Request) -> str:
    """Where a request comes from."""
    return request.client.host if request.client else ""


async def who_asks(request: Request, platform: Here) -> Who:
    """Who asks; every route but those of signing in depends on it. Now and then it is noted that they were here.

    Raises:
        HTTPException: as `known`.
    """
    who = await platform.briefly(known, request, platform)
    now = time.time()
    if now - platform.seen.get(who.by, 0.0) > NOTE_USE:
        platform.seen[who.by] = now
        await run_in_threadpool(_note_use, platform, *who.by)
    return who


def known(request: Request, platform: Platform) -> Who:
    """Who asks.

    Raises:
        HTTPException: 401 nobody we know; 403 a change without the word of the page, or without the right.
    """
    if LINK in request.path_params:
        return _by_link(platform, request)
    header = request.headers.get("Authorization", "")
    with platform.database.reading() as session:
        who = _by_token(session, header, request) if header else by_cookie(session, request)
    if who is None:
        unknown = "this token is unknown, has ended or was taken back: make another one (page Account)"
        raise HTTPException(401, unknown if header else "sign in, or show a token")
    _allow(who.user)
    if request.method not in SAFE:
        if not header and not same(request.headers.get(CSRF, ""), who.csrf):
            raise HTTPException(403, f"the header {CSRF} is missing or wrong: GET /api/session tells it")
        if SUBMIT not in who.scopes and not request.url.path.startswith(OWN):
            raise HTTPException(403, "this token may only read")
    return who


def _by_token(session: Session, header: str, request: Request) -> Who | None:
    kind, _, secret = header.partition(" ")
    if kind.lower() != "bearer" or not secret.startswith(TOKEN):
        return None
    row = session.execute(BY_TOKEN, {"secret": kept_of(secret)}).one_or_none()
    if row is None or (row.ApiToken.expires is not None and row.ApiToken.expires < time.time()):
        return None
    if not is_good(session, row.ApiToken):
        return None
    scopes = frozenset(row.ApiToken.scopes) & rights(row.User)
    return Who(row.User, scopes, address_of(request), (ApiToken, row.ApiToken.id))


def by_cookie(session: Session, request: Request) -> Who | None:
    """Who has signed in with a browser; None: nobody, or too long ago. Whether their account is open is not asked."""
    secret = request.cookies.get(COOKIE, "")
    if not secret:
        return None
    row = session.execute(BY_COOKIE, {"secret": kept_of(secret)}).one_or_none()
    now = time.time()
    if row is None or now - row.SignIn.used > IDLE or now - row.SignIn.created > ABSOLUTE:
        return None
    return Who(row.User, rights(row.User), address_of(request), (SignIn, row.SignIn.id), csrf_of(secret))


def _by_link(platform: Platform, request: Request) -> Who:
    """A guest, who sees the thing of the link and no other one; only routes that show it have a link in their path."""
    with platform.database.reading() as session:
        link = opened(session, request.path_params[LINK])
    if link is None or request.method not in SAFE:
        raise HTTPException(401, "this link has ended, was taken back, or never was")
    guest = User(id=0, name="", role=GUEST)
    return Who(guest, frozenset({READ}), address_of(request), (Share, link.id), link=link)


def rights(user: User) -> frozenset[str]:
    """What the role of a user allows."""
    return frozenset({VIEWER: (READ,), ADMIN: SCOPES}.get(user.role, (READ, SUBMIT)))


def _allow(user: User) -> None:
    if ended(user):
        raise HTTPException(401, ENDED)


def _note_use(platform: Platform, kind: Entry, number: int) -> None:
    """Write down that somebody was here by a token, a link or a sign-in."""
    now = time.time()
    old = sql.or_(kind.used.is_(None), kind.used < now - NOTE_USE)
    with platform.database.writing() as session:
        session.execute(sql.update(kind).where(kind.id == number, old).values(used=now))


Somebody = Annotated[Who, Depends(who_asks)]
"""Anybody with an account; a change needs the right to make changes."""


def in_a_browser(who: Somebody) -> Who:
    """Somebody who has signed in.

    Raises:
        HTTPException: 403 a token asks.
    """
    if who.sign_in is None:
        raise HTTPException(403, "a token cannot do this: sign in")
    return who


InBrowser = Annotated[Who, Depends(in_a_browser)]
"""Somebody who has signed in: tokens make no tokens and change no passwords."""


def administrator(who: Somebody) -> Who:
    """An administrator.

    Raises:
        HTTPException: 403 somebody else, or a token that may not administer, asks.
    """
    if who.user.role != ADMIN or MANAGE not in who.scopes:
        raise HTTPException(403, "only administrators may do this")
    return who


Administrator = Annotated[Who, Depends(administrator)]
"""Somebody who may do everything."""
