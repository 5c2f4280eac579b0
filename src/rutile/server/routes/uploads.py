"""Files on their way here: in pieces, so that an upload that broke off goes on where it was."""

from __future__ import annotations

import os
import secrets
import time
from typing import Annotated

import sqlalchemy as sql
from fastapi import APIRouter, HTTPException, Query, Request
from fastapi import Path as InPath
from fastapi.concurrency import run_in_threadpool
from pydantic import Field
from sqlalchemy.orm import Session

from rutile.core.settings import Result, Settings
from rutile.jobs import queue
from rutile.jobs.data_sets import sha256_of
from rutile.jobs.sources import file_name
from rutile.jobs.tables import Upload
from rutile.server import shapes
from rutile.server.frames import FrameView, frame_view
from rutile.server.people import Here, Reading, Somebody, Who, Writing
from rutile.server.platform import Platform
from rutile.server.routes.structures import named_shelf
from rutile.server.shapes import FrameNumber, Name

router = APIRouter(prefix="/uploads", tags=["uploads"])
UploadId = Annotated[str, InPath(min_length=24, max_length=24, pattern="^[0-9a-f]+$")]
LIVES = 7 * 86400.0
"""An upload is forgotten after so long (s); what was made of it stays."""
MOST = 200
"""Uploads of one account at a time."""


class UploadWish(Settings):
    """A file that will come."""

    name: Name
    """Its name; the ending says what it is."""
    size: Annotated[int, Field(ge=0, le=2**50)]
    """Bytes."""


class UploadView(Result):
    """How far an upload is."""

    id: str
    """To be named as upload:ID."""
    name: str
    """Of the file."""
    size: int
    """Bytes that it will have."""
    received: int
    """Bytes that are here: send those that follow."""
    sha256: str
    """Of the content, once all is here."""


@router.post("", status_code=201)
def begin_upload(wish: UploadWish, who: Somebody, platform: Here, session: Writing) -> UploadView:
    """Announce a file; then send its pieces."""
    if not wish.size:
        raise HTTPException(422, f"{wish.name}: the file is empty (0 bytes): choose another")
    limit = platform.settings.upload_limit * 1e9
    if wish.size > limit:
        raise HTTPException(413, f"a file may have {limit / 1e9:g} GB at most")
    _forget_old(session, platform)
    shapes.refuse_without_room(session, who, wish.size)
    mine = session.scalar(sql.select(sql.func.count()).where(Upload.owner_id == who.user.id)) or 0
    if mine >= MOST:
        raise HTTPException(409, f"{MOST} uploads of yours are here already: delete some")
    upload = Upload(
        id=secrets.token_hex(12), owner_id=who.user.id, name=file_name(wish.name), size=wish.size, received=0,
        created=time.time(), sha256="",
    )  # fmt: skip
    session.add(upload)
    platform.home.upload(upload.id).touch(mode=0o600)
    who.did(session, "began an upload", f"upload {upload.id}", after={"name": upload.name, "size": wish.size})
    return _view(upload)


@router.get("")
def list_uploads(who: Somebody, session: Reading) -> list[UploadView]:
    """One's uploads, newest first."""
    rows = session.scalars(sql.select(Upload).where(Upload.owner_id == who.user.id).order_by(Upload.created.desc()))
    return [_view(u) for u in rows]


@router.get("/{id}")
def see_upload(id: UploadId, who: Somebody, session: Reading) -> UploadView:
    """How far an upload is."""
    return _view(_mine(session, id, who))


@router.put("/{id}")
async def send_piece(
    id: UploadId, request: Request, who: Somebody, platform: Here, offset: Annotated[int, Query(ge=0, le=2**50)]
) -> UploadView:
    """The bytes that follow at an offset; one that is not where the upload is, is refused with 409."""
    body = await request.body()
    return await run_in_threadpool(_keep, platform, id, who, offset, body)


@router.get("/{id}/frames/{frame}")
def see_frame(id: UploadId, frame: FrameNumber, who: Somebody, platform: Here, session: Reading) -> FrameView:
    """One structure of a file that is all here."""
    upload = complete(session, id, who)
    return frame_view(named_shelf(platform, platform.home.upload(upload.id), upload.name), frame)


@router.delete("/{id}", status_code=204)
def delete_upload(id: UploadId, who: Somebody, platform: Here, session: Writing) -> None:
    """Forget an upload that no job is to read."""
    queue.refuse_in_use(session, f"upload:{id}")
    session.delete(_mine(session, id, who))
    platform.home.upload(id).unlink(missing_ok=True)


def _keep(platform: Platform, id: str, who: Who, offset: int, body: bytes) -> UploadView:
    with platform.database.writing() as session:
        upload = _mine(session, id, who)
        if offset != upload.received:
            raise HTTPException(409, f"send the bytes from {upload.received} on")
        if offset + len(body) > upload.size:
            raise HTTPException(413, f"the file was to have {upload.size} bytes")
        path = platform.home.upload(id)
        with path.open("r+b") as file:
            file.seek(offset)
            file.write(body)
            file.truncate()
            file.flush()
            os.fsync(file.fileno())
        upload.received = offset + len(body)
        if upload.received == upload.size:
            upload.sha256 = sha256_of(path)
        return _view(upload)


def _mine(session: Session, id: str, who: Who) -> Upload:
    upload = session.get(Upload, id)
    if upload is None or upload.owner_id != who.user.id:
        raise HTTPException(404, "no such upload of yours")
    return upload


def complete(session: Session, id: str, who: Who) -> Upload:
    """An upload that is all here.

    Raises:
        HTTPException: 404 none of theirs; 409 some of it is missing.
    """
    upload = _mine(session, id, who)
    if upload.received != upload.size:
        raise HTTPException(409, f"upload {id} is not complete: {upload.received} of {upload.size} bytes")
    return upload


def _forget_old(session: Session, platform: Platform) -> None:
    read = {queue.thing_of(one) for _, _, one in queue.being_read(session)}
    for upload in session.scalars(sql.select(Upload).where(Upload.created < time.time() - LIVES)):
        if f"upload:{upload.id}" in read:
            continue
        platform.home.upload(upload.id).unlink(missing_ok=True)
        session.delete(upload)


def _view(upload: Upload) -> UploadView:
    return UploadView(id=upload.id, name=upload.name, size=upload.size, received=upload.received, sha256=upload.sha256)
