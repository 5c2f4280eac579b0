"""What all routes share: database, folders, queue, settings."""

from __future__ import annotations

import itertools
import re
import time
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, TypeVarTuple

import sqlalchemy as sql
from anyio import CapacityLimiter, to_thread
from sqlalchemy.orm import Session

from rutile.core.errors import FileError, SettingsError
from rutile.jobs.adopt import adopt
from rutile.jobs.database import Database, open_database
from rutile.jobs.gpus import Watch, library
from rutile.jobs.home import Home
from rutile.jobs.limits import Limits, Whole
from rutile.jobs.permissions import let_pass
from rutile.jobs.places import Place, Slurm, open_places
from rutile.jobs.reconciler import Reconciler
from rutile.jobs.sandbox import Sandbox
from rutile.jobs.slots import Capacity
from rutile.jobs.tables import ADMIN, AuditLine, Job, LoginLink, User
from rutile.server import notebooks
from rutile.server.harvest import harvest
from rutile.server.job_tokens import say_address, take_back
from rutile.server.librarian import Librarian
from rutile.server.messenger import Messenger
from rutile.server.secrets import Patience, kept_of, new_secret
from rutile.server.settings import ServeSettings
from rutile.server.sign_on import Provider

T = TypeVar("T")
Args = TypeVarTuple("Args")
LINK_LIVES = 900.0
"""Seconds in which a login link must be used."""
BRIEF = 2
"""Threads for brief work, in which Python computes: more of them only wait for its one lock, and for each other."""
FIRST = "admin"
"""Name of the account that the first start makes."""


@dataclass
class Platform:
    """The parts of a running platform."""

    settings: ServeSettings
    home: Home
    database: Database
    places: dict[str, Place]
    capacity: Capacity
    limits: Limits
    reconciler: Reconciler
    librarian: Librarian
    messenger: Messenger
    sign_on: Provider | None = None
    """Who says who people are, besides us."""
    patience: Patience = field(default_factory=Patience)
    address: str = ""
    """Under which it is reached."""
    counts: dict[Any, tuple[float, dict[str, int]]] = field(default_factory=dict)
    """Jobs by state for a filter, with the time until which they are good."""
    seen: dict[tuple[type, int], float] = field(default_factory=dict)
    """When use of a sign-in, a token or a link was last written down, by its table and number."""
    gpus: Watch = field(default_factory=lambda: Watch(library()))
    """How busy the GPUs of this machine are."""
    began: float = field(default_factory=time.time)
    brief: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(BRIEF))
    """Who may do brief work now; see `briefly`."""

    async def briefly(self, work: Callable[[*Args], T], *args: *Args) -> T:
        """Do work of some milliseconds in one of few threads, in the order in which it is asked for."""
        return await to_thread.run_sync(work, *args, limiter=self.brief)

    @classmethod
    def open(cls, settings: ServeSettings) -> Platform:
        """Open folders and database; no job is started yet.

        Raises:
            FileError: folder or database cannot be opened.
            ExecutorError: a cluster that is named is not there.
            SettingsError: jobs shall run in a sandbox, and there is none; or under accounts of users, who could read
                secrets, or to whom the disk can give no rights.
            MissingPackageError: single sign-on is asked for without its package.
        """
        provider = Provider(settings.sign_on) if settings.sign_on else None
        home = Home.open(settings.home)
        places = open_places(home, settings.clusters)
        capacity = Capacity.of_this_machine(settings.cores, settings.memory)
        database = open_database(settings.url, home.folder)
        if any(one.unix_accounts for one in settings.clusters):
            _open_to_accounts(settings, home)
        limits = Limits(settings.cores_percent, wholes_of(places, capacity))
        reconciler = Reconciler(database, home, places, capacity, limits=limits, sandbox=_sandbox(settings, home))
        messenger = Messenger(database, settings)
        librarian = Librarian(database, home)
        out = cls(settings, home, database, places, capacity, limits, reconciler, librarian, messenger, provider)
        reconciler.ended, reconciler.begins = out._job_ended, {notebooks.NOTEBOOK: out._notebook_begins}
        return out

    def begin(self) -> None:
        """Let the queue go, and go on with what was being read."""
        with self.database.reading() as session:
            say_address(session, self.home, lambda job: notebooks.inside(self.settings, job, self.address))
        self.reconciler.start()
        self.librarian.begin()
        self.messenger.address = self.address
        self.messenger.start()
        self.gpus.start()

    def close(self) -> None:
        """Stop; jobs go on."""
        self.gpus.stop()
        self.reconciler.stop()
        self.messenger.stop()
        self.librarian.stop()
        self.database.close()

    def adopt(self, folder: Path) -> list[int]:
        """Put runs made outside in as jobs of the first administrator; numbers of those that are new.

        Raises:
            FileError: the folder does not say what was done in it.
        """
        with self.database.writing() as session:
            return adopt(session, self.home, _first(session), folder, lambda s, job: harvest(s, self.home, job))

    def _job_ended(self, session: Session, job: Job) -> None:
        """What follows from the end of a job: what it made is kept, what let it in is not."""
        harvest(session, self.home, job)
        if job.task == notebooks.NOTEBOOK:
            take_back(session, self.home, job)

    def _notebook_begins(self, session: Session, job: Job) -> None:
        """A notebook is about to start: it gets what lets it in."""
        notebooks.begin(session, self.home, self.settings, job, self.address)

    def first_link(self) -> str:
        """A login link for the first administrator, who is made where there is none.

        Raises:
            FileError: the server is open to others, and nobody has a password.
        """
        with self.database.writing() as session:
            admin = _first(session)
            with_password = session.scalar(sql.select(sql.func.count()).where(User.password.is_not(None)))
            if not self.settings.local and not with_password:
                raise FileError(
                    f"host = {self.settings.host}: nobody has a password yet; run `rutile serve` here first, "
                    "sign in by its link and set one"
                )
            secret = login_link(session, admin)
        return f"{self.address}/login/{secret}"


