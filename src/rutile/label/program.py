"""Engines that are programs: input files are written, the program runs in a folder of its own, its output is judged."""

from __future__ import annotations

import shlex
import shutil
import time
from importlib import import_module
from pathlib import Path
from typing import cast

from ase import Atoms
from pydantic import JsonValue

from rutile.core.elements import symbol
from rutile.core.errors import MissingPackageError
from rutile.label.cost import name_of, refuse_cost
from rutile.label.kpoints import boxed, kpoints
from rutile.label.labeler import Failure, Label, Outcome, judge
from rutile.label.programs.question import NoAnswer, Program, Question, hash_files
from rutile.label.run import Ended, failed, from_here, run, scratch
from rutile.label.settings import ProgramSettings
from rutile.label.settings.common import Crystal, Molecule
from rutile.label.suits import charge_and_multiplicity, unsuitable

PROGRAMS = {
    "espresso": "rutile.label.programs.espresso:Espresso",
    "cp2k": "rutile.label.programs.cp2k:Cp2k",
    "abinit": "rutile.label.programs.abinit:Abinit",
    "vasp": "rutile.label.programs.vasp:Vasp",
    "aims": "rutile.label.programs.aims:Aims",
    "orca": "rutile.label.programs.orca:Orca",
    "gaussian": "rutile.label.programs.gaussian:Gaussian",
}
"""Name -> "module:Class"."""
ASKING = 60.0
"""Seconds within which a program must have said its version."""


def program_of(settings: ProgramSettings) -> Program:
    """How the program of these settings is asked."""
    module, name = PROGRAMS[name_of(settings)].split(":")
    return cast("Program", getattr(import_module(module), name)())


def _several(words: list[str], processes: int, *, by_mpirun: bool) -> list[str]:
    """The command for several processes: by the mpirun beside the program, as it is of the same MPI, if there is one.

    What starts its processes itself is called by its full path, as ORCA asks.
    """
    place = shutil.which(words[0])
    if not by_mpirun:
        return [place or words[0], *words[1:]]
    beside = shutil.which("mpirun", path=str(Path(place).parent)) if place else None
    return [beside or "mpirun", "-np", str(processes), *words]


class ProgramLabeler:
    """Asks a program, one calculation after another."""

    def __init__(self, settings: ProgramSettings) -> None:
        self.settings = settings
        self.program = program_of(settings)
        words = shlex.split(settings.command or self.program.command)
        if settings.processes > 1 and not settings.command:
            words = _several(words, settings.processes, by_mpirun=self.program.by_mpirun)
        self.command = [from_here(word) for word in words]

    def probe(self, numbers: frozenset[int]) -> str:
        """Name and version, and a hash of the pseudopotentials that are there.

        Raises:
            MissingPackageError: there is no such program.
        """
        if shutil.which(self.command[0]) is None:
            raise MissingPackageError(
                f"engine {name_of(self.settings)}: no program {self.command[0]!r}; install {self.program.title} "
                f"({self.program.install}), or say how to start it with engine.command=..."
            )
        there: dict[str, Path] = {}
        for name in (symbol(z) for z in sorted(numbers)):
            try:
                there |= self.program.pseudopotentials(self.settings, [name])
            except NoAnswer:  # says so for each structure
                continue
        version = f"{self.program.title} {self._version()}".strip()
        return f"{version}, pseudopotentials {hash_files(there)}" if there else version

    def _version(self) -> str:
        """What the program itself says when asked."""
        name = Path(shlex.split(self.program.command)[0]).name
        own = next((word for word in self.command if Path(word).name.startswith(name)), None)
        if own is None or not self.program.asks_version:
            return ""
        with scratch() as folder:
            ended = run([own, *self.program.version_words], folder, ASKING)
        return self.program.version(ended.text)

    def refuse(self, atoms: Atoms) -> Failure | None:
        """What can be seen without running it."""
        refused = unsuitable(self.settings, atoms) or refuse_cost(self.settings, atoms)
        if refused is None:
            try:
                self.program.pseudopotentials(self.settings, sorted(set(atoms.get_chemical_symbols())))
            except NoAnswer as error:
                return error.failure
        return refused

    def label(self, atoms: Atoms, safer: bool = False) -> Outcome:
        """Compute one structure."""
        question, start = ask(self.settings, atoms, safer), time.monotonic()
        with scratch() as folder:
            try:
                for name, content in self.program.inputs(question).items():
                    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
            except NoAnswer as error:
                return error.failure
            ended = run(self.command, folder, self.settings.time_limit, self.settings.threads)
            outcome = failed(ended, self.settings.time_limit) or judged(self.program, question, folder, ended)
        if isinstance(outcome, Failure):
            return outcome
        marks = provenance(self.program, question, ended, time.monotonic() - start)
        return Label(outcome.energy, outcome.forces, outcome.stress, outcome.provenance | marks)

    def close(self) -> None:
        """Nothing waits."""


def ask(settings: ProgramSettings, atoms: Atoms, safer: bool = False) -> Question:
    """The question that a structure is."""
    complete = settings.complete()
    points, plain, charge, multiplicity = (1, 1, 1), atoms, 0, 1
    if isinstance(settings, Crystal):
        points = kpoints(atoms, float(str(complete["k_density"])))
        plain = boxed(atoms, settings.vacuum)
        if settings.spin:
            has = atoms.has("initial_magmoms")
            plain.set_initial_magnetic_moments(atoms.get_initial_magnetic_moments() if has else [1.0] * len(atoms))
    if isinstance(settings, Molecule):
        charge, multiplicity = charge_and_multiplicity(settings, atoms)
    crystal, molecule = bool(atoms.pbc.all()), not atoms.pbc.any()
    return Question(plain, settings, complete, points, crystal, molecule, charge, multiplicity, safer)


def judged(program: Program, question: Question, folder: Path, ended: Ended) -> Outcome:
    """What the output says, or the failure that it is."""
    try:
        label = program.read(question, folder, ended)
    except NoAnswer as error:
        kind, reason = error.failure.kind, error.failure.reason
        if kind == "garbage" and ended.code != 0:
            kind, reason = "crashed", f"ended with exit code {ended.code}; {reason}"
        return Failure(kind, reason, ended.lines)
    except (ValueError, IndexError, KeyError, AssertionError, StopIteration, AttributeError, OSError) as error:
        kind = "crashed" if ended.code != 0 else "garbage"
        return Failure(kind, f"its output cannot be read ({type(error).__name__}: {str(error)[:100]})", ended.lines)
    stress = label.stress if question.crystal else None
    outcome = judge(question.atoms, Label(label.energy, label.forces, stress, label.provenance))
    return Failure(outcome.kind, outcome.reason, ended.lines) if isinstance(outcome, Failure) else outcome


def provenance(program: Program, question: Question, ended: Ended, seconds: float) -> dict[str, JsonValue]:
    """What a frame says of its calculation."""
    out: dict[str, JsonValue] = {"seconds": round(seconds, 3)}
    if version := program.version(ended.text):
        out["code"] = f"{program.title} {version}"
    if isinstance(question.settings, Crystal):
        out["kpoints"] = list(question.kpoints)
    if files := program.pseudopotentials(question.settings, question.symbols):
        out["pseudopotentials"] = hash_files(files)
    return out
