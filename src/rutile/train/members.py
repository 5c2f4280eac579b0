"""The members of a committee: how they differ, and their training side by side, each in a process of its own.

A member is trained by the one loop of `train.fit`, in its own folder with its own checkpoint and metrics, and gets the
same bits in a process of its own as one after another, where the number of threads is the same.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import connection, get_context
from multiprocessing.process import BaseProcess
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any, ClassVar, Literal, TextIO, TypeVar

import numpy as np
import torch

from rutile.core.errors import RutileError, SettingsError, TrainingError
from rutile.core.lock import alone_in
from rutile.core.machine import cores
from rutile.core.reporting import Reporter
from rutile.core.seeds import stream
from rutile.potentials.parts.network import TrainablePotential
from rutile.potentials.placement import chosen
from rutile.train.examples import GraphExamples, LinearisedExamples
from rutile.train.fit import FitResult, fit
from rutile.train.settings import TrainSettings
from rutile.train.signals import remember_signals

T = TypeVar("T")
LOG_FILE, LAST_LINES = "output.log", 6
"""What the process of a member says, and how many lines of it are shown if it is lost."""
SHOWN = ("epoch", "train_loss", "valid_loss")
"""Metrics in those lines."""
LOOK_SECONDS = 0.2
"""Time between two looks whether the training shall stop."""
PATIENCE_SECONDS = 20.0
"""Time that a process gets to end when it is no longer wanted."""


@dataclass(frozen=True)
class Member:
    """One training of a committee."""

    number: int
    """From 1."""
    potential: TrainablePotential
    train: GraphExamples | LinearisedExamples
    valid: GraphExamples | LinearisedExamples
    settings: TrainSettings
    folder: Path
    """Of the member, exists."""
    identity: dict[str, Any]
    """As of `fit`."""
    resume: bool


def shares(n: int, members: int, diversity: Literal["seeds", "bootstrap", "folds"], seed: int) -> list[np.ndarray]:
    """Places of the training structures of each member, out of 0..n-1.

    Args:
        n: structures in all.
        members: how many committees' members.
        diversity: seeds: all structures; bootstrap: n drawn with replacement; folds: all but an n-th part, another one
            for each member.
        seed: of the draws.

    Raises:
        SettingsError: fewer structures than members.
    """
    if diversity == "seeds":
        return [np.arange(n)] * members
    if diversity == "bootstrap":
        return [np.sort(stream(seed, "bootstrap", m).integers(0, n, n)) for m in range(members)]
    if n < members or members < 2:
        raise SettingsError(f"diversity=folds needs at least 2 members and as many structures: {members} and {n}")
    left_out = np.array_split(stream(seed, "folds").permutation(n), members)
    return [np.setdiff1d(np.arange(n), part) for part in left_out]


def own_devices(device: str, members: int) -> list[str]:
    """The device of each member: where any GPU may be taken and there are several, they take turns.

    >>> own_devices("cpu", 2)
    ['cpu', 'cpu']
    """
    gpus = torch.cuda.device_count() if chosen(device) == "cuda" else 0
    return [f"cuda:{m % gpus}" if gpus > 1 else device for m in range(members)]


def division(members: int, workers: int | None, threads: int | None, device: str = "cpu") -> tuple[int, int]:
    """Processes at a time and threads of each: one on each GPU, or on the cores that this process may use.

    >>> division(4, 2, 3)
    (2, 3)
    """
    if workers is None and chosen(device).startswith("cuda"):
        workers = len(set(own_devices(device, members)))
    workers = min(members, workers or max(1, cores() // (threads or 1)))
    return workers, threads or max(1, cores() // workers)


def train_members(
    members: list[Member],
    reporter: Reporter,
    stop: Callable[[], str | None],
    *,
    workers: int,
    threads: int,
) -> list[FitResult]:
    """Train all; ends early, with the members so far, when asked to stop. The potentials are changed in place.

    Args:
        members: in order.
        reporter: hears of all of them, by number.
        stop: asked now and then; a string ends the training of all, with a checkpoint for each.
        workers: processes at a time; 1: one after another, in this process.
        threads: of each process.

    Raises:
        RutileError: some members failed; names them with their last lines. The others were trained to their end.
    """
    if workers > 1 and len(members) > 1:
        return _Crew(members, reporter, stop, threads).work(workers)
    results: list[FitResult] = []
    for member in members:
        results.append(_fit(member, Named(reporter, member.number) if len(members) > 1 else reporter, stop))
        if results[-1].stopped.startswith("SIG"):
            break
    return results


def _fit(member: Member, reporter: Reporter, stop: Callable[[], str | None]) -> FitResult:
    member.train.potential = member.valid.potential = member.potential
    return fit(
        member.potential,
        member.train,
        member.valid,
        member.settings,
        member.folder,
        reporter,
        resume=member.resume,
        identity=member.identity,
        stop=stop,
    )


class Named:
    """A reporter that says which member speaks."""

    def __init__(self, reporter: Reporter, number: int) -> None:
        self.reporter, self.number = reporter, number

    def info(self, text: str) -> None:
        """A message."""
        self.reporter.info(f"member {self.number}: {text}")

    def warn(self, text: str) -> None:
        """A warning."""
        self.reporter.warn(f"member {self.number}: {text}")

    def track(self, items: Iterable[T], label: str, total: int | None = None) -> Iterator[T]:
        """Progress."""
        return self.reporter.track(items, f"member {self.number}: {label}", total)

    def metrics(self, row: dict[str, float | int | str]) -> None:
        """A row, with the member."""
        self.reporter.metrics({"member": self.number} | row)


class _ByValue(ForkingPickler):
    """Between processes tensors go by value: by torch's own way each would need an open file and be shared."""

    _extra_reducers: ClassVar[dict[Any, Any]] = {}


