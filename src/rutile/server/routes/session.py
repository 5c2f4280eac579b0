"""Signing in and out, and whether the server is well: the only routes that are open to everybody."""

from __future__ import annotations

import time
from typing import Annotated

import sqlalchemy as sql
from fastapi import APIRouter, HTTPException, Request, Response
from pydantic import Field
from sqlalchemy.orm import Session

import rutile
from rutile.core.settings import Result, Settings
from rutile.jobs.rights import ended
from rutile.jobs.tables import LoginLink, SignIn, User
from rutile.server.notebooks import why_not
from rutile.server.people import (
    ABSOLUTE,
    COOKIE,
    ENDED,
    SUBMIT,
    Here,
    InBrowser,
    Reading,
    Somebody,
    Writing,
    address_of,
    rights,
)
from rutile.server.platform import Platform, note
from rutile.server.secrets import csrf_of, is_password, kept_of, new_secret

router = APIRouter(tags=["session"])
Text = Annotated[str, Field(min_length=1, max_length=200)]


class Health(Result):
    """Whether the server is well."""

    status: str
    """ok."""
    version: str
    """Of rutile."""


class SignInRequest(Settings):
    """Name and password."""

    name: Text
    """Of the account."""
    password: Annotated[str, Field(min_length=1, max_length=1000)]
    """Of the account."""


class UserView(Result):
    """An account, as its owner sees it."""

    id: int
    """Its number."""
    name: str
    """Its name."""
    full_name: str
    """Name of the person."""
    role: str
    """admin, user or viewer."""
    group: str | None
    """Its group."""
    scopes: list[str]
    """What this session or token may do: read, submit, admin."""
    has_password: bool
    """Whether it can sign in by password."""
    expires: float | None
    """When it ends (s since 1970)."""


class SessionView(Result):
    """Who is signed in."""

    user: UserView
    """The account."""
    csrf: str
    """To be sent as X-CSRF-Token with every POST, PUT, PATCH and DELETE of a browser."""
    local: bool
    """Whether only this machine reaches the server."""
    version: str
    """Of rutile."""
    notebooks: bool
    """Whether this account may open notebooks here."""
    unix_accounts: bool
    """Whether a cluster runs jobs under the Unix accounts of their users."""


@router.get("/health")
def health(session: Reading) -> Health:
    """Whether server and database answer; for load balancers, open to everybody."""
    session.execute(sql.text("SELECT 1"))
    return Health(status="ok", version=rutile.__version__)


@router.get("/ready")
def ready(session: Reading, platform: Here) -> Health:
    """Whether jobs are started, too; for load balancers and monitors, open to everybody."""
    if not platform.reconciler.alive:
        raise HTTPException(503, "what starts and ends jobs is not at work")
    return health(session)


@router.post("/session")
def sign_in(wish: SignInRequest, request: Request, response: Response, platform: Here, session: Writing) -> SessionView:
    """Sign in by name and password; the answer sets a cookie."""
    where = address_of(request)
    if not (platform.patience.may_try(f"name {wish.name}") and platform.patience.may_try(f"address {where}")):
        raise HTTPException(429, "too many tries: wait a minute", {"Retry-After": "60"})
    user = session.scalar(sql.select(User).where(User.name == wish.name))
    right = is_password(wish.password, user.password if user else None)
    if not right or user is None or ended(user):
        note(session, wish.name, "failed to sign in", "", where)
        session.commit()
        over = right and user is not None
        raise HTTPException(401, ENDED if over else "name or password is wrong")
    platform.patience.forgive(f"name {wish.name}")
    platform.patience.forgive(f"address {where}")
    secret = signed_in(session, user, request, response, platform)
    return view_of(user, csrf_of(secret), platform)


@router.get("/session")
def who_am_i(who: Somebody, platform: Here) -> SessionView:
    """Who is signed in, and the word that changes need."""
    view = view_of(who.user, who.csrf, platform)
    return view.model_copy(update={"user": view.user.model_copy(update={"scopes": sorted(who.scopes)})})


@router.delete("/session", status_code=204)
def sign_out(who: InBrowser, response: Response, session: Writing) -> None:
    """Sign out of this browser."""
    session.execute(sql.delete(SignIn).where(SignIn.id == who.sign_in))
    response.delete_cookie(COOKIE)
    who.did(session, "signed out")


@router.delete("/session/all", status_code=204)
def sign_out_everywhere(who: InBrowser, response: Response, session: Writing) -> None:
    """Sign out of every browser."""
    session.execute(sql.delete(SignIn).where(SignIn.user_id == who.user.id))
    response.delete_cookie(COOKIE)
    who.did(session, "signed out everywhere")


def signed_in_by_link(secret: str, platform: Platform, session: Session, response: Response, request: Request) -> None:
    """Use a login link.

    Raises:
        HTTPException: 401: it was used, is too old, or never was.
    """
    link = session.scalar(sql.select(LoginLink).where(LoginLink.secret == kept_of(secret)))
    user = session.get(User, link.user_id) if link is not None and link.expires > time.time() else None
    if link is None or user is None or ended(user):
        raise HTTPException(401, "this link was used, or is too old: start `rutile serve` again for another")
    session.delete(link)
    signed_in(session, user, request, response, platform)


def signed_in(
    session: Session, user: User, request: Request, response: Response, platform: Platform, by: str = ""
) -> str:
    """Make a sign-in and its cookie; its secret.

    Args:
        session: that writes.
        user: who has shown who they are.
        request: of the browser.
        response: to it.
        platform: that it came to.
        by: what they have shown, for the audit log, where it is no password of ours.
    """
    secret, now = new_secret(), time.time()
    browser = request.headers.get("User-Agent", "")[:200]
    session.add(
        SignIn(
            secret=kept_of(secret), user_id=user.id, created=now, used=now, address=address_of(request), browser=browser
        )
    )
    session.execute(sql.delete(SignIn).where(SignIn.created < now - ABSOLUTE))
    note(session, user.name, "signed in", by, address_of(request))
    response.set_cookie(
        COOKIE, secret, max_age=int(ABSOLUTE), httponly=True, samesite="lax", path="/",
        secure=encrypted(platform, request),
    )  # fmt: skip
    return secret


def encrypted(platform: Platform, request: Request) -> bool:
    """Whether browsers reach us by https, so that cookies can be kept from everything else."""
    return platform.address.startswith("https:") or request.url.scheme == "https"


def view_of(user: User, csrf: str, platform: Platform) -> SessionView:
    """An account with the word of its page."""
    view = UserView(
        id=user.id, name=user.name, full_name=user.full_name, role=user.role, expires=user.expires,
        group=user.group.name if user.group else None, scopes=sorted(rights(user)),
        has_password=user.password is not None,
    )  # fmt: skip
    return SessionView(
        user=view, csrf=csrf, local=platform.settings.local, version=rutile.__version__,
        notebooks=SUBMIT in rights(user) and not why_not(platform.settings, user),
        unix_accounts=any(one.unix_accounts for one in platform.settings.clusters),
    )  # fmt: skip
