"""The tables. Times are seconds since 1970 (UTC); secrets are kept as SHA-256 of 256 random bits, never themselves."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sql
from sqlalchemy.orm import DeclarativeBase, Mapped, declared_attr, mapped_column, relationship

QUEUED, HELD, STARTING, RUNNING, DONE, FAIL, CANCEL = "QUEUED", "HELD", "STARTING", "RUNNING", "DONE", "FAIL", "CANCEL"
WAITING = (QUEUED, HELD)
ACTIVE = (STARTING, RUNNING)
ENDED = (DONE, FAIL, CANCEL)
STATES = (*WAITING, *ACTIVE, *ENDED)
"""Of a job. HELD: a quota or a person holds it back; STARTING: a supervisor is being started, or waits in Slurm."""
PRIVATE, GROUP, PUBLIC = "private", "group", "public"
"""Who may see a thing: its owner; the owner's group; everybody with an account."""
ADMIN, USER, VIEWER = "admin", "user", "viewer"
"""What an account may do: everything; work; look."""
GUEST = "guest"
"""Somebody without an account, who has a link to one thing."""


class Base(DeclarativeBase):
    """Root of all tables."""

    type_annotation_map = {dict[str, Any]: sql.JSON, list[Any]: sql.JSON, list[str]: sql.JSON, list[int]: sql.JSON}
    metadata = sql.MetaData(
        naming_convention={
            "ix": "ix_%(column_0_label)s",
            "uq": "uq_%(table_name)s_%(column_0_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


def _owner() -> Mapped[int]:
    return mapped_column(sql.ForeignKey("users.id"), index=True)


class Quotas:
    """Limits of an account or a group; None: no limit of its own."""

    core_hours: Mapped[float | None]
    gpu_hours: Mapped[float | None]
    disk_gb: Mapped[float | None]
    cores_percent: Mapped[float | None]
    """Share of the cores, and of the GPUs, of a queue that jobs hold at the same time."""


class Group(Quotas, Base):
    """A group of users: a laboratory, a course."""

    __tablename__ = "groups"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)


class User(Quotas, Base):
    """An account. Quotas of None are those of the group; None there: no limit."""

    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    full_name: Mapped[str] = mapped_column(default="")
    role: Mapped[str] = mapped_column(default=USER)
    password: Mapped[str | None]
    """Argon2 hash; None: only by link."""
    created: Mapped[float]
    expires: Mapped[float | None]
    disabled: Mapped[bool] = mapped_column(default=False)
    group_id: Mapped[int | None] = mapped_column(sql.ForeignKey("groups.id"))
    running_jobs: Mapped[int | None]
    """Jobs at work at the same time."""
    priority: Mapped[int] = mapped_column(default=50)
    """Highest priority (1 to 100) that the jobs of this user can have."""
    unix_account: Mapped[str | None] = mapped_column(unique=True, index=True)
    """Under which jobs run where a cluster asks for it; None: no such jobs."""
    group: Mapped[Group | None] = relationship(lazy="joined")


class Owned:
    """A thing with a name that belongs to somebody, and who else may see it."""

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    owner_id: Mapped[int] = _owner()
    privacy: Mapped[str] = mapped_column(default=PRIVATE)
    created: Mapped[float]

    @declared_attr
    def owner(self) -> Mapped[User]:
        """Whose it is."""
        return relationship(lazy="joined")


class Opens:
    """What lets somebody in as a user: a secret, of which only the SHA-256 is kept."""

    id: Mapped[int] = mapped_column(primary_key=True)
    secret: Mapped[str] = mapped_column(unique=True)
    user_id: Mapped[int] = mapped_column(sql.ForeignKey("users.id", ondelete="CASCADE"), index=True)


class SignIn(Opens, Base):
    """A browser that has signed in."""

    __tablename__ = "sign_ins"
    created: Mapped[float]
    used: Mapped[float]
    address: Mapped[str] = mapped_column(default="")
    browser: Mapped[str] = mapped_column(default="")


class ApiToken(Opens, Base):
    """What a program shows instead of a cookie."""

    __tablename__ = "api_tokens"
    name: Mapped[str]
    scopes: Mapped[list[str]]
    created: Mapped[float]
    expires: Mapped[float | None]
    used: Mapped[float | None]


class LoginLink(Opens, Base):
    """Signs in once."""

    __tablename__ = "login_links"
    expires: Mapped[float]


class Identity(Base):
    """How a user signs in with the provider of single sign-on: by issuer and subject, which never change or return."""

    __tablename__ = "identities"
    user_id: Mapped[int] = mapped_column(sql.ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)
    issuer: Mapped[str]
    subject: Mapped[str | None]
    """None: invited, and not come yet."""
    invited: Mapped[str | None]
    """Verified mail address of the one who may become this user, once."""
    name: Mapped[str] = mapped_column(default="")
    """What the provider calls them."""
    created: Mapped[float]
    used: Mapped[float | None]

    __table_args__ = (sql.UniqueConstraint("subject", "issuer"), sql.UniqueConstraint("invited", "issuer"))


class Share(Opens, Base):
    """A link that shows one thing to everybody who has it, until it ends. It goes with the thing."""

    __tablename__ = "shares"
    kind: Mapped[str]
    """job, search, dataset, model or structure; the column of that kind holds its number."""
    job_id: Mapped[int | None] = mapped_column(sql.ForeignKey("jobs.id", ondelete="CASCADE"), index=True)
    dataset_id: Mapped[int | None] = mapped_column(sql.ForeignKey("datasets.id", ondelete="CASCADE"), index=True)
    model_id: Mapped[int | None] = mapped_column(sql.ForeignKey("models.id", ondelete="CASCADE"), index=True)
    structure_id: Mapped[int | None] = mapped_column(sql.ForeignKey("structures.id", ondelete="CASCADE"), index=True)
    created: Mapped[float]
    expires: Mapped[float]
    used: Mapped[float | None]
    user: Mapped[User] = relationship(lazy="joined")


class Notice(Base):
    """Something that a user should know."""

    __tablename__ = "notices"
    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(sql.ForeignKey("users.id", ondelete="CASCADE"), index=True)
    kind: Mapped[str]
    """done, failed, held or news."""
    text: Mapped[str]
    job_id: Mapped[int | None]
    created: Mapped[float]
    read: Mapped[float | None]


class NoticeChoice(Base):
    """Which notices a user wants to have sent, and where to."""

    __tablename__ = "notice_choices"
    user_id: Mapped[int] = mapped_column(sql.ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)
    mail: Mapped[str] = mapped_column(default="")
    mail_kinds: Mapped[list[str]] = mapped_column(default=list)
    webhook: Mapped[str] = mapped_column(default="")
    webhook_kinds: Mapped[list[str]] = mapped_column(default=list)
    secret: Mapped[str] = mapped_column(default="")
    """Signs what is sent to the webhook, so it is kept as it is."""


class Sending(Base):
    """A notice on its way by mail or webhook: begun at most once at a time, tried again only where it surely failed."""

    __tablename__ = "sendings"
    id: Mapped[int] = mapped_column(primary_key=True)
    notice_id: Mapped[int] = mapped_column(sql.ForeignKey("notices.id", ondelete="CASCADE"), index=True)
    way: Mapped[str]
    """mail or webhook."""
    due: Mapped[float] = mapped_column(index=True)
    tries: Mapped[int] = mapped_column(default=0)
    state: Mapped[str] = mapped_column(default="waits")
    """waits, begun, sent or failed; one that stays begun was cut off, and may have arrived."""
    error: Mapped[str] = mapped_column(default="")


class AuditLine(Base):
    """Who did what to which thing; only ever added to."""

    __tablename__ = "audit"
    id: Mapped[int] = mapped_column(primary_key=True)
    time: Mapped[float] = mapped_column(index=True)
    user: Mapped[str]
    action: Mapped[str]
    thing: Mapped[str] = mapped_column(default="")
    address: Mapped[str] = mapped_column(default="")
    before: Mapped[dict[str, Any]] = mapped_column(default=dict)
    after: Mapped[dict[str, Any]] = mapped_column(default=dict)


class Announcement(Base):
    """What everybody should see."""

    __tablename__ = "announcements"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]
    level: Mapped[str] = mapped_column(default="info")
    created: Mapped[float]
    until: Mapped[float | None]


