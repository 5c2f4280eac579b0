"""The process that stands beside a job: starts it, watches it, ends it when asked, and writes down how it ended.

`python -m rutile.jobs.supervisor FOLDER`. It belongs to nobody (session leader, its starter gone), so that the server
may end, be killed or be replaced. The same process runs within a job of Slurm. Nothing heavy is imported here.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

from rutile.jobs import folder as kept
from rutile.jobs.folder import Order, Status, read_json, why, write_json, write_status
from rutile.jobs.permissions import open_up
from rutile.jobs.usage import Meter

LOOK = 0.1
"""Seconds between two looks at the job."""
SAMPLE = 1.0
"""Seconds between two samples at first; a job of days has about a thousand, not hundreds of thousands."""
GPUS = "CUDA_VISIBLE_DEVICES"
CHILD_SUBREAPER = 36
"""Of prctl(2)."""


class Watch:
    """One job at work."""

    def __init__(self, folder: Path, order: Order, status: Status) -> None:
        self.folder, self.order, self.status = folder, order, status
        self.asked: float | None = None
        """When the job was asked to end."""
        self.because = ""
        """Why it was asked."""
        self.child: subprocess.Popen[bytes] | None = None
        self.sampled = 0.0

    def run(self) -> int:
        """Do the job; its exit code."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._told)
        try:
            self.child = start(self.folder, self.order)
        except OSError as error:
            return self._end(127, f"cannot be started: {error.strerror}")
        self.status = replace(self.status, extra={"child": self.child.pid, "born": born(self.child.pid)})
        meter = Meter(self.child.pid)
        while (code := self.child.poll()) is None:
            self._look(meter)
            time.sleep(LOOK)
        _end_group(self.child.pid, signal.SIGKILL)  # what it left behind
        _end_orphans()
        return self._end(code, "")

    def _look(self, meter: Meter) -> None:
        """Sample, and end what should end."""
        now = time.time()
        age = now - self.status.started
        if now - self.sampled >= max(SAMPLE, age / 1000):
            self.sampled = now
            self._note(meter.sample())
        if self.asked is None:
            if (self.folder / kept.STOP).exists():
                self._ask("cancelled")
            elif self.order.wall_time is not None and age > self.order.wall_time:
                self._ask(f"longer than its wall time of {self.order.wall_time:g} s")
            elif self.order.memory is not None and self.status.peak_memory > self.order.memory:
                self._ask(
                    f"used {self.status.peak_memory:.2f} GB, more than its {self.order.memory:g} GB: ask for more"
                )
        elif now - self.asked > self.order.grace and self.child is not None:
            _end_group(self.child.pid, signal.SIGKILL)

    def _note(self, sample: dict[str, float]) -> None:
        with contextlib.suppress(OSError), (self.folder / kept.PERF).open("a", encoding="utf-8") as file:
            file.write(json.dumps(sample) + "\n")
        peak = max(self.status.peak_memory, sample["memory"])
        cpu = max(self.status.cpu_seconds, sample["cpu_seconds"])
        self.status = replace(self.status, seen=time.time(), cpu_seconds=cpu, peak_memory=peak)
        with contextlib.suppress(OSError):  # the disk is full: the next one may fit
            write_status(self.folder, self.status)

    def _ask(self, because: str) -> None:
        """Ask the job to end: what keeps checkpoints writes one."""
        self.asked, self.because = time.time(), because
        if self.child is not None and self.order.enclosed:
            _ask_children(self.child.pid)
        elif self.child is not None:
            _end_group(self.child.pid, signal.SIGTERM)

    def _told(self, number: int, frame: FrameType | None) -> None:
        """A signal to the supervisor (Slurm sends one before the wall time) is one to the job."""
        del frame
        if self.asked is None:
            self._ask("cancelled" if (self.folder / kept.STOP).exists() else f"ended by {signal.Signals(number).name}")

    def _end(self, code: int, reason: str) -> int:
        """Write down how it ended; tried until there is room on the disk."""
        state = "DONE" if code == 0 else "FAIL"
        if self.because and code != 0:
            state, reason = ("CANCEL" if self.because == "cancelled" else "FAIL"), self.because
        elif code != 0:
            reason = reason or why(self.folder, code)
        if self.order.shared:
            open_up(self.folder / kept.FILES)
        now = time.time()
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = max(self.status.cpu_seconds, used.ru_utime + used.ru_stime)
        peak = max(self.status.peak_memory, used.ru_maxrss * 1024 / 1e9)
        self.status = replace(
            self.status, state=state, ended=now, seen=now, exit_code=code, reason=reason, cpu_seconds=cpu,
            peak_memory=peak,
        )  # fmt: skip
        for _ in range(600):
            try:
                write_status(self.folder, self.status)
                break
            except OSError:
                time.sleep(1.0)
        return code


def start(folder: Path, order: Order) -> subprocess.Popen[bytes]:
    """Start the program of a job in a session of its own, its output going to the log.

    Raises:
        OSError: it cannot be started.
    """
    given = {GPUS: os.environ[GPUS]} if GPUS in os.environ else {}  # by Slurm
    with (folder / kept.LOG).open("ab") as log:
        return subprocess.Popen(
            order.argv, cwd=folder / kept.FILES, env=given | order.environment, stdin=subprocess.DEVNULL, stdout=log,
            stderr=subprocess.STDOUT, start_new_session=True, umask=0o077,
        )  # fmt: skip


def _end_group(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def _ask_children(pid: int) -> None:
    """Ask everything that a process has started to end, not itself."""
    import psutil

    with contextlib.suppress(psutil.Error):
        for process in psutil.Process(pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                process.send_signal(signal.SIGTERM)


def _adopt() -> None:
    """Become the parent of what a job leaves behind, also in sessions of their own: kernels, terminals (Linux only)."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(CHILD_SUBREAPER, 1, 0, 0, 0)


def _end_orphans() -> None:
    """End every process that descends from this one."""
    import psutil

    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            process.kill()


def begin(folder: Path) -> Status | None:
    """Take the job; None where another supervisor has taken it: a job is done once.

    The file that says so is there whole or not at all: who finds it can look for the process.
    """
    now = time.time()
    status = Status("RUNNING", os.getpid(), born(os.getpid()) or now, socket.gethostname(), now, now)
    mine = folder / f".{kept.BEGAN}.{status.host}.{status.pid}"
    write_json(mine, {"pid": status.pid, "born": status.born, "host": status.host})
    try:
        (folder / kept.BEGAN).hardlink_to(mine)
    except FileExistsError:
        return None
    finally:
        mine.unlink()
    write_status(folder, status)
    return status


def born(pid: int) -> float | None:
    """When a process began (seconds since 1970); None where there is none, or it has ended and nobody looked."""
    import psutil

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else float(process.create_time())
    except psutil.Error:
        return None


def main(argv: list[str]) -> int:
    """Supervise the job of a folder; its exit code (Slurm shows it)."""
    folder = Path(argv[0])
    os.umask(0o077)
    _adopt()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    found: dict[str, Any] | None = read_json(folder / kept.JOB)
    if found is None:
        return 2
    status = begin(folder)
    if status is None:
        return 3
    code = Watch(folder, Order(**found), status).run()
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
