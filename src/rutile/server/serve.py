"""`rutile serve`: the platform on this machine, from one command."""

from __future__ import annotations

from typing import Any

from rutile.core.errors import FileError
from rutile.core.reporting import Reporter
from rutile.core.settings import Result
from rutile.server.settings import ServeSettings
from rutile.tasks.task import Task

REST = 75
"""Seconds for which a connection without requests is kept: longer than servers in front keep theirs (nginx: 60), or one
that we just close would be given the next request."""


class ServeResult(Result):
    """What is left when the server has ended; jobs go on."""

    address: str
    """Under which it was reached."""
    working: int
    """Jobs that go on; the next `rutile serve` knows of them."""


def run(settings: ServeSettings, reporter: Reporter) -> ServeResult:
    """Serve the platform: jobs, data and models in a browser and by a REST API; one command, nothing to install.

    Prints a link that signs in once. Everything is kept in one folder (`home`); jobs go on when the server ends.
    """
    import uvicorn

    from rutile.jobs.home import Home
    from rutile.jobs.queue import at_work
    from rutile.server.app import create_app
    from rutile.server.backup import restore, without_files
    from rutile.server.platform import Platform

    _check_certificate(settings)
    if settings.restore is not None:
        aside = restore(Home.open(settings.home), settings.restore)
        reporter.info(f"{settings.restore} is in place" + (f"; what was there is {aside}" if aside else ""))
    platform = Platform.open(settings)
    if settings.restore is not None and (gone := without_files(platform.database, platform.home)):
        rooms = ", ".join(room.name for room in platform.home.rooms)
        reporter.warn(f"no files of {gone} in {platform.home.folder}: copy what lies in {rooms} of the old home there")
    socket = listening(settings)
    port = socket.getsockname()[1]
    scheme = "https" if settings.certificate else "http"
    shown = settings.names[0] if settings.names else settings.host
    platform.address = settings.address or f"{scheme}://{shown}:{port}"
    try:
        for folder in settings.adopt:
            there = platform.adopt(folder)
            reporter.info(f"{folder}: {f'jobs {there} are put in' if there else 'its jobs are here already'}")
        link = platform.first_link()
    except FileError:
        platform.close()
        raise
    reporter.info(f"rutile is at {platform.address}, its files in {platform.home.folder}")
    reporter.info(f"sign in once, within 15 minutes: {link}")
    reporter.info("Ctrl-C ends the server; jobs go on")
    if settings.browser:
        import webbrowser

        webbrowser.open(link)
    options: dict[str, Any] = {
        "proxy_headers": settings.proxy, "server_header": False, "timeout_keep_alive": REST, "log_level": "warning",
        "timeout_graceful_shutdown": 3,
    }  # fmt: skip
    if settings.certificate is not None:
        options |= {"ssl_certfile": str(settings.certificate), "ssl_keyfile": str(settings.key)}
    server = uvicorn.Server(uvicorn.Config(create_app(platform), **options))
    try:
        server.run(sockets=[socket])
    except KeyboardInterrupt:
        reporter.info("ended")
    with platform.database.reading() as session:
        working = len(at_work(session))
    platform.database.close()
    return ServeResult(address=platform.address, working=working)


def _check_certificate(settings: ServeSettings) -> None:
    """Refuse TLS that cannot be, before anything is announced.

    Raises:
        FileError: certificate or key is not there, or they are not a pair in PEM.
    """
    import ssl

    if settings.certificate is None:
        return
    for name, file in (("certificate", settings.certificate), ("key", settings.key)):
        if file is not None and not file.is_file():
            raise FileError(f"{name} = {file}: no such file; give a file in PEM")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(settings.certificate, settings.key)
    except (ssl.SSLError, OSError) as error:
        reason = getattr(error, "reason", None) or error.strerror
        raise FileError(
            f"certificate = {settings.certificate}, key = {settings.key}: {reason}; give a pair in PEM"
        ) from None


def listening(settings: ServeSettings) -> Any:
    """A socket at the address and port.

    Raises:
        FileError: another program has the port, or there is no such address.
    """
    import socket

    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    out = socket.socket(family, socket.SOCK_STREAM)
    out.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        out.bind((settings.host, settings.port))
    except OSError as error:
        out.close()
        raise FileError(
            f"cannot listen at {settings.host}:{settings.port}: {error.strerror}; choose another port=..., or 0 for any"
        ) from None
    out.listen(128)
    return out


TASK = Task(
    "serve",
    ServeSettings,
    ServeResult,
    run,
    examples=(
        "rutile serve",
        "rutile serve port=9000 browser=true",
        "rutile serve home=/data/rutile cores=8 memory=32",
        "rutile serve home=demo/platform adopt=[demo]",
        "rutile serve sign_on.issuer=https://login.example.org sign_on.client=rutile sign_on.secret_file=secret",
    ),
)
