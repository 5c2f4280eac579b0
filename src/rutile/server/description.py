"""The description of the API with what each operation needs, how `rutile.Client` asks for it, and recipes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from rutile.server import people
from rutile.server.recipes import RECIPES

NOBODY, BROWSER, BY_LINK = "nobody", "browser", "link"
"""Beside the scopes of tokens: open to all, for who has signed in with a browser, for who has a link."""
CALLS = {
    "POST /api/jobs": 'client.submit("relax", {"structures": ["structure:7"], "model": "model:5"})',
    "GET /api/jobs": 'client.jobs(state="DONE")',
    "GET /api/jobs/export": 'client.every_job(task="relax")',
    "GET /api/jobs/{number}": "client.wait(12)",
    "POST /api/jobs/{number}/cancel": "client.cancel(12)",
    "GET /api/jobs/{number}/log/download": "client.log(12)",
    "GET /api/jobs/{number}/files": "client.files(12)",
    "GET /api/jobs/{number}/files/{file}/download": 'client.download(12, "relaxed.extxyz", Path("relaxed.extxyz"))',
    "GET /api/jobs/{number}/notebook": "client.notebook(12)",
    "GET /api/resources": 'client.resources("Ti", "O")',
    "GET /api/models": 'client.models(stage="production")',
    "GET /api/models/{number}/download": 'client.download_model(5, Path("model.rutile"))',
    "GET /api/templates": 'client.templates(task="train")',
    "POST /api/templates": 'client.keep_template("quick look", "train", {"epochs": 30})',
    "DELETE /api/templates/{number}": "client.delete_template(2)",
    "POST /api/uploads": 'client.upload("crystals.extxyz")',
    "POST /api/shares": 'client.share("job", 12, days=7)',
    "GET /api/shares": "client.shares()",
    "DELETE /api/shares/{number}": "client.end_share(3)",
    "GET /api/storage": 'client.storage("job")',
    "POST /api/storage/free": 'client.free(["job:12"], sure=True)',
    "GET /api/account/notices": "client.notices()",
    "POST /api/account/notices/read": "client.mark_read()",
}
"""Operations that `rutile.Client` has a method for; `client.request` asks for any other one."""


def described(app: FastAPI, coming_in: Sequence[APIRouter], known: Sequence[APIRouter]) -> dict[str, Any]:
    """OpenAPI, with `x-scope` and `x-client` of each operation and `x-recipes`.

    `x-scope` is read from what guards a route: nobody, link, browser (a token cannot), or the least that a token needs:
    read, submit, admin.

    Args:
        app: the application.
        coming_in: routers below /api, each of whose routes says itself whom it wants to know.
        known: those that answer only to whom the server knows.
    """
    whole = app.openapi()
    if "x-recipes" in whole:
        return whole
    for router in (*coming_in, *known):
        for route in (one for one in router.routes if isinstance(one, APIRoute)):
            for method in route.methods or ():
                operation = whole["paths"].get(f"/api{route.path}", {}).get(method.lower(), {})
                operation |= _told(route, method, router in coming_in)
    whole["x-recipes"] = [{"name": one.name, "code": one.code} for one in RECIPES]
    return whole


def _told(route: APIRoute, method: str, free: bool) -> dict[str, str]:
    path = f"/api{route.path}"
    call = CALLS.get(f"{method} {path}")
    return {"x-scope": scope_of(route, method, path, free)} | ({"x-client": call} if call else {})


def scope_of(route: APIRoute, method: str, path: str, free: bool) -> str:
    """What somebody needs for an operation: the narrowest of its guards, then what holds for each request.

    Args:
        route: that does it.
        method: of HTTP.
        path: with /api.
        free: nobody is asked before the route itself.
    """
    guards = set(_guards(route.dependant))
    for guard, scope in ((people.administrator, people.MANAGE), (people.in_a_browser, BROWSER)):
        if guard in guards:
            return scope
    if people.LINK in route.param_convertors:
        return BY_LINK
    if free and people.who_asks not in guards:
        return NOBODY
    return people.READ if method in people.SAFE or path.startswith(people.OWN) else people.SUBMIT


def _guards(dependant: Dependant) -> Iterator[Callable[..., Any] | None]:
    """Every function that is called before the route's own."""
    for one in dependant.dependencies:
        yield one.call
        yield from _guards(one)
