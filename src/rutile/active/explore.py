"""The exploration of one round: many pieces of work, each kept in files as it is done, then joined in order.

explored/0003-tio2-hot.extxyz    what a piece met (absent: nothing)
explored/0003-tio2-hot.json      how it ended: the piece is done
explored.extxyz                  all of them
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from ase import Atoms

from rutile.active.explorers import SOUND, Computed, Explore, Found, Run, without_warnings
from rutile.active.plan import (
    FilesExplorer,
    GenerateExplorer,
    MdExplorer,
    NebExplorer,
    RandomExplorer,
    RelaxExplorer,
    SystemSettings,
)
from rutile.build.plan import images, make_plan
from rutile.build.recipe import Mechanics
from rutile.build.settings import DisorderSettings, RandomCrystalSettings, StepSettings
from rutile.core.elements import symbol, unit_formula
from rutile.core.errors import DataError, ElementError, SettingsError
from rutile.core.executors.executor import Executor, Lost
from rutile.core.files import write_atomically
from rutile.core.reporting import Reporter, SilentReporter
from rutile.core.seeds import integer, stream
from rutile.data.reading import read_frames, to_atoms
from rutile.data.settings import ReadSettings
from rutile.structures.io import write_frames

UNLABELLED = ReadSettings(energy_key="none", forces_key="none", stress_key="none", mode_key="none")


@dataclass(frozen=True)
class Piece:
    """Something to be explored."""

    name: str
    """Of its files."""
    system: str
    """Label of the system."""
    explorer: str
    """Title of the explorer."""
    run: Run | None = None
    """What is computed; None: what builders make or files hold."""
    steps: tuple[StepSettings, ...] = ()
    """Builders."""
    seed: int = 0
    """Of builders."""
    frames: tuple[Atoms, ...] = ()
    """From files."""


@dataclass(frozen=True)
class Note:
    """What came of a piece."""

    system: str
    explorer: str
    frames: int
    """Structures that it met."""
    ended: str
    """How it ended."""


@dataclass(frozen=True)
class Exploration:
    """How a round is explored."""

    folder: Path
    """Of the round; exists."""
    seed: int
    """Of this round."""
    executor: Executor
    """Does what is computed."""
    mechanics: Mechanics
    """Forces and melts of builders."""
    workers: int
    """Processes of builders."""
    reporter: Reporter
    """Told of progress."""
    elements: frozenset[int] = frozenset()
    """That the committee knows; empty: any."""

    def run(self, systems: Sequence[SystemSettings], work: Explore) -> list[Note]:
        """Explore all systems; pieces that are done already are not done again.

        Raises:
            FileError: a file cannot be read or written.
            DataError: nothing was met at all.
            ElementError: a system holds an element that the committee does not know.
        """
        (self.folder / "explored").mkdir(exist_ok=True)
        pieces = [
            Piece(f"{k:04d}-{p.name}", p.system, p.explorer, p.run, p.steps, p.seed, p.frames)
            for k, p in enumerate(p for system in systems for p in self._pieces(system))
        ]
        for piece in pieces:
            self._check_elements(piece)
        notes = {p.name: note for p in pieces if (note := self._note(p)) is not None}
        for piece in pieces:
            if piece.name not in notes and piece.run is None:
                notes[piece.name] = self._keep(piece, self._given(piece))
        todo = [p for p in pieces if p.name not in notes]
        runs = [p.run for p in todo if p.run is not None]
        with without_warnings():
            results = self.executor.each(work, runs)
            for k, done in self.reporter.track(results, "Exploring", len(runs)) if runs else ():
                found = Found([], done.reason) if isinstance(done, Lost) else done
                notes[todo[k].name] = self._keep(todo[k], found)
        self._join(pieces)
        return [notes[p.name] for p in pieces]

    def _check_elements(self, piece: Piece) -> None:
        """Refuse to explore with what the committee does not know."""
        met = {int(z) for a in (piece.run.seeds if piece.run is not None else piece.frames) for z in a.numbers}
        strange = sorted(met - self.elements) if self.elements else []
        if strange:
            raise ElementError(
                f"{piece.system}: {piece.explorer} begins with {', '.join(map(symbol, strange))}, which the committee "
                "was not trained on: leave that out, or begin a new loop (another out=) with initial.files of this "
                "one's round-*/train.extxyz and with structures of the new elements"
            )

    def _pieces(self, system: SystemSettings) -> Iterator[Piece]:
        """All pieces of a system."""
        seeds = self._seeds(system) if any(e.NEEDS_SEEDS for e in system.explorers) else []
        for explorer in system.explorers:
            piece = Piece(f"{system.label}-{explorer.title}", system.label, explorer.title)
            number = integer(self.seed, "builders", piece.name) % 2**31
            if isinstance(explorer, RandomExplorer):
                yield replace(piece, steps=random_steps(explorer, seeds), seed=number)
            elif isinstance(explorer, GenerateExplorer):
                yield replace(piece, steps=tuple(explorer.steps), seed=number)
            elif isinstance(explorer, FilesExplorer):
                yield replace(piece, frames=drawn(explorer, piece.name, number))
            else:
                yield from (replace(piece, run=run) for run in self._runs(explorer, piece, seeds))

    def _runs(self, explorer: Computed, piece: Piece, seeds: list[Atoms]) -> Iterator[Run]:
        """What an explorer computes in this round; seeds take turns, and rounds begin with different ones."""

        def number(k: int) -> int:
            return integer(self.seed, piece.system, piece.explorer, k) % 2**31

        def turn(k: int) -> Atoms:
            return seeds[(self.seed + k) % len(seeds)]

        if isinstance(explorer, MdExplorer):
            yield from (Run(explorer, [turn(k)], number(k)) for k in range(explorer.runs))
        elif isinstance(explorer, RelaxExplorer):
            yield Run(explorer, [turn(k) for k in range(explorer.runs)], number(0))
        elif isinstance(explorer, NebExplorer):
            ends = [read_structures([path], piece.name)[-1] for path in (explorer.start, explorer.end)]
            yield Run(explorer, ends, number(0))
        else:
            for k in range(min(len(seeds), explorer.count)):
                yield Run(explorer, [turn(k)], number(k), len(range(k, explorer.count, len(seeds))))

    def _seeds(self, system: SystemSettings) -> list[Atoms]:
        """Structures to begin with; those of builders are made once in a round, and kept."""
        seeds = read_structures(system.files, system.label) if system.files else []
        if system.steps:
            out = self.folder / "explored" / f"begin-{system.label}.extxyz"
            if not out.exists():
                number = integer(self.seed, "begin", system.label) % 2**31
                make_plan(list(system.steps), number, out, self.mechanics, self.reporter, self.workers)
            seeds += images(out)
        return seeds

    def _given(self, piece: Piece) -> Found:
        """What builders make, or files hold."""
        if not piece.steps:
            return Found(list(piece.frames), SOUND)
        out = self.folder / "explored" / f"made-{piece.name}.extxyz"
        try:
            if not out.exists():
                make_plan(list(piece.steps), piece.seed, out, self.mechanics, self.reporter, self.workers)
        except SettingsError as error:
            return Found([], str(error).splitlines()[0])
        return Found(list(images(out)), SOUND)

    def _keep(self, piece: Piece, found: Found) -> Note:
        """Write what a piece met, then that it is done."""
        note = Note(piece.system, piece.explorer, len(found.frames), found.ended)
        place = self.folder / "explored" / piece.name
        if found.frames:
            for atoms in found.frames:
                atoms.info |= {"config_type": f"{piece.system}-{piece.explorer}", "explorer": piece.name}
            write_frames(place.with_name(f"{piece.name}.extxyz"), found.frames)
        write_atomically(place.with_name(f"{piece.name}.json"), json.dumps(asdict(note)).encode())
        return note

    def _note(self, piece: Piece) -> Note | None:
        """Of a piece that is done."""
        path = self.folder / "explored" / f"{piece.name}.json"
        return Note(**json.loads(path.read_bytes())) if path.is_file() else None

    def _join(self, pieces: Sequence[Piece]) -> None:
        """All that was met, in one file, in the order of the pieces."""
        paths = [path for p in pieces if (path := self.folder / "explored" / f"{p.name}.extxyz").exists()]
        if not paths:
            raise DataError(
                "no structure was met: every run of the exploration ended at its start (see explored/*.json); begin "
                "with other structures, gentler settings, or more data"
            )
        write_frames(self.folder / "explored.extxyz", (atoms for path in paths for atoms in images(path)))


def read_structures(files: Sequence[Path], what: str) -> list[Atoms]:
    """The usable structures of files, without labels.

    Raises:
        FileError: a file is missing or cannot be understood.
        DataError: none is usable; says for `what`.
    """
    frames = [to_atoms(f) for f in read_frames(files, UNLABELLED, SilentReporter())]
    if not frames:
        raise DataError(f"{what}: no usable structure in {', '.join(map(str, files))}")
    return frames


def drawn(explorer: FilesExplorer, what: str, number: int) -> tuple[Atoms, ...]:
    """Structures of a pool: all, or some at random in their order.

    Raises:
        RutileError: a file cannot be read.
    """
    pool = read_structures(explorer.files, what)
    if explorer.count is None or explorer.count >= len(pool):
        return tuple(pool)
    places = stream(number, "pool").choice(len(pool), explorer.count, replace=False)
    return tuple(pool[k] for k in np.sort(places))


def random_steps(explorer: RandomExplorer, seeds: Sequence[Atoms]) -> tuple[StepSettings, ...]:
    """Builders of random structures with the compositions of these."""
    formulas = tuple(dict.fromkeys(unit_formula(a.numbers) for a in seeds))
    crystals = round(explorer.count * explorer.crystals)
    steps: list[StepSettings] = []
    if crystals:
        steps.append(RandomCrystalSettings(formulas=formulas, atoms=explorer.atoms, count=crystals))
    if crystals < explorer.count:
        steps.append(DisorderSettings(formulas=formulas, atoms=explorer.atoms, count=explorer.count - crystals))
    return tuple(steps)