class Job(Base):
    """A task with its settings, and what became of it. Its folder is `jobs/<id>`, and that is what is true."""

    __tablename__ = "jobs"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    task: Mapped[str] = mapped_column(index=True)
    settings: Mapped[dict[str, Any]]
    key: Mapped[str] = mapped_column(index=True)
    """Same task, settings and inputs: same key."""
    owner_id: Mapped[int] = mapped_column(sql.ForeignKey("users.id"))
    privacy: Mapped[str] = mapped_column(default=PRIVATE)
    tags: Mapped[list[str]] = mapped_column(default=list)
    state: Mapped[str] = mapped_column(default=QUEUED)
    reason: Mapped[str] = mapped_column(default="")
    queue: Mapped[str] = mapped_column(default="local")
    cores: Mapped[int] = mapped_column(default=1)
    gpus: Mapped[int] = mapped_column(default=0)
    memory: Mapped[float] = mapped_column(default=4.0)
    """GB."""
    wall_time: Mapped[float | None]
    priority: Mapped[int] = mapped_column(default=50)
    created: Mapped[float] = mapped_column(index=True)
    started: Mapped[float | None]
    ended: Mapped[float | None]
    exit_code: Mapped[int | None]
    cancelled: Mapped[bool] = mapped_column(default=False)
    """Somebody asked for its end."""
    native_id: Mapped[str] = mapped_column(default="")
    """Number in Slurm."""
    unix_account: Mapped[str | None]
    """Under which it ran; None: that of the server."""
    claimed: Mapped[float | None]
    gpu_ids: Mapped[list[int]] = mapped_column(default=list)
    parent_id: Mapped[int | None] = mapped_column(sql.ForeignKey("jobs.id", ondelete="SET NULL"), index=True)
    cloned_from: Mapped[int | None]
    template_id: Mapped[int | None] = mapped_column(index=True)
    """The template that its form was filled with."""
    progress: Mapped[float | None]
    """0 to 1."""
    doing: Mapped[str] = mapped_column(default="")
    core_seconds: Mapped[float] = mapped_column(default=0.0)
    """Cores times time: what is accounted."""
    cpu_seconds: Mapped[float] = mapped_column(default=0.0)
    """What the processes used of them."""
    gpu_seconds: Mapped[float] = mapped_column(default=0.0)
    peak_memory: Mapped[float] = mapped_column(default=0.0)
    """GB."""
    bytes: Mapped[int] = mapped_column(sql.BigInteger, default=0)
    version: Mapped[str] = mapped_column(default="")
    inputs: Mapped[list[Any]] = mapped_column(default=list)
    """Where its input came from: {"setting", "reference", "name", "sha256"}."""
    owner: Mapped[User] = relationship(lazy="joined")

    __table_args__ = (
        sql.Index("ix_jobs_owner_state", "owner_id", "state"),
        sql.Index("ix_jobs_seen", "state", "privacy", "owner_id"),
        sql.Index("ix_jobs_name", "name", "id"),
        sql.Index("ix_jobs_state", "state", "id"),
        sql.Index("ix_jobs_list", "id", "state", "task", "privacy", "owner_id"),
        sql.Index("ix_jobs_queue", "state", "priority", "id"),
    )


