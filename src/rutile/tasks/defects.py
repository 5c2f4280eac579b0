"""`rutile defects`: formation energies of vacancies and interstitial atoms."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from rutile.core.elements import symbol
from rutile.core.files import folder_for_results
from rutile.core.reporting import Reporter
from rutile.core.settings import Result
from rutile.core.units import Angstrom, ElectronVolt
from rutile.simulate.settings import DefectSettings
from rutile.tasks.property import (
    DONE,
    GivenProperty,
    PropertyResult,
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
    from rutile.simulate.defects import Defect
    from rutile.tasks.property import Work


class DefectTaskSettings(DefectSettings, GivenProperty):
    """Crystals, and which of their defects."""

    out: Path = Path("defects")
    """Folder for table.csv, defects.extxyz (relaxed supercells), report.html and result.json."""


class DefectRow(Result):
    """One defect of one crystal."""

    structure: str
    """File and 0-based frame number of the crystal."""
    formula: str
    """Composition of the crystal."""
    defect: str
    """Such as "vacancy Cu" or "interstitial O"."""
    outcome: str
    """done, or what went wrong with the relaxation."""
    formation: ElectronVolt
    """Formation energy."""
    formation_std: ElectronVolt | None = None
    """Standard deviation of a committee."""
    unrelaxed: ElectronVolt
    """Formation energy with all atoms where they were."""
    site: tuple[float, float, float]
    """Of the atom removed or added, in fractions of the cell, before relaxation (dimensionless)."""
    equal: int
    """Sites in the cell that symmetry makes equal."""
    room: Angstrom = Field(repr=False)
    """Distance from the site to the nearest atom before relaxation."""
    atoms: int
    """Of the supercell."""


class DefectTaskResult(PropertyResult):
    """Defects, crystal by crystal."""

    defects: list[DefectRow]
    """One row for each defect."""
    supercells: Path
    """Relaxed supercells with defects, extended XYZ."""


def run(settings: DefectTaskSettings, reporter: Reporter) -> DefectTaskResult:
    """Formation energies of vacancies and interstitial atoms in crystals.

    One vacancy for each kind of site, interstitial atoms in the widest holes; all supercells are relaxed together.

    Raises:
        SettingsError: the chemical potential of an element is not known.
    """
    work = begin(settings, reporter)
    with folder_for_results(settings.out):
        rows, found = computed(lambda p, r: _rows(work, p, settings, r), work, settings, reporter)
        result = DefectTaskResult(
            defects=rows,
            supercells=settings.out / "defects.extxyz",
        )
        about = [{"source": row.structure, "defect": row.defect, "formation": row.formation} for row in rows]
        write_structures(result.supercells, [one.structure for one in found], about)
        result = write_result(settings.out, result, rows, _page(rows, settings))
    return result


def _rows(
    work: Work, potential: Potential, settings: DefectTaskSettings, reporter: Reporter
) -> tuple[list[DefectRow], list[Defect]]:
    """The rows by one potential, and what they come from."""
    from rutile.simulate.defects import defects

    how = part(settings, DefectSettings)
    start, why = settled_crystals(work, potential, how, "a defect energy", reporter)
    found = defects(start, potential, how, reporter)
    turned = work.turned()

    def row(one: Defect, about: dict[str, Any]) -> DefectRow:
        return _row(one, about, turned[one.crystal])

    return rows_of_crystals(found, why, work, row, lambda row: row.defect, reporter), found


def _row(one: Defect, about: dict[str, Any], turned: bool) -> DefectRow:
    """One line of the table."""
    x, y, z = ((1 - x) % 1 if turned else x for x in one.site)
    return DefectRow(
        defect=f"{one.kind} {symbol(one.number)}",
        formation=one.formation,
        unrelaxed=one.unrelaxed,
        site=(x, y, z),
        equal=one.equal,
        room=one.room,
        atoms=one.atoms,
        **about,
    )


def _page(rows: Sequence[DefectRow], settings: DefectTaskSettings) -> str:
    """The report."""
    from rutile.tasks.property_figures import MOST_CURVES, Line, panel
    from rutile.train.report import Card, Facts, Figures, Section, render

    figures = []
    done = [row for row in rows if row.outcome == DONE]
    for structure in list(dict.fromkeys(row.structure for row in done))[:MOST_CURVES]:
        mine = sorted((row for row in done if row.structure == structure), key=lambda row: row.formation)
        line = Line("", list(range(len(mine))), [r.formation for r in mine], points=True)
        drawn = panel(mine[0].formula, "", "formation (eV)", [line], names=[r.defect for r in mine])
        figures.append((drawn, structure))
    names = ["structure", "formula", "defect", "outcome", "formation", "formation_std", "unrelaxed", "equal", "room",
             "atoms"]  # fmt: skip
    sections = [
        Section(
            "Formation energies", [Figures(figures), *table_of(rows, names, "At constant volume of the supercell.")]
        ),
        Section("Settings", [Facts(settings.model_dump(mode="json"), "all settings")]),
    ]
    return render("Defects", str(settings.model), [Card("defects", str(len(rows)))], sections)


TASK = Task(
    "defects",
    DefectTaskSettings,
    DefectTaskResult,
    run,
    positional="structures",
    examples=(
        "rutile defects copper.cif model=run kinds=vacancy,interstitial",
        "rutile defects rutile.cif model=model.rutile 'references={O: -4.9, Ti: -8.1}' length=12",
    ),
)
