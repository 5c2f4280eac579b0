"""Running a program once, in a folder of its own, watched by `outside/watch.py`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rutile.label.labeler import Failure, last_lines
from rutile.label.outside import watch

OUTPUT, ERRORS = "rutile.out", "rutile.err"
"""What a program writes to standard output and to standard error."""
MOST_TEXT = 50_000_000
"""Of longer outputs only the end is looked at (bytes)."""


@dataclass(frozen=True)
class Ended:
    """How a program ended."""

    code: int
    """Exit code; 124: the time was over, 127: no such program."""
    output: str
    """Standard output."""
    errors: str
    """Standard error."""

    @property
    def text(self) -> str:
        """Both."""
        return self.output + "\n" + self.errors

    @property
    def lines(self) -> tuple[str, ...]:
        """Its last lines."""
        return last_lines(self.text)


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder for one calculation (in TMPDIR), which goes afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="rutile-label-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def environment(threads: int) -> dict[str, str]:
    """Environment of a calculation that uses so many threads."""
    limits = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    return dict(os.environ) | dict.fromkeys(limits, str(threads))


def from_here(word: str) -> str:
    """A word of a command that is to begin in another folder: the path of a file that is here becomes absolute."""
    path = Path(word).expanduser()
    return str(path.absolute()) if len(path.parts) > 1 and path.is_file() else word


def run(command: list[str], folder: Path, seconds: float, threads: int = 1) -> Ended:
    """Run a program in a folder, its output in files there; it is ended when the time is over, or when we end."""
    guard = [sys.executable, "-I", "-S", str(Path(watch.__file__)), repr(seconds), *command]
    with (folder / OUTPUT).open("wb") as output, (folder / ERRORS).open("wb") as errors:
        process = subprocess.Popen(
            guard,
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=errors,
            env=environment(threads) | {watch.SCRATCH: str(folder)},
        )
        with process:  # whatever happens here: its standard input is closed, which ends it
            code = process.wait()
    return Ended(code, text_of(folder / OUTPUT), text_of(folder / ERRORS))


def failed(ended: Ended, seconds: float) -> Failure | None:
    """The failure that the way a program ended says by itself."""
    if ended.code == watch.OVER_TIME:
        return Failure("time limit", f"longer than time_limit = {seconds:g} s", ended.lines)
    if ended.code == watch.NOT_STARTED:
        return Failure("not installed", ended.errors.strip() or "no such program", ended.lines)
    return None


def text_of(path: Path) -> str:
    """Whatever is in a file, as text; "" where there is none."""
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - MOST_TEXT))
        return file.read().decode(errors="replace")
