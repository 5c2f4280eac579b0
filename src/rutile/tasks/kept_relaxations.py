"""Relaxed structures, kept one by one as they are done, so that a run that was stopped goes on.

A hidden folder beside the file that is made holds done.extxyz and, of structures that are watched, path.extxyz, which
any program that knows extended XYZ can read, and question.json, which says what was asked.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms

from rutile.core.errors import DataError, FileError, SettingsError
from rutile.core.files import UNFINISHED, write_atomically
from rutile.core.lock import alone_in
from rutile.core.reporting import Reporter
from rutile.structures.formats import extxyz
from rutile.structures.io import write_frames
from rutile.tasks.apply import add_structures, frame_of

if TYPE_CHECKING:
    from rutile.data.frames import Frame
    from rutile.potentials.potential import Potential
    from rutile.simulate.ledger import RelaxResult
    from rutile.simulate.minima import Minimum
    from rutile.simulate.settings import RelaxSettings
    from rutile.structures.structures import Structures

DONE, PATH, QUESTION = "done.extxyz", "path.extxyz", "question.json"
FREE = ("out", "device", "on_bad", "atoms_at_once", "overwrite")
"""Settings that may change when a run goes on."""


@dataclass(frozen=True)
class Relaxed:
    """What became of one structure."""

    positions: np.ndarray
    """[N, 3] (Angstrom)."""
    cell: np.ndarray
    """[3, 3] (Angstrom)."""
    converged: bool
    failure: str
    """Why it failed; "": it did not."""
    steps: int
    fmax: float
    """Largest force on an atom that may move (eV/Angstrom)."""
    energy: float
    """At the end (eV); NaN where even the given structure had none."""
    start_energy: float
    """Of the given structure (eV)."""

    @staticmethod
    def of(one: RelaxResult) -> Relaxed:
        """From the result for one structure."""
        return Relaxed(
            one.structures.positions.numpy(),
            one.structures.cell[0].numpy(),
            bool(one.converged[0]),
            one.failure[0],
            int(one.steps[0]),
            float(one.fmax[0]),
            float(one.energy[0]),
            float(one.start_energy[0]),
        )


class KeptRelaxations:
    """What is done of one question: structures, model and settings."""

    def __init__(self, out: Path, frames: Sequence[Frame], question: str) -> None:
        self.out, self.frames, self.question = out, frames, question
        self.folder = out.with_name(f".{out.name}{UNFINISHED}")
        self.done: dict[int, Relaxed] = {}
        """By number of the structure."""

    @contextmanager
    def opened(self, reporter: Reporter) -> Iterator[None]:
        """Read what an earlier run kept, and keep others out meanwhile; all goes when the work is done.

        Raises:
            SettingsError: another question was begun for this file.
            FileError: the folder cannot be written, or another process is at work.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with alone_in(self.folder, reporter):
                self._read()
                if self.done:
                    reporter.info(f"going on after {len(self.done)} of {len(self.frames)} structures")
                yield
            shutil.rmtree(self.folder, ignore_errors=True)
        except OSError as error:
            raise FileError(self._why(error)) from None

    def add(self, number: int, relaxed: Relaxed, way: Sequence[Atoms] = ()) -> None:
        """Keep what became of a structure, and how it came there (frames of its steps; none: it was not watched).

        Raises:
            FileError: it cannot be written; what was kept before stays.
        """
        self.done[number] = relaxed
        try:
            if way:
                with (self.folder / PATH).open("ab") as file:
                    file.writelines(extxyz.text(atoms).encode() for atoms in way)
            with (self.folder / DONE).open("ab") as file:
                file.write(extxyz.text(self._frame(number, relaxed)).encode())
        except OSError as error:
            raise FileError(self._why(error)) from None

    def ways(self) -> list[Atoms]:
        """How those came down that were watched: frames as they were added."""
        return _whole(self.folder / PATH)

    def _why(self, error: OSError) -> str:
        kept = f"{len(self.done)} of {len(self.frames)} structures are kept in {self.folder / DONE}"
        return (
            f"cannot write beside {self.out}: {error.strerror or error}; {kept}: make room, and run it again to go on"
        )

    def _frame(self, number: int, relaxed: Relaxed) -> Atoms:
        """As it is written."""
        given = self.frames[number]
        atoms = Atoms(given.numbers, positions=relaxed.positions, cell=relaxed.cell, pbc=given.pbc)
        facts = {k: v for k, v in vars(relaxed).items() if k not in ("positions", "cell")}
        atoms.info["relaxed"] = json.dumps({"number": number, **facts})
        return atoms

    def _read(self) -> None:
        """What is kept; a frame that was being written when the run was stopped is left out."""
        asked, done = self.folder / QUESTION, self.folder / DONE
        same = asked.is_file() and asked.read_text(encoding="utf-8") == self.question
        if not same and done.is_file() and done.stat().st_size:
            raise SettingsError(
                f"another relaxation (model, structures or settings) was begun and not finished for {self.out}: "
                f"restore them to go on, remove {self.folder}, or choose another out="
            )
        if not same:
            write_atomically(asked, self.question.encode())
        frames = []
        try:
            for atoms in _whole(done):
                facts: dict[str, Any] = _facts(atoms)
                number = facts.pop("number")
                self.done[number] = Relaxed(atoms.positions, atoms.cell.array, **facts)
                frames.append(self._frame(number, self.done[number]))
        except (KeyError, ValueError, TypeError):
            pass  # the last one, half written
        write_frames(done, frames, "extxyz")
        if (self.folder / PATH).is_file():
            write_frames(self.folder / PATH, self.ways(), "extxyz")


