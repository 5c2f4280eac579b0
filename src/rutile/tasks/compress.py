"""`rutile compress`: a DeepPot-SE model with tables in the place of its embedding nets, several times faster."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

from pydantic import Field

from rutile.core.errors import FileError, SettingsError
from rutile.core.reporting import Reporter
from rutile.core.settings import Result, Settings
from rutile.core.units import EVPerAngstrom, EVPerAtom, Megabyte
from rutile.data.settings import ReadSettings
from rutile.tasks.task import Task

if TYPE_CHECKING:
    from rutile.potentials.model import Model
    from rutile.potentials.parts.network import TrainablePotential


class CompressSettings(Settings):
    """Which model to compress."""

    model: Path
    """DeepPot-SE model file, or the folder of a training run."""
    out: Path = Path("compressed.rutile")
    """Model file to write. It is used like any other; only training from it is refused."""
    check: list[Path] = Field(default=[])
    """Files of structures on which both models are compared; labels in them are ignored."""
    overwrite: bool = False
    """Replace a file that exists."""


class CompressResult(Result):
    """What was written, and what it costs."""

    out: Path
    """The model file."""
    members: int
    """Potentials in it."""
    megabytes: Megabyte
    """Size of all tables."""
    structures: int
    """Structures of the check."""
    energy_difference: EVPerAtom | None
    """Largest difference of an energy per atom on them."""
    force_difference: EVPerAngstrom | None
    """Largest difference of a force component on them."""


def run(settings: CompressSettings, reporter: Reporter) -> CompressResult:
    """Replace the embedding nets of a DeepPot-SE model by tables, so that it runs several times faster."""
    from rutile.potentials.model import Model
    from rutile.potentials.parts.hermite import HermiteTables
    from rutile.potentials.save import load_model

    if settings.out.exists() and not settings.overwrite:
        raise FileError(f"{settings.out} exists: choose another name, or say overwrite=true")
    slow = load_model(settings.model)
    made = [_compressed(cast("TrainablePotential", member), settings.model) for member in slow.potentials]
    fast = Model(made, slow.info, surroundings=slow.surroundings)
    structures, energy, forces = _compare(slow, fast, settings.check, reporter)
    fast.save(settings.out)
    if slow.calibration is not None:
        reporter.warn(f"the error bars of {settings.model} are not kept: run `rutile calibrate` on {settings.out}")
    return CompressResult(
        out=settings.out,
        members=len(made),
        megabytes=sum(m.values.nbytes for p in made for m in p.modules() if isinstance(m, HermiteTables)) / 1e6,
        structures=structures,
        energy_difference=energy,
        force_difference=forces,
    )


def _compressed(potential: TrainablePotential, path: Path) -> TrainablePotential:
    """The potential with tables; of a sum, each term that can have them.

    Raises:
        SettingsError: nothing in it has embedding nets.
    """
    from rutile.potentials.combine import Sum
    from rutile.potentials.deeppot_se import DeepPotSE

    if isinstance(potential, DeepPotSE):
        return potential.compressed()
    terms = list(cast("list[TrainablePotential]", potential.terms)) if isinstance(potential, Sum) else []
    if not any(isinstance(term, DeepPotSE) for term in terms):
        names = ", ".join(sorted({term.name for term in terms} or {potential.name}))
        raise SettingsError(f"{path} holds {names}: only {DeepPotSE.name} has embedding nets to tabulate")
    made = Sum.of([term.compressed() if isinstance(term, DeepPotSE) else term for term in terms])
    made.reference.energy += potential.reference.energy
    return made


def _compare(slow: Model, fast: Model, files: list[Path], reporter: Reporter) -> tuple[int, float | None, float | None]:
    """Number of structures, and the largest differences of energies per atom and of force components on them."""
    from rutile.data.reading import read_frames

    if not files:
        return 0, None, None
    read = ReadSettings(energy_key="none", forces_key="none", stress_key="none")
    count, energy, forces = 0, 0.0, 0.0
    for frame in reporter.track(read_frames(files, read, reporter), "comparing"):
        a, b = (model.evaluate(frame.structures()) for model in (slow, fast))
        count += 1
        energy = max(energy, float((a.energy - b.energy).abs().max()) / len(frame.numbers))
        forces = max(forces, float((a.forces - b.forces).abs().max()))
    return count, energy, forces


TASK = Task(
    "compress",
    CompressSettings,
    CompressResult,
    run,
    positional="model",
    examples=(
        "rutile compress run",
        "rutile compress run/model.rutile out=fast.rutile check=frames.extxyz",
    ),
)
