"""The application: guards, routes, errors in one form, and the page."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Any

from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.middleware.trustedhost import TrustedHostMiddleware

import rutile
from rutile.core.errors import RutileError, SettingsError
from rutile.jobs.check import problems_of
from rutile.server.description import described
from rutile.server.guard import Guard
from rutile.server.page import page_routes
from rutile.server.people import who_asks
from rutile.server.platform import Platform
from rutile.server.routes import (
    account,
    admin,
    compute,
    datasets,
    files,
    finding,
    health,
    jobs,
    metrics,
    model_references,
    models,
    notebooks,
    notices,
    resources,
    searches,
    series,
    shares,
    sign_on,
    storage,
    structures,
    tasks,
    templates,
    uploads,
)
from rutile.server.routes import session as signing_in


def create_app(platform: Platform) -> FastAPI:
    """The application of an open platform; its queue goes while the application is up."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        del app
        platform.begin()
        yield
        platform.close()

    app = FastAPI(
        title="rutile", version=rutile.__version__, lifespan=lifespan, openapi_url=None,
        docs_url=None, redoc_url=None, description="Machine-learning interatomic potentials: jobs, data and models.",
    )  # fmt: skip
    app.state.platform = platform
    rooms = (
        account, notices, tasks, jobs, files, series, compute, uploads, structures, datasets, resources, models,
        model_references, templates, searches, admin, health, finding, shares, storage, notebooks,
    )  # fmt: skip
    known = (*(room.router for room in rooms), sign_on.mine, admin.news, shares.open_routes())
    coming_in = (signing_in.router, sign_on.router)
    for router in coming_in:
        app.include_router(router, prefix="/api")
    for router in known:
        app.include_router(router, prefix="/api", dependencies=[Depends(who_asks)])
    app.include_router(metrics.router)

    @app.get("/api/openapi.json", include_in_schema=False, dependencies=[Depends(who_asks)])
    def describe() -> dict[str, Any]:
        """The description of the API."""
        return described(app, coming_in, known)

    page_routes(app)
    app.add_middleware(Guard)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=platform.settings.hosts, www_redirect=False)
    app.add_exception_handler(RutileError, _users_error)
    app.add_exception_handler(RequestValidationError, _wrong_request)
    return app


async def _users_error(request: Request, error: Exception) -> JSONResponse:
    """An error of the user, as on the command line: lines, each with the setting that it is about."""
    del request
    problems = problems_of(SettingsError(str(error)))
    return JSONResponse({"detail": str(error), "problems": [asdict(p) for p in problems]}, 422)


async def _wrong_request(request: Request, error: Exception) -> JSONResponse:
    """A request that does not have the form that the API description says."""
    del request
    assert isinstance(error, RequestValidationError)
    problems = [{"key": ".".join(str(p) for p in e["loc"][1:]), "message": str(e["msg"])} for e in error.errors()]
    detail = "; ".join(f"{p['key'] or 'request'}: {p['message']}" for p in problems)
    return JSONResponse({"detail": detail, "problems": problems}, 422)
