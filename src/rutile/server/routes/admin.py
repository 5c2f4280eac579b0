"""For administrators: accounts, groups, quotas, who used what, announcements, what was done, backup."""

from __future__ import annotations

import time
from typing import Annotated, Any, Literal

import sqlalchemy as sql
from fastapi import APIRouter, HTTPException, Query
from pydantic import Field

from rutile.core.settings import Result, Settings
from rutile.jobs import disk, notices
from rutile.jobs.accounts import account_named
from rutile.jobs.tables import ADMIN, Announcement, ApiToken, AuditLine, Group, Identity, Job, SignIn, User
from rutile.server.account_shapes import (
    AccountView,
    CourseAccount,
    CourseWish,
    GroupView,
    GroupWish,
    Quotas,
    UserChange,
    UserWish,
)
from rutile.server.backup import back_up, put_back
from rutile.server.identities import invite
from rutile.server.people import Administrator, Here, Reading, Somebody, Writing
from rutile.server.platform import login_link
from rutile.server.secrets import hashed, new_secret
from rutile.server.shapes import Number

router = APIRouter(prefix="/admin", tags=["admin"])
news = APIRouter(prefix="/announcements", tags=["announcements"])
CAN_BE_TAKEN_AWAY = ("expires", "running_jobs", "unix_account", *Quotas.model_fields)
"""Of an account, what null takes away."""


class UseRow(Result):
    """What one account used."""

    user: str
    """The account; "" where it is of a whole group."""
    group: str | None
    """Its group."""
    jobs: int
    """Jobs submitted."""
    failed: int
    """Jobs that failed."""
    core_hours: float
    """Cores times hours."""
    cpu_hours: float
    """What the processes used of them."""
    gpu_hours: float
    """GPUs times hours."""
    disk_gb: float
    """Of jobs, uploads, data sets, models and structures that there are now, whenever they were made."""


class AuditView(Result):
    """Something that was done."""

    time: float
    """When (s since 1970)."""
    user: str
    """By whom."""
    action: str
    """What."""
    thing: str
    """With which thing."""
    address: str
    """From where."""
    before: dict[str, Any]
    """What was."""
    after: dict[str, Any]
    """What is."""


class NewsWish(Settings):
    """An announcement."""

    text: Annotated[str, Field(min_length=1, max_length=2000)]
    """What everybody should know."""
    level: Literal["info", "warning"] = "info"
    """How urgent."""
    until: Annotated[float, Field(ge=0, le=1e11)] | None = None
    """Shown until then (s since 1970); null: until it is deleted."""


class NewsView(Result):
    """An announcement."""

    id: int
    """Its number."""
    text: str
    """What everybody should know."""
    level: str
    """How urgent."""
    created: float
    """When it was made (s since 1970)."""
    until: float | None
    """Shown until then."""


class Link(Result):
    """A way in."""

    link: str
    """Signs in once, within 15 minutes."""


class Backup(Result):
    """A copy of the database."""

    file: str
    """Where it lies on the server."""
    bytes: int
    """Its size."""
    command: str
    """Puts it back."""


@router.get("/users")
def list_users(who: Administrator, session: Reading) -> list[AccountView]:
    """Every account."""
    del who
    seen = dict(session.execute(sql.select(SignIn.user_id, sql.func.max(SignIn.used)).group_by(SignIn.user_id)).all())
    known = {row.user_id: row for row in session.scalars(sql.select(Identity))}
    return [_account(u, known.get(u.id), seen.get(u.id)) for u in session.scalars(sql.select(User).order_by(User.name))]


@router.post("/users", status_code=201)
def add_user(wish: UserWish, who: Administrator, platform: Here, session: Writing) -> AccountView:
    """Make an account."""
    _refuse_known(session, wish.name)
    _refuse_unix_account(session, wish.unix_account, None)
    given = wish.model_dump(exclude={"password", "group", "invited"})
    user = User(**given, created=time.time(), password=hashed(wish.password) if wish.password else None)
    user.group = _group(session, wish.group)
    session.add(user)
    session.flush()
    if wish.invited:
        invite(session, user, wish.invited, platform.settings.sign_on)
    who.did(session, "made an account", f"user {user.name}", after=given | {"invited": wish.invited})
    return _account(user, session.get(Identity, user.id))


