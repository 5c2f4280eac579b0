"""`rutile faults`: energies of generalised stacking faults."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from rutile.core.describe import units_of
from rutile.core.files import folder_for_results, write_atomically
from rutile.core.reporting import Reporter
from rutile.core.settings import Result
from rutile.core.units import JOULE_PER_M2, Angstrom, JoulePerSquareMetre
from rutile.simulate.settings import FaultSettings
from rutile.tasks.property import (
    GivenProperty,
    PropertyResult,
    as_csv,
    begin,
    computed,
    part,
    rows_of_crystals,
    settled_crystals,
    table_of,
    write_result,
    write_structures,
)
from rutile.tasks.task import Task

if TYPE_CHECKING:
    from rutile.potentials.potential import Potential
    from rutile.simulate.faults import Fault
    from rutile.tasks.property import Work


class FaultTaskSettings(FaultSettings, GivenProperty):
    """Crystals, and which of their stacking faults."""

    out: Path = Path("faults")
    """Folder for table.csv, curves.csv (energy by shift), surfaces.csv (with grid), faults.extxyz (stacks along the
    directions), report.html and result.json."""


class FaultRow(Result):
    """One direction in one plane of one crystal."""

    structure: str
    """File and 0-based frame number of the crystal."""
    formula: str
    """Composition of the crystal."""
    plane: str
    """Of the conventional cell."""
    direction: str
    """Of the shift, in the conventional cell."""
    outcome: str
    """done, or what went wrong with a relaxation."""
    stable: JoulePerSquareMetre | None
    """Stacking fault energy: of the lowest dip of the curve; of fcc {111} the intrinsic fault. None: it has no dip."""
    stable_std: JoulePerSquareMetre | None = None
    """Standard deviation of a committee."""
    at: float | None
    """Where it is, as a part of the period (dimensionless)."""
    unstable: JoulePerSquareMetre
    """Unstable stacking fault energy: the highest on the way to the dip, or of the whole curve without one."""
    unstable_std: JoulePerSquareMetre | None = None
    """Standard deviation of a committee."""
    period: Angstrom
    """Of the lattice along the direction."""
    atoms: int = Field(repr=False)
    """Of the stack."""


class CurvePoint(Result):
    """One shift along a direction."""

    structure: str
    """File and 0-based frame number of the crystal."""
    plane: str
    """Of the conventional cell."""
    direction: str
    """Of the shift."""
    shift: Angstrom
    """How far."""
    energy: JoulePerSquareMetre
    """Above that of the crystal."""


class SurfacePoint(Result):
    """One shift in a plane."""

    structure: str
    """File and 0-based frame number of the crystal."""
    plane: str
    """Of the conventional cell."""
    x: Angstrom
    """Along the first vector of the plane."""
    y: Angstrom
    """Normal to it."""
    energy: JoulePerSquareMetre
    """Above that of the crystal."""


class FaultTaskResult(PropertyResult):
    """Stacking faults, crystal by crystal."""

    faults: list[FaultRow]
    """One row for each direction."""
    stacks: Path
    """Shifted stacks, relaxed, extended XYZ."""


def run(settings: FaultTaskSettings, reporter: Reporter) -> FaultTaskResult:
    """Generalised stacking fault energies along directions in planes of crystals, all shifts in one batch.

    Raises:
        SettingsError: a direction is not in its plane, or none is usual for the lattice.
    """
    work = begin(settings, reporter)
    with folder_for_results(settings.out):
        rows, found = computed(lambda p, r: _rows(work, p, settings, r), work, settings, reporter)
        result = FaultTaskResult(faults=rows, stacks=settings.out / "faults.extxyz")
        stacks, about = [], []
        for row, one in zip(rows, found, strict=True):
            for x, energy, stack in zip(one.shift, one.energy, one.structures.split(), strict=False):
                stacks.append(stack)
                about.append({"source": row.structure, "plane": row.plane, "direction": row.direction,
                              "shift": float(x), "energy_J_m2": float(energy) * JOULE_PER_M2})  # fmt: skip
        write_structures(result.stacks, stacks, about)
        curves, surfaces = _points(rows, found)
        write_atomically(settings.out / "curves.csv", as_csv(curves))
        more = {"curves.csv": units_of(CurvePoint)}
        if surfaces:
            write_atomically(settings.out / "surfaces.csv", as_csv(surfaces))
            more["surfaces.csv"] = units_of(SurfacePoint)
        result = write_result(settings.out, result, rows, _page(rows, found, settings), more)
    return result


def _rows(
    work: Work, potential: Potential, settings: FaultTaskSettings, reporter: Reporter
) -> tuple[list[FaultRow], list[Fault]]:
    """The rows by one potential, and what they come from."""
    from rutile.simulate.faults import faults

    how = part(settings, FaultSettings)
    start, why = settled_crystals(work, potential, how, "a stacking fault energy", reporter)
    found = faults(start, potential, how, reporter)
    return rows_of_crystals(found, why, work, _row, lambda row: f"{row.plane} {row.direction}", reporter), found


def _row(one: Fault, about: dict[str, Any]) -> FaultRow:
    """One line of the table."""
    return FaultRow(
        plane=f"({' '.join(map(str, one.plane))})",
        direction=f"[{' '.join(map(str, one.direction))}]",
        stable=None if one.stable is None else one.stable * JOULE_PER_M2,
        at=one.at,
        unstable=one.unstable * JOULE_PER_M2,
        period=one.period,
        atoms=one.structures.n_atoms // one.structures.n_systems,
        **about,
    )


def _points(rows: Sequence[FaultRow], found: Sequence[Fault]) -> tuple[list[CurvePoint], list[SurfacePoint]]:
    """All shifts along directions and in planes."""
    curves: list[CurvePoint] = []
    surfaces: list[SurfacePoint] = []
    for row, one in zip(rows, found, strict=True):
        for x, energy in zip(one.shift, one.energy, strict=True):
            curves.append(
                CurvePoint(
                    structure=row.structure, plane=row.plane, direction=row.direction, shift=float(x) * row.period,
                    energy=float(energy) * JOULE_PER_M2,
                )
            )  # fmt: skip
        if one.surface is not None:
            n, m = one.surface.shape
            for i in range(n):
                for j in range(m):
                    x, y = i / n * one.vectors[0] + j / m * one.vectors[1]
                    energy = float(one.surface[i, j]) * JOULE_PER_M2
                    point = SurfacePoint(
                        structure=row.structure, plane=row.plane, x=float(x), y=float(y), energy=energy
                    )
                    surfaces.append(point)
    return curves, surfaces


def _page(rows: Sequence[FaultRow], found: Sequence[Fault], settings: FaultTaskSettings) -> str:
    """The report."""
    from rutile.tasks.property_figures import MOST_CURVES, Line, heights, panel
    from rutile.train.report import Card, Facts, Figures, Section, render

    figures, drawn = [], set[tuple[str, str]]()
    for row, one in list(zip(rows, found, strict=True))[:MOST_CURVES]:
        x, y = one.shift * one.period, one.energy * JOULE_PER_M2
        lines = [Line("", x, y, colour=0), Line("", x, y, points=True, colour=1)]
        title = f"{row.formula} {row.plane} {row.direction}"
        figures.append((panel(title, "shift (Å)", "γ (J/m²)", lines), row.structure))
        if one.surface is not None and (row.structure, row.plane) not in drawn:  # directions share their plane
            drawn.add((row.structure, row.plane))
            figures.append((heights(f"{row.formula} {row.plane}", one.surface * JOULE_PER_M2, one.vectors, "γ (J/m²)"),
                            row.structure))  # fmt: skip
    names = ["structure", "formula", "plane", "direction", "outcome", "stable", "stable_std", "at", "unstable",
             "unstable_std", "period"]  # fmt: skip
    sections = [
        Section("Energy by shift", [Figures(figures)]),
        Section("Stacking faults", table_of(rows, names)),
        Section("Settings", [Facts(settings.model_dump(mode="json"), "all settings")]),
    ]
    return render("Stacking faults", str(settings.model), [Card("directions", str(len(rows)))], sections)


TASK = Task(
    "faults",
    FaultTaskSettings,
    FaultTaskResult,
    run,
    positional="structures",
    examples=(
        "rutile faults metals.extxyz model=run",
        "rutile faults iron.cif model=run planes=[[1,1,0]] directions=[[1,-1,1]] grid=[12,12]",
    ),
)
