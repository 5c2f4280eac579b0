"""Public data: sets of labelled structures that come with rutile, and those of others with licence and origin."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from rutile import starter
from rutile.core.settings import Result
from rutile.server.people import Somebody
from rutile.starter import public_sets

router = APIRouter(prefix="/resources", tags=["datasets"])


class Resource(Result):
    """A set of labelled structures that anybody may have."""

    name: str
    """As people call it; of one that comes with rutile, the name in `names` of the task `starter`."""
    comes: bool
    """Whether it comes with rutile: the task `starter` copies it."""
    what: str
    """What kind of structures, in one line."""
    elements: list[str]
    """Symbols; none: most of the periodic table."""
    method: str
    """Level of theory, and code."""
    frames: str
    """How many structures with labels."""
    licence: str
    """Terms of use, as its authors state them."""
    doi: str = ""
    """Of the paper to cite."""
    files: str = ""
    """Where the files are."""
    command: str
    """What rutile does with the files."""


@router.get("")
def public_data(
    who: Somebody,
    elements: Annotated[str, Query(max_length=500, pattern=r"^([A-Z][a-z]?(,[A-Z][a-z]?)*)?$")] = "",
) -> list[Resource]:
    """Public sets that may hold structures with all these elements, those that come with rutile first."""
    del who
    wanted = [symbol for symbol in elements.split(",") if symbol]
    own = [_own(name) for name in starter.SETS if set(wanted) <= set(starter.elements(name))]
    return [*own, *(_of_others(one) for one in public_sets.that_hold(wanted))]


def _own(name: str) -> Resource:
    about = starter.provenance(name)
    return Resource(
        name=name, comes=True, what=about["what"], elements=list(starter.elements(name)), method=about["calc_mode"],
        frames=str(about["frames"]), licence=about["licence"], command=f"rutile starter {name}",
    )  # fmt: skip


def _of_others(one: public_sets.PublicSet) -> Resource:
    return Resource(
        name=one.name, comes=False, what=one.what, elements=list(one.elements), method=one.method, frames=one.frames,
        licence=one.licence, doi=one.doi, files=one.files, command=one.command,
    )  # fmt: skip
