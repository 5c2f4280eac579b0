"""The folder of a job: everything true about it is here, also when no server and no database is.

job.json       what to do (written by the server)
began          who does it: made once, so that a job is never done twice
status.json    how far it is (written by its supervisor, whole each time)
log.txt        what it prints
perf.jsonl     processor, memory, input and output, sampled
metrics.jsonl, progress.json   what the task reports
made_with.json   versions of the programs that it ran with, and its seed
cancel         a file: please end
connection.json, door.json   of a notebook: see core.connection; nobody else can read them, and no route shows them
files/         the folder that the task works in: its settings, inputs and results
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rutile.jobs.safe_files import open_regular

JOB, BEGAN, STATUS, LOG, PERF = "job.json", "began", "status.json", "log.txt", "perf.jsonl"
METRICS, PROGRESS, STOP, FILES, SETTINGS, INPUTS = (
    "metrics.jsonl", "progress.json", "cancel", "files", "settings.json", "inputs",
)  # fmt: skip
STATES = ("RUNNING", "DONE", "FAIL", "CANCEL")
"""Of a status."""
VARIABLE = "RUTILE_JOB"
"""The variable by which the command line knows that it is a job, and where it reports to."""
MADE_WITH = "made_with.json"
RESULT = "result.json"
"""In the job's own folder: what the task returned."""
LARGEST = 200_000_000
"""Bytes of a file that is read at once."""


@dataclass(frozen=True)
class Order:
    """What a supervisor has to do."""

    argv: list[str]
    """Program and words; no shell reads them."""
    environment: dict[str, str]
    """All that the program sees."""
    cores: int = 1
    memory: float | None = None
    """GB; more ends the job."""
    wall_time: float | None = None
    """Seconds; a job that takes longer is ended."""
    grace: float = 20.0
    """Seconds between asking to end and ending."""
    enclosed: bool = False
    """Whether the program is a sandbox: what is to be asked to end runs in it."""
    shared: bool = False
    """Whether it runs under an account of its own: the server may read and remove what it wrote, too."""


@dataclass(frozen=True)
class Status:
    """How far a job is."""

    state: str
    """RUNNING, or how it ended: DONE, FAIL, CANCEL."""
    pid: int
    """Of the supervisor."""
    born: float
    """When that process began: numbers of processes are used again."""
    host: str
    started: float
    seen: float
    """When this was written."""
    ended: float | None = None
    exit_code: int | None = None
    reason: str = ""
    cpu_seconds: float = 0.0
    peak_memory: float = 0.0
    """GB."""
    extra: dict[str, Any] = field(default_factory=dict)


def write_json(path: Path, value: Any) -> None:
    """Replace a file: who reads it sees the old or the new one (no flush to the disk: it is written every second)."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(value), encoding="utf-8")
    temporary.replace(path)


def read_json(path: Path) -> dict[str, Any] | None:
    """What a file holds; None where there is none, or none that can be read."""
    try:
        with open_regular(path) as file:
            found = json.loads(file.read(LARGEST))
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def read_status(folder: Path) -> Status | None:
    """How far a job is; None before its supervisor has begun, or where something else than it wrote there."""
    found = read_json(folder / STATUS)
    try:
        status = Status(**found) if found else None
        return status if status is not None and _is_sound(status) else None
    except TypeError:
        return None


def _is_sound(status: Status) -> bool:
    """Whether a status holds what a supervisor writes: a job that runs under another account can write it, too."""
    texts = (status.host, status.reason)
    times = (status.born, status.started, status.seen, status.ended or 0.0, status.cpu_seconds, status.peak_memory)
    whole = (status.pid, status.exit_code or 0)
    return (
        status.state in STATES
        and all(isinstance(text, str) and len(text) < 10_000 and is_plain(text) for text in texts)
        and all(isinstance(number, int | float) and 0 <= number < 1e12 for number in times)
        and all(isinstance(number, int) and abs(number) < 2**31 for number in whole)
        and isinstance(status.extra, dict)
    )


def is_plain(text: str) -> bool:
    """Whether every database can keep a text: no zero, and nothing that is no sign."""
    return "\0" not in text and not any("\ud800" <= sign <= "\udfff" for sign in text)


def write_status(folder: Path, status: Status) -> None:
    """Say how far a job is."""
    write_json(folder / STATUS, asdict(status))


def prepare(folder: Path, order: Order, settings: dict[str, Any]) -> None:
    """Make the folder of a job before it is started; doing it again changes nothing.

    Args:
        folder: of the job.
        order: for its supervisor.
        settings: of the task.
    """
    folder.mkdir(exist_ok=True, mode=0o700)
    (folder / FILES).mkdir(exist_ok=True, mode=0o700)
    write_json(folder / FILES / SETTINGS, settings)
    write_json(folder / JOB, asdict(order))


def ask_to_stop(folder: Path) -> None:
    """Ask the supervisor to end the job."""
    with suppress(FileExistsError):
        (folder / STOP).touch(exist_ok=False)


def last_lines(path: Path, most: int = 4000) -> list[str]:
    """The last lines of a text file that have something in them."""
    try:
        with open_regular(path) as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - most))
            text = file.read().decode(errors="replace").replace("\0", "")
    except OSError:
        return []
    return [line.rstrip() for line in text.splitlines() if line.strip()]


def why(folder: Path, exit_code: int) -> str:
    """One line that says why a job failed: what the program said last about an error, or its exit code."""
    lines = last_lines(folder / LOG)
    told = [line for line in lines if "error:" in line.lower() or line.startswith(("Error", "Killed"))]
    if told:
        return told[-1][-400:]
    if exit_code < 0:
        return f"ended by signal {-exit_code}"
    return f"exit code {exit_code}" + (f": {lines[-1][-300:]}" if lines else "")
