"""`rutile boundaries`: energies of grain boundaries."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from rutile.core.files import folder_for_results, write_atomically
from rutile.core.reporting import Reporter
from rutile.core.settings import Result
from rutile.core.units import JOULE_PER_M2, Angstrom2, JoulePerSquareMetre
from rutile.simulate.settings import BoundaryEnergySettings
from rutile.tasks.property import (
    DONE,
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
    from rutile.simulate.boundaries import BoundaryEnergy
    from rutile.tasks.property import Work

STARTS = {"gap": "Å", "energy": "J/m²"}
"""Units in starts.csv."""


class BoundaryTaskSettings(BoundaryEnergySettings, GivenProperty):
    """Cubic crystals, and which of their grain boundaries."""

    out: Path = Path("boundaries")
    """Folder for table.csv, starts.csv (every shift that was tried), boundaries.extxyz (the best of each), report.html
    and result.json."""


class BoundaryRow(Result):
    """One grain boundary."""

    structure: str
    """File and 0-based frame number of the crystal."""
    formula: str
    """Composition of the crystal."""
    boundary: str
    """Crystal, Sigma, kind, plane and axis."""
    outcome: str
    """done, or what went wrong with the best start."""
    energy: JoulePerSquareMetre
    """The lowest energy found."""
    energy_std: JoulePerSquareMetre | None = None
    """Standard deviation of a committee, each member with its own best shift."""
    atoms: int
    """Of the cell with two boundaries."""
    shift: tuple[float, float]
    """Of the best start, in fractions of the vectors in the plane (dimensionless)."""
    found: int
    """Starts that ended within 1 mJ/m² of the best."""
    starts: int
    """Starts."""
    area: Angstrom2 = Field(repr=False)
    """Of one boundary."""


class BoundaryTaskResult(PropertyResult):
    """Grain boundaries, crystal by crystal."""

    boundaries: list[BoundaryRow]
    """One row for each."""
    starts: Path
    """Every start as CSV."""
    cells: Path
    """The relaxed cell of the best start of each boundary, extended XYZ."""


def run(settings: BoundaryTaskSettings, reporter: Reporter) -> BoundaryTaskResult:
    """Energies of grain boundaries of cubic crystals: the best of many shifts of the grains.

    All starts of all boundaries are relaxed together: atoms, and the length of the cell along the normal.

    Raises:
        SettingsError: a crystal is not cubic, or there is no such boundary.
    """
    work = begin(settings, reporter)
    with folder_for_results(settings.out):
        rows, found = computed(lambda p, r: _rows(work, p, settings, r), work, settings, reporter)
        result = BoundaryTaskResult(
            boundaries=rows,
            starts=settings.out / "starts.csv",
            cells=settings.out / "boundaries.extxyz",
        )
        lines = [
            {
                "structure": row.structure, "boundary": row.boundary, "shift_1": start.shift[0],
                "shift_2": start.shift[1], "gap": start.gap, "atoms": start.atoms,
                "energy": start.energy * JOULE_PER_M2, "outcome": start.failure or DONE,
            }
            for row, one in zip(rows, found, strict=True)
            for start in one.starts
        ]  # fmt: skip
        write_atomically(result.starts, as_csv(lines))
        about = [{"source": r.structure, "boundary": r.boundary, "boundary_energy": r.energy} for r in rows]
        write_structures(result.cells, [one.best for one in found], about)
        result = write_result(settings.out, result, rows, _page(rows, found, settings), {"starts.csv": STARTS})
    return result


def _rows(
    work: Work, potential: Potential, settings: BoundaryTaskSettings, reporter: Reporter
) -> tuple[list[BoundaryRow], list[BoundaryEnergy]]:
    """The rows by one potential, and what they come from."""
    from rutile.simulate.boundaries import boundary_energies

    how = part(settings, BoundaryEnergySettings)
    start, why = settled_crystals(work, potential, how, "the energy of a grain boundary", reporter)
    found = boundary_energies(start, potential, how, reporter)
    return rows_of_crystals(found, why, work, _row, lambda row: row.boundary, reporter), found


def _row(one: BoundaryEnergy, about: dict[str, Any]) -> BoundaryRow:
    """One line of the table."""
    best = one.starts[0]
    return BoundaryRow(
        boundary=one.boundary.name,
        energy=best.energy * JOULE_PER_M2,
        atoms=best.atoms,
        shift=best.shift,
        found=sum(not s.failure and (s.energy - best.energy) * JOULE_PER_M2 < 1e-3 for s in one.starts),
        starts=len(one.starts),
        area=one.area,
        **about,
    )


def _page(rows: Sequence[BoundaryRow], found: Sequence[BoundaryEnergy], settings: BoundaryTaskSettings) -> str:
    """The report."""
    from rutile.tasks.property_figures import MOST_CURVES, Line, panel
    from rutile.train.report import Card, Facts, Figures, Section, render

    figures = []
    for row, one in list(zip(rows, found, strict=True))[:MOST_CURVES]:
        energies = sorted(start.energy * JOULE_PER_M2 for start in one.starts if not start.failure)
        line = Line("", list(range(1, len(energies) + 1)), energies, points=True)
        figures.append((panel(row.boundary, "start, lowest first", "energy (J/m²)", [line]), row.structure))
    names = ["structure", "boundary", "outcome", "energy", "energy_std", "atoms", "found", "starts"]
    note = "The best of the shifts that were tried: an upper bound of the energy of the boundary."
    sections = [
        Section("Grain boundaries", [Figures(figures), *table_of(rows, names, note)]),
        Section("Settings", [Facts(settings.model_dump(mode="json"), "all settings")]),
    ]
    return render("Grain boundaries", str(settings.model), [Card("boundaries", str(len(rows)))], sections)


TASK = Task(
    "boundaries",
    BoundaryTaskSettings,
    BoundaryTaskResult,
    run,
    positional="structures",
    examples=(
        "rutile boundaries aluminium.cif model=run axes=[[1,0,0]] planes=[[0,-2,1]]",
        "rutile boundaries metals.extxyz model=model.rutile kind=twist axes=[[0,0,1],[1,1,1]] sigma=7",
    ),
)
