"""The page: files that were built before and ship with rutile. Every other address shows the page itself."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import FileResponse, HTMLResponse, RedirectResponse, Response

from rutile.server.people import Here, Writing
from rutile.server.routes.session import signed_in_by_link

STATIC = Path(__file__).parent / "static"
"""The built page."""
KEEP = "public, max-age=31536000, immutable"
"""Built files have the hash of their content in their names."""
WITHOUT = """<!doctype html><html lang="en"><title>rutile</title><body><h1>rutile</h1>
<p>The server is at work; this installation has no page. The REST API is described by
<a href="/api/openapi.json">/api/openapi.json</a>.</p></body></html>"""


def page_routes(app: FastAPI) -> None:
    """Add the login link and the page; must come last."""

    @app.get("/login/{secret}", include_in_schema=False)
    def use_login_link(secret: str, request: Request, platform: Here, session: Writing) -> Response:
        """Sign in by a link, once, and go to the page."""
        answer = RedirectResponse("/", 303)
        signed_in_by_link(secret, platform, session, answer, request)
        return answer

    @app.get("/{path:path}", include_in_schema=False)
    def page(path: str, request: Request) -> Response:
        """A file of the built page, or the page; /jobs/5 leads to its place /#/jobs/5."""
        known = _files()
        if path in known or not path:
            return _file(path, known)
        if path.startswith(("api/", "assets/")):
            raise HTTPException(404, "no such route")
        asked = f"?{request.url.query}" if request.url.query else ""
        return RedirectResponse(f"/#/{quote(path)}{asked}", 307)


def _file(path: str, known: Mapping[str, Path]) -> Response:
    if path in known:
        headers = {"Cache-Control": KEEP} if path.startswith("assets/") else {"Cache-Control": "no-cache"}
        return FileResponse(known[path], headers=headers)
    if "index.html" in known:
        return FileResponse(known["index.html"], headers={"Cache-Control": "no-cache"})
    return HTMLResponse(WITHOUT)


def _files() -> dict[str, Path]:
    """Every file of the page by its address: nothing else is ever sent."""
    found: dict[str, Any] = {}
    for path in STATIC.rglob("*"):
        if path.is_file() and not path.is_symlink():
            found[path.relative_to(STATIC).as_posix()] = path
    return found
