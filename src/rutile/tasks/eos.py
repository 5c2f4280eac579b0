"""`rutile eos`: energy by volume, bulk modulus and its derivative."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from rutile.core.files import folder_for_results, write_atomically
from rutile.core.reporting import Reporter
from rutile.core.settings import Result
from rutile.core.units import GPA, Angstrom3PerAtom, EVPerAtom, GigaPascal, MilliEVPerAtom
from rutile.simulate.settings import EosSettings
from rutile.tasks.property import (
    GivenProperty,
    PropertyResult,
    as_csv,
    begin,
    computed,
    outcomes,
    part,
    settled_crystals,
    table_of,
    write_result,
)
from rutile.tasks.task import Task

if TYPE_CHECKING:
    from rutile.potentials.potential import Potential
    from rutile.simulate.birch_murnaghan import BirchMurnaghan
    from rutile.simulate.eos import EosResult
    from rutile.tasks.property import Work

POOR = 0.003
"""Part of the range of the energies that a fit may leave before the user is told."""
POINTS = {"volume": "Å³/atom", "energy": "eV/atom", "pressure": "GPa"}
"""Units in points.csv."""


class EosTaskSettings(EosSettings, GivenProperty):
    """Crystals, and how to scan their volumes."""

    out: Path = Path("eos")
    """Folder for table.csv, points.csv (energy and pressure by volume), report.html and result.json."""


class EosRow(Result):
    """The equation of state of one structure."""

    structure: str
    """File and 0-based frame number."""
    formula: str
    """Composition."""
    outcome: str
    """done, or what went wrong."""
    volume: Angstrom3PerAtom | None = None
    """V0, where the energy is lowest."""
    volume_std: Angstrom3PerAtom | None = None
    """Standard deviation of a committee."""
    energy: EVPerAtom | None = None
    """E0."""
    energy_std: EVPerAtom | None = None
    """Standard deviation of a committee."""
    bulk_modulus: GigaPascal | None = None
    """B."""
    bulk_modulus_std: GigaPascal | None = None
    """Standard deviation of a committee."""
    bulk_derivative: float | None = None
    """dB/dP at V0 (dimensionless)."""
    bulk_derivative_std: float | None = None
    """Standard deviation of a committee (dimensionless)."""
    residual: MilliEVPerAtom | None = Field(default=None, repr=False)
    """Root mean square of what the fit leaves."""


class EosTaskResult(PropertyResult):
    """Equations of state, in the order given."""

    structures: list[EosRow]
    """One row for each structure."""
    points: Path
    """Energies (eV/atom) and pressures (GPa) at each volume (Å³/atom), CSV."""


def run(settings: EosTaskSettings, reporter: Reporter) -> EosTaskResult:
    """Equation of state of crystals: volume, energy, bulk modulus and its derivative (Birch-Murnaghan).

    All volumes of all structures are worked on together.
    """
    work = begin(settings, reporter)
    with folder_for_results(settings.out):
        rows, found = computed(lambda p, r: _rows(work, p, settings, r), work, settings, reporter)
        result = EosTaskResult(
            structures=rows,
            points=settings.out / "points.csv",
        )
        write_atomically(result.points, as_csv(_points(work, found)))
        result = write_result(settings.out, result, rows, _page(rows, found, settings), {"points.csv": POINTS})
    return result


def _rows(
    work: Work, potential: Potential, settings: EosTaskSettings, reporter: Reporter
) -> tuple[list[EosRow], EosResult]:
    """The rows by one potential, and what they come from."""
    from rutile.simulate.eos import equation_of_state

    how = part(settings, EosSettings)
    start, why = settled_crystals(work, potential, how, "an equation of state", reporter)
    found = equation_of_state(start, potential, how, reporter)
    out = []
    texts = outcomes([why, found.failure], work, reporter)
    for (source, name), text, fit, n in zip(work.names(), texts, found.fit, start.counts.tolist(), strict=True):
        known: dict[str, Any] = {} if fit is None else _known(fit, n)
        out.append(EosRow(structure=source, formula=name, outcome=text, **known))
        if fit is not None and fit.scatter > POOR:
            reporter.warn(
                f"{source} ({name}): a poor fit: it leaves {1000 * fit.residual / n:.3g} meV/atom, "
                f"{100 * fit.scatter:.2g} % of the range of the energies; make span smaller, or look for a jump in "
                "points.csv (another phase, a potential that is not smooth)"
            )
    return out, found


def _known(fit: BirchMurnaghan, atoms: int) -> dict[str, float]:
    """What a fit says, by the fields of a row."""
    return {
        "volume": fit.volume / atoms,
        "energy": fit.energy / atoms,
        "bulk_modulus": fit.bulk / GPA,
        "bulk_derivative": fit.slope,
        "residual": 1000 * fit.residual / atoms,
    }


def _points(work: Work, found: EosResult) -> list[dict[str, str | float]]:
    """Energy and pressure at each volume."""
    return [
        {
            "structure": source,
            "formula": name,
            "volume": float(v) / n,
            "energy": float(e) / n,
            "pressure": float(p) / GPA,
        }
        for s, ((source, name), n) in enumerate(zip(work.names(), work.structures.counts.tolist(), strict=True))
        for v, e, p in zip(found.volume[s], found.energy[s], found.pressure[s], strict=True)
    ]


def _page(rows: Sequence[EosRow], found: EosResult, settings: EosTaskSettings) -> str:
    """The report."""
    import numpy as np

    from rutile.tasks.property_figures import MOST_CURVES, Line, panel
    from rutile.train.report import Card, Facts, Figures, Section, render

    figures = []
    for row, fit, volume, energy, one in zip(
        rows[:MOST_CURVES], found.fit, found.volume.numpy(), found.energy.numpy(), found.structures, strict=False
    ):
        n = one.n_atoms // one.n_systems
        zero = fit.energy if fit else float(energy.min())
        lines = [Line("", volume / n, 1000 * (energy - zero) / n, points=True, colour=1)]
        if fit is not None:
            v = np.linspace(volume.min(), volume.max(), 200)
            lines.insert(0, Line("", v / n, 1000 * (fit.energy_at(v) - zero) / n, colour=0))
        title = panel(row.formula, "volume (Å³/atom)", "energy above the lowest (meV/atom)", lines)
        figures.append((title, row.structure))
    names = ["structure", "formula", "outcome", "volume", "energy", "bulk_modulus", "bulk_modulus_std",
             "bulk_derivative", "residual"]  # fmt: skip
    sections = [
        Section("Energy by volume", [Figures(figures)]),
        Section("Equations of state", table_of(rows, names, "Birch-Murnaghan, third order.")),
        Section("Settings", [Facts(settings.model_dump(mode="json"), "all settings")]),
    ]
    cards = [Card("structures", str(len(rows))), Card("volumes", str(settings.points), "each")]
    return render("Equations of state", str(settings.model), cards, sections)


TASK = Task(
    "eos",
    EosTaskSettings,
    EosTaskResult,
    run,
    positional="structures",
    examples=(
        "rutile eos copper.cif model=run",
        "rutile eos polymorphs.extxyz model=model.rutile span=0.1 points=13 inner=atoms out=volumes",
    ),
)