class Upload(Base):
    """A file that is on its way, or has come."""

    __tablename__ = "uploads"
    id: Mapped[str] = mapped_column(primary_key=True)
    owner_id: Mapped[int] = _owner()
    name: Mapped[str]
    size: Mapped[int] = mapped_column(sql.BigInteger)
    received: Mapped[int] = mapped_column(sql.BigInteger, default=0)
    created: Mapped[float]
    sha256: Mapped[str] = mapped_column(default="")


class Dataset(Owned, Base):
    """Labelled structures under one name, in versions."""

    __tablename__ = "datasets"
    description: Mapped[str] = mapped_column(default="")
    licence: Mapped[str] = mapped_column(default="")
    source: Mapped[str] = mapped_column(default="")
    versions: Mapped[list[DatasetVersion]] = relationship(
        order_by="DatasetVersion.number", back_populates="dataset", cascade="all, delete-orphan", lazy="selectin"
    )


class DatasetVersion(Base):
    """What a data set held at one time; the folder of its index is named by the hash of its content."""

    __tablename__ = "dataset_versions"
    id: Mapped[int] = mapped_column(primary_key=True)
    dataset_id: Mapped[int] = mapped_column(sql.ForeignKey("datasets.id", ondelete="CASCADE"), index=True)
    number: Mapped[int]
    sha256: Mapped[str] = mapped_column(index=True)
    file: Mapped[str]
    format: Mapped[str]
    state: Mapped[str] = mapped_column(default="reading")
    """reading, ready, refused."""
    reason: Mapped[str] = mapped_column(default="")
    created: Mapped[float]
    bytes: Mapped[int] = mapped_column(sql.BigInteger, default=0)
    index_bytes: Mapped[int | None] = mapped_column(sql.BigInteger)
    """Of its index; None: not measured yet."""
    frames: Mapped[int] = mapped_column(default=0)
    summary: Mapped[dict[str, Any]] = mapped_column(default=dict)
    job_id: Mapped[int | None]
    dataset: Mapped[Dataset] = relationship(back_populates="versions")