@router.patch("/users/{number}")
def change_user(number: Number, wish: UserChange, who: Administrator, platform: Here, session: Writing) -> AccountView:
    """Change an account."""
    user = _user(session, number)
    given = wish.model_dump(exclude_unset=True)
    keeps = {k: v for k, v in given.items() if v is not None or k in CAN_BE_TAKEN_AWAY}
    over = keeps.get("expires") is not None and keeps["expires"] < time.time()
    if user.id == who.user.id and (keeps.get("role", ADMIN) != ADMIN or keeps.get("disabled") or over):
        raise HTTPException(409, "one cannot take these rights from oneself")
    _refuse_unix_account(session, keeps.get("unix_account"), user)
    if password := keeps.pop("password", None):
        user.password = hashed(password)
    if "invited" in given:
        invite(session, user, given["invited"], platform.settings.sign_on)
        keeps.pop("invited", None)
    before = {name: getattr(user, name) for name in keeps if name != "group"}
    told: dict[str, Any] = {"invited": given["invited"]} if "invited" in given else {}
    if "group" in given:
        before["group"] = user.group.name if user.group else None
        user.group = _group(session, keeps.pop("group", None))
        told["group"] = given["group"] or None
    for name, value in keeps.items():
        setattr(user, name, value)
    if password or keeps.get("disabled") or "role" in keeps or "invited" in given:
        session.execute(sql.delete(SignIn).where(SignIn.user_id == user.id, SignIn.id != (who.sign_in or -1)))
    if keeps.get("disabled"):
        session.execute(sql.delete(ApiToken).where(ApiToken.user_id == user.id))
    who.did(session, "changed an account", f"user {user.name}", before=before, after=keeps | told)
    session.flush()
    return _account(user, session.get(Identity, number))


@router.post("/users/{number}/link")
def make_link(number: Number, who: Administrator, platform: Here, session: Writing) -> Link:
    """A link that signs somebody in once, for one who has forgotten the password."""
    user = _user(session, number)
    who.did(session, "made a login link", f"user {user.name}")
    return Link(link=f"{platform.address}/login/{login_link(session, user)}")


@router.post("/courses", status_code=201)
def add_course(wish: CourseWish, who: Administrator, session: Writing) -> list[CourseAccount]:
    """Accounts for a course, with passwords that are shown this once, in a group that they share."""
    quotas = wish.model_dump(include=set(Quotas.model_fields))
    group = session.scalar(sql.select(Group).where(Group.name == wish.course))
    if group is None:
        group = Group(name=wish.course, **quotas)
        session.add(group)
    now = time.time()
    out = []
    for k in range(wish.accounts):
        name, password = f"{wish.course}-{k + 1:02d}", new_secret()[:14]
        _refuse_known(session, name)
        account = User(name=name, created=now, expires=now + 86400 * wish.days, password=hashed(password), group=group)
        account.cores_percent = wish.each_percent
        session.add(account)
        out.append(CourseAccount(name=name, password=password))
    who.did(session, "made a course", f"group {wish.course}", after=wish.model_dump(exclude={"course"}))
    return out


@router.get("/groups")
def list_groups(who: Administrator, session: Reading) -> list[GroupView]:
    """Every group."""
    del who
    rows = session.execute(
        sql.select(Group, sql.func.count(User.id)).outerjoin(User, User.group_id == Group.id).group_by(Group.id)
    )
    return [_group_view(group, members) for group, members in rows]


@router.post("/groups", status_code=201)
def add_group(wish: GroupWish, who: Administrator, session: Writing) -> GroupView:
    """Make a group."""
    if session.scalar(sql.select(Group.id).where(Group.name == wish.name)):
        raise HTTPException(409, f"there is a group {wish.name}")
    group = Group(**wish.model_dump())
    session.add(group)
    session.flush()
    who.did(session, "made a group", f"group {wish.name}", after=wish.model_dump())
    return _group_view(group, 0)


@router.put("/groups/{number}")
def change_group(number: Number, wish: Quotas, who: Administrator, session: Writing) -> GroupView:
    """Set the limits of a group."""
    group = session.get(Group, number)
    if group is None:
        raise HTTPException(404, "no such group")
    given = wish.model_dump()
    before = {name: getattr(group, name) for name in given}
    for name, value in given.items():
        setattr(group, name, value)
    who.did(session, "changed a group", f"group {group.name}", before=before, after=given)
    members = session.scalar(sql.select(sql.func.count(User.id)).where(User.group_id == number)) or 0
    return _group_view(group, members)


@router.get("/use")
def see_use(
    who: Administrator,
    session: Reading,
    since: Annotated[float, Query(ge=0, le=1e11)] = 0.0,
    until: Annotated[float, Query(ge=0, le=1e11)] = 1e11,
    by: Literal["user", "group"] = "user",
) -> list[UseRow]:
    """What every account, or every group, used by jobs submitted between two times, and the disk that it takes now."""
    del who
    total = sql.func.coalesce
    sums = (
        sql.func.count(Job.id),
        total(sql.func.sum(sql.case((Job.state == "FAIL", 1), else_=0)), 0),
        total(sql.func.sum(Job.core_seconds), 0.0),
        total(sql.func.sum(Job.cpu_seconds), 0.0),
        total(sql.func.sum(Job.gpu_seconds), 0.0),
    )
    each = Job.owner_id if by == "user" else User.group_id
    query = sql.select(each, *sums).join(User, User.id == Job.owner_id)
    query = query.where(Job.created >= since, Job.created < until).group_by(each)
    names: dict[int | None, tuple[str, str | None]] = {None: ("", None)}
    if by == "user":
        names |= {u.id: (u.name, u.group.name if u.group else None) for u in session.scalars(sql.select(User))}
    else:
        names |= {group.id: ("", group.name) for group in session.scalars(sql.select(Group))}
    sizes = disk.bytes_by_user(session) if by == "user" else disk.bytes_by_group(session)
    used = {row[0]: row[1:] for row in session.execute(query)}
    return [
        UseRow(
            user=names[one][0], group=names[one][1], jobs=jobs, failed=failed, core_hours=core / 3600,
            cpu_hours=cpu / 3600, gpu_hours=gpu / 3600, disk_gb=sizes.get(one, 0) / 1e9,
        )
        for one, (jobs, failed, core, cpu, gpu) in ((one, used.get(one, (0, 0, 0.0, 0.0, 0.0))) for one in used | sizes)
    ]  # fmt: skip


