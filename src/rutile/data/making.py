"""A store from files of any size: several processes read, one writes, and what was written survives a kill.

Files are divided into units of work. Workers turn units into blocks of arrays; the blocks are appended in the order of
the files, so that the store is the same, bit for bit, whatever the number of processes. Until it is complete it lies in
`.NAME.partial` beside its place, with `progress.json`, which says how much of it is safe on the disk: the same call
goes on from there.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import multiprocessing
import os
import shutil
import signal
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import connection
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

from rutile.core.errors import DataError, FileError, RutileError
from rutile.core.files import remove_unfinished, write_atomically
from rutile.core.machine import cores
from rutile.core.reporting import Reporter
from rutile.data.arrays import MANIFEST, ArrayWriters
from rutile.data.frames import Frame
from rutile.data.reading import check_keys_exist, file_modes, files_of, portions_of, read_portion
from rutile.data.settings import ReadSettings
from rutile.data.store import Store
from rutile.data.writer import Block, StoreWriter, blocks_of
from rutile.structures.portions import Portion

PROGRESS, LOCK = "progress.json", "lock"
UNIT, SMALL = 1000, 1e6
"""Frames of a large file in a unit of work; files, and bytes, from which on a unit of small files is closed."""
SAFE_SECONDS = 2.0
"""Time between two moments at which what was written is made safe."""
AHEAD = 3
"""Units for each worker that are read or wait to be written."""
LITTLE = 20e6
"""Bytes of files that one process reads before others would have started."""

Unit = tuple[Portion, ...]


@dataclass
class Tally:
    """What passed on the way from files to the store."""

    frames: int = 0
    """Frames that are used."""
    skipped: int = 0
    """Frames left out (on_bad=skip)."""
    labels: Counter[str] = field(default_factory=Counter)
    """Label -> frames that have it."""
    names: dict[str, set[str]] = field(default_factory=dict)
    """Label -> names under which it was found."""
    keys: set[str] = field(default_factory=set)
    """Names of all numbers besides the geometry."""
    broken: set[str] = field(default_factory=set)
    """Files of which the rest cannot be read."""

    def add(self, other: Tally) -> None:
        """Count another tally too."""
        self.frames, self.skipped = self.frames + other.frames, self.skipped + other.skipped
        self.labels += other.labels
        self.keys |= other.keys
        self.broken |= other.broken
        for label, names in other.names.items():
            self.names.setdefault(label, set()).update(names)

    def state(self) -> dict[str, Any]:
        """As JSON values."""
        sets = {"keys": sorted(self.keys), "broken": sorted(self.broken)}
        names = {label: sorted(names) for label, names in self.names.items()}
        return {"frames": self.frames, "skipped": self.skipped, "labels": dict(self.labels), "names": names, **sets}

    @staticmethod
    def of(state: dict[str, Any]) -> Tally:
        """From `state`."""
        names = {label: set(names) for label, names in state["names"].items()}
        labels, keys, broken = Counter(state["labels"]), set(state["keys"]), set(state["broken"])
        return Tally(state["frames"], state["skipped"], labels, names, keys, broken)


@dataclass(frozen=True)
class Made:
    """What became of one unit."""

    blocks: list[Block]
    problems: list[RutileError]
    """Of frames that cannot be used, in order."""
    tally: Tally


def make_store(
    paths: Sequence[Path], folder: Path, settings: ReadSettings, reporter: Reporter, workers: int | None = None
) -> tuple[Store, Tally]:
    """A store of the usable frames of files, folders or patterns; goes on where an earlier call was cut off.

    Args:
        paths: in this order.
        folder: of the new store; appears only when complete.
        settings: how to read.
        reporter: shows progress, hears of frames that are left out.
        workers: processes that read; default: one for each core, one in all for little data.

    Raises:
        FileError: a file is missing, the folder exists or cannot be written, or another process is at work on it.
        DataError: a frame cannot be used (with on_bad=error), or no frame is left.
        LabelError: a label key that the settings name is in no frame.
    """
    folder = Path(folder)
    if folder.exists():
        raise FileError(f"{folder}: exists already; remove it or choose another name")
    files = files_of(paths, settings)
    modes, where = file_modes(files, settings), ", ".join(map(str, paths))
    units = list(_units(files, settings))
    workers = workers or (cores() if is_much(paths, settings) else 1)
    key = _key(files, settings)
    with _partial(folder) as temporary:
        try:
            tally = _write(units, temporary, key, (settings, modes), reporter, workers)
            if tally.skipped:
                reporter.warn(f"{tally.skipped} of {tally.frames + tally.skipped} frames were skipped (on_bad=skip)")
            check_keys_exist(settings, tally.keys, where)
        except DataError:  # nothing to go on from: the files or the settings have to change
            shutil.rmtree(temporary)
            raise
        for name in (PROGRESS, LOCK):
            (temporary / name).unlink(missing_ok=True)
        remove_unfinished(temporary)
        temporary.rename(folder)
    return Store.open(folder), tally


def is_much(paths: Sequence[Path], settings: ReadSettings) -> bool:
    """Whether files are so large that several processes, which begin by loading what they need, read them sooner."""
    return sum(map(_size, files_of(paths, settings))) >= LITTLE


def _write(
    units: list[Unit],
    temporary: Path,
    key: str,
    how: tuple[ReadSettings, dict[Path, str]],
    reporter: Reporter,
    workers: int,
) -> Tally:
    """Append all units that are not in the partial store yet, and its manifest."""
    state = _state(temporary, key)
    tally, done = (Tally.of(state["tally"]), int(state["units"])) if state else (Tally(), 0)
    if done:
        reporter.info(f"goes on behind {tally.frames} frames that were read before")
    with ArrayWriters(temporary) as out:
        writer = StoreWriter(out, state["writer"] if state else None)
        saved = time.monotonic()
        made = _made(units[done:], how, workers)
        for k, (unit, one) in enumerate(reporter.track(made, "building the store", len(units) - done), start=done + 1):
            if str(unit[0].path) in tally.broken:
                continue
            for problem in one.problems:
                if how[0].on_bad == "error":
                    raise problem
                reporter.warn(f"skipped: {problem}")
            for block in one.blocks:
                writer.add(block)
            tally.add(one.tally)
            if time.monotonic() - saved > SAFE_SECONDS:
                now = {"key": key, "units": k, "writer": writer.state(), "tally": tally.state()}
                write_atomically(temporary / PROGRESS, json.dumps(now).encode())
                saved = time.monotonic()
        if tally.frames == 0:
            where = ", ".join(str(path) for path in dict.fromkeys(portion.path for unit in units for portion in unit))
            raise DataError(
                f"{where}: no usable frame" + (f" ({tally.skipped} skipped)" if tally.skipped else ": empty")
            )
        writer.finish()
    return tally


def _made(units: list[Unit], how: tuple[ReadSettings, dict[Path, str]], workers: int) -> Iterator[tuple[Unit, Made]]:
    """What becomes of each unit, in order, by so many processes.

    Raises:
        FileError: a process was lost.
    """
    if workers > 1 and len(units) > 1:
        started = multiprocessing.get_context("spawn").Event()
        try:
            yield from _made_beside(units, how, workers, started)
            return
        except BrokenProcessPool:
            if started.is_set():
                raise FileError(
                    "a process that read files was lost, as happens when memory is short: run the same command again "
                    "to go on, with workers=1 if it is lost again"
                ) from None
    for unit in units:  # also where no process could be started, as in a script without a guarded main part
        yield unit, read_unit(unit, *how)


def _made_beside(
    units: list[Unit], how: tuple[ReadSettings, dict[Path, str]], workers: int, started: Event
) -> Iterator[tuple[Unit, Made]]:
    """The same in processes of their own, which set `started`; at most a few units for each are in memory.

    Raises:
        BrokenProcessPool: a process was lost.
    """
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(min(workers, len(units)), mp_context=context, initializer=_begin, initargs=(started,))
    try:
        waiting = deque[tuple[Unit, Future[Made]]]()
        for unit in units:
            waiting.append((unit, pool.submit(read_unit, unit, *how)))
            if len(waiting) > AHEAD * workers:
                first, result = waiting.popleft()
                yield first, result.result()
        for first, result in waiting:
            yield first, result.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _begin(started: Event) -> None:
    """Leave Ctrl-C to the parent, and end when it ends, however it does."""
    started.set()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait() -> None:
        connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def read_unit(unit: Unit, settings: ReadSettings, modes: dict[Path, str]) -> Made:
    """The frames of a unit as blocks; with on_bad=error only up to the first that cannot be used."""
    tally, problems = Tally(), list[RutileError]()

    def frames() -> Iterator[Frame]:
        for portion in unit:
            for reading in read_portion(portion, settings, modes.get(portion.path)):
                if reading.last:
                    tally.broken.add(str(portion.path))
                if reading.problem is not None:
                    tally.skipped += 1
                    problems.append(reading.problem)
                    if settings.on_bad == "error":
                        return
                    continue
                assert reading.frame is not None
                assert reading.labels is not None
                for label, name in reading.labels.names.items():
                    tally.labels[label] += 1
                    tally.names.setdefault(label, set()).add(name)
                tally.keys |= reading.keys
                tally.frames += 1
                yield reading.frame

    return Made(list(blocks_of(frames())), problems, tally)


def _units(files: list[Path], settings: ReadSettings) -> Iterator[Unit]:
    """Portions of large files one by one, small files together."""
    together: list[Portion] = []
    size = 0
    for path in files:
        found = list(portions_of(path, settings, UNIT))
        if len(found) == 1 and size < SMALL and len(together) < UNIT:
            together += found
            size += _size(path)
            continue
        if together:
            yield tuple(together)
        together, size = (found, _size(path)) if len(found) == 1 else ([], 0)
        if len(found) > 1:
            yield from ((portion,) for portion in found)
    if together:
        yield tuple(together)


def _inside(path: Path) -> list[Path]:
    return sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]


def _size(path: Path) -> int:
    return sum(p.stat().st_size for p in _inside(path))


def _key(files: list[Path], settings: ReadSettings) -> str:
    """Names what is read: other files (by name, size and time), settings or units, another key."""
    seen = [[str(p), p.stat().st_size, p.stat().st_mtime_ns] for path in files for p in _inside(path)]
    text = json.dumps([UNIT, [str(path) for path in files], seen, settings.model_dump(mode="json")])
    return hashlib.sha256(text.encode()).hexdigest()


def _state(temporary: Path, key: str) -> dict[str, Any] | None:
    """How far an earlier call with the same files and settings came."""
    try:
        state: dict[str, Any] = json.loads((temporary / PROGRESS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return state if state.get("key") == key else None


@contextmanager
def _partial(folder: Path) -> Iterator[Path]:
    """The folder of the partial store, for this process alone.

    Raises:
        FileError: another process has it, or it cannot be written.
    """
    temporary = folder.parent / f".{folder.name}.partial"
    try:
        temporary.mkdir(parents=True, exist_ok=True)
        with (temporary / LOCK).open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise FileError(f"{folder}: another process is making this store; wait for it to end") from None
            (temporary / MANIFEST).unlink(missing_ok=True)
            yield temporary
    except OSError as error:
        place = f"{folder}" if error.filename is None else f"{folder} ({error.filename})"
        raise FileError(
            f"{place}: cannot be written: {error.strerror or error}; make room there, or choose another place"
        ) from error
