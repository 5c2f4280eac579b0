"""One thread that makes the table as the folders are, and starts what fits. It may be killed at any moment.

What it does is the same however often it is done: a job is claimed by compare and swap, its folder is taken once by
one supervisor, and how it ended is read from there.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from sqlalchemy import event
from sqlalchemy.orm import Session

from rutile.core.errors import RutileError
from rutile.jobs import folder as kept
from rutile.jobs import notices, queue
from rutile.jobs.database import Database
from rutile.jobs.disk import bytes_in
from rutile.jobs.folder import Status, prepare, read_status
from rutile.jobs.home import Home
from rutile.jobs.launch import order_of
from rutile.jobs.limits import Limits
from rutile.jobs.permissions import is_shared, share
from rutile.jobs.places import Here, Place, There, same_process, supervised
from rutile.jobs.progress import progress
from rutile.jobs.references import Input, bring, names_for, replaced
from rutile.jobs.rights import ended
from rutile.jobs.sandbox import Sandbox
from rutile.jobs.slots import Capacity, choose, send
from rutile.jobs.tables import ACTIVE, CANCEL, FAIL, HELD, QUEUED, RUNNING, STARTING, Job
from rutile.jobs.waits import Waits

EVERY = 0.5
"""Seconds between two rounds."""
PATIENCE = 15.0
"""A supervisor that has not begun so long (s) after it was started never will."""
SLURM_EVERY = 5.0
"""Seconds between two questions to squeue."""
log = logging.getLogger("rutile.jobs")


class Reconciler:
    """Keeps the queue going."""

    def __init__(
        self,
        database: Database,
        home: Home,
        places: Mapping[str, Place],
        capacity: Capacity,
        ended: Callable[[Session, Job], None] | None = None,
        begins: Mapping[str, Callable[[Session, Job], None]] | None = None,
        limits: Limits | None = None,
        sandbox: Sandbox | None = None,
    ) -> None:
        """A reconciler that does nothing yet.

        Args:
            database: with the table of jobs.
            home: with the folders.
            places: where jobs run, by queue.
            capacity: of this machine.
            ended: is called for every job that has ended, within the transaction that says so.
            begins: is called before a job of a task is started, perhaps twice, and signs it in as its owner; what it
                raises ends the job, and so does the end of the account.
            limits: shares of queues that accounts and groups may hold; None: any.
            sandbox: in which jobs run; None: they see what the user of the server sees.
        """
        self.database, self.home, self.places, self.capacity = database, home, places, capacity
        self.ended, self.begins = ended, dict(begins or {})
        self.limits, self.sandbox = limits or Limits(), sandbox
        self._wake, self._stop = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None
        self._asked: dict[str, float] = {}
        self._waits = Waits()
        self.seen: float | None = None
        """When a round last came to its end (s since 1970)."""

    def start(self) -> None:
        """Begin, in a thread of its own; waits while another process does it for this home."""
        self._thread = threading.Thread(target=self._run, name="reconciler", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether its thread is there: at work, or waiting for another process to leave this home to it."""
        return self._thread is not None and self._thread.is_alive()

    def wake(self) -> None:
        """There is something to do."""
        self._wake.set()

    def wake_after(self, session: Session) -> None:
        """There is something to do once this session has written it."""
        event.listen(session, "after_commit", lambda _: self.wake(), once=True)

    def stop(self) -> None:
        """End the thread; jobs go on."""
        self._stop.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(timeout=30)

    def _run(self) -> None:
        with self.home.lock.open("w") as lock:
            while not self._stop.is_set():
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    self._stop.wait(1.0)
            while not self._stop.is_set():
                self._wake.clear()
                try:
                    self.round()
                    self.seen = time.time()
                except Exception:  # a full disk, a database that is away: the next round may do better
                    log.exception("reconciler")
                    self._stop.wait(2.0)
                self._wake.wait(EVERY)

    def round(self) -> None:
        """Look at every job at work once, then start what fits."""
        with self.database.reading() as session:
            working = queue.at_work(session)
        for job in working:
            if job.task in self.begins and not job.cancelled and ended(job.owner):
                self._cancel(job)
        for name, place in self.places.items():
            self._look(name, place, [job for job in working if job.queue == name])
        for name, place in self.places.items():
            self._start(name, place)

    def _cancel(self, job: Job) -> None:
        """Ask for the end of a job that acts for an account that has ended."""
        with self.database.writing() as session:
            row = session.get(Job, job.id)
            if row is not None and row.state in ACTIVE:
                queue.cancel(session, self.home, row)
        job.cancelled = True

    def _look(self, name: str, place: Place, jobs: list[Job]) -> None:
        """Bring the rows of jobs at one place to what their folders say."""
        silent = [job for job in jobs if self._is_silent(job)]
        now = time.time()
        slow = not isinstance(place, Here)
        if silent and not (slow and now - self._asked.get(name, 0.0) < SLURM_EVERY):
            self._asked[name] = now
            begun = {job.id for job in silent if (self.home.job(job.id) / kept.BEGAN).exists()}
            found = place.look(silent)
            for job in silent:
                if job.id in found:
                    with _apart(job):
                        self._look_for(place, job, found[job.id], job.id in begun)

    def _is_silent(self, job: Job) -> bool:
        """Whether a place has to be asked about a job."""
        silent = False
        with _apart(job):
            silent = self._told(job) is None
        return silent

    def _told(self, job: Job) -> Status | None:
        """What the folder says, written into the row; None where the place has to be asked."""
        folder = self.home.job(job.id)
        if job.cancelled and folder.is_dir() and not (folder / kept.STOP).exists():
            kept.ask_to_stop(folder)
        status = read_status(folder)
        if status is None:
            return None
        if status.state == RUNNING and self.places[job.queue].__class__ is Here and not supervised(status):
            status = read_status(folder) or status  # it may have ended between the two looks
            if status.state == RUNNING:
                self._lost(job, status)
                return status
        if status.state != RUNNING:
            self._finish(job.id, status)
        elif job.queue != "local":
            self._note(job, status)
            return None  # Slurm may have killed supervisor and job together
        else:
            self._note(job, status)
        return status

    def _note(self, job: Job, status: Status) -> None:
        """It is at work: how far, and what it has used."""
        part, doing = progress(self.home.job(job.id))
        seconds = max(0.0, time.time() - status.started)
        with self.database.writing() as session:
            row = session.get(Job, job.id)
            if row is None or row.state not in (STARTING, RUNNING):
                return
            row.state, row.started = RUNNING, status.started
            row.progress, row.doing, row.reason = part, doing, ""
            row.cpu_seconds, row.peak_memory = round(status.cpu_seconds, 1), round(status.peak_memory, 3)
            row.core_seconds, row.gpu_seconds = round(seconds * row.cores), round(seconds * row.gpus)

    def _finish(self, number: int, status: Status) -> None:
        """It has ended: the row is made as the folder is, once."""
        folder = self.home.job(number)
        part, doing = progress(folder)
        size = bytes_in(folder)
        with self.database.writing() as session:
            row = session.get(Job, number)
            if row is None or row.state not in (STARTING, RUNNING):
                return
            row.state, row.exit_code, row.reason = status.state, status.exit_code, status.reason
            row.started, row.ended = status.started, status.ended or time.time()
            row.progress, row.doing = (1.0 if status.state == "DONE" else part), doing
            row.cpu_seconds, row.peak_memory, row.bytes = status.cpu_seconds, status.peak_memory, size
            seconds = row.ended - row.started
            row.core_seconds, row.gpu_seconds = seconds * row.cores, seconds * row.gpus
            notices.job_ended(session, row)
            if self.ended is not None:
                self.ended(session, row)
        self._wake.set()

    def _lost(self, job: Job, status: Status) -> None:
        """The supervisor is gone without a word: what it started here is ended, too, unless its number is another's."""
        child, begin = status.extra.get("child"), status.extra.get("born")
        ours = not job.unix_account  # else it may say anything; Slurm ends what it started
        if ours and isinstance(child, int) and isinstance(begin, float) and same_process(child, begin, status.host):
            with contextlib.suppress(OSError):
                os.killpg(child, signal.SIGKILL)
        reason = "lost: the machine was restarted, or its supervisor was killed; rerun it"
        self._close(job.id, FAIL, reason, status)

    def _close(self, number: int, state: str, reason: str, status: Status | None) -> None:
        now = time.time()
        with self.database.writing() as session:
            row = session.get(Job, number)
            if row is None or row.state not in (STARTING, RUNNING):
                return
            row.state, row.reason, row.ended = state, reason, now
            if status is not None:
                row.started = status.started
                row.core_seconds = max(0.0, status.seen - status.started) * row.cores
                row.cpu_seconds, row.peak_memory = status.cpu_seconds, status.peak_memory
            notices.job_ended(session, row)
            if self.ended is not None:
                self.ended(session, row)

    def _look_for(self, place: Place, job: Job, there: There, begun: bool) -> None:
        """A job whose folder does not say that it has ended.

        Args:
            place: that was asked.
            job: as it was before.
            there: what the place said.
            begun: whether a supervisor had taken the job before the place was asked; if not, one may have since.
        """
        status = read_status(self.home.job(job.id))
        if status is not None and status.state != RUNNING:
            self._finish(job.id, status)
        elif there.alive:
            self._is_there(job, there)
            if job.cancelled and status is None:
                place.end(job)
        elif begun and status is not None:
            self._lost(job, status)
        elif begun:
            self._close(job.id, FAIL, "lost: its supervisor ended before the job began; rerun it", None)
        elif status is None and job.cancelled:
            self._close(job.id, CANCEL, "cancelled before it began", None)
        elif status is None and time.time() - (job.claimed or 0.0) > PATIENCE:
            self._launch(place, job)

    def _is_there(self, job: Job, there: There) -> None:
        """Write down what a place says of a job: its number there, and why it waits."""
        if not (there.reason and there.reason != job.reason) and job.native_id == there.number:
            return
        with self.database.writing() as session:
            row = session.get(Job, job.id)
            if row is not None:
                row.native_id = job.native_id = there.number
                row.reason = there.reason if there.reason and row.state == STARTING else row.reason

    def _start(self, name: str, place: Place) -> None:
        """Start what fits."""
        with self.database.reading() as session:
            waiting = queue.next_waiting(session, name)
            if not waiting:
                return
            working = [job for job in queue.at_work(session) if job.queue == name]
            over = {
                job.owner_id: queue.held_back(session, job.owner) for job in {j.owner_id: j for j in waiting}.values()
            }
        free = [job for job in waiting if not over[job.owner_id]]
        held = self.limits.held(name, working)
        if isinstance(place, Here):
            chosen, reasons = choose(free, working, self.capacity, time.time(), held)
        else:
            chosen, reasons = send(free, held)
        with self.database.reading() as session:
            reasons = self._waits.said(session, free, reasons)
        self._say_why(waiting, reasons | {j.id: over[j.owner_id] for j in waiting if over[j.owner_id]}, over)
        for choice in chosen:
            job, gpu_ids = choice.job, choice.gpu_ids
            with self.database.writing() as session:
                mine = queue.claim(session, job.id, gpu_ids)
            if mine:
                job.gpu_ids = gpu_ids
                self._launch(place, job)

    def _say_why(self, waiting: list[Job], reasons: dict[int, str], held: dict[int, str]) -> None:
        """Write down why jobs wait, where that has changed."""
        changed = {
            j.id: (reasons.get(j.id, ""), HELD if held[j.owner_id] else QUEUED)
            for j in waiting
            if reasons.get(j.id, "") != j.reason or (j.state == HELD) != bool(held[j.owner_id])
        }
        if not changed:
            return
        with self.database.writing() as session:
            for number, (reason, state) in changed.items():
                row = session.get(Job, number)
                if row is not None and row.state in (QUEUED, HELD):
                    begins = state == HELD and row.state != HELD
                    row.reason, row.state = reason, state
                    if begins:
                        notices.job_held(session, row)

    def _launch(self, place: Place, job: Job) -> None:
        """Prepare the folder and start the supervisor; doing it twice starts the job once."""
        folder = self.home.job(job.id)
        try:
            if not is_shared(folder):  # or it was made before, and is not ours alone any more
                self._make(place, job, folder)
            native = place.start(job, folder)
        except (OSError, RutileError) as error:
            text = (
                f"{error.filename}: {error.strerror}" if isinstance(error, OSError) and error.filename else str(error)
            )
            self._close(job.id, FAIL, f"cannot be started: {text}", None)
            return
        if native:
            with self.database.writing() as session:
                row = session.get(Job, job.id)
                if row is not None:
                    row.native_id, row.claimed = native, time.time()

    def _make(self, place: Place, job: Job, folder: Path) -> None:
        """Make the folder of a job; one that runs under an account of its own gets it when it is complete."""
        self._begin(job)
        account = place.account_of(job.owner)
        inputs = [Input(**one) for one in job.inputs]
        names = names_for(inputs)
        gpu_ids = job.gpu_ids if isinstance(place, Here) else None
        home = account.home if account else None
        order = order_of(job.task, folder, job.cores, job.memory, job.wall_time, gpu_ids, home)
        if self.sandbox is not None:
            order = self.sandbox.around(order, folder, inputs, account)
        prepare(folder, order, replaced(job.settings, lambda text: names.get(text, text)))
        bring(folder, inputs, copied=account is not None)
        if account is not None:
            with self.database.writing() as session:
                session.get_one(Job, job.id).unix_account = job.unix_account = account.name
            share(folder, account.uid)

    def _begin(self, job: Job) -> None:
        """What the task of a job needs before it is started."""
        before = self.begins.get(job.task)
        if before is not None:
            with self.database.writing() as session:
                before(session, session.get_one(Job, job.id))


@contextlib.contextmanager
def _apart(job: Job) -> Iterator[None]:
    """What goes wrong with one job, which may write anything into its folder, stops no other one."""
    try:
        yield
    except (OSError, ArithmeticError, LookupError, TypeError, ValueError, RutileError):
        log.exception("job %d", job.id)
