"""Find anything by one text, and what is used most."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from rutile.server.finding import Hit, everything
from rutile.server.hot import Hot, hottest
from rutile.server.people import Reading, Somebody

router = APIRouter(tags=["search"])


@router.get("/search")
def find_everything(
    who: Somebody,
    session: Reading,
    text: Annotated[str, Query(min_length=1, max_length=200)],
    most: Annotated[int, Query(ge=1, le=50)] = 5,
) -> list[Hit]:
    """Jobs, searches, data sets, models, structures, templates and tasks that one may see with a text in them."""
    return everything(session, text.strip() or text, who.user, most)


@router.get("/hot")
def most_used(who: Somebody, session: Reading, most: Annotated[int, Query(ge=1, le=50)] = 5) -> Hot:
    """Tasks, models, data sets and templates that jobs of the last month used most, of those that one may see."""
    return hottest(session, who.user, most)
