"""`rutile phonons`: bands, densities of states, thermodynamics and imaginary modes of crystals."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from rutile.core.files import folder_for_results, write_atomically
from rutile.core.reporting import Reporter
from rutile.core.settings import Result
from rutile.core.units import KB, BoltzmannPerAtom, EVPerAngstrom2, EVPerAtom, Terahertz
from rutile.simulate.settings import PhononSettings
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
    from rutile.simulate.phonons import Phonons, Segment
    from rutile.tasks.property import Work
    from rutile.train.report import Block, Value

ROOM = 300.0
"""Room temperature (K)."""

UNITS = {
    "bands.csv": {"distance": "1/Å", "band0, band1, ...": "THz"},
    "dos.csv": {"frequency": "THz", "states": "1/THz"},
    "born.csv": dict.fromkeys(("xx", "xy", "xz", "yx", "yy", "yz", "zx", "zy", "zz"), "e"),
    "thermal.csv": {"temperature": "K", "free_energy": "eV", "entropy": "eV/K", "heat_capacity": "eV/K"},
}
"""Units in the tables of each crystal, which are of its primitive cell."""


class PhononTaskSettings(PhononSettings, GivenProperty):
    """Crystals, and how to compute their phonons."""

    out: Path = Path("phonons")
    """Folder for table.csv, report.html, result.json and a folder for each structure with phonopy.yaml (displacements,
    forces and force constants, for phonopy), band.yaml, bands.csv, dos.csv, thermal.csv and, with `born`,
    born.csv."""


class PhononRow(Result):
    """The phonons of one crystal."""

    structure: str
    """File and 0-based frame number."""
    formula: str
    """Composition."""
    outcome: str
    """done, or what went wrong with the relaxation."""
    supercell: tuple[int, int, int] = Field(repr=False)
    """Repeats of the cell."""
    displacements: int = Field(repr=False)
    """Displaced supercells that symmetry asked for."""
    lowest: Terahertz
    """Lowest frequency found; negative for an imaginary one."""
    lowest_std: Terahertz | None = None
    """Standard deviation of a committee."""
    highest: Terahertz
    """Highest frequency on the bands."""
    highest_std: Terahertz | None = None
    """Standard deviation of a committee."""
    splitting: Terahertz | None = None
    """Largest rise of a frequency at Γ by the field of Born charges, along and across a direction; with `born`."""
    splitting_std: Terahertz | None = Field(default=None, repr=False)
    """Standard deviation of a committee."""
    imaginary: int
    """Imaginary modes at wave vectors that fit into the supercell."""
    imaginary_at: str
    """Where the worst of them is; empty if there is none."""
    zero_point: EVPerAtom = Field(repr=False)
    """Zero-point energy."""
    zero_point_std: EVPerAtom | None = None
    """Standard deviation of a committee."""
    free_energy: EVPerAtom
    """Vibrational free energy at 300 K, or the temperature nearest to it."""
    free_energy_std: EVPerAtom | None = Field(default=None, repr=False)
    """Standard deviation of a committee."""
    entropy: BoltzmannPerAtom = Field(repr=False)
    """At that temperature."""
    heat_capacity: BoltzmannPerAtom
    """At that temperature and constant volume."""
    acoustic: Terahertz = Field(repr=False)
    """Largest frequency of the acoustic modes at Γ, 0 but for rounding."""
    drift: EVPerAngstrom2 = Field(repr=False)
    """Largest violation of the acoustic sum rule before it was imposed."""
    folder: Path = Field(repr=False)
    """Its files."""


class PhononTaskResult(PropertyResult):
    """Phonons, in the order given."""

    structures: list[PhononRow]
    """One row for each structure."""


def run(settings: PhononTaskSettings, reporter: Reporter) -> PhononTaskResult:
    """Phonons of crystals by finite displacements: bands, density of states, thermodynamics, imaginary modes.

    The displaced supercells of all crystals are evaluated together. Needs phonopy, whose files it writes.

    Raises:
        MissingPackageError: phonopy is not installed.
        SettingsError: the potential is not smooth.
    """
    work = begin(settings, reporter)
    with folder_for_results(settings.out):
        rows, found = computed(lambda p, r: _rows(work, p, settings, r), work, settings, reporter)
        for row, one in zip(rows, found, strict=True):
            _write(row.folder, one)
        result = PhononTaskResult(structures=rows)
        result = write_result(settings.out, result, rows, _page(rows, found, settings), UNITS)
    return result


def _rows(
    work: Work, potential: Potential, settings: PhononTaskSettings, reporter: Reporter
) -> tuple[list[PhononRow], list[Phonons]]:
    """The rows by one potential, and what they come from."""
    from rutile.potentials.checks import require_smooth
    from rutile.simulate.phonons import phonons

    if not settings.rough:
        require_smooth(potential, "a phonon calculation")
    how = part(settings, PhononSettings)
    start, why = settled_crystals(work, potential, how, "a phonon calculation", reporter)
    found = phonons(start, potential, how, reporter)
    texts = outcomes([why], work, reporter)
    rows = []
    for k, ((source, name), text, one) in enumerate(zip(work.names(), texts, found, strict=True)):
        row = _row(source, name, text, one, settings.out / f"{k:03d}_{name}")
        if row.imaginary and text == DONE:
            reporter.warn(f"{source} ({name}): {row.imaginary} imaginary modes, the worst {row.imaginary_at}; the "
                          "crystal is not at a minimum, and thermodynamics leaves them out")  # fmt: skip
        rows.append(row)
    return rows, found


def _row(source: str, name: str, text: str, one: Phonons, folder: Path) -> PhononRow:
    """One line of the table."""
    atoms, thermal = len(one.phonopy.primitive), one.thermal
    at = int(abs(thermal.temperature - ROOM).argmin())
    where = ""
    if one.imaginary:
        q = ", ".join(f"{x:.3g}" for x in one.imaginary[0].wave_vector)
        where = f"{one.imaginary[0].frequency:.3f} THz at q = ({q})"
    return PhononRow(
        structure=source,
        formula=name,
        outcome=text,
        supercell=one.supercell,
        displacements=one.displaced,
        lowest=one.lowest,
        highest=max(float(s.frequency.max()) for s in one.bands),
        splitting=one.splitting,
        imaginary=len(one.imaginary),
        imaginary_at=where,
        zero_point=float(thermal.free_energy[0]) / atoms,
        free_energy=float(thermal.free_energy[at]) / atoms,
        entropy=float(thermal.entropy[at]) / atoms / KB,
        heat_capacity=float(thermal.heat_capacity[at]) / atoms / KB,
        acoustic=one.acoustic,
        drift=one.drift,
        folder=folder,
    )


def _points(segment: Segment) -> list[str]:
    """Names of its first and last point; "" between them."""
    return [segment.start, *[""] * (len(segment.distance) - 2), segment.end]


def _write(folder: Path, one: Phonons) -> None:
    """The files of one crystal."""
    folder.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as place:
        names = ("phonopy.yaml", "band.yaml")
        one.phonopy.save(Path(place) / names[0], settings={"force_constants": True})
        one.phonopy.write_yaml_band_structure(filename=Path(place) / names[1])
        for name in names:
            write_atomically(folder / name, (Path(place) / name).read_bytes())
    bands = [
        {"distance": d, "point": point, **{f"band{b}": w for b, w in enumerate(waves)}}
        for segment in one.bands
        for d, point, waves in zip(segment.distance.tolist(), _points(segment), segment.frequency.tolist(), strict=True)
    ]
    write_atomically(folder / "bands.csv", as_csv(bands))
    dos = zip(one.dos_frequency.tolist(), one.dos.tolist(), strict=True)
    write_atomically(folder / "dos.csv", as_csv([{"frequency": f, "states": d} for f, d in dos]))
    t = one.thermal
    columns = {
        "temperature": t.temperature, "free_energy": t.free_energy, "entropy": t.entropy,
        "heat_capacity": t.heat_capacity,
    }  # fmt: skip
    rows = [dict(zip(columns, map(float, row), strict=True)) for row in zip(*columns.values(), strict=True)]
    write_atomically(folder / "thermal.csv", as_csv(rows))
    if one.phonopy.nac_params is not None:
        charges = zip(one.phonopy.primitive.symbols, one.phonopy.nac_params["born"], strict=True)
        heads = list(UNITS["born.csv"])
        born = [{"element": e} | dict(zip(heads, z.ravel().tolist(), strict=True)) for e, z in charges]
        write_atomically(folder / "born.csv", as_csv(born))


def _page(rows: Sequence[PhononRow], found: Sequence[Phonons], settings: PhononTaskSettings) -> str:
    """The report."""
    from rutile.tasks.property_figures import MOST_CURVES, Line, band_structure, panel
    from rutile.train.report import Card, Facts, Figures, Section, Table, render

    names = ["structure", "formula", "outcome", "displacements", "lowest", "lowest_std", "highest", "highest_std",
             "splitting", "splitting_std", "imaginary", "zero_point", "free_energy", "heat_capacity"]  # fmt: skip
    sections = [Section("Crystals", table_of(rows, names))]
    for row, one in list(zip(rows, found, strict=True))[:MOST_CURVES]:
        t, n = one.thermal, len(one.phonopy.primitive)
        heat = [Line("C_V", t.temperature, t.heat_capacity / n / KB), Line("S", t.temperature, t.entropy / n / KB)]
        pictures = [
            (band_structure("Bands", one.bands, one.dos_frequency, one.dos), "Imaginary frequencies are negative."),
            (panel("Heat capacity and entropy", "temperature (K)", "k_B per atom", heat), ""),
        ]
        blocks: list[Block] = [Figures(pictures)]
        if one.imaginary:
            modes: list[list[Value]] = [[str(m.wave_vector), m.frequency] for m in one.imaginary[:20]]
            blocks.append(Table(("wave vector (primitive cell)", "frequency (THz)"), modes, "Imaginary modes that fit "
                                "into the supercell, the worst twenty."))  # fmt: skip
        sections.append(Section(f"{row.formula}, {row.structure}", blocks))
    sections.append(Section("Settings", [Facts(settings.model_dump(mode="json"), "all settings")]))
    stable = sum(not row.imaginary for row in rows)
    cards = [Card("structures", str(len(rows))), Card("without imaginary modes", str(stable), f"of {len(rows)}")]
    return render("Phonons", str(settings.model), cards, sections)


TASK = Task(
    "phonons",
    PhononTaskSettings,
    PhononTaskResult,
    run,
    positional="structures",
    examples=(
        "rutile phonons rutile.cif model=run",
        "rutile phonons polymorphs.extxyz model=model.rutile supercell=3,3,3 displacement=0.02",
    ),
)
