"""Who asks: a browser with a cookie, a program with a token, or anybody with a link to one thing; what they may do."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Annotated

import sqlalchemy as sql
from fastapi import Depends, HTTPException, Request
from sqlalchemy.orm import Session

from rutile.jobs.tables import ADMIN, GUEST, VIEWER, ApiToken, Share, SignIn, User
from rutile.server.job_tokens import is_good
from rutile.server.platform import Platform, note
from rutile.server.secrets import TOKEN, csrf_of, kept_of, same
from rutile.server.shares import opened

COOKIE = "rutile_session"
CSRF = "X-CSRF-Token"
IDLE, ABSOLUTE = 12 * 3600.0, 7 * 86400.0
"""A browser is signed out after so long without a request, and after so long in any case (s)."""
SAFE = ("GET", "HEAD", "OPTIONS")
LINK = "link"
"""In the path of a route: the secret of a link to one thing."""
READ, SUBMIT, MANAGE = "read", "submit", "admin"
SCOPES = (READ, SUBMIT, MANAGE)
OWN = ("/api/session", "/api/account")
"""Routes about oneself, open also to those who may only look."""
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
    csrf: str = ""
    """Of a browser."""
    sign_in: int | None = None
    """Row of the browser's sign-in."""
    link: Share | None = None
    """By which somebody without an account sees one thing."""

    def did(self, session: Session, action: str, thing: str = "", **what: dict[str, object]) -> None:
        """Write into the audit log what was done."""
        note(session, self.user.name, action, thing, self.address, what.get("before"), what.get("after"))


def address_of(request: Request) -> str:
    """Where a request comes from."""
    return request.client.host if request.client else ""


def who_asks(request: Request, platform: Here) -> Who:
    """Who asks; every route but those of signing in depends on it.

    Raises:
        HTTPException: 401 nobody we know; 403 a change without the word of the page, or without the right.
    """
    if LINK in request.path_params:
        return _by_link(platform, request)
    header = request.headers.get("Authorization", "")
    with platform.database.reading() as session:
        who = _by_token(session, header, request) if header else by_cookie(session, request)
    if who is None:
        raise HTTPException(401, "sign in, or show a token")
    _allow(who.user)
    if request.method not in SAFE:
        if not header and not same(request.headers.get(CSRF, ""), who.csrf):
            raise HTTPException(403, f"the header {CSRF} is missing or wrong: GET /api/session tells it")
        if SUBMIT not in who.scopes and not request.url.path.startswith(OWN):
            raise HTTPException(403, "this token may only read")
    _note_use(platform, who, header)
    return who


def _by_token(session: Session, header: str, request: Request) -> Who | None:
    kind, _, secret = header.partition(" ")
    if kind.lower() != "bearer" or not secret.startswith(TOKEN):
        return None
    asked = sql.select(ApiToken, User).join(User, User.id == ApiToken.user_id)
    row = session.execute(asked.where(ApiToken.secret == kept_of(secret))).one_or_none()
    if row is None or (row.ApiToken.expires is not None and row.ApiToken.expires < time.time()):
        return None
    if not is_good(session, row.ApiToken):
        return None
    return Who(row.User, frozenset(row.ApiToken.scopes) & rights(row.User), address_of(request))


def by_cookie(session: Session, request: Request) -> Who | None:
    """Who has signed in with a browser; None: nobody, or too long ago. Whether their account is open is not asked."""
    secret = request.cookies.get(COOKIE, "")
    if not secret:
        return None
    asked = sql.select(SignIn, User).join(User, User.id == SignIn.user_id)
    row = session.execute(asked.where(SignIn.secret == kept_of(secret))).one_or_none()
    now = time.time()
    if row is None or now - row.SignIn.used > IDLE or now - row.SignIn.created > ABSOLUTE:
        return None
    return Who(row.User, rights(row.User), address_of(request), csrf_of(secret), row.SignIn.id)


def _by_link(platform: Platform, request: Request) -> Who:
    """A guest, who sees the thing of the link and no other one; only routes that show it have a link in their path."""
    with platform.database.reading() as session:
        link = opened(session, request.path_params[LINK])
    if link is None or request.method not in SAFE:
        raise HTTPException(401, "this link has ended, was taken back, or never was")
    change = sql.update(Share).where(Share.id == link.id).values(used=time.time())
    _note(platform, f"link {link.id}", change)
    guest = User(id=0, name="", role=GUEST)
    return Who(guest, frozenset({READ}), address_of(request), link=link)


def rights(user: User) -> frozenset[str]:
    """What the role of a user allows."""
    return frozenset({VIEWER: (READ,), ADMIN: SCOPES}.get(user.role, (READ, SUBMIT)))


def ended(user: User) -> bool:
    """Whether an account has ended or is closed."""
    return user.disabled or (user.expires is not None and user.expires < time.time())


def _allow(user: User) -> None:
    if ended(user):
        raise HTTPException(401, "this account has ended or is closed")


def _note_use(platform: Platform, who: Who, header: str) -> None:
    """Write down that somebody was here, now and then."""
    now = time.time()
    if who.sign_in is not None:
        change = sql.update(SignIn).where(SignIn.id == who.sign_in, SignIn.used < now - NOTE_USE).values(used=now)
        key = f"sign-in {who.sign_in}"
    else:
        secret = kept_of(header.partition(" ")[2])
        change = sql.update(ApiToken).where(ApiToken.secret == secret).values(used=now)
        key = f"token {secret}"
    _note(platform, key, change)


def _note(platform: Platform, key: str, change: sql.Update) -> None:
    now = time.time()
    if now - platform.seen.get(key, 0.0) < NOTE_USE:
        return
    platform.seen[key] = now
    with platform.database.writing() as session:
        session.execute(change)


Somebody = Annotated[Who, Depends(who_asks)]
"""Anybody with an account; a change needs the right to make changes."""


def _in_a_browser(who: Somebody) -> Who:
    if who.sign_in is None:
        raise HTTPException(403, "a token cannot do this: sign in")
    return who


InBrowser = Annotated[Who, Depends(_in_a_browser)]
"""Somebody who has signed in: tokens make no tokens and change no passwords."""


def _administrator(who: Somebody) -> Who:
    if who.user.role != ADMIN or MANAGE not in who.scopes:
        raise HTTPException(403, "only administrators may do this")
    return who


Administrator = Annotated[Who, Depends(_administrator)]
"""Somebody who may do everything."""