@router.get("/audit")
def see_audit(
    who: Administrator,
    session: Reading,
    user: Annotated[str, Query(max_length=200)] = "",
    action: Annotated[str, Query(max_length=200)] = "",
    before: Annotated[int, Query(ge=1, le=2**31 - 1)] | None = None,
    most: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> list[AuditView]:
    """What was done, newest first."""
    del who
    query = sql.select(AuditLine).order_by(AuditLine.id.desc()).limit(most)
    query = query.where(AuditLine.user == user) if user else query
    query = query.where(AuditLine.action.icontains(action, autoescape=True)) if action else query
    query = query.where(AuditLine.id < before) if before is not None else query
    names = list(AuditView.model_fields)
    return [AuditView(**{name: getattr(line, name) for name in names}) for line in session.scalars(query)]


@router.post("/announcements", status_code=201)
def announce(wish: NewsWish, who: Administrator, session: Writing) -> NewsView:
    """Announce something to everybody."""
    row = Announcement(**wish.model_dump(), created=time.time())
    session.add(row)
    session.flush()
    notices.announced(session, wish.text)
    who.did(session, "announced", f"announcement {row.id}", after={"text": wish.text})
    return _news(row)


@router.delete("/announcements/{number}", status_code=204)
def take_back(number: Number, who: Administrator, session: Writing) -> None:
    """Delete an announcement."""
    row = session.get(Announcement, number)
    if row is None:
        raise HTTPException(404, "no such announcement")
    session.delete(row)
    who.did(session, "took back", f"announcement {number}", before={"text": row.text})


@router.post("/backup", status_code=201)
def make_backup(who: Administrator, platform: Here) -> Backup:
    """A copy of the database beside it (SQLite), while everything goes on."""
    path = back_up(platform.database, platform.home)
    with platform.database.writing() as session:
        who.did(session, "made a backup", path.name)
    return Backup(file=str(path), bytes=path.stat().st_size, command=put_back(platform.home, path))


@news.get("")
def list_news(who: Somebody, session: Reading) -> list[NewsView]:
    """What everybody should know now."""
    del who
    now = time.time()
    current = sql.or_(Announcement.until.is_(None), Announcement.until > now)
    return [_news(a) for a in session.scalars(sql.select(Announcement).where(current).order_by(Announcement.id.desc()))]


def _user(session: Reading, number: int) -> User:
    user = session.get(User, number)
    if user is None:
        raise HTTPException(404, "no such account")
    return user


def _refuse_known(session: Reading, name: str) -> None:
    if session.scalar(sql.select(User.id).where(User.name == name)):
        raise HTTPException(409, f"there is an account {name}")


def _refuse_unix_account(session: Reading, name: str | None, user: User | None) -> None:
    """See that jobs of a user (None: a new one) may run under a Unix account.

    Raises:
        HTTPException: 409 it is another user's.
        SettingsError: it is none of a person.
    """
    if name is None or (user is not None and user.unix_account == name):
        return
    account_named(name)
    whose = session.scalar(sql.select(User.name).where(User.unix_account == name))
    if whose is not None:
        raise HTTPException(409, f"unix_account = {name}: jobs of {whose} run under it; two users cannot share one")


def _group(session: Reading, name: str | None) -> Group | None:
    if name is None:
        return None
    group = session.scalar(sql.select(Group).where(Group.name == name))
    if group is None:
        raise HTTPException(404, f"no group {name}")
    return group


def _account(user: User, known: Identity | None, seen: float | None = None) -> AccountView:
    names = set(AccountView.model_fields) - {"group", "has_password", "invited", "sign_on", "seen"}
    return AccountView(
        **{name: getattr(user, name) for name in names},
        group=user.group.name if user.group else None,
        has_password=user.password is not None,
        invited=known.invited if known else None,
        sign_on=known.name if known and known.subject else None,
        seen=seen,
    )


def _group_view(group: Group, members: int) -> GroupView:
    return GroupView(
        id=group.id, name=group.name, members=members, **{name: getattr(group, name) for name in Quotas.model_fields}
    )  # fmt: skip


def _news(row: Announcement) -> NewsView:
    return NewsView(id=row.id, text=row.text, level=row.level, created=row.created, until=row.until)
