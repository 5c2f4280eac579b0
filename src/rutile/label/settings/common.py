"""What the settings of all engines have in common: how a calculation is run, and which of it makes its numbers."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field, JsonValue

from rutile.core.settings import Settings
from rutile.core.units import Angstrom, ElectronVolt, Second

Protocol = Literal["fast", "moderate", "precise"]


class EngineBase(Settings):
    """How an engine is run; nothing here changes the numbers that it gives, except `protocol`."""

    RUNNING: ClassVar[frozenset[str]] = frozenset(
        {"time_limit", "threads", "python", "command", "processes", "calc_mode", "safer"}
    )
    """Settings that do not change the numbers: no part of the identity of a label."""
    RECIPE: ClassVar[int] = 1
    """Part of the identity of labels: grows when rutile asks this engine in a way that changes its numbers."""
    PROTOCOLS: ClassVar[dict[Protocol, dict[str, Any]]] = {"fast": {}, "moderate": {}, "precise": {}}
    """What a protocol stands for: values of settings that are not given."""

    protocol: Protocol = "moderate"
    """How accurate: fast for tests and exploration, moderate for training sets, precise for final numbers. Sets what is
    not given of cutoffs, bases and k-points."""
    time_limit: Second = Field(default=3600.0, gt=0)
    """A calculation that takes longer is ended, and is a failure."""
    threads: int = Field(default=1, ge=1)
    """Threads of one calculation (OMP_NUM_THREADS)."""
    calc_mode: str = ""
    """Name of the reference method under which the labels are kept apart; by default engine, functional, protocol and
    a hash of the settings."""

    def complete(self) -> dict[str, JsonValue]:
        """All settings that the engine gets: what is not given (null) comes from the protocol."""
        given: dict[str, JsonValue] = self.model_dump(mode="json")
        usual = self.PROTOCOLS[self.protocol]
        return {k: usual.get(k) if v is None else v for k, v in given.items()}

    def identity(self) -> dict[str, JsonValue]:
        """What makes the numbers: same identity, same structure, same label."""
        skipped = self.RUNNING | {"protocol"}
        return {k: v for k, v in self.complete().items() if k not in skipped} | {"recipe": self.RECIPE}


class PythonSettings(EngineBase):
    """An engine that is a Python package, maybe of another environment."""

    FRAMES_PER_PROCESS: ClassVar[int] = 1000
    """A new process after so many structures."""

    python: str = ""
    """The Python that has the engine, such as gpaw/bin/python; by default the one that runs rutile."""


class ProgramSettings(EngineBase):
    """An engine that is a program: it reads input files and writes output files."""

    command: str = ""
    """How to start it, such as `srun pw.x -in rutile.in`, with the names of files that the documentation gives; by
    default the program itself, with several processes by mpirun (ORCA and Gaussian start theirs themselves)."""
    processes: int = Field(default=1, ge=1)
    """Processes (MPI) of one calculation."""


class Crystal(Settings):
    """What engines for crystals have in common."""

    functional: str = "PBE"
    """Exchange and correlation: PBE, LDA, or a name that the engine knows."""
    k_density: Angstrom | None = Field(default=None, gt=0)
    """The k-points along a cell vector are ceil(k_density / d), d the spacing of the lattice planes along it; one point
    along vacuum and where a structure is not periodic. A structure may bring its own, as `kpoints` in its frame."""
    smearing: ElectronVolt = Field(default=0.05, ge=0)
    """Width of the Fermi-Dirac distribution of electrons; 0: none."""
    spin: bool = False
    """Spin polarised, from the `initial_magmoms` of a frame (without them 1 for each atom)."""
    vacuum: Angstrom = Field(default=6.0, gt=0)
    """Room on each side of a structure along directions in which it is not periodic."""


class Molecule(Settings):
    """What engines for molecules have in common; `charge` and `multiplicity` of a frame come before these."""

    charge: int = 0
    """Total charge (e)."""
    multiplicity: int | None = Field(default=None, ge=1)
    """2S + 1; by default 1 for an even number of electrons, otherwise 2."""
