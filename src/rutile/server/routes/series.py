"""What a job says while it is at work: its log, its curves, what it uses; as pieces or as a stream."""

from __future__ import annotations

import asyncio
import codecs
import functools
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import Response, StreamingResponse

from rutile.core.settings import Result
from rutile.jobs import folder as kept
from rutile.jobs.series import Columns, thinned
from rutile.jobs.tables import ENDED, Job
from rutile.server import shapes
from rutile.server.job_views import rows_of
from rutile.server.people import Here, Reading, Somebody, Who
from rutile.server.platform import Platform
from rutile.server.shapes import Number

router = APIRouter(prefix="/jobs/{number}", tags=["series"])
PIECE = 64_000
"""Bytes of a log that one answer holds."""
BLOCK = 4_000_000
"""Bytes of a log that are searched at a time."""
EVERY = 1.0
"""Seconds between two looks of a stream."""
LONGEST = 3600.0
"""A stream ends after so long (s); the page opens another one."""
MOST_COLUMNS = 200


class LogPiece(Result):
    """A piece of a log."""

    text: str
    """What it says."""
    offset: int
    """Where the piece begins (bytes)."""
    next: int
    """Where to go on."""
    size: int
    """Bytes of the whole log so far."""


class Hit(Result):
    """A line that was searched for."""

    line: int
    """Number of the line; the first one is 1."""
    offset: int
    """Where it begins (bytes)."""
    text: str
    """The line."""


class Hits(Result):
    """Lines that were searched for."""

    hits: list[Hit]
    """The first ones."""
    more: bool
    """Whether there are others."""


class Series(Result):
    """Columns of numbers over the rows that a job wrote."""

    rows: int
    """Rows that there are."""
    index: list[int]
    """Which of them these are: of every bucket those with the smallest and largest values."""
    columns: dict[str, list[float | None]]
    """Name -> value in each of these rows."""


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
    text: Annotated[str, Query(min_length=1, max_length=200)],
    most: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> Hits:
    """Lines of the log that hold a text, upper or lower case."""
    job = shapes.seen(session, Job, number, who)
    return search_lines(platform.home.job(job.id) / kept.LOG, text, most)


@router.get("/log/download", response_class=Response)
def download_log(number: Number, who: Somebody, platform: Here, session: Reading) -> Response:
    """The whole log."""
    from rutile.server.routes.files import LOCKED, pieces

    path = platform.home.job(shapes.seen(session, Job, number, who).id) / kept.LOG
    headers = LOCKED | {"Content-Disposition": f'attachment; filename="job-{number}.log"'}
    body: Any = pieces(path.open("rb")) if path.exists() else iter(())
    return StreamingResponse(body, media_type="text/plain; charset=utf-8", headers=headers)


@router.get("/metrics")
def read_metrics(
    number: Number,
    who: Somebody,
    platform: Here,
    session: Reading,
    points: Annotated[int, Query(ge=10, le=20_000)] = 1000,
) -> Series:
    """What the task reports: losses and errors of every epoch, or whatever it measures."""
    job = shapes.seen(session, Job, number, who)
    return series_of(platform.home.job(job.id) / kept.METRICS, points)


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
        with path.open("rb") as file:
            file.seek(place)
            data = file.read(1_000_000)
    except FileNotFoundError:
        return place, []
    whole = data[: data.rfind(b"\n") + 1]
    return place + len(whole), [json.loads(line) for line in whole.splitlines() if line.startswith(b"{")]


def log_piece(path: Path, offset: int, limit: int) -> LogPiece:
    """A piece of a text file, cut between signs.

    Args:
        path: of the file; one that does not exist is empty.
        offset: where to begin (bytes); negative: from the end.
        limit: bytes at most.
    """
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            start = max(0, size + offset) if offset < 0 else min(offset, size)
            file.seek(start)
            data = file.read(limit)
    except FileNotFoundError:
        return LogPiece(text="", offset=0, next=0, size=0)
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    text = decoder.decode(data)
    left = len(decoder.getstate()[0])  # of a sign that goes on in the next piece
    return LogPiece(text=text, offset=start, next=start + len(data) - left, size=size)


def search_lines(path: Path, text: str, most: int) -> Hits:
    """Lines of a file that hold a text, upper or lower case; many lines at a time, so that a gigabyte takes seconds."""
    wanted = text.lower().encode()
    hits: list[Hit] = []
    number, offset = 1, 0
    for block in _whole_lines(path):
        low = block.lower()
        counted = place = 0
        while (at := low.find(wanted, place)) >= 0:
            if len(hits) == most:
                return Hits(hits=hits, more=True)
            start = low.rfind(b"\n", 0, at) + 1
            number, counted = number + low.count(b"\n", counted, start), start
            place = end if (end := low.find(b"\n", at)) >= 0 else len(low)
            shown = block[start : min(place, start + 1000)].decode(errors="replace")
            hits.append(Hit(line=number, offset=offset + start, text=shown))
        number, offset = number + low.count(b"\n", counted), offset + len(block)
    return Hits(hits=hits, more=False)


def _whole_lines(path: Path) -> Iterator[bytes]:
    """A file in blocks that end with a line."""
    left = b""
    try:
        with path.open("rb") as file:
            while data := file.read(BLOCK):
                cut = data.rfind(b"\n") + 1
                if cut:
                    yield left + data[:cut]
                    left = data[cut:]
                else:
                    left += data
    except FileNotFoundError:
        return
    if left:
        yield left


def series_of(path: Path, points: int) -> Series:
    """A file of JSON lines as columns that can be drawn."""
    columns, count = _columns(path).look()
    index, thin = thinned(columns, count, points)
    return Series(rows=count, index=index, columns=thin)


@functools.lru_cache(32)
def _columns(path: Path) -> Columns:
    """What has been read of a file stays, and only what is new is read."""
    return Columns(path, MOST_COLUMNS)
