"""`rutile relax`: structures to the nearest minima of a model."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rutile.core.elements import formula
from rutile.core.errors import GeometryError
from rutile.core.files import write_atomically
from rutile.core.reporting import Reporter
from rutile.core.settings import Result
from rutile.core.units import GPA
from rutile.simulate.settings import RelaxSettings
from rutile.tasks.apply import GivenStructures, members_and_bars, plain, predicted, read_given
from rutile.tasks.task import Task

if TYPE_CHECKING:
    from ase import Atoms

    from rutile.data.frames import Frame
    from rutile.potentials.calibration import Calibration
    from rutile.potentials.potential import Potential
    from rutile.simulate.ledger import RelaxResult

CONVERGED = "converged"
ATOMS_AT_ONCE = 1000
"""Final structures are evaluated together up to so many atoms, where no other number is given."""


class RelaxTaskSettings(RelaxSettings, GivenStructures):
    """What to relax, how, and where to."""

    out: Path = Path("relaxed.extxyz")
    """File for the relaxed structures, with energy (eV), forces (eV/Å) and stress (eV/Å³) where ASE looks for them; a
    table with the same name and the ending .csv is written beside it."""


class RelaxedRow(Result):
    """What became of one structure."""

    structure: str
    """File and 0-based frame number."""
    formula: str
    """Composition."""
    outcome: str
    """converged; not converged (out of steps); or why it failed."""
    steps: int
    """Steps taken."""
    energy: float | None
    """At the end (eV/atom)."""
    gain: float | None
    """Energy at the start minus energy at the end (eV/atom)."""
    energy_std: float | None
    """Standard deviation of a committee (eV/atom)."""
    fmax: float | None
    """Largest force on an atom at the end (eV/Å)."""
    pressure: float | None
    """At the end (GPa); of structures that are periodic in three directions."""
    volume: float | None
    """At the end (Å³/atom); of structures that are periodic in three directions."""
    spacegroup: str
    """At the end, such as "P4_2/mnm"; empty if not a crystal."""
    lattice: str
    """a, b, c (Å) and alpha, beta, gamma (degrees) of the conventional cell at the end; empty if not a crystal."""
    extrapolating: int
    """Atoms with descriptors outside the range of the training data at the end."""


class RelaxTaskResult(Result):
    """Outcome for each structure, in the order given."""

    converged: int
    """Structures that converged."""
    failed: int
    """Structures that failed: they fell into a hole of the potential, or burst."""
    structures: list[RelaxedRow]
    """One row for each structure."""
    out: Path
    """The relaxed structures."""
    table: Path
    """The rows as CSV."""


def run(settings: RelaxTaskSettings, reporter: Reporter) -> RelaxTaskResult:
    """Relax structures to the nearest minima: atoms, and cells if asked."""
    from rutile.potentials.combine import Mean, common_elements
    from rutile.simulate.relax import relax
    from rutile.structures.io import write_frames
    from rutile.structures.structures import concatenate

    members, calibration = members_and_bars(settings, reporter)
    frames = list(read_given(settings, common_elements(members), reporter))
    how = RelaxSettings(**{name: getattr(settings, name) for name in RelaxSettings.model_fields})
    potential = Mean(members) if len(members) > 1 else members[0]
    result = relax(concatenate(f.structures() for f in frames), potential, how, reporter)
    images = _images(members, calibration, frames, result, settings)
    rows = [_row(k, atoms, result) for k, atoms in enumerate(images)]
    write_frames(settings.out, images)
    table = settings.out.with_suffix(".csv")
    write_atomically(table, _csv(rows).encode())
    for row in rows:
        if row.outcome != CONVERGED:
            reporter.warn(f"{row.structure} ({row.formula}): {row.outcome}")
    return RelaxTaskResult(
        converged=int(result.converged.sum()),
        failed=sum(bool(reason) for reason in result.failure),
        structures=rows,
        out=settings.out,
        table=table,
    )


def _images(
    members: Sequence[Potential],
    calibration: Calibration | None,
    frames: Sequence[Frame],
    result: RelaxResult,
    settings: RelaxTaskSettings,
) -> list[Atoms]:
    """The final structures with results (none where even the given structure had no finite energy) and outcome."""
    finals = [
        dataclasses.replace(frame, positions=final.positions.numpy(), cell=final.cell[0].numpy())
        for frame, final in zip(frames, result.structures.split(), strict=True)
    ]
    sound = result.energy.isfinite().tolist()
    good = [f for f, ok in zip(finals, sound, strict=True) if ok]
    with_results = predicted(members, good, settings.atoms_at_once or ATOMS_AT_ONCE, calibration)
    images = [next(with_results) if ok else plain(final) for final, ok in zip(finals, sound, strict=True)]
    for k, atoms in enumerate(images):
        atoms.info["outcome"] = _outcome(result, k)
    return images


def _outcome(result: RelaxResult, k: int) -> str:
    """What became of a structure, in words."""
    if result.converged[k]:
        return CONVERGED
    reason = result.failure[k]
    return f"failed: {reason}" if reason else f"not converged after {int(result.steps[k])} steps"


def _row(k: int, atoms: Atoms, result: RelaxResult) -> RelaxedRow:
    """One line of the table."""
    n, bulk = len(atoms), bool(atoms.pbc.all())
    sound = atoms.calc is not None
    spacegroup, lattice = _symmetry(atoms) if bulk else ("", "")
    std = atoms.info.get("energy_std")
    return RelaxedRow(
        structure=atoms.info["source"],
        formula=formula(atoms.numbers.tolist()),
        outcome=atoms.info["outcome"],
        steps=int(result.steps[k]),
        energy=float(result.energy[k]) / n if sound else None,
        gain=float(result.start_energy[k] - result.energy[k]) / n if sound else None,
        energy_std=None if std is None else std / n,
        fmax=float(result.fmax[k]) if sound else None,
        pressure=-float(result.stress[k].trace()) / 3 / GPA if sound and bulk else None,
        volume=float(atoms.get_volume()) / n if bulk else None,
        spacegroup=spacegroup,
        lattice=lattice,
        extrapolating=int((atoms.arrays["extrapolating"] > 0).sum()) if sound else 0,
    )


def _symmetry(atoms: Atoms) -> tuple[str, str]:
    """Space group and conventional lattice of a crystal."""
    from rutile.structures.symmetry import describe_crystal

    try:
        crystal = describe_crystal(atoms)
    except GeometryError:
        return "", ""
    lengths = " ".join(f"{x:.4f}" for x in crystal.lengths)
    return crystal.spacegroup, f"{lengths} {' '.join(f'{x:.2f}' for x in crystal.angles)}"


def _csv(rows: list[RelaxedRow]) -> str:
    """The rows as CSV."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(RelaxedRow.model_fields), lineterminator="\n")
    writer.writeheader()
    writer.writerows(row.model_dump() for row in rows)
    return text.getvalue()


TASK = Task(
    "relax",
    RelaxTaskSettings,
    RelaxTaskResult,
    run,
    positional="structures",
    examples=(
        "rutile relax tio2.cif model=run cell=full fmax=0.01",
        "rutile relax candidates.extxyz model=model.rutile cell=full pressure=10 out=at10GPa.extxyz",
    ),
)
