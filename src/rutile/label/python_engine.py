"""Engines that are Python packages: `outside/serve.py` runs in their Python and answers line by line."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

import rutile
from rutile.core.errors import DataError, FileError, MissingPackageError
from rutile.label.cost import name_of, refuse_cost
from rutile.label.kpoints import boxed, kpoints
from rutile.label.labeler import Failure, Label, Outcome, judge, last_lines
from rutile.label.outside import serve
from rutile.label.run import environment, from_here
from rutile.label.settings import GpawSettings, PythonSettings
from rutile.label.settings.common import Molecule
from rutile.label.suits import charge_and_multiplicity, unsuitable
from rutile.structures.io import read_all, write_frames

START = 300.0
"""Seconds within which an engine must have been imported."""
INSTALL = {
    "gpaw": "GPAW_CONFIG=siteconfig.py pip install gpaw gpaw-data (docs/label.md), then engine.python=/path/bin/python",
    "xtb": "pip install tblite",
    "pyscf": "pip install pyscf",
}
"""What brings an engine."""


class PythonLabeler:
    """A process with a Python engine, which takes one structure after another."""

    def __init__(self, settings: PythonSettings) -> None:
        self.settings = settings
        self.version = ""
        self._process: subprocess.Popen[bytes] | None = None
        self._folder: Path | None = None
        self._done = 0
        self._unread = b""

    def probe(self, numbers: frozenset[int]) -> str:
        """Start the process; its name and version.

        Raises:
            MissingPackageError: there is no such Python, or it does not have the engine.
        """
        del numbers
        failure = self._ensure()
        if failure is not None:
            name = name_of(self.settings)
            install = f"; install it: {INSTALL[name]}" if name in INSTALL else ""
            raise MissingPackageError(f"engine {name}: {failure.reason}{install}")
        return self.version

    def refuse(self, atoms: Atoms) -> Failure | None:
        """What can be seen without running it."""
        return unsuitable(self.settings, atoms) or refuse_cost(self.settings, atoms)

    def label(self, atoms: Atoms, safer: bool = False) -> Outcome:
        """Compute one structure."""
        if (failure := self._ensure()) is not None:
            return failure
        assert self._folder is not None
        job, result = self._job(atoms, safer), self._folder / "out.extxyz"
        result.unlink(missing_ok=True)
        start, log = time.monotonic(), self._log_size()
        answer = self._ask(job, self.settings.time_limit)
        lines = self._log(log)
        if isinstance(answer, Failure):
            self.close()
            return Failure(answer.kind, answer.reason, lines or answer.last_lines)
        if "kind" in answer:
            return Failure(answer["kind"], answer["reason"], lines)
        self._done += 1
        outcome = self._read(result, atoms, answer["provenance"] | job.get("kept", {}), time.monotonic() - start, lines)
        if self._done >= self.settings.FRAMES_PER_PROCESS:
            self.close()
        return outcome

    def close(self) -> None:
        """End the process and remove its folder."""
        process, self._process = self._process, None
        if process is not None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.__exit__(None, None, None)
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
        self._folder = None

    def _ensure(self) -> Failure | None:
        """Start the process if none is there; why that did not work."""
        if self._process is not None and self._process.poll() is None:
            return None
        self.close()
        self._folder, self._done, self._unread = Path(tempfile.mkdtemp(prefix="rutile-label-")), 0, b""
        settings = self._folder / "settings.json"
        settings.write_text(json.dumps(self._complete()))
        python = self.settings.python or sys.executable
        try:
            with (self._folder / "log").open("wb") as log:
                self._process = subprocess.Popen(
                    [from_here(python), str(Path(serve.__file__)), str(settings)],
                    stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, start_new_session=True,
                    env=self._environment(), cwd=self._folder,
                )  # fmt: skip
        except OSError as error:
            self.close()
            return Failure("not installed", f"{python}: {error.strerror}")
        answer = self._answer(START)
        if isinstance(answer, Failure) or "version" not in answer:
            lines = self._log(0)
            self.close()
            if isinstance(answer, Failure):
                return Failure("not installed", f"{python} {answer.reason}", lines)
            return Failure("not installed", f"{answer['reason']} (in {python})", lines)
        self.version = str(answer["version"])
        return None

    def _complete(self) -> dict[str, Any]:
        """Settings with absolute paths, for a process in another folder."""
        out: dict[str, Any] = self.settings.complete()
        if name_of(self.settings) == "potential":
            out["model"] = str(Path(str(out["model"])).absolute())
        where, _, name = str(out.get("calculator", "")).rpartition(":")
        if where.endswith(".py"):
            out["calculator"] = f"{Path(where).absolute()}:{name}"
        return out

    def _environment(self) -> dict[str, str]:
        """Other Pythons do not see the packages of ours, except rutile where it is the engine."""
        out = environment(self.settings.threads)
        own = str(Path(rutile.__file__).parent.parent)
        ours = name_of(self.settings) in ("rigid_ion", "potential")
        paths = [own] if ours else []
        if not self.settings.python and out.get("PYTHONPATH"):
            paths.append(out["PYTHONPATH"])
        out.pop("PYTHONPATH", None)
        return out | ({"PYTHONPATH": os.pathsep.join(paths)} if paths else {})

    def _job(self, atoms: Atoms, safer: bool) -> dict[str, Any]:
        """Write the structure; the line that asks for it, and what the label keeps of it."""
        assert self._folder is not None
        structure = self._folder / "in.extxyz"
        job: dict[str, Any] = {"structure": str(structure), "result": str(self._folder / "out.extxyz"), "safer": safer}
        job["seconds"] = self.settings.time_limit
        plain = Atoms(atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
        if isinstance(self.settings, GpawSettings):
            grid = kpoints(atoms, float(str(self.settings.complete()["k_density"])))
            plain = boxed(atoms, self.settings.vacuum)
            if self.settings.spin and atoms.has("initial_magmoms"):
                plain.set_initial_magnetic_moments(atoms.get_initial_magnetic_moments())
            job |= {"kpoints": list(grid), "kept": {"kpoints": list(grid)}}
        if isinstance(self.settings, Molecule):
            charge, multiplicity = charge_and_multiplicity(self.settings, atoms)
            job |= {"charge": charge, "multiplicity": multiplicity}
        write_frames(structure, plain)
        return job

    def _ask(self, job: dict[str, Any], seconds: float) -> dict[str, Any] | Failure:
        assert self._process is not None
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(job).encode() + b"\n")
            self._process.stdin.flush()
        except OSError:
            return Failure("crashed", "the process ended before the calculation began")
        return self._answer(seconds)

    def _answer(self, seconds: float) -> dict[str, Any] | Failure:
        """The next line, or why none came."""
        assert self._process is not None
        assert self._process.stdout is not None
        end, handle = time.monotonic() + seconds, self._process.stdout.fileno()
        while b"\n" not in self._unread:
            left = end - time.monotonic()
            if left <= 0 or not select.select([handle], [], [], left)[0]:
                return Failure("time limit", f"longer than time_limit = {seconds:g} s")
            more = os.read(handle, 65536)
            if not more:
                code = self._process.wait()
                ended = f"signal {-code}" if code < 0 else f"exit code {code}"
                return Failure("crashed", f"ended with {ended} before its results were there")
            self._unread += more
        line, self._unread = self._unread.split(b"\n", 1)
        try:
            answer: dict[str, Any] = json.loads(line)
        except ValueError:
            return Failure("garbage", f"answered {line[:60]!r}")
        return answer

    def _read(
        self, path: Path, atoms: Atoms, provenance: dict[str, Any], seconds: float, lines: tuple[str, ...]
    ) -> Outcome:
        """The result in a file, judged."""
        try:
            (found,) = read_all(path)
            energy, forces = found.get_potential_energy(), found.get_forces()
        except (FileError, DataError, RuntimeError, ValueError) as error:
            return Failure("garbage", f"its result cannot be read: {error}", lines)
        stress = found.calc.results.get("stress") if atoms.pbc.all() else None
        if stress is not None and np.shape(stress) == (6,):
            xx, yy, zz, yz, xz, xy = stress
            stress = np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
        outcome = judge(atoms, Label(float(energy), forces, stress, provenance | {"seconds": round(seconds, 3)}))
        return outcome if isinstance(outcome, Label) else Failure(outcome.kind, outcome.reason, lines)

    def _log_size(self) -> int:
        assert self._folder is not None
        return (self._folder / "log").stat().st_size

    def _log(self, start: int) -> tuple[str, ...]:
        """Last lines of what the engine printed since."""
        assert self._folder is not None
        with (self._folder / "log").open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(start, size - 100_000))
            return last_lines(file.read().decode(errors="replace"))
