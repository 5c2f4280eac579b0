"""What a job says while it is at work: its log, its curves, what it uses; as pieces or as a stream."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import Response, StreamingResponse

from rutile.core.errors import SettingsError
from rutile.core.settings import Result
from rutile.jobs import folder as kept
from rutile.jobs.safe_files import open_regular
from rutile.jobs.tables import ENDED, Job
from rutile.server import shapes
from rutile.server.job_output import Hits, LogPiece, Search, Series, log_piece, search_lines, series_of
from rutile.server.job_views import rows_of
from rutile.server.log_levels import PATTERN, Wanted
from rutile.server.people import Here, Reading, Somebody, Who
from rutile.server.platform import Platform
from rutile.server.shapes import Number

router = APIRouter(prefix="/jobs/{number}", tags=["series"])
PIECE = 64_000
"""Bytes of a log that one answer holds."""
EVERY = 1.0
"""Seconds between two looks of a stream."""
LONGEST = 3600.0
"""A stream ends after so long (s); the page opens another one."""


class LogLevels(Result):
    """How lines of a log are told apart."""

    pattern: str
    """A regular expression, upper or lower case: group 1 is found in errors, group 2 in warnings."""


@router.get("/log")
def read_log(
    number: Number,
    who: Somebody,
    platform: Here,
    session: Reading,
    offset: Annotated[int, Query(ge=-(2**50), le=2**50)] = 0,
    limit: Annotated[int, Query(ge=1, le=1_000_000)] = PIECE,
) -> LogPiece:
    """A piece of the log; a negative offset counts from its end."""
    job = shapes.seen(session, Job, number, who)
    return log_piece(platform.home.job(job.id) / kept.LOG, offset, limit)


@router.get("/log/search")
def search_log(
    number: Number,
    who: Somebody,
    platform: Here,
    session: Reading,
    text: Annotated[str, Query(max_length=200)] = "",
    level: Annotated[Wanted, Query()] = "all",
    most: Annotated[int, Query(ge=1, le=1000)] = 100,
    last: Annotated[bool, Query()] = False,
    offset: Annotated[int, Query(ge=0, le=2**50)] = 0,
    line: Annotated[int, Query(ge=1, le=2**50)] = 1,
) -> Hits:
    """Lines of the log that hold a text, upper or lower case, and tell of errors or warnings, the first or the last.

    One answer looks through 256 MB; `offset` and `line` take `next` and `line` of the one before, to go on.
    """
    job = shapes.seen(session, Job, number, who)
    if not text and level == "all":
        raise SettingsError("text: a text or a level must be given")
    wanted = Search(text, level, most, last, offset, line)
    return search_lines(platform.home.job(job.id) / kept.LOG, wanted)


@router.get("/log/levels")
def see_levels(number: Number, who: Somebody, session: Reading) -> LogLevels:
    """How lines of the log are told apart: errors, warnings and others."""
    shapes.seen(session, Job, number, who)
    return LogLevels(pattern=PATTERN)


@router.get("/log/download", response_class=Response)
def download_log(number: Number, who: Somebody, platform: Here, session: Reading) -> Response:
    """The whole log."""
    from rutile.server.routes.files import LOCKED, pieces

    path = platform.home.job(shapes.seen(session, Job, number, who).id) / kept.LOG
    headers = LOCKED | {"Content-Disposition": f'attachment; filename="job-{number}.log"'}
    body: Any = iter(())
    with suppress(OSError):
        body = pieces(open_regular(path))
    return StreamingResponse(body, media_type="text/plain; charset=utf-8", headers=headers)


@router.get("/metrics")
def read_metrics(
    number: Number,
    who: Somebody,
    platform: Here,
    session: Reading,
    points: Annotated[int, Query(ge=10, le=20_000)] = 1000,
    bands: Annotated[bool, Query()] = False,
) -> Series:
    """What the task reports: losses and errors of every epoch, or whatever it measures.

    Of more rows than `points` those with the smallest and largest values; with `bands` means, and these values beside.
    """
    job = shapes.seen(session, Job, number, who)
    return series_of(platform.home.job(job.id) / kept.METRICS, points, bands)


@router.get("/performance")
def read_performance(
    number: Number,
    who: Somebody,
    platform: Here,
    session: Reading,
    points: Annotated[int, Query(ge=10, le=20_000)] = 1000,
) -> Series:
    """What it uses: seconds, cores, cpu_seconds, memory (GB), bytes read and written, processes, GPUs."""
    job = shapes.seen(session, Job, number, who)
    return series_of(platform.home.job(job.id) / kept.PERF, points)


@router.get("/events", response_class=Response)
async def follow_job(number: Number, request: Request, who: Somebody, platform: Here, offset: int = 0) -> Response:
    """A stream of events (SSE): `job` (its row), `log` (a piece, after `offset`), `metrics` (new rows), `end`."""
    await run_in_threadpool(_row, platform, number, who)  # 404 before the stream begins
    headers = {"X-Accel-Buffering": "no", "Cache-Control": "no-store"}
    stream = _events(platform, number, who, request, max(0, offset))
    return StreamingResponse(stream, media_type="text/event-stream", headers=headers)


async def _events(platform: Platform, number: int, who: Who, request: Request, offset: int) -> AsyncIterator[str]:
    folder = platform.home.job(number)
    before: dict[str, Any] = {}
    place = 0
    for _ in range(int(LONGEST / EVERY)):
        row = await run_in_threadpool(_row, platform, number, who)
        if row != before:
            before = row
            yield event("job", row)
        piece = await run_in_threadpool(log_piece, folder / kept.LOG, offset, PIECE)
        if piece.text:
            offset = piece.next
            yield event("log", piece.model_dump())
        place, lines = await run_in_threadpool(_new_lines, folder / kept.METRICS, place)
        if lines:
            yield event("metrics", lines)
        if row["state"] in ENDED and not piece.text:
            yield event("end", {"state": row["state"]})
            return
        if await request.is_disconnected():
            return
        if not piece.text:
            yield ": still here\n\n"
            await asyncio.sleep(EVERY)


def event(name: str, data: Any) -> str:
    """One event of a stream."""
    return f"event: {name}\ndata: {json.dumps(data)}\n\n"


def _row(platform: Platform, number: int, who: Who) -> dict[str, Any]:
    with platform.database.reading() as session:
        row = rows_of(session, [shapes.seen(session, Job, number, who).id], who)[0].model_dump(mode="json")
    return row | {"ran": None if row["ran"] is None else round(row["ran"]), "waited": round(row["waited"])}


def _new_lines(path: Path, place: int) -> tuple[int, list[Any]]:
    """Whole lines after a place (bytes)."""
    try:
        with open_regular(path) as file:
            file.seek(place)
            data = file.read(1_000_000)
    except OSError:
        return place, []
    whole = data[: data.rfind(b"\n") + 1]
    return place + len(whole), [json.loads(line) for line in whole.splitlines() if line.startswith(b"{")]
