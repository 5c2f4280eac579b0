"""One's own account: password, browsers, tokens, use."""

from __future__ import annotations

import time
from typing import Annotated, Literal

import sqlalchemy as sql
from fastapi import APIRouter, HTTPException
from pydantic import Field

from rutile.core.settings import Result, Settings
from rutile.jobs import queue
from rutile.jobs.disk import bytes_by_kind
from rutile.jobs.tables import ApiToken, SignIn, User
from rutile.server.account_shapes import Password
from rutile.server.people import Here, InBrowser, Reading, Somebody, Writing
from rutile.server.secrets import TOKEN, hashed, is_password, kept_of, new_secret

router = APIRouter(prefix="/account", tags=["account"])


class PasswordChange(Settings):
    """A new password."""

    old: Annotated[str, Field(max_length=1000)] = ""
    """The old one, where there is one."""
    new: Password
    """The new one: 10 characters or more."""


class TokenWish(Settings):
    """A token that is asked for."""

    name: Annotated[str, Field(min_length=1, max_length=100)]
    """What it is for."""
    scopes: Annotated[list[Literal["read", "submit", "admin"]], Field(min_length=1, max_length=3)] = ["read"]
    """What it may do."""
    days: Annotated[float, Field(gt=0, le=3650)] | None = 90.0
    """It ends after so many days; null: never."""


class TokenView(Result):
    """A token, without its secret."""

    id: int
    """Its number."""
    name: str
    """What it is for."""
    scopes: list[str]
    """What it may do."""
    created: float
    """When it was made (s since 1970)."""
    expires: float | None
    """When it ends."""
    used: float | None
    """When it was last used."""


class NewToken(Result):
    """A token that was made."""

    token: str
    """Its secret, shown this once."""
    view: TokenView
    """Everything else."""


class SignInView(Result):
    """A browser that is signed in."""

    id: int
    """Its number."""
    created: float
    """Since when (s since 1970)."""
    used: float
    """When it was last seen."""
    address: str
    """From where."""
    browser: str
    """What it calls itself."""
    this: bool
    """Whether it is the one that asks."""


class Use(Result):
    """What was used, and what may be."""

    core_hours: float
    """Cores times hours."""
    gpu_hours: float
    """GPUs times hours."""
    disk_gb: float
    """Of jobs, uploads, data sets, models and structures together."""
    disk: dict[str, float]
    """The same by kind: jobs, uploads, datasets, models, structures (GB)."""
    core_hours_limit: float | None
    """None: no limit of one's own; a group's may hold."""
    gpu_hours_limit: float | None
    """As before."""
    disk_gb_limit: float | None
    """As before."""
    left: dict[str, float]
    """What is left of core_hours, gpu_hours and disk_gb where one's own quota or that of the group limits it, whichever
    leaves less."""
    cores_percent: float | None
    """Share of a queue that one's jobs may hold at the same time (%); null: all of it, as far as the group may."""


@router.put("/password", status_code=204)
def set_password(wish: PasswordChange, who: InBrowser, session: Writing) -> None:
    """Set one's password; every other browser is signed out."""
    user = session.get_one(User, who.user.id)
    if user.password is not None and not is_password(wish.old, user.password):
        raise HTTPException(403, "the old password is wrong")
    user.password = hashed(wish.new)
    session.execute(sql.delete(SignIn).where(SignIn.user_id == user.id, SignIn.id != who.sign_in))
    who.did(session, "changed the password")


@router.get("/sign-ins")
def list_sign_ins(who: Somebody, session: Reading) -> list[SignInView]:
    """Browsers that are signed in."""
    rows = session.scalars(sql.select(SignIn).where(SignIn.user_id == who.user.id).order_by(SignIn.used.desc()))
    return [
        SignInView(
            id=r.id, created=r.created, used=r.used, address=r.address, browser=r.browser, this=r.id == who.sign_in
        )
        for r in rows
    ]


@router.get("/tokens")
def list_tokens(who: Somebody, session: Reading) -> list[TokenView]:
    """One's tokens."""
    rows = session.scalars(sql.select(ApiToken).where(ApiToken.user_id == who.user.id).order_by(ApiToken.id))
    return [_view(r) for r in rows]


@router.post("/tokens", status_code=201)
def make_token(wish: TokenWish, who: InBrowser, session: Writing) -> NewToken:
    """Make a token; its secret is shown this once."""
    if not set(wish.scopes) <= who.scopes:
        raise HTTPException(403, "a token cannot do more than its owner")
    secret, now = TOKEN + new_secret(), time.time()
    expires = None if wish.days is None else now + 86400 * wish.days
    token = ApiToken(
        secret=kept_of(secret), user_id=who.user.id, name=wish.name, scopes=list(wish.scopes), created=now,
        expires=expires,
    )  # fmt: skip
    session.add(token)
    session.flush()
    who.did(session, "made a token", f"token {token.id}", after={"name": wish.name, "scopes": list(wish.scopes)})
    return NewToken(token=secret, view=_view(token))


@router.delete("/tokens/{number}", status_code=204)
def delete_token(number: int, who: InBrowser, session: Writing) -> None:
    """End a token."""
    token = session.get(ApiToken, number)
    if token is None or token.user_id != who.user.id:
        raise HTTPException(404, "no such token")
    session.delete(token)
    who.did(session, "ended a token", f"token {number}", before={"name": token.name})


@router.get("/use")
def my_use(who: Somebody, platform: Here, session: Reading) -> Use:
    """What one has used, against one's quotas."""
    core_hours, gpu_hours, disk_gb = queue.used(session, [who.user.id])
    by_kind = bytes_by_kind(session, [who.user.id])
    user = who.user
    return Use(
        core_hours=core_hours, gpu_hours=gpu_hours, disk_gb=disk_gb,
        disk={kind: size / 1e9 for kind, size in by_kind.items()}, core_hours_limit=user.core_hours,
        gpu_hours_limit=user.gpu_hours, disk_gb_limit=user.disk_gb, left=queue.left_of_quotas(session, user),
        cores_percent=platform.limits.default if user.cores_percent is None else user.cores_percent,
    )  # fmt: skip


def _view(token: ApiToken) -> TokenView:
    return TokenView(
        id=token.id, name=token.name, scopes=token.scopes, created=token.created, expires=token.expires,
        used=token.used,
    )  # fmt: skip