class StoredModel(Owned, Base):
    """A potential in the registry; its file is named by the hash of its content."""

    __tablename__ = "models"
    stage: Mapped[str] = mapped_column(default="draft")
    """draft, validated, production."""
    description: Mapped[str] = mapped_column(default="")
    sha256: Mapped[str] = mapped_column(index=True)
    bytes: Mapped[int] = mapped_column(sql.BigInteger, default=0)
    elements: Mapped[list[str]] = mapped_column(default=list)
    card: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """What the file says about itself."""
    metrics: Mapped[list[Any]] = mapped_column(default=list)
    """Errors on named sets: {"set", "job", "values", "device", "threads"}."""
    version: Mapped[int] = mapped_column(default=1, server_default="1")
    """Among the models of the owner that have this name."""
    energy_rmse: Mapped[float | None]
    """eV/atom; this and the next ones are of the set that says most (`known_errors`), kept for the order of lists."""
    force_rmse: Mapped[float | None]
    """eV/Å."""
    speed: Mapped[float | None]
    """Atoms per second."""
    job_id: Mapped[int | None]
    parent_id: Mapped[int | None]
    datasets: Mapped[list[Any]] = mapped_column(default=list)


class StoredStructure(Owned, Base):
    """A structure, or several, that a user keeps."""

    __tablename__ = "structures"
    formula: Mapped[str]
    frames: Mapped[int] = mapped_column(default=1)
    atoms: Mapped[int]
    bytes: Mapped[int | None] = mapped_column(sql.BigInteger)
    """Of its file; None: not measured yet."""
    elements: Mapped[list[str]] = mapped_column(default=list)
    job_id: Mapped[int | None] = mapped_column(index=True)
    """The job of whose files it was kept; None: of none."""


class Template(Owned, Base):
    """Settings of a task, kept under a name to begin jobs with."""

    __tablename__ = "templates"
    task: Mapped[str] = mapped_column(index=True)
    settings: Mapped[dict[str, Any]]
