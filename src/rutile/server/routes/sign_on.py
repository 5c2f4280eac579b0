"""Signing in with the account of one's institution: the way there, and the way back."""

from __future__ import annotations

from typing import Annotated

import sqlalchemy as sql
from fastapi import APIRouter, HTTPException, Query, Request, Response
from fastapi.responses import RedirectResponse
from sqlalchemy.orm import Session

from rutile.core.settings import Result
from rutile.jobs.rights import ended
from rutile.jobs.tables import Identity, User
from rutile.server.identities import connect, entered
from rutile.server.people import Here, InBrowser, Reading, Writing, address_of, by_cookie
from rutile.server.platform import Platform, note
from rutile.server.routes.session import encrypted, signed_in
from rutile.server.secrets import same
from rutile.server.sign_on import FLOW_LIVES, Flow, Provider, RefusedError, Told

router = APIRouter(prefix="/sign-on", tags=["session"])
mine = APIRouter(prefix="/account/sign-on", tags=["account"])
BACK = "/api/sign-on/back"
"""The only address to which the provider sends browsers back."""
COOKIE = "rutile_sign_on"
"""In it a browser keeps the secret of the way that it began."""
BY = "single sign-on"
Word = Annotated[str, Query(max_length=200)]
Long = Annotated[str, Query(max_length=4000)]


class SignOnView(Result):
    """Whether people sign in with the account of their institution."""

    name: str | None
    """What the page calls it; None: there is none."""
    begin: str
    """Where a browser begins."""
    problem: str
    """unreachable or wrong, where nobody can sign in so now."""


class MySignOn(Result):
    """How one signs in by single sign-on oneself."""

    connected: bool
    """Whether one does."""
    name: str
    """What one is called there."""


class Way(Result):
    """A way to the provider."""

    address: str
    """Where the browser goes now."""


@router.get("")
def see_sign_on(platform: Here) -> SignOnView:
    """What the page for signing in offers besides passwords; open to everybody."""
    provider = platform.sign_on
    if provider is None:
        return SignOnView(name=None, begin="", problem="")
    begin = f"{platform.address}/api/sign-on/begin"
    return SignOnView(name=provider.settings.name, begin=begin, problem=provider.problem())


@router.get("/begin", status_code=303, response_class=RedirectResponse)
def begin_sign_on(request: Request, platform: Here, place: Long = "/") -> Response:
    """Go to the provider and sign in there; then to a place of the page."""
    provider = _provider(platform)
    flow = Flow.begun(place)
    try:
        return _kept(RedirectResponse(provider.way(flow, _back(platform)), 303), flow, request, platform)
    except RefusedError as refused:
        return _sorry(platform, "/", refused.why)


@router.get("/back", status_code=303, response_class=RedirectResponse)
def end_sign_on(
    request: Request, platform: Here, state: Word = "", code: Long = "", error: Word = "", iss: Word = ""
) -> Response:
    """Come back from the provider, signed in there: then one is signed in here."""
    provider, where = _provider(platform), address_of(request)
    page = "/"
    try:
        if not platform.patience.may_try(f"address {where}"):
            raise RefusedError("wait")
        flow = Flow.of(request.cookies.get(_cookie(platform, request)))
        page = "/account" if flow.connects else "/"
        told = _told(provider, flow, platform, {"state": state, "code": code, "error": error, "iss": iss})
        answer: Response = RedirectResponse(f"{platform.address}/#{flow.place}", 303)
        with platform.database.writing() as session:
            why = _let_in(session, told, flow, request, answer, platform)
    except RefusedError as refused:
        why = refused.why
        with platform.database.writing() as session:
            note(session, "", "failed to sign in", BY, where, after={"why": why})
    if why:
        answer = _sorry(platform, page, why)
    else:
        platform.patience.forgive(f"address {where}")
    answer.delete_cookie(_cookie(platform, request), secure=encrypted(platform, request), httponly=True)
    return answer


@mine.get("")
def see_my_sign_on(who: InBrowser, session: Reading) -> MySignOn:
    """Whether one signs in by single sign-on."""
    row = session.get(Identity, who.user.id)
    known = row is not None and row.subject is not None
    return MySignOn(connected=known, name=row.name if row and known else "")


@mine.post("")
def connect_sign_on(who: InBrowser, request: Request, response: Response, platform: Here) -> Way:
    """Begin to connect one's account: the answer says where to sign in at the provider."""
    flow = Flow.begun("/account", who.user.id)
    try:
        way = _provider(platform).way(flow, _back(platform))
    except RefusedError as refused:
        raise HTTPException(503, f"single sign-on does not work now ({refused.why})") from None
    _kept(response, flow, request, platform)
    return Way(address=way)


@mine.delete("", status_code=204)
def disconnect_sign_on(who: InBrowser, session: Writing) -> None:
    """Sign in by password only from now on."""
    if who.user.password is None:
        raise HTTPException(409, "set a password first: nothing else would let you in again")
    session.execute(sql.delete(Identity).where(Identity.user_id == who.user.id))
    who.did(session, "took single sign-on away", f"user {who.user.name}")


def _told(provider: Provider, flow: Flow, platform: Platform, query: dict[str, str]) -> Told:
    """Who has come back, once all of the answer fits the question."""
    if not same(query["state"], flow.word("state")):
        raise RefusedError("again")
    if query["iss"] and query["iss"] != provider.settings.issuer:  # RFC 9207
        raise RefusedError("invalid")
    if query["error"] or not query["code"]:
        raise RefusedError("declined")
    return provider.told(query["code"], flow, _back(platform))


def _let_in(session: Session, told: Told, flow: Flow, request: Request, answer: Response, platform: Platform) -> str:
    """Sign in, or connect an account; why not, or nothing."""
    where, settings = address_of(request), _provider(platform).settings
    try:
        if flow.connects:
            who = by_cookie(session, request)
            if who is None or who.user.id != flow.connects or ended(who.user):
                raise RefusedError("again")
            connect(session, session.get_one(User, who.user.id), told, settings)
            who.did(session, "connected single sign-on", f"user {who.user.name}", after={"name": told.name})
        else:
            signed_in(session, entered(session, told, settings, where), request, answer, platform, BY)
    except RefusedError as refused:
        note(session, told.name, "failed to sign in", BY, where, after={"why": refused.why, "subject": told.subject})
        return refused.why
    return ""


def _provider(platform: Platform) -> Provider:
    if platform.sign_on is None:
        raise HTTPException(404, "this server has no single sign-on (setting sign_on)")
    return platform.sign_on


def _back(platform: Platform) -> str:
    return platform.address + BACK


def _cookie(platform: Platform, request: Request) -> str:
    """Its name; with https one that no other server of the same domain can set."""
    return f"__Host-{COOKIE}" if encrypted(platform, request) else COOKIE


def _kept(answer: Response, flow: Flow, request: Request, platform: Platform) -> Response:
    """Give the secret of a way to the browser that begins it."""
    answer.set_cookie(
        _cookie(platform, request), flow.secret, max_age=int(FLOW_LIVES), httponly=True, samesite="lax", path="/",
        secure=encrypted(platform, request),
    )  # fmt: skip
    return answer


def _sorry(platform: Platform, page: str, why: str) -> Response:
    """Back to our page, which says in words why not."""
    return RedirectResponse(f"{platform.address}/#{page}?sign-on={why}", 303)
