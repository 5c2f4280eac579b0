"""`rutile expansion`: thermal expansion of crystals in the quasi-harmonic approximation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from rutile.core.files import folder_for_results, write_atomically
from rutile.core.reporting import Reporter
from rutile.core.settings import Result
from rutile.core.units import GPA, KB, Angstrom3PerAtom, BoltzmannPerAtom, GigaPascal, Kelvin, PerMillionKelvin
from rutile.simulate.settings import ExpansionSettings
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
    from rutile.simulate.expansion import Expansion
    from rutile.tasks.property import Work

ROOM = 300.0
"""Room temperature (K)."""

BY_TEMPERATURE = {
    "temperature": "K", "volume": "Å³/atom", "expansion": "1/K", "bulk_modulus": "GPa", "heat_capacity": "k_B/atom",
}  # fmt: skip
"""Units in by_temperature.csv."""


class ExpansionTaskSettings(ExpansionSettings, GivenProperty):
    """Crystals, and how to compute their thermal expansion."""

    out: Path = Path("expansion")
    """Folder for table.csv, by_temperature.csv, report.html and result.json."""


class ExpansionRow(Result):
    """The thermal expansion of one crystal; values at 300 K, or the temperature nearest to it."""

    structure: str
    """File and 0-based frame number."""
    formula: str
    """Composition."""
    outcome: str
    """done, or what went wrong."""
    static_volume: Angstrom3PerAtom
    """Of the start, where the energy without vibrations is lowest if it was relaxed."""
    volume: Angstrom3PerAtom | None = None
    """At that temperature."""
    volume_std: Angstrom3PerAtom | None = None
    """Standard deviation of a committee."""
    expansion: PerMillionKelvin | None = None
    """Coefficient of volume expansion."""
    expansion_std: PerMillionKelvin | None = None
    """Standard deviation of a committee."""
    bulk_modulus: GigaPascal | None = None
    """Isothermal."""
    bulk_modulus_std: GigaPascal | None = None
    """Standard deviation of a committee."""
    heat_capacity: BoltzmannPerAtom | None = None
    """At constant pressure."""
    gruneisen: float | None = None
    """Thermodynamic Grüneisen parameter (dimensionless)."""
    up_to: Kelvin | None = Field(default=None, repr=False)
    """Highest temperature with a volume inside the scan."""


class ExpansionTaskResult(PropertyResult):
    """Thermal expansion, in the order given."""

    structures: list[ExpansionRow]
    """One row for each structure."""
    by_temperature: Path
    """Volume, expansion, bulk modulus, heat capacity by temperature, CSV."""


def run(settings: ExpansionTaskSettings, reporter: Reporter) -> ExpansionTaskResult:
    """Thermal expansion, bulk modulus and heat capacity by temperature (quasi-harmonic approximation).

    Phonons at several volumes; all displaced supercells are evaluated together. Needs phonopy.

    Raises:
        MissingPackageError: phonopy is not installed.
        SettingsError: the potential is not smooth.
    """
    work = begin(settings, reporter)
    with folder_for_results(settings.out):
        rows, found = computed(lambda p, r: _rows(work, p, settings, r), work, settings, reporter)
        result = ExpansionTaskResult(
            structures=rows,
            by_temperature=settings.out / "by_temperature.csv",
        )
        write_atomically(result.by_temperature, as_csv(_lines(work, found)))
        result = write_result(
            settings.out, result, rows, _page(rows, found, work, settings), {"by_temperature.csv": BY_TEMPERATURE}
        )
    return result


def _rows(
    work: Work, potential: Potential, settings: ExpansionTaskSettings, reporter: Reporter
) -> tuple[list[ExpansionRow], list[Expansion]]:
    """The rows by one potential, and what they come from."""
    from rutile.potentials.checks import require_smooth
    from rutile.simulate.expansion import quasi_harmonic

    if not settings.rough:
        require_smooth(potential, "a phonon calculation")
    how = part(settings, ExpansionSettings)
    start, why = settled_crystals(work, potential, how, "thermal expansion", reporter)
    found = quasi_harmonic(start, potential, how, reporter)
    texts = outcomes([why, [one.failure for one in found]], work, reporter)
    rows = []
    for (source, name), text, one, n, volume in zip(
        work.names(), texts, found, start.counts.tolist(), start.volume.tolist(), strict=True
    ):
        row = ExpansionRow(structure=source, formula=name, outcome=text, static_volume=volume / n, **_at_room(one, n))
        rows.append(row)
    return rows, found


def _at_room(one: Expansion, atoms: int) -> dict[str, Any]:
    """Values at room temperature by the fields of a row."""
    good = np.isfinite(one.volume)
    if not good.any():
        return {}
    t = int(np.abs(one.temperature[good] - ROOM).argmin())
    return {
        "volume": float(one.volume[t]) / atoms,
        "expansion": 1e6 * float(one.expansion[t]) if np.isfinite(one.expansion[t]) else None,
        "bulk_modulus": float(one.bulk[t]) / GPA,
        "heat_capacity": float(one.heat_capacity[t]) / atoms / KB,
        "gruneisen": float(one.gruneisen[t]) if np.isfinite(one.gruneisen[t]) else None,
        "up_to": float(one.temperature[good][-1]),
    }


def _lines(work: Work, found: Sequence[Expansion]) -> list[dict[str, Any]]:
    """All values by temperature."""
    head = ("structure", "formula", "temperature", "volume", "expansion", "bulk_modulus", "heat_capacity", "gruneisen")
    out = []
    for (source, name), one, n in zip(work.names(), found, work.structures.counts.tolist(), strict=True):
        columns = (one.temperature, one.volume / n, one.expansion, one.bulk / GPA, one.heat_capacity / n / KB,
                   one.gruneisen)  # fmt: skip
        out += [dict(zip(head, (source, name, *map(float, row)), strict=True)) for row in zip(*columns, strict=True)]
    return out or [dict.fromkeys(head, "")]


def _page(rows: Sequence[ExpansionRow], found: Sequence[Expansion], work: Work, settings: ExpansionTaskSettings) -> str:
    """The report."""
    from rutile.tasks.property_figures import MOST_CURVES, Line, panel
    from rutile.train.report import Card, Facts, Figures, Section, render

    names = ["structure", "formula", "outcome", "static_volume", "volume", "volume_std", "expansion", "expansion_std",
             "bulk_modulus", "heat_capacity", "gruneisen"]  # fmt: skip
    shown = list(zip(rows, found, work.structures.counts.tolist(), strict=True))[:MOST_CURVES]
    kelvin = "temperature (K)"
    pictures = [
        (panel("Volume", kelvin, "Å³/atom", [Line(r.formula, e.temperature, e.volume / n) for r, e, n in shown]), ""),
        (panel("Expansion", kelvin, "α (10⁻⁶/K)", [Line(r.formula, e.temperature, 1e6 * e.expansion)
                                                  for r, e, _ in shown]), ""),
        (panel("Bulk modulus", kelvin, "GPa", [Line(r.formula, e.temperature, e.bulk / GPA) for r, e, _ in shown]), ""),
        (panel("Heat capacity", kelvin, "C_P (k_B/atom)", [Line(r.formula, e.temperature, e.heat_capacity / n / KB)
                                                           for r, e, n in shown]), ""),
    ]  # fmt: skip
    sections = [
        Section("By temperature", [Figures(pictures)]),
        Section("At 300 K", table_of(rows, names)),
        Section("Settings", [Facts(settings.model_dump(mode="json"), "all settings")]),
    ]
    return render("Thermal expansion", str(settings.model), [Card("structures", str(len(rows)))], sections)


TASK = Task(
    "expansion",
    ExpansionTaskSettings,
    ExpansionTaskResult,
    run,
    positional="structures",
    examples=(
        "rutile expansion copper.cif model=run max_temperature=800",
        "rutile expansion polymorphs.extxyz model=model.rutile supercell=3,3,3 grow=0.08",
    ),
)