def _whole(path: Path) -> list[Atoms]:
    """Frames of a file that may end with one that is half written; none, if there is no file."""
    frames = []
    try:
        for atoms in extxyz.read(path) if path.is_file() else ():
            if not isinstance(atoms, Atoms):
                break
            frames.append(atoms)
    except (FileError, DataError):
        pass
    return frames


def _facts(atoms: Atoms) -> dict[str, Any]:
    """What a frame says besides geometry; the reader may have parsed the JSON already."""
    text = atoms.info["relaxed"]
    found: dict[str, Any] = text if isinstance(text, dict) else json.loads(text)
    return found


def relax_kept(
    kept: KeptRelaxations,
    potential: Potential,
    fixed: np.ndarray,
    settings: RelaxSettings,
    reporter: Reporter,
    watched: int = 0,
) -> None:
    """Relax what is not done yet, and keep each structure as it is done.

    Args:
        kept: opened.
        potential: gives the forces.
        fixed: atoms that do not move, of all structures, [N] bool.
        settings: how to relax.
        reporter: told how far it is.
        watched: of so many structures, the first ones, the way down is kept.
    """
    import torch

    from rutile.simulate.relax import Relaxation
    from rutile.structures.structures import concatenate
    from rutile.tasks.relax_paths import Watched

    left = [k for k in range(len(kept.frames)) if k not in kept.done]
    if not left:
        return
    ends = np.cumsum([len(f.numbers) for f in kept.frames])
    held = np.concatenate([fixed[ends[k] - len(kept.frames[k].numbers) : ends[k]] for k in left])
    structures = concatenate(kept.frames[k].structures() for k in left)
    names = [kept.frames[k].source for k in left]
    ways = Watched(names[: sum(k < watched for k in left)], left, settings.max_steps, reporter)
    relaxation = Relaxation(structures, potential, settings, torch.from_numpy(held), names, ways.see)
    for n in reporter.track(relaxation, "Relaxing", total=len(left)):
        kept.add(left[n], Relaxed.of(relaxation.ledger.one(n)), ways.of(n))


class Stages(ExitStack):
    """Relaxes the structures of a task stage by stage and keeps them in a folder until the task is done.

    A `simulate.minima.Relaxer` to be used in a `with` statement.
    """

    def __init__(
        self, folder: Path, settings: Any, model: bytes, potential: Potential, how: RelaxSettings, reporter: Reporter
    ) -> None:
        """Prepare.

        Args:
            folder: of the results.
            settings: of the task.
            model: content of the model file.
            potential: gives the forces.
            how: to relax.
            reporter: told how far it is.
        """
        super().__init__()
        self._folder, self._settings, self._model = folder, settings, model
        self._potential, self._how, self._reporter = potential, how, reporter

    def __call__(
        self,
        stage: str,
        structures: Sequence[Structures],
        fixed: Sequence[np.ndarray],
        how: RelaxSettings | None = None,
    ) -> list[Minimum]:
        """Minima of one stage, in order.

        Args:
            stage: its name.
            structures: to relax.
            fixed: atoms of each that do not move, [N] bool.
            how: to relax; None: as always.

        Raises:
            SettingsError: another question was begun for this folder.
            FileError: the folder cannot be written, or another process is at work.
        """
        from rutile.simulate.minima import Minimum, not_reached

        frames = [frame_of(one, f"{stage} {k}") for k, one in enumerate(structures)]
        held = np.concatenate(fixed)
        asked = question(self._settings, frames, held, self._model)
        kept = KeptRelaxations(self._folder / stage.replace(" ", "_"), frames, asked)
        self.enter_context(kept.opened(self._reporter))
        relax_kept(kept, self._potential, held, how or self._how, self._reporter)
        out = []
        for k, frame in enumerate(frames):
            one = kept.done[k]
            end = dataclasses.replace(frame, positions=one.positions, cell=one.cell).structures()
            why = not_reached(one.failure, one.converged, one.steps)
            out.append(Minimum(end, one.energy, one.start_energy, one.steps, why))
        return out


def question(settings: Any, frames: Sequence[Frame], fixed: np.ndarray, model: bytes) -> str:
    """Everything that the results depend on, as text.

    Args:
        settings: of the task.
        frames: the structures.
        fixed: atoms that do not move, of all.
        model: content of the model file.
    """
    digest = hashlib.sha256(model)
    add_structures(digest, frames)
    digest.update(fixed.tobytes())
    kept = {k: v for k, v in settings.model_dump(mode="json").items() if k not in (*FREE, "model", "structures")}
    return json.dumps({"settings": kept, "of": digest.hexdigest()}, sort_keys=True)
