"""`rutile infrared`: infrared spectra from trajectories of molecular dynamics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from rutile.core.elements import formula
from rutile.core.errors import SettingsError
from rutile.core.files import folder_for_results, write_atomically
from rutile.core.reporting import Reporter
from rutile.core.settings import Result
from rutile.core.units import Kelvin, WaveNumber
from rutile.tasks.apply import open_members
from rutile.tasks.property import PropertyResult, as_csv, table_of, write_result
from rutile.tasks.task import Task
from rutile.tasks.trajectories import Given, GivenTrajectories, atomic_number, given_trajectories, read_trajectory

if TYPE_CHECKING:
    from rutile.simulate.dipoles import Polar
    from rutile.simulate.observe.infrared import Infrared, Peak
    from rutile.simulate.observe.trajectory import Trajectory

SPARSE = 4.0
"""Frames for each period of the fastest vibration, at least."""
FASTEST = 4500.0
"""Spectra are drawn up to this wave number at most (1/cm)."""

CURVES = {"wave_number": "1/cm"}
"""Units in the table of spectra; the others are in the `unit` of each."""


class InfraredSettings(GivenTrajectories):
    """Which trajectories, and what carries the charge."""

    model: Path | None = None
    """Model file or run folder whose charges move with the atoms (anatase with `electrostatics`, teanet), or rigid_ion;
    not needed with `charges`."""
    charges: dict[str, float] = {}
    """Fixed charges by element (e), instead of a model: {Na: 1, Cl: -1}."""
    resolution: WaveNumber = Field(default=10.0, gt=0)
    """Wanted; trajectories shorter than 13 ps (at 10/cm; twice as long at 5/cm) have no error bars, very short ones
    show less."""
    window: Literal["hann", "blackman"] = "hann"
    """How the correlation goes to zero: hann has narrower lines, blackman less of them far away."""
    atoms_at_once: int = Field(default=2000, ge=1)
    """Frames are worked on together up to so many atoms."""
    precision: Literal["float32", "float64"] = "float64"
    """Precision of the model."""
    device: str = "cpu"
    """cpu, cuda, cuda:1, or auto: a GPU if there is one."""
    mode: str | None = None
    """Reference method (calc mode) of the model; needed only if it knows several."""
    out: Path = Path("infrared")
    """Folder for table.csv (peaks), spectra.csv, report.html and result.json."""

    @model_validator(mode="after")
    def _charged(self) -> Self:
        if self.model is None and not self.charges:
            raise SettingsError(
                "neither model nor charges: give model=... that predicts charges, or charges={Na: 1, ...}"
            )
        return self


class PeakRow(Result):
    """A maximum of a spectrum."""

    trajectory: str
    """File."""
    formula: str
    """Composition."""
    wave_number: WaveNumber
    """Where it is."""
    error: WaveNumber | None
    """Its standard error, from parts of the trajectory."""
    height: float
    """Of the maximum, in the `unit` of the spectrum."""
    area: float
    """Of the whole band, in the `unit` of the spectrum times 1/cm: km/mol of molecules."""
    wave_number_std: WaveNumber | None = None
    """Standard deviation over the charges of a committee."""
    height_std: float | None = None
    """Standard deviation over the charges of a committee, in the same `unit`."""


class SpectrumRow(Result):
    """The spectrum of one trajectory."""

    trajectory: str
    """File."""
    formula: str
    """Composition."""
    temperature: Kelvin
    """Of the run, or of its velocities."""
    unit: str
    """Of the absorption: km/mol per 1/cm of molecules, else alpha n in 1/cm."""
    resolution: WaveNumber
    """That was reached."""
    blocks: int
    """Parts of the trajectory that error bars come from; 1: none."""
    total: float
    """Integral over all wave numbers (`unit` times 1/cm)."""
    note: str
    """What is left out."""


class InfraredResult(PropertyResult):
    """What the trajectories absorb."""

    spectra: list[SpectrumRow]
    """For each trajectory."""
    peaks: list[PeakRow]
    """All maxima."""
    curves: Path
    """The spectra as CSV, with errors."""


@dataclass(frozen=True)
class Seen:
    """One trajectory."""

    given: Given
    spectrum: Infrared
    members: list[Infrared]
    """By each member of a committee."""
    row: SpectrumRow


def run(settings: InfraredSettings, reporter: Reporter) -> InfraredResult:
    """Infrared spectra from the flux of the dipole moment along trajectories, with the harmonic quantum correction.

    Charges may be fixed, or those that a model predicts for each frame.

    Raises:
        SettingsError: neither charges nor a model that predicts any.
        DataError: a trajectory is too short.
    """
    given = given_trajectories(settings)
    polar, members, known = _charges(settings, reporter)
    with folder_for_results(settings.out):
        seen = [
            _look(one, settings, polar, members, known, reporter)
            for one in reporter.track(given, "Spectra", len(given))
        ]
        rows = [_peak_row(one, peak) for one in seen for peak in one.spectrum.peaks]
        result = InfraredResult(
            spectra=[one.row for one in seen],
            peaks=rows,
            curves=settings.out / "spectra.csv",
        )
        write_atomically(result.curves, as_csv([line for one in seen for line in _lines(one)]))
        page, units = _page(result, seen, settings), {result.curves.name: CURVES}
        result = write_result(settings.out, result, rows or result.spectra, page, units)
    return result


def _charges(settings: InfraredSettings, reporter: Reporter) -> tuple[Polar, list[Polar], tuple[int, ...]]:
    """What carries the charge: of the model (the mean of a committee), and of each member of one; its elements."""
    from rutile.potentials.combine import common_elements, mean_potential
    from rutile.simulate.dipoles import polar_of, polar_of_ions

    if settings.charges:
        charges = {atomic_number(name): q for name, q in settings.charges.items()}
        return polar_of_ions(charges), [], tuple(charges)
    assert settings.model is not None
    potentials, _ = open_members(settings.model, settings.precision, settings.device, settings.mode, reporter)
    found = polar_of(mean_potential(potentials))
    if found is None:
        raise SettingsError(
            f"model={settings.model} predicts no charges: take rigid_ion, or train anatase with "
            "model.electrostatics=true or teanet, or give charges={Na: 1, ...}"
        )
    each = [polar_of(p) for p in potentials] if len(potentials) > 1 else []
    return found, [p for p in each if p is not None], common_elements(potentials)


def _look(
    given: Given,
    settings: InfraredSettings,
    polar: Polar,
    members: Sequence[Polar],
    known: Sequence[int],
    reporter: Reporter,
) -> Seen:
    """The spectrum of one trajectory."""
    from rutile.simulate.observe.infrared import flux, infrared, kinetic_temperature

    path = read_trajectory(given, settings)
    _check(path, given, known)
    crystal = bool(path.pbc.all())
    kelvin = given.temperature or kinetic_temperature(path)

    def spectrum(carried: Polar) -> Infrared:
        moving = flux(path, carried, settings.atoms_at_once)
        volume = path.volume if crystal else None
        return infrared(moving, path.interval, kelvin, volume, settings.resolution, settings.window)

    found = spectrum(polar)
    note = ""
    if polar.kind == "atoms" and bool(path.pbc.any()):
        note = "charge that flows between atoms is left out: the model does not say which way it goes across cells"
        reporter.warn(f"{given.name}: {note}")
    if found.peaks and found.peaks[-1].wave_number > 2 * found.wave[-1] / SPARSE:
        reporter.warn(
            f"{given.name}: a frame each {path.interval:g} fs is too few for the peak at "
            f"{found.peaks[-1].wave_number:.0f} / cm, which may be a faster one in disguise: write frames more often"
        )
    row = SpectrumRow(
        trajectory=given.name,
        formula=formula(path.numbers.tolist()),
        temperature=kelvin,
        unit="1/cm" if crystal else "km/mol per 1/cm",
        resolution=found.resolution,
        blocks=found.blocks,
        total=float(np.trapezoid(found.absorption, found.wave)),
        note=note,
    )
    return Seen(given, found, [spectrum(member) for member in members], row)


def _check(path: Trajectory, given: Given, known: Sequence[int]) -> None:
    """Refuse elements without a charge; a model that names no elements knows all."""
    missing = sorted(set(path.numbers.tolist()) - set(known))
    if known and missing:
        raise SettingsError(
            f"charges: none for {formula(missing)}, which is in {given.name}: take another model, or charges={{...}}, "
            "with 0 for what has none"
        )


def _peak_row(one: Seen, peak: Peak) -> PeakRow:
    """One maximum, with what the members of a committee say of it."""
    spread: dict[str, float] = {}
    if one.members:
        near = np.abs(one.spectrum.wave - peak.wave_number) <= one.spectrum.resolution
        heights = [m.absorption[near].max() for m in one.members]
        places = [one.spectrum.wave[near][m.absorption[near].argmax()] for m in one.members]
        spread = {"wave_number_std": float(np.std(places)), "height_std": float(np.std(heights))}
    return PeakRow(
        trajectory=one.given.name, formula=one.row.formula, wave_number=peak.wave_number, error=peak.error,
        height=peak.height, area=peak.area, **spread,
    )  # fmt: skip


def _lines(one: Seen) -> list[dict[str, Any]]:
    """The spectrum, line by line."""
    s = one.spectrum
    std = s.std if s.std is not None else [None] * len(s.wave)
    committee = np.std([m.absorption for m in one.members], axis=0) if one.members else [None] * len(s.wave)
    head = {"trajectory": one.given.name}
    columns = zip(s.wave, s.absorption, std, committee, strict=True)
    return [
        head | {"wave_number": w, "absorption": a, "error": e, "absorption_std": c}
        for w, a, e, c in columns
        if w <= 2 * FASTEST
    ]


def _page(result: InfraredResult, seen: Sequence[Seen], settings: InfraredSettings) -> str:
    """The report."""
    from rutile.tasks.property_figures import MOST_CURVES, Line, panel
    from rutile.train.report import Block, Card, Facts, Figures, Section, Text, render

    figures = []
    for one in seen[:MOST_CURVES]:
        s = one.spectrum
        seen_to = min(FASTEST, 1.3 * max((p.wave_number for p in s.peaks), default=FASTEST) + 50)
        shown = s.wave <= seen_to
        lines = [Line("", s.wave[shown], s.absorption[shown])]
        if s.std is not None:
            lines.append(Line("standard error", s.wave[shown], s.std[shown]))
        label = "αn (1/cm)" if one.row.unit == "1/cm" else one.row.unit
        caption = f"{one.given.name}, {one.row.temperature:.0f} K. {one.row.note}"
        figures.append((panel(one.row.formula, "wave number (1/cm)", label, lines), caption))
    names = ["trajectory", "formula", "temperature", "unit", "resolution", "blocks", "total", "note"]
    peak_names = ["trajectory", "formula", "wave_number", "error", "height", "area", "wave_number_std", "height_std"]
    note = "Errors from parts of the trajectory."
    peaks: list[Block] = [*table_of(result.peaks, peak_names, note)] if result.peaks else [Text("There are none.")]
    sections = [
        Section("Spectra", [Figures(figures), *table_of(result.spectra, names)]),
        Section("Peaks", peaks),
        Section("Settings", [Facts(settings.model_dump(mode="json"), "all settings")]),
    ]
    highest = max(result.peaks, key=lambda p: p.height, default=None)
    cards = [Card("trajectories", str(len(seen)))]
    cards += [Card("strongest peak", f"{highest.wave_number:.0f}", "1/cm")] if highest else []
    return render("Infrared spectra", str(settings.model or settings.charges), cards, sections)


TASK = Task(
    "infrared",
    InfraredSettings,
    InfraredResult,
    run,
    positional="trajectories",
    examples=(
        "rutile infrared md model=run skip=2",
        "rutile infrared md 'charges={Na: 1, Cl: -1}' resolution=5 window=blackman",
    ),
)
