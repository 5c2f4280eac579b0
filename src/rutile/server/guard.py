"""What holds for every request and every answer, whatever the route."""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

POLICY = (
    "default-src 'self'; img-src 'self' data: blob:; style-src 'self' 'unsafe-inline'; "
    "script-src 'self' 'wasm-unsafe-eval'; worker-src 'self' blob:; object-src 'none'; base-uri 'none'; "
    "frame-ancestors 'none'; form-action 'self'"
)
"""What our own pages may load; nothing from elsewhere."""
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Frame-Options": "DENY",
}
LONGEST = 4_000_000
"""Bytes of a request that is no piece of an upload."""
PIECE = 64_000_000
"""Bytes of a piece of an upload."""


class Guard:
    """Refuses changes that another site asks for and bodies that are too long; adds headers; answers are not kept."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        problem = foreign(scope["method"], headers) or too_long(scope["path"], headers)

        async def send_on(message: Message) -> None:
            if message["type"] == "http.response.start":
                out = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    out.setdefault(name, value)
                if scope["path"].startswith("/api/"):
                    out.setdefault("Cache-Control", "no-store")
            await send(message)

        if problem:
            await JSONResponse({"detail": problem, "problems": []}, 413 if "long" in problem else 403)(
                scope, receive, send_on
            )
            return
        await self.app(scope, receive, send_on)


def foreign(method: str, headers: Headers) -> str:
    """Why a change is refused: the browser says that another site asks for it."""
    if method in ("GET", "HEAD", "OPTIONS"):
        return ""
    if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return "this change was asked for by another site"
    origin = headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != headers.get("host"):
        return "this change was asked for by another site"
    return ""


def too_long(path: str, headers: Headers) -> str:
    """Why a body is refused."""
    limit = PIECE if path.startswith("/api/uploads/") else LONGEST
    size = headers.get("content-length", "0")
    if not size.isdigit() or int(size) > limit:
        return f"the request is too long: at most {limit} bytes"
    if "transfer-encoding" in headers and "content-length" not in headers:
        return "the request is too long: its length must be said (Content-Length)"
    return ""
