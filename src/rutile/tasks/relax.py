"""`rutile relax`: structures to the nearest minima of a model."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from rutile.core.describe import units_of
from rutile.core.elements import formula
from rutile.core.errors import GeometryError
from rutile.core.files import write_atomically
from rutile.core.reporting import Reporter
from rutile.core.settings import Result
from rutile.core.units import GPA, Angstrom3PerAtom, EVPerAngstrom, EVPerAtom, GigaPascal
from rutile.simulate.settings import RelaxSettings
from rutile.tasks.apply import GivenStructures, members_and_bars, model_content, plain, predicted, readings_given
from rutile.tasks.held import HeldAtoms, held_atoms, refuse_if_all_held
from rutile.tasks.property import PropertyResult, as_csv, part
from rutile.tasks.task import Task

if TYPE_CHECKING:
    from ase import Atoms

    from rutile.data.frames import Frame
    from rutile.potentials.calibration import Calibration
    from rutile.potentials.potential import Potential
    from rutile.tasks.kept_relaxations import Relaxed

CONVERGED = "converged"
ATOMS_AT_ONCE = 1000
"""Final structures are evaluated together up to so many atoms, where no other number is given."""


class RelaxTaskSettings(RelaxSettings, HeldAtoms, GivenStructures):
    """What to relax, how, and where to."""

    out: Path = Path("relaxed.extxyz")
    """File for the relaxed structures, with energy (eV), forces (eV/Å) and stress (eV/Å³) where ASE looks for them.
    Beside it, with other endings: a table (.csv), a page (.html) and the result (.json). A name without an ending is a
    folder, as with other tasks, for relaxed.extxyz, table.csv, report.html and result.json. The same command goes on
    where it was stopped."""
    paths: int = Field(default=10, ge=0)
    """The way down of so many structures, the first ones, is written too: energy, largest force, pressure and volume at
    every step (..._path.csv), with all geometries and forces (..._path.extxyz)."""


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
    energy: EVPerAtom | None
    """At the end."""
    gain: EVPerAtom | None
    """Energy at the start minus energy at the end."""
    energy_std: EVPerAtom | None
    """Standard deviation of a committee."""
    fmax: EVPerAngstrom | None
    """Largest force on an atom at the end."""
    pressure: GigaPascal | None
    """At the end; of structures that are periodic in three directions."""
    volume: Angstrom3PerAtom | None
    """At the end; of structures that are periodic in three directions."""
    spacegroup_before: str
    """Of the given structure; empty if not a crystal."""
    spacegroup: str
    """At the end, such as "P4_2/mnm"; empty if not a crystal."""
    lattice: str
    """a, b, c (Å) and alpha, beta, gamma (degrees) of the conventional cell at the end; empty if not a crystal."""
    extrapolating: int
    """Atoms with descriptors outside the range of the training data at the end."""


class RelaxTaskResult(PropertyResult):
    """Outcome for each structure, in the order given."""

    converged: int
    """Structures that converged."""
    failed: int
    """Structures that failed: they fell into a hole of the potential, or burst."""
    structures: list[RelaxedRow]
    """One row for each structure."""
    out: Path
    """The relaxed structures."""
    path_table: Path | None = None
    """Energy and largest force of the first structures at every step."""
    path_frames: Path | None = None
    """Their geometries at every step, a frame for each row of the table."""


@dataclass(frozen=True)
class _Places:
    """Files that are written."""

    out: Path
    table: Path
    report: Path
    told: Path
    path_table: Path
    path_frames: Path

    @staticmethod
    def of(out: Path) -> _Places:
        """Beside a file, or in a folder."""
        from rutile.structures.io import by_name

        if not out.is_dir() and (out.suffix or by_name(out)):
            own = [out, *(out.with_suffix(ending) for ending in (".csv", ".html", ".json"))]
            return _Places(*own, *(out.with_name(f"{out.stem}_path{ending}") for ending in (".csv", ".extxyz")))
        names = ("relaxed.extxyz", "table.csv", "report.html", "result.json", "path.csv", "path.extxyz")
        return _Places(*(out / name for name in names))


def run(settings: RelaxTaskSettings, reporter: Reporter) -> RelaxTaskResult:
    """Relax structures to the nearest minima: atoms, and cells if asked."""
    from rutile.potentials.combine import common_elements, mean_potential
    from rutile.structures.io import format_for_writing, write_frames
    from rutile.tasks.kept_relaxations import KeptRelaxations, question, relax_kept
    from rutile.tasks.relax_page import page
    from rutile.tasks.relax_paths import PathRow, in_order, rows_of_ways

    to = _Places.of(settings.out)
    format_for_writing(to.out)
    members, calibration = members_and_bars(settings, reporter)
    readings = list(readings_given(settings, common_elements(members), reporter))
    frames = [r.frame for r in readings if r.frame is not None]
    fixed = np.concatenate([held_atoms(settings, reading) for reading in readings])
    if settings.cell == "none":
        refuse_if_all_held(frames, fixed)
    kept = KeptRelaxations(to.out, frames, question(settings, frames, fixed, model_content(settings.model)))
    with kept.opened(reporter):
        potential = mean_potential(members)
        relax_kept(kept, potential, fixed, part(settings, RelaxSettings), reporter, settings.paths)
        done = [kept.done[k] for k in range(len(frames))]
        images = _images(members, calibration, frames, done, settings)
        for atoms, held in zip(images, np.split(fixed, np.cumsum([len(a) for a in images])[:-1]), strict=True):
            if held.any():
                atoms.arrays["move_mask"] = ~held
        rows = [_row(atoms, frame, one) for atoms, frame, one in zip(images, frames, done, strict=True)]
        result = RelaxTaskResult(
            converged=sum(one.converged for one in done),
            failed=sum(bool(one.failure) for one in done),
            structures=rows,
            out=to.out,
            table=to.table,
            report=to.report,
            units={to.table.name: units_of(RelaxedRow)},
        )
        write_frames(to.out, images)
        write_atomically(to.table, as_csv(rows))
        ways = in_order(kept.ways())
        path = rows_of_ways(ways)
        if path:
            write_frames(to.path_frames, ways, "extxyz")
            write_atomically(to.path_table, as_csv(path))
            units = result.units | {to.path_table.name: units_of(PathRow)}
            result = result.model_copy(
                update={"path_table": to.path_table, "path_frames": to.path_frames, "units": units}
            )
        given = settings.model_dump(mode="json", exclude_unset=True)
        write_atomically(to.report, page(rows, path, [len(a) for a in images], given).encode())
        write_atomically(to.told, (result.model_dump_json(indent=1) + "\n").encode())
    for row in rows:
        if row.outcome != CONVERGED:
            reporter.warn(f"{row.structure} ({row.formula}): {row.outcome}")
    return result


def _images(
    members: Sequence[Potential],
    calibration: Calibration | None,
    frames: Sequence[Frame],
    done: Sequence[Relaxed],
    settings: RelaxTaskSettings,
) -> list[Atoms]:
    """The final structures with results (none where even the given structure had no finite energy) and outcome."""
    finals = [
        dataclasses.replace(frame, positions=one.positions, cell=one.cell)
        for frame, one in zip(frames, done, strict=True)
    ]
    sound = [np.isfinite(one.energy) for one in done]
    good = [f for f, ok in zip(finals, sound, strict=True) if ok]
    with_results = predicted(members, good, settings.atoms_at_once or ATOMS_AT_ONCE, calibration)
    images = [next(with_results) if ok else plain(final) for final, ok in zip(finals, sound, strict=True)]
    for atoms, one in zip(images, done, strict=True):
        atoms.info["outcome"] = _outcome(one)
    return images


def _outcome(one: Relaxed) -> str:
    """What became of a structure, in words."""
    if one.converged:
        return CONVERGED
    return f"failed: {one.failure}" if one.failure else f"not converged after {one.steps} steps"


def _row(atoms: Atoms, frame: Frame, one: Relaxed) -> RelaxedRow:
    """One line of the table."""
    n, bulk = len(atoms), bool(atoms.pbc.all())
    sound = atoms.calc is not None
    spacegroup, lattice = _symmetry(atoms) if bulk else ("", "")
    std = atoms.info.get("energy_std")
    return RelaxedRow(
        structure=atoms.info["source"],
        formula=formula(atoms.numbers.tolist()),
        outcome=atoms.info["outcome"],
        steps=one.steps,
        energy=one.energy / n if sound else None,
        gain=(one.start_energy - one.energy) / n if sound else None,
        energy_std=None if std is None else std / n,
        fmax=one.fmax if sound else None,
        pressure=-float(atoms.get_stress()[:3].mean()) / GPA if sound and bulk else None,
        volume=float(atoms.get_volume()) / n if bulk else None,
        spacegroup_before=_symmetry(plain(frame))[0] if bulk else "",
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


TASK = Task(
    "relax",
    RelaxTaskSettings,
    RelaxTaskResult,
    run,
    positional="structures",
    examples=(
        "rutile relax tio2.cif model=run cell=full fmax=0.01",
        "rutile relax candidates.extxyz model=model.rutile cell=full pressure=10 out=at10GPa.extxyz",
        "rutile relax crystals.extxyz model=run cell=full keep_symmetry=true optimizer=fire",
        "rutile relax slabs.extxyz model=run fixed_below=4.5",
    ),
)