@dataclass
class _Process:
    """A member at work."""

    member: Member
    process: BaseProcess
    to: connection.Connection
    reporter: Named
    answer: Any = None
    """Its result and state, or its error."""


@dataclass
class _Crew:
    """Trains members in processes."""

    members: list[Member]
    reporter: Reporter
    stop: Callable[[], str | None]
    threads: int
    running: dict[Any, _Process] = field(default_factory=dict)
    """By connection."""
    results: dict[int, FitResult] = field(default_factory=dict)
    failures: list[tuple[int, Exception]] = field(default_factory=list)

    def work(self, workers: int) -> list[FitResult]:
        """All members, so many at a time."""
        n, epochs = len(self.members), sum(m.settings.epochs for m in self.members)
        self.reporter.info(f"{n} members are trained by {workers} processes of {self.threads} threads each")
        try:
            for _ in self.reporter.track(self._epochs(workers), f"epochs of {n} members", epochs):
                pass
        finally:
            self._end()
        if self.failures:
            raise self._failure()
        return [self.results[number] for number in sorted(self.results)]

    def _epochs(self, workers: int) -> Iterator[None]:
        """Starts processes and listens to them; an item for each epoch of each member."""
        waiting, reason = deque(self.members), None
        while self.running or (waiting and reason is None):
            while waiting and reason is None and len(self.running) < workers:
                self._start(waiting.popleft())
            for one in connection.wait(list(self.running), LOOK_SECONDS):
                if self._hear(self.running[one]):
                    yield
            if reason is None and (reason := self.stop()) is not None:
                for process in self.running.values():
                    with suppress(OSError):
                        process.to.send(reason)

    def _start(self, member: Member) -> None:
        context = get_context("spawn")
        here, there = context.Pipe()
        process = context.Process(
            target=_work, args=(bytes(_ByValue.dumps(member)), there, self.threads), name=f"member {member.number}"
        )
        process.daemon = True
        process.start()
        there.close()
        self.running[here] = _Process(member, process, here, Named(self.reporter, member.number))

    def _hear(self, one: _Process) -> bool:
        """What a process says next; whether it is the end of an epoch."""
        try:
            kind, content = one.to.recv()
        except (EOFError, OSError):
            self._ended(one)
            return False
        if kind == "answer":
            one.answer = ForkingPickler.loads(content)
        else:
            getattr(one.reporter, kind)(content)
        return bool(kind == "metrics")

    def _ended(self, one: _Process) -> None:
        """A process has ended, in order or not."""
        del self.running[one.to]
        one.to.close()
        one.process.join()
        number = one.member.number
        if isinstance(one.answer, tuple):
            self.results[number], state = one.answer
            one.member.potential.load_state_dict(state)
            return
        error = one.answer or TrainingError(f"its process was lost ({_how(one.process.exitcode)})")
        if not isinstance(error, RutileError) or one.answer is None:
            error = type(error)("\n  ".join([f"{error}; its last lines:", *_last_lines(one.member.folder)]))
        self.failures.append((number, error))
        self.reporter.warn(f"member {number} failed: {error}" + ("; the others go on" if self.running else ""))

    def _failure(self) -> Exception:
        """One error for all that failed, of the kind of the first."""
        self.failures.sort(key=lambda failure: failure[0])
        said = "\n".join(f"member {number}: {error}" for number, error in self.failures)
        done = ", ".join(map(str, sorted(self.results)))
        more = f"\nmembers {done} are kept: run the same command again to train only the others" if done else ""
        return type(self.failures[0][1])(said + more)

    def _end(self) -> None:
        """Leave no process behind."""
        for one in self.running.values():
            one.process.terminate()
        for one in self.running.values():
            one.process.join(PATIENCE_SECONDS)
            if one.process.is_alive():
                one.process.kill()


