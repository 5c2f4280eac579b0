"""Sharing by link: making, listing and taking back links; and what is behind one, which needs no account."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, HTTPException, Path
from fastapi.routing import APIRoute
from pydantic import Field

from rutile.core.settings import Result, Settings
from rutile.jobs.tables import Share
from rutile.server import shapes, shares
from rutile.server.finding import SEARCHES
from rutile.server.people import Here, Reading, Somebody, Who, Writing
from rutile.server.routes import datasets, files, jobs, models, searches, series, structures
from rutile.server.shapes import Number

router = APIRouter(prefix="/shares", tags=["shares"])
Kind = Literal["job", "search", "dataset", "model", "structure"]
Link = Annotated[str, Path(max_length=100)]
SHOWN: dict[str, list[Callable[..., Any]]] = {
    "job": [
        jobs.see_job, jobs.see_form, series.read_log, series.search_log, series.see_levels, series.download_log,
        series.read_metrics, series.read_performance, files.list_files, files.preview_file, files.see_frame,
        files.see_track, files.see_figures, files.download_file, files.show_page, files.download_all,
    ],
    "search": [searches.see_search, searches.see_found, searches.see_names],
    "dataset": [
        datasets.see_dataset, datasets.see_frame, datasets.see_histogram, datasets.see_points, datasets.see_table,
    ],
    "model": [models.see_model, models.download_model],
    "structure": [structures.see_structure, structures.see_frame, structures.see_track],
}  # fmt: skip
"""Routes that a link of each kind opens, below its own path."""


class ShareWish(Settings):
    """A link that is asked for."""

    kind: Kind
    """What it shows."""
    number: Annotated[int, Field(ge=1, le=2**31 - 1)]
    """Which of them."""
    days: Annotated[float, Field(gt=0, le=365)] = 7.0
    """It ends after so many days."""


class ShareView(Result):
    """A link, without its secret."""

    id: int
    """Its number."""
    kind: str
    """job, search, dataset, model or structure."""
    number: int
    """Of the thing."""
    name: str
    """Of the thing."""
    created: float
    """When it was made (s since 1970)."""
    expires: float
    """When it ends."""
    used: float | None
    """When it was last opened."""


class NewShare(Result):
    """A link that was made."""

    link: str
    """To be given away; shown this once."""
    view: ShareView
    """Everything else."""


class SharedView(Result):
    """What is behind a link."""

    kind: str
    """job, search, dataset, model or structure."""
    number: int
    """Its number, for the routes below this one."""
    name: str
    """Its name."""
    owner: str
    """Whose it is."""
    expires: float
    """When the link ends (s since 1970)."""


@router.post("", status_code=201)
def make_share(wish: ShareWish, who: Somebody, platform: Here, session: Writing) -> NewShare:
    """Make a link that shows a thing of one's own to everybody who has it; no account is needed to open it."""
    thing: Any = shapes.changed(session, shares.KINDS[wish.kind], wish.number, who)
    if wish.kind == "search" and thing.task not in SEARCHES:
        raise HTTPException(404, "this job is no search")
    row, secret = shares.share(session, who.user, wish.kind, wish.number, wish.days)
    who.did(session, "shared", f"{wish.kind} {wish.number}", after={"link": row.id, "days": wish.days})
    return NewShare(link=f"{platform.address}/#/shared/{secret}", view=_view(row, thing.name))


@router.get("")
def list_shares(who: Somebody, session: Reading) -> list[ShareView]:
    """One's links that have not ended, newest first."""
    return [_view(row, name) for row, name in shares.links_of(session, who.user)]


@router.delete("/{number}", status_code=204)
def take_back(number: Number, who: Somebody, session: Writing) -> None:
    """Take a link back: it shows nothing any more."""
    row = session.get(Share, number)
    if row is None or row.user_id != who.user.id:
        raise HTTPException(404, "no such link of yours")
    session.delete(row)
    who.did(session, "took a link back", f"{row.kind} {shares.number_of(row)}", before={"link": number})


def see_shared(link: Link, who: Somebody, session: Reading) -> SharedView:
    """What is behind a link."""
    del link
    row = _link_of(who)
    thing = shares.thing_of(session, row)
    return SharedView(
        kind=row.kind, number=shares.number_of(row), name=thing.name, owner=thing.owner.name, expires=row.expires
    )


def _link_of(who: Who) -> Share:
    assert who.link is not None
    return who.link


def _only(kind: str) -> Callable[[str, Who], None]:
    """A condition: the link is one to this kind of thing."""

    def check(link: Link, who: Somebody) -> None:
        del link
        if _link_of(who).kind != kind:
            raise HTTPException(404, "this link shows something else")

    return check


def _view(row: Share, name: str) -> ShareView:
    plain = {key: getattr(row, key) for key in ("id", "kind", "created", "expires", "used")}
    return ShareView(**plain, number=shares.number_of(row), name=name)


def _routes() -> dict[Callable[..., Any], APIRoute]:
    rooms = (jobs, series, files, searches, datasets, models, structures)
    return {route.endpoint: route for room in rooms for route in room.router.routes if isinstance(route, APIRoute)}


@cache
def open_routes() -> APIRouter:
    """All that links open: the same functions that show a thing to its owner, told who asks."""
    known = _routes()
    shared = APIRouter(prefix="/shared/{link}", tags=["shared"])
    shared.add_api_route("", see_shared, methods=["GET"])
    for kind, shown in SHOWN.items():
        for endpoint in shown:
            route = known[endpoint]
            shared.add_api_route(
                route.path, endpoint, methods=["GET"], response_model=route.response_model,
                response_class=route.response_class, dependencies=[Depends(_only(kind))], name=f"shared_{route.name}",
            )  # fmt: skip
    return shared
