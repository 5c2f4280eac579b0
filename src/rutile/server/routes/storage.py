"""What takes space, and removing some of it: one's own, or everybody's for administrators."""

from __future__ import annotations

import time
from typing import Annotated, Literal

from fastapi import APIRouter, HTTPException, Query
from pydantic import Field

from rutile.core.settings import Result, Settings
from rutile.jobs.tables import ADMIN
from rutile.server import storage
from rutile.server.people import MANAGE, Here, Reading, Somebody, Writing

router = APIRouter(prefix="/storage", tags=["storage"])


class FreeWish(Settings):
    """What is to be removed."""

    references: Annotated[list[Annotated[str, Field(max_length=100)]], Field(min_length=1, max_length=500)]
    """As listed."""
    sure: bool = False
    """Do it; otherwise it is only said what it would free."""


class FreeView(Result):
    """What was removed, or would be."""

    bytes: int
    """All together."""
    freed: dict[str, int]
    """Reference -> bytes."""
    problems: list[str]
    """Why others are not removed."""
    done: bool
    """Whether it was done."""


@router.get("")
def list_pieces(
    who: Somebody,
    session: Reading,
    kind: Literal["job", "files", "version", "upload"] = "job",
    everybody: bool = False,
    days: Annotated[float, Query(ge=0, le=100_000)] = 0.0,
    most: Annotated[int, Query(ge=1, le=500)] = 100,
) -> list[storage.Piece]:
    """What takes space and could be removed, older than some days, the largest first. `files`: those of failed jobs."""
    if everybody and (who.user.role != ADMIN or MANAGE not in who.scopes):
        raise HTTPException(403, "only administrators see what is others'")
    return storage.pieces(session, None if everybody else who.user, kind, time.time() - 86400 * days, most)


@router.post("/free")
def free_space(wish: FreeWish, who: Somebody, platform: Here, session: Writing) -> FreeView:
    """Remove things for good, or say what that would free."""
    freed, problems = storage.free(session, platform, who.user, wish.references, wish.sure)
    if wish.sure:
        for reference, size in freed.items():
            who.did(session, "freed space", reference, before={"bytes": size})
    return FreeView(bytes=sum(freed.values()), freed=freed, problems=problems, done=wish.sure)