def _how(code: int | None) -> str:
    """Exit code in words."""
    if code is not None and code < 0:
        more = ", as happens when memory is short" if code == -signal.SIGKILL else ""
        return signal.Signals(-code).name + more
    return f"exit code {code}"


def _last_lines(folder: Path) -> list[str]:
    try:
        return (folder / LOG_FILE).read_text(encoding="utf-8", errors="replace").splitlines()[-LAST_LINES:]
    except OSError:
        return []


class _Telling:
    """Reporter of a member's process: tells the parent, and keeps a log."""

    def __init__(self, to: connection.Connection, log: TextIO) -> None:
        self.to, self.log = to, log

    def tell(self, kind: str, content: Any) -> None:
        """To the parent, as long as there is one."""
        with suppress(OSError):
            self.to.send((kind, content))

    def info(self, text: str) -> None:
        """A message."""
        self.log.write(f"{text}\n")
        self.tell("info", text)

    def warn(self, text: str) -> None:
        """A warning."""
        self.log.write(f"warning: {text}\n")
        self.tell("warn", text)

    def track(self, items: Iterable[T], label: str, total: int | None = None) -> Iterator[T]:
        """The items; the parent counts epochs."""
        del label, total
        yield from items

    def metrics(self, row: dict[str, float | int | str]) -> None:
        """A row."""
        shown = [f"{name} {float(row[name]):.5g}" for name in SHOWN if name in row]
        self.log.write(", ".join(shown) + "\n")
        self.tell("metrics", row)

    def asked(self) -> str | None:
        """Whether the parent wants it to stop, or is no more."""
        try:
            return str(self.to.recv()) if self.to.poll() else None
        except (EOFError, OSError):
            return "SIGTERM"


def _work(content: bytes, to: connection.Connection, threads: int) -> None:
    """A member's process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears it too, and says so
    member: Member = ForkingPickler.loads(content)
    with (member.folder / LOG_FILE).open("a", buffering=1, encoding="utf-8") as log, remember_signals() as stop:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        faulthandler.enable(log)
        torch.set_num_threads(threads)
        telling = _Telling(to, log)
        answer: Any
        try:
            with alone_in(member.folder, telling):  # a member whose parent was killed ends after its step
                result = _fit(member, telling, lambda: stop() or telling.asked())
            answer = (result, member.potential.cpu().state_dict())
        except RutileError as error:
            answer = error
        except Exception as error:
            traceback.print_exc(file=log)
            answer = RuntimeError(str(error))
        telling.tell("answer", bytes(_ByValue.dumps(answer)))
