"""The list of jobs as a file: every row that fits a filter, a few at a time, so that none of it is held at once."""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Iterable, Iterator
from typing import Any, Literal

from rutile.server.job_list import Filter, numbers_of
from rutile.server.job_views import JobRow, rows_of
from rutile.server.people import Who
from rutile.server.platform import Platform

AT_ONCE = 500
"""Jobs that are read at a time; in between others may write."""
FORMULAS = ("=", "+", "-", "@", "\t")
"""How texts begin that a spreadsheet would compute; in CSV an apostrophe comes before them."""


class Export(Filter):
    """Which jobs are written, in which order, and how."""

    format: Literal["csv", "json"] = "csv"
    """A table, or an array of objects."""


def exported(platform: Platform, filter: Filter, who: Who) -> Iterator[JobRow]:
    """All jobs that fit, in order; page and size do not count, and jobs that are deleted meanwhile are left out."""
    with platform.database.reading() as session:
        numbers = numbers_of(session, filter, who)
    for some in (numbers[k : k + AT_ONCE] for k in range(0, len(numbers), AT_ONCE)):
        with platform.database.reading() as session:
            yield from rows_of(session, some, who)


def as_json(rows: Iterable[JobRow]) -> Iterator[str]:
    """One array of objects, a row on a line."""
    yield "["
    for before, row in zip(itertools.chain([""], itertools.repeat(",")), rows, strict=False):
        yield f"{before}\n{row.model_dump_json()}"
    yield "\n]\n"


def as_csv(rows: Iterable[JobRow]) -> Iterator[str]:
    """A table with a line of titles; times are seconds since 1970, tags are parted by blanks."""
    yield _line(JobRow.model_fields)
    for row in rows:
        yield _line(_cell(value) for value in row.model_dump().values())


def _cell(value: Any) -> Any:
    text = " ".join(value) if isinstance(value, list) else value
    return f"'{text}" if isinstance(text, str) and text.startswith(FORMULAS) else text


def _line(cells: Iterable[Any]) -> str:
    out = io.StringIO()
    csv.writer(out).writerow(cells)
    return out.getvalue()


WAYS = {"csv": (as_csv, "text/csv; charset=utf-8"), "json": (as_json, "application/json")}
"""Forms of the file, with their media types."""
