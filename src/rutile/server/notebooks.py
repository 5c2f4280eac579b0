"""Notebooks: who may open them, how they are signed in, and the door to one that is at work."""

from __future__ import annotations

from urllib.parse import urlsplit

from pydantic import Field, ValidationError
from sqlalchemy.orm import Session

from rutile.core.connection import CERTIFICATE, DOOR, KEY, write_private
from rutile.core.errors import SettingsError
from rutile.core.settings import Result, Settings
from rutile.jobs.folder import read_json
from rutile.jobs.home import Home
from rutile.jobs.tables import ADMIN, RUNNING, Job, User
from rutile.server.job_tokens import hand_over
from rutile.server.settings import LOOPBACK, ServeSettings
from rutile.tasks.notebook import START, installed

NOTEBOOK = "notebook"
"""The task."""
EVERYWHERE = ("0.0.0.0", "::")
SCOPES = ("read", "submit")
"""What its token may do at most: what its owner may not, it may not either."""


class Door(Settings):
    """What a notebook says about itself; whoever works in it can write that, so it is looked at."""

    port: int = Field(ge=1, le=65535)
    """Where it listens."""
    token: str = Field(pattern=r"^[0-9a-f]{20,100}$")
    """That it asks for."""
    address: str = Field(pattern=r"^[0-9A-Za-z.:-]+$", max_length=255)
    """At which it listens."""
    host: str = Field(pattern=r"^[0-9A-Za-z_.-]+$", max_length=255)
    """Name of its machine."""
    secure: bool = False
    """Whether it has TLS."""


class NotebookView(Result):
    """A notebook, for its owner."""

    ready: bool
    """Whether it can be opened."""
    link: str
    """Opens it; who has it runs anything there. Empty before it is ready."""
    tunnel: str
    """The command by which another machine reaches it first; empty where none is needed."""


def why_not(settings: ServeSettings, user: User) -> str:
    """Why a user may open no notebook here, in one line; "" where they may."""
    if settings.notebooks == "nobody":
        return "this server runs no notebooks: its administrator allows them with notebooks=users or notebooks=admins"
    if settings.notebooks == "admins" and user.role != ADMIN:
        return "only administrators may open notebooks on this server"
    if not installed():
        return "JupyterLab is not installed on this server: pip install 'rutile[notebook]'"
    return ""


def refuse(settings: ServeSettings, user: User, task: str) -> None:
    """See that a user may submit a job of a task.

    Raises:
        SettingsError: it is a notebook, and they may open none.
    """
    reason = why_not(settings, user) if task == NOTEBOOK else ""
    if reason:
        raise SettingsError(reason)


def begin(session: Session, home: Home, settings: ServeSettings, job: Job, address: str) -> None:
    """Sign a notebook in that is about to start, if its owner still may; one that others reach gets the server's TLS.

    Raises:
        SettingsError: they may not any more; or it would get the server's key where it shall not have it.
        OSError: its folder cannot be written.
    """
    refuse(settings, job.owner, job.task)
    listens_at = job.settings.get("address", LOOPBACK[0])
    apart = settings.sandbox or any(one.unix_accounts and one.name == job.queue for one in settings.clusters)
    if apart and settings.key is not None and listens_at not in LOOPBACK:
        raise SettingsError(
            f"address = {listens_at}: in a sandbox, or under the account of its user, a notebook gets no key for TLS; "
            "leave it at 127.0.0.1, and use the tunnel"
        )
    hand_over(session, home, job, SCOPES, inside(settings, job, address))
    if settings.certificate is None or settings.key is None:
        return
    write_private(home.job(job.id) / CERTIFICATE, settings.certificate.read_bytes())
    if listens_at not in LOOPBACK:
        write_private(home.job(job.id) / KEY, settings.key.read_bytes())


def inside(settings: ServeSettings, job: Job, address: str) -> str:
    """Where a job finds the server: jobs of this machine ask it directly, not the server in front.

    Args:
        settings: of the server.
        job: that asks.
        address: under which the server is reached.
    """
    port = urlsplit(address).port
    direct = job.queue == "local" and settings.certificate is None and settings.host in (*LOOPBACK, *EVERYWHERE)
    return f"http://127.0.0.1:{port}" if direct and settings.host != "::1" else address


def door_of(home: Home, settings: ServeSettings, job: Job, asked_at: str) -> NotebookView:
    """How its owner opens a notebook.

    Args:
        home: with the folders.
        settings: of the server.
        job: the notebook.
        asked_at: name by which the browser knows this server. Cookies are shared between ports of one name: of this
            machine the notebook gets the other name, and never sees those of the platform.
    """
    closed = NotebookView(ready=False, link="", tunnel="")
    if job.state != RUNNING or job.cancelled:
        return closed
    try:
        door = Door.model_validate(read_json(home.job(job.id) / DOOR))
    except ValidationError:
        return closed
    name, tunnel = door.host if door.address in EVERYWHERE else door.address, ""
    if door.address in LOOPBACK:
        by_number = "127.0.0.1" if door.address == "localhost" else door.address
        name = "localhost" if asked_at != "localhost" else by_number
        away = job.queue != "local" or not settings.local
        tunnel = f"ssh -N -L {door.port}:127.0.0.1:{door.port} {door.host}" if away else ""
    name = f"[{name}]" if ":" in name else name
    return NotebookView(
        ready=True,
        link=f"{'https' if door.secure else 'http'}://{name}:{door.port}/lab/tree/{START}?token={door.token}",
        tunnel=tunnel,
    )
