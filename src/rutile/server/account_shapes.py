"""Forms of accounts, groups and courses, for administrators."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from rutile.core.settings import Result, Settings

Hours = Annotated[float, Field(ge=0, le=1e12)]
UnixAccount = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.@-]*$")]
Part = Annotated[float, Field(gt=0, le=100)]
UserName = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9._@-]*$")]
Password = Annotated[str, Field(min_length=10, max_length=1000)]
Mail = Annotated[str, Field(max_length=200, pattern=r"^[^\s@]+@[^\s@]+$")]


class Quotas(Settings):
    """Limits; null: none (of a user: those of the group hold)."""

    core_hours: Hours | None = None
    """Cores times hours."""
    gpu_hours: Hours | None = None
    """GPUs times hours."""
    disk_gb: Hours | None = None
    """GB of jobs, uploads, data sets, models and structures."""
    cores_percent: Part | None = None
    """Share of the cores, and of the GPUs, of a queue that jobs hold at the same time (%; at least one of each)."""


class GroupWish(Quotas):
    """A group."""

    name: UserName
    """Its name."""


class GroupView(Result):
    """A group."""

    id: int
    """Its number."""
    name: str
    """Its name."""
    core_hours: float | None
    """Limit of all members together."""
    gpu_hours: float | None
    """Limit of all members together."""
    disk_gb: float | None
    """Limit of all members together."""
    cores_percent: float | None
    """Share of a queue that all members hold together at the same time (%)."""
    members: int
    """Accounts in it."""


class UserWish(Quotas):
    """An account."""

    name: UserName
    """Its name."""
    full_name: Annotated[str, Field(max_length=200)] = ""
    """Name of the person."""
    role: Literal["admin", "user", "viewer"] = "user"
    """What it may do: everything, work, look."""
    password: Password | None = None
    """To sign in with; without one, a login link or an invitation is needed."""
    invited: Mail | None = None
    """Whoever shows at single sign-on that this mail address is theirs becomes this user, once."""
    group: UserName | None = None
    """Its group."""
    expires: Annotated[float, Field(ge=0, le=1e11)] | None = None
    """It ends then (s since 1970)."""
    running_jobs: Annotated[int, Field(ge=0, le=10_000)] | None = None
    """Jobs at work at the same time."""
    priority: Annotated[int, Field(ge=1, le=100)] = 50
    """Highest priority of its jobs."""
    unix_account: UnixAccount | None = None
    """Unix account under which its jobs run on clusters that ask for one; nobody else's here."""


class UserChange(Settings):
    """What is to be changed; what is not given stays, null takes a limit away."""

    full_name: Annotated[str, Field(max_length=200)] | None = None
    """Name of the person."""
    role: Literal["admin", "user", "viewer"] | None = None
    """What it may do."""
    password: Password | None = None
    """A new one; every browser is signed out."""
    invited: Mail | None = None
    """As of a new account, in place of whoever signed in so before; null: nobody does any more."""
    group: UserName | None = None
    """Its group."""
    expires: Annotated[float, Field(ge=0, le=1e11)] | None = None
    """It ends then."""
    disabled: bool | None = None
    """Closed: nobody signs in, tokens do nothing."""
    core_hours: Hours | None = None
    """Limit."""
    gpu_hours: Hours | None = None
    """Limit."""
    disk_gb: Hours | None = None
    """Limit."""
    cores_percent: Part | None = None
    """Limit."""
    running_jobs: Annotated[int, Field(ge=0, le=10_000)] | None = None
    """Limit."""
    priority: Annotated[int, Field(ge=1, le=100)] | None = None
    """Highest priority of its jobs."""
    unix_account: UnixAccount | None = None
    """As of a new account; null: none."""


class CourseWish(Quotas):
    """Accounts for a course."""

    course: Annotated[str, Field(min_length=1, max_length=40, pattern=r"^[A-Za-z0-9][A-Za-z0-9-]*$")]
    """Name of the course: a group; accounts are course-01, course-02, ..."""
    accounts: Annotated[int, Field(ge=1, le=500)]
    """So many."""
    days: Annotated[float, Field(gt=0, le=1000)] = 30.0
    """They end after so many days."""
    each_percent: Part | None = None
    """Share of a queue that each account may hold (%); `cores_percent` is that of all of them together."""


class CourseAccount(Result):
    """An account of a course."""

    name: str
    """Its name."""
    password: str
    """Its password, shown this once."""


class AccountView(Result):
    """An account, as an administrator sees it."""

    id: int
    """Its number."""
    name: str
    """Its name."""
    full_name: str
    """Name of the person."""
    role: str
    """What it may do."""
    group: str | None
    """Its group."""
    created: float
    """When it was made (s since 1970)."""
    expires: float | None
    """When it ends."""
    disabled: bool
    """Closed."""
    has_password: bool
    """Whether it can sign in by password."""
    invited: str | None
    """Mail address whose owner may become this user by single sign-on."""
    sign_on: str | None
    """What single sign-on calls whoever signs in by it; None: nobody does."""
    core_hours: float | None
    """Limit."""
    gpu_hours: float | None
    """Limit."""
    disk_gb: float | None
    """Limit."""
    cores_percent: float | None
    """Limit; null: that of the server's settings."""
    running_jobs: int | None
    """Limit."""
    priority: int
    """Highest priority of its jobs."""
    unix_account: str | None
    """Unix account under which its jobs run on clusters that ask for one."""
    seen: float | None
    """When it was last here."""
