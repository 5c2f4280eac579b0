"""What a run leaves behind: a log, trajectories, the structures that ended runs, and checkpoints.

All files but the checkpoint grow; the checkpoint says how long they were when it was written. To go on is to cut them
back to that and to run on from its state: no frame is there twice, none is missing, and in the end the files are those
of an uninterrupted run.
Letters of shapes: S systems (runs).
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms, units
from ase.calculators.singlepoint import SinglePointCalculator
from torch import Tensor

from rutile.core.errors import FileError
from rutile.core.units import GPA
from rutile.potentials.evaluate import VOIGT
from rutile.potentials.save import read_tensors, write_tensors
from rutile.simulate.md.growing_file import GrowingFile
from rutile.simulate.md.h5md import H5mdFile, frame_values
from rutile.simulate.md.loop import Dynamics, Stopped
from rutile.simulate.md.state import State, kinetic_of, pressure_tensor, temperature
from rutile.structures.formats.extxyz import text as extxyz_text

KIND, VERSION = "md", 1
CHECKPOINT, LOG, OFFENDERS = "checkpoint.safetensors", "log.csv", "offender.extxyz"
STRESSES = ("xx", "yy", "zz", "yz", "xz", "xy")
COLUMNS = (
    "run", "step", "time_fs", "temperature_K", "potential_eV", "kinetic_eV", "conserved_eV", "pressure_GPa",
    "volume_A3", *(f"pressure_{c}_GPa" for c in STRESSES), "closest_A", "disagreement_eV_A",
)  # fmt: skip
"""Of the log."""


@dataclass(frozen=True)
class Recording:
    """What is written when."""

    every: int
    """Steps between two frames."""
    log_every: int
    """Steps between two rows of the log."""
    trajectory: str
    """extxyz, hdf5 or none."""
    velocities: bool
    """Whether frames hold them."""
    forces: bool
    """Whether frames hold them."""


class Record:
    """Files of the runs in one folder.

    Args:
        folder: that exists.
        dynamics: whose states are recorded.
        how: what is written when.
        identity: what must be the same for a run to go on.
        sources: where each run began, for people, [S0].
    """

    def __init__(
        self, folder: Path, dynamics: Dynamics, how: Recording, identity: dict[str, Any], sources: Sequence[str]
    ) -> None:
        self.folder, self.dynamics, self.how, self.identity = folder, dynamics, how, identity
        self.sources = list(sources)
        self.stopped: list[tuple[int, int, str]] = []
        """(number, step, why) of runs that ended."""
        self._log: GrowingFile
        self._offenders: GrowingFile
        self._text: list[GrowingFile] = []
        self._binary: list[H5mdFile] = []

    def trajectories(self) -> list[Path]:
        """File of each run; none where none are written."""
        if self.how.trajectory == "none":
            return []
        ending = {"extxyz": "extxyz", "hdf5": "h5"}[self.how.trajectory]
        one = len(self.sources) == 1
        names = ["trajectory" if one else f"trajectory-{k:03d}" for k in range(len(self.sources))]
        return [self.folder / f"{name}.{ending}" for name in names]

    def begin(self, state: State) -> None:
        """Begin all files, with what there is at step 0.

        Raises:
            FileError: they cannot be written.
        """
        self._log, self._offenders = GrowingFile(self.folder / LOG), GrowingFile(self.folder / OFFENDERS)
        self._log.add(",".join(COLUMNS) + "\n")
        self._open(state, None)
        self._write(state, log=True, frame=True)
        self.checkpoint(state)

    def _open(self, state: State, kept: dict[str, Any] | None) -> None:
        """Open the trajectories; `kept` says how much of each."""
        paths = self.trajectories()
        if self.how.trajectory == "extxyz":
            sizes = kept["text"] if kept else [None] * len(paths)
            self._text = [GrowingFile(path, size) for path, size in zip(paths, sizes, strict=True)]
        if self.how.trajectory == "hdf5":
            room = self.dynamics.settings.steps // self.how.every + 1
            arrays = tuple(a for a, on in (("velocity", self.how.velocities), ("force", self.how.forces)) if on)
            keep = state.step // self.how.every + 1 if kept else None
            for path, one in zip(paths, self.begun, strict=True):
                numbers, masses, pbc = one
                self._binary.append(H5mdFile(path, numbers, masses, pbc, room, arrays, keep))

    def note_runs(self, numbers: Sequence[np.ndarray], masses: Sequence[np.ndarray], pbc: Sequence[np.ndarray]) -> None:
        """Atoms of every run that is begun: atomic numbers [N], masses (amu) [N] and periodic directions [3]."""
        self.begun = list(zip(numbers, masses, pbc, strict=True))

    def write(self, state: State, stopped: Sequence[Stopped] = ()) -> None:
        """Record a time step, if it is one to be recorded, and runs that ended with it.

        Raises:
            FileError: the disk is full; what was written before stays readable.
        """
        for end in stopped:
            self.stopped.append((end.number, end.step, end.why))
            self._offenders.add(extxyz_text(self._atoms(end.state, 0, {"why": end.why})))
        if state.n_systems and not any(end.step == 0 for end in stopped):
            step = state.step
            self._write(state, log=step % self.how.log_every == 0, frame=step % self.how.every == 0)

    def _write(self, state: State, *, log: bool, frame: bool) -> None:
        if log:
            self._log.add(rows(state, self.dynamics))
        if frame and self._text:
            for k, number in enumerate(state.number.tolist()):
                self._text[number].add(extxyz_text(self._atoms(state, k, {})))
        if frame and self._binary:
            at = state.step // self.how.every
            for k, number in enumerate(state.number.tolist()):
                self._binary[number].write(at, self._frame(state, k))

    def _frame(self, state: State, k: int) -> dict[str, np.ndarray]:
        mine, s = state.structures.system == k, state.structures
        return frame_values(
            state.step,
            state.step * self.dynamics.settings.timestep,
            _numpy(s.positions[mine]),
            _numpy(s.cell[k]),
            float(state.energy[k]),
            velocity=_numpy(state.velocities[mine]),
            force=_numpy(state.forces[mine]),
        )

    def _atoms(self, state: State, k: int, facts: dict[str, Any]) -> Atoms:
        """A run as ASE atoms, not wrapped, with energy and, if asked for, velocities and forces."""
        s, mine = state.structures, state.structures.system == k
        atoms = Atoms(s.numbers[mine].cpu().numpy(), _numpy(s.positions[mine]), cell=_numpy(s.cell[k]),
                      pbc=s.pbc[k].cpu().numpy())  # fmt: skip
        run = int(state.number[k])
        time = state.step * self.dynamics.settings.timestep
        atoms.info |= {"run": run, "step": state.step, "time": time, "source": self.sources[run], **facts}
        if self.how.velocities:
            atoms.set_array("momenta", _numpy(state.mass[mine] * state.velocities[mine]) / units.fs)
        results: dict[str, Any] = {"energy": float(state.energy[k])}
        if self.how.forces:
            results["forces"] = _numpy(state.forces[mine])
        if bool(s.pbc[k].all()):
            results["stress"] = np.array([float(state.stress[k][v]) for v in VOIGT])
        if all(np.isfinite(x).all() for x in results.values()):
            atoms.calc = SinglePointCalculator(atoms, **results)
        return atoms

    def checkpoint(self, state: State) -> None:
        """Write all that is needed to go on from here.

        Raises:
            FileError: it cannot be written; the one before stays.
        """
        files: list[GrowingFile | H5mdFile] = [self._log, self._offenders, *self._text, *self._binary]
        for file in files:
            file.flush()
        facts = {
            "kind": KIND, "version": VERSION, "step": state.step, "identity": self.identity, "stopped": self.stopped,
            "sizes": {"log": self._log.size, "offenders": self._offenders.size, "text": [f.size for f in self._text]},
        }  # fmt: skip
        fixed = {"all.temperatures": self.dynamics.temperatures, "all.volume": self.dynamics.volume}
        write_tensors(self.folder / CHECKPOINT, state.tensors() | fixed, facts)

    def resume(self) -> State:
        """The state of the checkpoint, with files that are as long as they were then.

        Raises:
            FileError: checkpoint or files are damaged.
        """
        tensors, facts = read_checkpoint(self.folder)
        first = {name: tensors.pop(f"all.{name}") for name in ("temperatures", "volume")}
        state = State.from_tensors(tensors, int(facts["step"]), self.dynamics.field.device)
        self.dynamics.resume(state, **first)
        self.stopped = [(int(k), int(step), str(why)) for k, step, why in facts["stopped"]]
        sizes = facts["sizes"]
        self._log = GrowingFile(self.folder / LOG, int(sizes["log"]))
        self._offenders = GrowingFile(self.folder / OFFENDERS, int(sizes["offenders"]))
        self._open(state, sizes)
        return state


def read_checkpoint(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and facts of the checkpoint in a folder.

    Raises:
        FileError: missing, damaged or of another kind.
    """
    path = folder / CHECKPOINT
    tensors, facts = read_tensors(path)
    if facts.get("kind") != KIND or facts.get("version") != VERSION:
        raise FileError(f"{path} is no checkpoint of molecular dynamics that this rutile reads: take another folder")
    return tensors, facts


def rows(state: State, dynamics: Dynamics) -> str:
    """Lines of the log, one for each run."""
    kinetic, p = kinetic_of(state), pressure_tensor(state) / GPA
    parts = [
        temperature(kinetic, state.dof), state.energy, kinetic,
        dynamics.integrator.conserved(state, dynamics.targets(state)), p.diagonal(dim1=1, dim2=2).mean(1),
        state.structures.volume, *(p[:, a, b] for a, b in VOIGT), state.closest, state.deviation,
    ]  # fmt: skip
    table = torch.stack([x.double() for x in parts], 1).tolist()
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    time = state.step * dynamics.settings.timestep
    for number, values in zip(state.number.tolist(), table, strict=True):
        writer.writerow([number, state.step, f"{time:.10g}", *("" if np.isnan(x) else f"{x:.12g}" for x in values)])
    return text.getvalue()


def _numpy(tensor: Tensor) -> np.ndarray:
    return np.asarray(tensor.detach().cpu().numpy())
