"""Which account somebody has whom the provider of single sign-on knows, and what it may do.

An account is found by issuer and subject alone. Names and mail addresses at a provider change hands: nobody becomes
the owner of an account by having the same. The one exception is an invitation by an administrator, which holds for a
verified address, once.
"""

from __future__ import annotations

import time

import sqlalchemy as sql
from fastapi import HTTPException
from sqlalchemy.orm import Session

from rutile.jobs.rights import ended
from rutile.jobs.tables import ADMIN, USER, VIEWER, ApiToken, Group, Identity, SignIn, User
from rutile.server.platform import free_name, note
from rutile.server.settings import SignOnSettings
from rutile.server.sign_on import RefusedError, Told

NONE = "none"


def entered(session: Session, told: Told, settings: SignOnSettings, address: str) -> User:
    """The account of somebody who signs in, with the role and group that the provider gives them now.

    Args:
        session: that writes; what it wrote is to be kept also where somebody is refused.
        told: by the provider.
        settings: how roles and groups follow.
        address: from where, for the audit log.

    Raises:
        RefusedError: stranger, closed, nobody.
    """
    row = _known(session, told, settings) or _invited(session, told, settings)
    user = session.get_one(User, row.user_id) if row else _newcomer(session, told, settings, address)
    if ended(user):
        raise RefusedError("closed")
    _follow(session, user, told, settings, address)
    row = session.get_one(Identity, user.id)
    row.name, row.used = told.name, time.time()
    return user


def connect(session: Session, user: User, told: Told, settings: SignOnSettings) -> None:
    """Let somebody sign in to an account of theirs that they are in already.

    Raises:
        RefusedError: taken: they have another account here.
    """
    known = _known(session, told, settings)
    if known is not None and known.user_id != user.id:
        raise RefusedError("taken")
    _bind(session, user, settings, subject=told.subject, name=told.name)


def invite(session: Session, user: User, mail: str | None, settings: SignOnSettings | None) -> None:
    """Let whoever has a verified mail address become a user, once; None: nobody signs in so any more.

    Raises:
        HTTPException: 409: there is no single sign-on, or the address is invited already.
    """
    if mail is None:
        session.execute(sql.delete(Identity).where(Identity.user_id == user.id))
        return
    if settings is None:
        raise HTTPException(409, "nobody can be invited: this server has no single sign-on (setting sign_on)")
    mail = mail.lower()
    asked = sql.select(Identity.user_id).where(Identity.issuer == settings.issuer, Identity.invited == mail)
    if session.scalar(asked) not in (None, user.id):
        raise HTTPException(409, f"{mail} is invited already, to another account")
    _bind(session, user, settings, invited=mail)


def _bind(session: Session, user: User, settings: SignOnSettings, **what: str) -> Identity:
    """One identity for each user: it takes the place of the one before."""
    session.execute(sql.delete(Identity).where(Identity.user_id == user.id))
    row = Identity(user_id=user.id, issuer=settings.issuer, created=time.time(), **what)
    session.add(row)
    session.flush()
    return row


def _known(session: Session, told: Told, settings: SignOnSettings) -> Identity | None:
    asked = sql.select(Identity).where(Identity.issuer == settings.issuer, Identity.subject == told.subject)
    return session.scalar(asked)


def _invited(session: Session, told: Told, settings: SignOnSettings) -> Identity | None:
    """The invitation of a verified address, which is used up by it."""
    asked = sql.select(Identity).where(Identity.issuer == settings.issuer, Identity.invited == told.mail)
    row = session.scalar(asked) if told.mail else None
    if row is not None:
        row.subject, row.invited = told.subject, None
    return row


def _newcomer(session: Session, told: Told, settings: SignOnSettings, address: str) -> User:
    """A new account, where strangers get one."""
    role = role_of(told, settings)
    if not settings.unknown:
        raise RefusedError("stranger")
    if role == NONE:
        raise RefusedError("nobody")
    user = User(name=free_name(session, told.name), full_name=told.full_name, role=role, created=time.time())
    session.add(user)
    session.flush()
    _bind(session, user, settings, subject=told.subject)
    note(session, user.name, "made an account", f"user {user.name}", address, after={"by": settings.issuer})
    return user


def role_of(told: Told, settings: SignOnSettings) -> str:
    """The highest role that groups give, or that of everybody in none of them."""
    given = {settings.roles[group] for group in told.groups if group in settings.roles}
    return next((role for role in (ADMIN, USER, VIEWER) if role in given), settings.role)


def _follow(session: Session, user: User, told: Told, settings: SignOnSettings, address: str) -> None:
    """Give and take what the provider's groups decide; where they decide nothing, administrators do."""
    before = {"role": user.role, "group": user.group.name if user.group else None}
    after = dict(before)
    if settings.groups:
        after["group"] = next((here for there, here in settings.groups.items() if there in told.groups), None)
        user.group = _group(session, after["group"])
    role = role_of(told, settings) if settings.roles else user.role
    after["role"] = user.role = VIEWER if role == NONE else role
    if after != before:
        note(session, user.name, "changed an account", f"user {user.name}", address, before, after)
    if role == NONE:
        for kind in (SignIn, ApiToken):
            session.execute(sql.delete(kind).where(kind.user_id == user.id))
        raise RefusedError("nobody")


def _group(session: Session, name: str | None) -> Group | None:
    if name is None:
        return None
    group = session.scalar(sql.select(Group).where(Group.name == name))
    if group is None:
        group = Group(name=name)
        session.add(group)
    return group