def wholes_of(places: Mapping[str, Place], capacity: Capacity) -> dict[str, Whole]:
    """What each queue has in all, as far as it is known.

    Args:
        places: by the names of their queues.
        capacity: of this machine.
    """
    here = Whole(capacity.cores, capacity.gpus)
    return {
        name: Whole(place.settings.cores, place.settings.gpus) if isinstance(place, Slurm) else here
        for name, place in places.items()
    }


def _first(session: Session) -> User:
    """The first administrator, who is made where there is none."""
    admin = session.scalar(sql.select(User).where(User.role == ADMIN, User.disabled.is_(False)).order_by(User.id))
    if admin is None:
        admin = User(name=free_name(session, FIRST), role=ADMIN, created=time.time(), password=None)
        session.add(admin)
        session.flush()
    return admin


def free_name(session: Session, wished: str) -> str:
    """A name for a new account, as much as it can be the one that is wished; nobody else's, however it is written."""
    plain = unicodedata.normalize("NFKD", wished).encode("ascii", "ignore").decode()
    name = re.sub(r"[^A-Za-z0-9._@-]+", "-", plain).strip("-._@")[:56] or "person"
    taken = set(session.scalars(sql.select(sql.func.lower(User.name))))
    tries = itertools.chain([name], (f"{name}-{k}" for k in itertools.count(2)))
    return next(one for one in tries if one.lower() not in taken)


def login_link(session: Session, user: User) -> str:
    """The secret of a link that signs a user in, once, soon."""
    secret = new_secret()
    session.execute(sql.delete(LoginLink).where(LoginLink.expires < time.time()))
    session.add(LoginLink(secret=kept_of(secret), user_id=user.id, expires=time.time() + LINK_LIVES))
    return secret


def note(
    session: Session, user: str, action: str, thing: str = "", address: str = "",
    before: dict[str, Any] | None = None, after: dict[str, Any] | None = None,
) -> None:  # fmt: skip
    """Write a line into the audit log: who did what to which thing."""
    session.add(
        AuditLine(
            time=time.time(), user=user, action=action, thing=thing, address=address, before=before or {},
            after=after or {},
        )
    )  # fmt: skip


def _open_to_accounts(settings: ServeSettings, home: Home) -> None:
    """Let the accounts of users reach folders of theirs, and nothing else.

    Raises:
        SettingsError: the disk keeps no rights of accounts; or others can read a file of secrets.
    """
    for path in settings.secrets:
        if path.exists() and path.stat().st_mode & 0o077:
            raise SettingsError(f"unix_accounts = true: {path} is open to others: chmod 600 {path}")
    let_pass(home)


def _sandbox(settings: ServeSettings, home: Home) -> Sandbox | None:
    """The sandbox that jobs run in; None: in none.

    Raises:
        SettingsError: there is none here, or something that shall be readable in it is not there.
    """
    if not settings.sandbox:
        return None
    readable = [path.expanduser().absolute() for path in settings.sandbox_readable]
    out = Sandbox(home, readable, settings.secrets)
    out.check()
    return out
