"""A plan of several builders into one file; what was killed goes on where it was.

While it is made, a hidden folder beside the file holds the structures so far and a journal with one line for each
place: what was refused, and of a structure what the map needs and where it ends in the file.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from ase import Atoms

from rutile.build.guards import Known, Measured
from rutile.build.making import Made, Maker, Slots, fill_all
from rutile.build.recipe import Mechanics
from rutile.build.settings import StepSettings
from rutile.core.errors import FileError, SettingsError
from rutile.core.files import UNFINISHED, remove_folder
from rutile.core.lock import alone_in
from rutile.core.reporting import Reporter
from rutile.structures.formats import extxyz

STRUCTURES, JOURNAL, PLAN = "structures.extxyz", "journal.jsonl", "plan.json"
DUPLICATE = "made before"


@dataclass
class Tally:
    """What became of one step."""

    label: str
    builder: str
    parents: int
    asked: int
    made: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    """Why structures were refused; each draw counts."""
    measured: list[Measured] = field(default_factory=list)
    """Of each structure."""
    used: set[int] = field(default_factory=set)
    """Numbers of the parents that have structures."""


@dataclass
class _State:
    """So far."""

    tallies: list[Tally]
    known: Known = field(default_factory=Known)
    done: int = 0
    """Places."""
    size: int = 0
    """Bytes of the structures."""


def make_plan(
    steps: Sequence[StepSettings],
    seed: int,
    out: Path,
    mechanics: Mechanics,
    reporter: Reporter,
    workers: int = 1,
) -> list[Tally]:
    """Make all structures of a plan into one extxyz file.

    Args:
        steps: settings of builders; labels are different.
        seed: same seed and steps, same structures, whatever the number of workers.
        out: the file; its folder exists.
        mechanics: as of `build.recipe`.
        reporter: sees the progress.
        workers: processes.

    Raises:
        RutileError: the settings of a step cannot be met.
        SettingsError: another plan was begun for this file.
        FileError: it cannot be written, or another process is making it.
    """
    maker = Maker(steps, seed, mechanics)
    folder = out.with_name(f".{out.name}{UNFINISHED}")
    with ExitStack() as held:
        try:
            folder.mkdir(exist_ok=True)
            held.enter_context(alone_in(folder, reporter))
            tallies = _work(maker, folder, mechanics, reporter, workers)
            if not any(t.made for t in tallies):
                raise SettingsError(f"every structure was refused: {reasons(tallies)}; change the settings or guards")
            (folder / STRUCTURES).replace(out)
        except SettingsError:
            if not _begun(folder):
                held.callback(remove_folder, folder)
            raise
        except OSError as error:
            raise FileError(
                f"cannot write {out}: {error.strerror or error}; make room, or choose another out="
            ) from None
    remove_folder(folder)
    return tallies


def reasons(tallies: Sequence[Tally]) -> str:
    """Why structures were refused, most frequent first."""
    total = sum((t.refused for t in tallies), Counter())
    return ", ".join(f"{reason} ({n})" for reason, n in total.most_common()) or "none"


def _begun(folder: Path) -> bool:
    """Whether there is something to go on with."""
    path = folder / STRUCTURES
    return path.is_file() and path.stat().st_size > 0


def _work(maker: Maker, folder: Path, mechanics: Mechanics, reporter: Reporter, workers: int) -> list[Tally]:
    """Fill all places that are not filled yet."""
    slots = maker.slots()
    _check_same(maker, folder)
    state = _restored(maker, slots, folder)
    total = sum(s.count for s in slots)
    if state.done:
        reporter.info(f"going on after {state.done} of {total} structures")
    left = list(_after(slots, state.done))
    places = [(s, s.first + n) for s in left for n in range(s.count)]
    with (folder / STRUCTURES).open("r+b") as frames, (folder / JOURNAL).open("ab") as journal:
        frames.truncate(state.size)
        frames.seek(state.size)
        made = fill_all(maker, left, mechanics, workers)
        for (slot, number), one in zip(places, reporter.track(made, "making", len(places)), strict=True):
            line = _settle(maker, state, slot, number, one, frames)
            journal.write(json.dumps(line).encode() + b"\n")
            journal.flush()
    return state.tallies


def _settle(maker: Maker, state: _State, slot: Slots, number: int, made: Made, frames: BinaryIO) -> dict[str, Any]:
    """Write a structure that is new, or draw again; returns the line of the journal."""
    refused = Counter(made.refused)
    while made.atoms is not None and made.measured is not None:
        if state.known.add(made.measured, made.atoms.pbc):
            frames.write(extxyz.text(made.atoms).encode())
            frames.flush()
            state.size = frames.tell()
            break
        refused[DUPLICATE] += 1
        made = maker.one(slot.step, slot.parent, number, made.attempt + 1)
        refused += made.refused
    measured = made.measured if made.atoms is not None else None
    _count(state, slot, refused, measured)
    pbc = None if made.atoms is None else int(np.sum(made.atoms.pbc))
    return {"refused": refused, "measured": measured and asdict(measured), "pbc": pbc, "end": state.size}


def _count(state: _State, slot: Slots, refused: Counter[str], measured: Measured | None) -> None:
    tally = state.tallies[slot.step]
    tally.refused += refused
    state.done += 1
    if measured is not None:
        tally.made += 1
        tally.measured.append(measured)
        tally.used.add(slot.parent)


def _after(slots: Sequence[Slots], done: int) -> Iterator[Slots]:
    """Places without the first so many."""
    for slot in slots:
        skip = min(done, slot.count)
        done -= skip
        if skip < slot.count:
            yield Slots(slot.step, slot.parent, slot.first + skip, slot.count - skip)


def _restored(maker: Maker, slots: Sequence[Slots], folder: Path) -> _State:
    """What the journal says; lines beyond the structures (after a power failure) are left out."""
    names = [(s.title, s.builder) for s in maker.steps]
    state = _State([Tally(*names[k], len(maker.recipes[k].parents), maker.asked(k)) for k in range(len(maker.steps))])
    (folder / STRUCTURES).touch()
    (folder / JOURNAL).touch()
    size = (folder / STRUCTURES).stat().st_size
    kept = b""
    each = (slot for slot in slots for _ in range(slot.count))
    for text, slot in zip((folder / JOURNAL).read_bytes().splitlines(keepends=True), each, strict=False):
        try:
            line = json.loads(text)
        except ValueError:
            break
        if line["end"] > size or not text.endswith(b"\n"):
            break
        measured = None
        if line["measured"] is not None:
            measured = Measured(**(line["measured"] | {"sums": tuple(line["measured"]["sums"])}))
            state.known.add(measured, np.arange(3) < line["pbc"])
        _count(state, slot, Counter(line["refused"]), measured)
        state.size, kept = line["end"], kept + text
    (folder / JOURNAL).write_bytes(kept)
    return state


def _check_same(maker: Maker, folder: Path) -> None:
    """Refuse to go on with another plan.

    Raises:
        SettingsError: it is another one.
    """
    text = json.dumps([maker.seed, [s.model_dump(mode="json") for s in maker.steps]], sort_keys=True)
    path = folder / PLAN
    if path.is_file() and path.read_text(encoding="utf-8") != text and _begun(folder):
        raise SettingsError(
            f"another plan was begun and not finished for this file: restore its settings to go on, remove {folder}, "
            "or choose another out="
        )
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        for name in (STRUCTURES, JOURNAL):
            (folder / name).unlink(missing_ok=True)
        path.write_text(text, encoding="utf-8")


def images(path: Path) -> Iterator[Atoms]:
    """The structures of a file that was made."""
    for entry in extxyz.read(path):
        if isinstance(entry, Atoms):
            yield entry
