"""`rutile predict`: energies, forces and stresses of structures, written beside them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from rutile.core.reporting import Reporter
from rutile.core.settings import Result
from rutile.core.units import EVPerAngstrom, EVPerAtom
from rutile.tasks.apply import GivenStructures, members_and_bars, predicted, read_given
from rutile.tasks.task import Task

if TYPE_CHECKING:
    from ase import Atoms


class PredictSettings(GivenStructures):
    """What to predict for which structures."""

    out: Path = Path("predicted.extxyz")
    """File for the structures with energy (eV), forces (eV/Å) and stress (eV/Å³, positive under tension; only of
    structures that are periodic in three directions) where ASE looks for them. Besides: energies (eV) of the atoms,
    extrapolating (descriptors of each atom outside the training range), energy_std and forces_std of a committee,
    calc_mode if the model names its reference method. Of a calibrated one energy_error (eV, to both sides) and
    forces_error (eV/Å, radius around the force on each atom), which hold with probability error_coverage."""
    batch_atoms: int = Field(default=512, ge=1)
    """Evaluate structures together up to so many atoms; more needs more memory."""


class PredictResult(Result):
    """What was predicted, and where it is."""

    structures: int
    """Number of structures."""
    extrapolating: int
    """Structures with descriptors outside the range of the training data."""
    lowest: EVPerAtom
    """Lowest energy."""
    largest_force: EVPerAngstrom
    """Largest force on an atom."""
    out: Path
    """The structures with the predictions."""


def run(settings: PredictSettings, reporter: Reporter) -> PredictResult:
    """Predict energies, forces and stresses of structures."""
    import numpy as np

    from rutile.potentials.combine import common_elements
    from rutile.structures.io import write_frames

    members, calibration = members_and_bars(settings, reporter)
    frames = reporter.track(read_given(settings, common_elements(members), reporter), "Predicting")
    energies, forces, extrapolating = [], [0.0], 0

    def images() -> Iterator[Atoms]:
        nonlocal extrapolating
        for atoms in predicted(members, frames, settings.batch_atoms, calibration):
            energies.append(atoms.calc.results["energy"] / len(atoms))
            forces.append(float(np.linalg.norm(atoms.calc.results["forces"], axis=1).max()))
            extrapolating += bool(atoms.arrays["extrapolating"].any())
            yield atoms

    write_frames(settings.out, images())
    if extrapolating:
        reporter.warn(
            f"{extrapolating} of {len(energies)} structures have atoms outside the range of the training data"
        )
    return PredictResult(
        structures=len(energies),
        extrapolating=extrapolating,
        lowest=min(energies),
        largest_force=max(forces),
        out=settings.out,
    )


TASK = Task(
    "predict",
    PredictSettings,
    PredictResult,
    run,
    positional="structures",
    examples=(
        "rutile predict candidates.extxyz model=run out=predicted.extxyz",
        "rutile predict cifs/*.cif model=model.rutile on_bad=skip",
    ),
)
