"""`rutile conductivity`: thermal conductivity of crystals from phonons that collide."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from rutile.core.files import folder_for_results, write_atomically
from rutile.core.reporting import Reporter
from rutile.core.settings import Result
from rutile.core.units import Kelvin, Terahertz, WattPerMetreKelvin
from rutile.simulate.settings import ConductivitySettings
from rutile.tasks.property import (
    DONE,
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
    from rutile.simulate.conductivity import Conductivity
    from rutile.tasks.property import Work
    from rutile.train.report import Block

UNITS = {"cumulative.csv": {"frequency": "THz", "kappa_...K": "W/m/K"}}
"""Units in the table of each crystal."""
SHOWN = 5
"""Temperatures whose cumulative conductivity is drawn."""


class ConductivityTaskSettings(ConductivitySettings, GivenProperty):
    """Crystals, and how to compute their thermal conductivity."""

    out: Path = Path("conductivity")
    """Folder for table.csv, report.html, result.json and a folder for each structure with phono3py_params.yaml
    (displacements and forces, for phono3py) and cumulative.csv."""


class ConductivityRow(Result):
    """The thermal conductivity of one crystal at one temperature."""

    structure: str
    """File and 0-based frame number."""
    formula: str
    """Composition."""
    outcome: str
    """done, or what went wrong: the relaxation, or modes that do not collide (supercell, mesh)."""
    temperature: Kelvin
    """At which."""
    kappa: WattPerMetreKelvin
    """A third of the trace of the tensor."""
    kappa_std: WattPerMetreKelvin | None = None
    """Standard deviation of a committee."""
    xx: WattPerMetreKelvin
    """Component."""
    yy: WattPerMetreKelvin
    """Component."""
    zz: WattPerMetreKelvin
    """Component."""
    yz: WattPerMetreKelvin = Field(repr=False)
    """Component."""
    xz: WattPerMetreKelvin = Field(repr=False)
    """Component."""
    xy: WattPerMetreKelvin = Field(repr=False)
    """Component."""


class ConductivityCrystal(Result):
    """How one crystal was computed."""

    structure: str
    """File and 0-based frame number."""
    formula: str
    """Composition."""
    supercell: tuple[int, int, int]
    """Repeats of the cell."""
    displacements: int
    """Displaced supercells that symmetry asked for."""
    mesh: tuple[int, int, int]
    """Of wave vectors."""
    lowest: Terahertz
    """Lowest frequency; negative: imaginary modes, which are left out."""
    folder: Path = Field(repr=False)
    """Its files."""


class ConductivityResult(PropertyResult):
    """Thermal conductivities, in the order given."""

    crystals: list[ConductivityCrystal]
    """For each crystal."""
    structures: list[ConductivityRow]
    """For each crystal and temperature."""


def run(settings: ConductivityTaskSettings, reporter: Reporter) -> ConductivityResult:
    """Thermal conductivity of crystals from force constants of second and third order, through phono3py.

    The displaced supercells of all crystals are evaluated together.

    Raises:
        MissingPackageError: phono3py is not installed.
        SettingsError: the potential is not smooth.
    """
    from rutile.simulate.conductivity import require_phono3py

    require_phono3py()
    work = begin(settings, reporter)
    with folder_for_results(settings.out):
        rows, found = computed(lambda p, r: _rows(work, p, settings, r), work, settings, reporter)
        crystals = []
        for k, ((source, name), one) in enumerate(zip(work.names(), found, strict=True)):
            folder = settings.out / f"{k:03d}_{name}"
            _write(folder, one)
            crystals.append(
                ConductivityCrystal(
                    structure=source, formula=name, supercell=one.supercell, displacements=one.displaced,
                    mesh=one.mesh, lowest=one.lowest, folder=folder,
                )
            )  # fmt: skip
        result = ConductivityResult(crystals=crystals, structures=rows)
        result = write_result(settings.out, result, rows, _page(result, found, settings), UNITS)
    return result


def _rows(
    work: Work, potential: Potential, settings: ConductivityTaskSettings, reporter: Reporter
) -> tuple[list[ConductivityRow], list[Conductivity]]:
    """The rows by one potential, and what they come from."""
    from rutile.potentials.checks import require_smooth
    from rutile.simulate.conductivity import STILL, conductivities

    if not settings.rough:
        require_smooth(potential, "a thermal conductivity")
    how = part(settings, ConductivitySettings)
    start, why = settled_crystals(work, potential, how, "a thermal conductivity", reporter)
    found = conductivities(start, potential, how, reporter)
    texts = outcomes([why, [one.failure for one in found]], work, reporter)
    rows = []
    for (source, name), text, one in zip(work.names(), texts, found, strict=True):
        if one.lowest < -STILL and text == DONE:
            reporter.warn(f"{source} ({name}): imaginary modes, the lowest {one.lowest:.3f} THz; they are left out: a "
                          "larger supercell, or the crystal is not at a minimum")  # fmt: skip
        for kelvin, mean, t in zip(one.temperature, one.mean, one.tensor, strict=True):
            rows.append(
                ConductivityRow(
                    structure=source, formula=name, outcome=text, temperature=kelvin, kappa=mean, xx=t[0, 0],
                    yy=t[1, 1], zz=t[2, 2], yz=t[1, 2], xz=t[0, 2], xy=t[0, 1],
                )
            )  # fmt: skip
    return rows, found


def _write(folder: Path, one: Conductivity) -> None:
    """The files of one crystal."""
    folder.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as place:
        file = Path(place) / "phono3py_params.yaml"
        one.phono3py.save(file, settings={"force_sets": True, "displacements": True})
        write_atomically(folder / file.name, file.read_bytes())
    names = [f"kappa_{t:g}K" for t in one.temperature]
    lines = [
        {"frequency": f} | dict(zip(names, column, strict=True))
        for f, column in zip(one.frequency.tolist(), one.cumulative.T.tolist(), strict=True)
    ]
    write_atomically(folder / "cumulative.csv", as_csv(lines))


def _page(result: ConductivityResult, found: Sequence[Conductivity], settings: ConductivityTaskSettings) -> str:
    """The report."""
    from rutile.tasks.property_figures import MOST_CURVES, Line, panel
    from rutile.train.report import Card, Facts, Figures, Section, render

    names = ["structure", "formula", "outcome", "temperature", "kappa", "kappa_std", "xx", "yy", "zz", "yz", "xz", "xy"]
    sections = [Section("Conductivity", table_of(result.structures, names))]
    for row, one in list(zip(result.crystals, found, strict=True))[:MOST_CURVES]:
        step = max(1, len(one.temperature) // SHOWN)
        lines = [Line(f"{one.temperature[k]:g} K", one.frequency, one.cumulative[k])
                 for k in range(0, len(one.temperature), step)]  # fmt: skip
        of_heat = [Line("mean", one.temperature, one.mean)]
        of_heat += [Line(n, one.temperature, one.tensor[:, k, k]) for k, n in enumerate(("xx", "yy", "zz"))]
        pictures = [
            (panel("Conductivity", "temperature (K)", "κ (W/m/K)", of_heat, log=True), ""),
            (panel("Carried by modes up to", "frequency (THz)", "κ (W/m/K)", lines), "A third of the trace."),
        ]
        facts = Facts({n: getattr(row, n) for n in ("supercell", "displacements", "mesh", "lowest")})
        blocks: list[Block] = [Figures(pictures), facts]
        sections.append(Section(f"{row.formula}, {row.structure}", blocks))
    sections.append(Section("Settings", [Facts(settings.model_dump(mode="json"), "all settings")]))
    cards = [Card("structures", str(len(found)))]
    if result.structures:
        last = min(result.structures, key=lambda r: abs(r.temperature - 300.0))
        cards.append(Card(f"κ of {last.formula}, {last.temperature:g} K", f"{last.kappa:.3g}", "W/m/K"))
    return render("Thermal conductivity", str(settings.model), cards, sections)


TASK = Task(
    "conductivity",
    ConductivityTaskSettings,
    ConductivityResult,
    run,
    positional="structures",
    examples=(
        "rutile conductivity si.cif model=run length=10 'temperatures=[100, 200, 300]'",
        "rutile conductivity ar.cif model=lennard_jones supercell=2,2,2 'temperatures=[20, 40, 80]' method=direct",
    ),
)
