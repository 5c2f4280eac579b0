"""Find anything by one text."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from rutile.server.finding import Hit, everything
from rutile.server.people import Reading, Somebody

router = APIRouter(prefix="/search", tags=["search"])


@router.get("")
def find_everything(
    who: Somebody,
    session: Reading,
    text: Annotated[str, Query(min_length=1, max_length=200)],
    most: Annotated[int, Query(ge=1, le=50)] = 5,
) -> list[Hit]:
    """Jobs, searches, data sets, models, structures and tasks that one may see with a text in them."""
    return everything(session, text.strip() or text, who.user, most)
