"""`rutile analyse`: structure and transport from trajectories of molecular dynamics."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from rutile.core.elements import symbol
from rutile.core.errors import DataError, GeometryError
from rutile.core.files import folder_for_results, write_atomically
from rutile.core.reporting import Reporter
from rutile.core.settings import Result
from rutile.core.units import (
    Angstrom,
    ElectronVolt,
    Kelvin,
    MilliPascalSecond,
    SiemensPerMetre,
    SquareCentimetrePerSecond,
    WaveNumber,
)
from rutile.tasks.property import PropertyResult, as_csv, write_result
from rutile.tasks.task import Task
from rutile.tasks.trajectories import Given, GivenTrajectories, atomic_number, given_trajectories, read_trajectory

if TYPE_CHECKING:
    import numpy as np

    from rutile.simulate.observe.structure import Radial
    from rutile.simulate.observe.transport import Diffusion

SPECTRUM = 32
"""Frames that a spectrum needs, at least."""

UNITS = {
    "shells.csv": {"radius": "Å"},
    "radial.csv": {"r": "Å"},
    "structure_factor.csv": {"q": "1/Å"},
    "msd.csv": {"lag": "fs", "msd": "Å²"},
    "vibrations.csv": {"wave_number": "1/cm", "density": "cm"},
    "viscosity.csv": {"lag": "fs", "viscosity": "mPa s"},
}
"""Units in the tables of curves."""


class AnalyseSettings(GivenTrajectories):
    """Which trajectories, and what they are to tell."""

    charges: dict[str, float] = {}
    """Charges of ions by element (e), for conductivities: {Li: 1}."""
    furthest: Angstrom = Field(default=8.0, gt=0)
    """Radial distributions reach so far."""
    bins: int = Field(default=200, ge=10)
    """Of radial distributions."""
    frames: int = Field(default=200, ge=1)
    """Look at so many frames, evenly spaced, for radial distributions (and at a quarter of them for structure
    factors); motion is followed in all."""
    resolution: WaveNumber = Field(default=10.0, gt=0)
    """Of the vibrational density of states."""
    out: Path = Path("analysis")
    """Folder for table.csv (diffusion), shells.csv, radial.csv, structure_factor.csv, msd.csv, vibrations.csv,
    report.html and result.json."""


class DiffusionRow(Result):
    """How one element moves in one trajectory."""

    trajectory: str
    """File."""
    element: str
    """Which atoms."""
    atoms: int
    """How many."""
    temperature: Kelvin | None
    """Where it is known."""
    diffusion: SquareCentimetrePerSecond | None
    """D."""
    diffusion_error: SquareCentimetrePerSecond | None
    """Its standard error, from five parts of the trajectory."""
    exponent: float | None
    """Slope of ln msd over ln t in the fitted range (dimensionless): 1 where atoms diffuse, near 0 where they only
    vibrate."""
    note: str
    """Why there is no number; or why none follows from it."""


class ShellRow(Result):
    """Neighbours of one kind around another."""

    trajectory: str
    """File."""
    centre: str
    """Element in the middle."""
    neighbour: str
    """Element around it."""
    radius: Angstrom | None
    """End of the first shell: the first minimum of g(r) after its first peak."""
    coordination: float | None
    """Mean number of neighbours up to there (dimensionless)."""


class ActivationRow(Result):
    """How the diffusion of one element depends on the temperature."""

    element: str
    """Which atoms."""
    energy: ElectronVolt
    """Activation energy."""
    energy_error: ElectronVolt
    """Its standard error."""
    prefactor: SquareCentimetrePerSecond
    """D0."""


class AnalyseResult(PropertyResult):
    """What the trajectories say."""

    diffusion: list[DiffusionRow]
    """For each trajectory and element."""
    shells: list[ShellRow]
    """For each trajectory and pair of elements."""
    activation: list[ActivationRow]
    """For each element that diffuses (rows without a note) at three temperatures or more."""
    conductivity: dict[str, SiemensPerMetre]
    """Of each trajectory whose ions diffuse, by Nernst and Einstein from `charges`."""
    viscosity: dict[str, MilliPascalSecond]
    """Of each trajectory with a log of pressures at constant volume, by Green and Kubo: where the running
    integral ends (a tenth of the trajectory)."""


@dataclass
class Seen:
    """What one trajectory says."""

    given: Given
    radial: list[Radial]
    factor: tuple[np.ndarray, np.ndarray] | None
    diffusion: dict[int, Diffusion | str]
    """By atomic number; a text: why not."""
    spectrum: dict[str, tuple[np.ndarray, np.ndarray]]
    viscosity: tuple[np.ndarray, np.ndarray] | None
    counts: dict[int, int]
    conductivity: float | None = None
    missing: str = ""
    """Why there is no conductivity."""


def run(settings: AnalyseSettings, reporter: Reporter) -> AnalyseResult:
    """Structure and transport from trajectories: g(r), S(q), diffusion, activation energies, spectra, viscosity."""
    from rutile.tasks.analyse_page import page

    given = given_trajectories(settings)
    with folder_for_results(settings.out):
        seen = [_look(one, settings, reporter) for one in reporter.track(given, "Analysing", len(given))]
        rows = [row for one in seen for row in _diffusion_rows(one)]
        result = AnalyseResult(
            diffusion=rows,
            shells=[row for one in seen for row in _shell_rows(one)],
            activation=_activation(rows),
            conductivity={s.given.name: s.conductivity for s in seen if s.conductivity is not None},
            viscosity={s.given.name: float(s.viscosity[1][-1]) for s in seen if s.viscosity is not None},
        )
        for one in seen:
            if one.missing:
                reporter.info(one.missing)
        _write_curves(settings.out, seen)
        if result.shells:
            write_atomically(settings.out / "shells.csv", as_csv(result.shells))
        result = write_result(settings.out, result, rows, page(result, seen, settings.model_dump(mode="json")), UNITS)
    return result


def _look(given: Given, settings: AnalyseSettings, reporter: Reporter) -> Seen:
    """All that one trajectory says."""
    import numpy as np

    from rutile.simulate.observe.structure import radial_distributions, structure_factor
    from rutile.simulate.observe.transport import diffusion, ionic_conductivity, vibrational_dos

    path = read_trajectory(given, settings)
    elements = sorted(set(path.numbers.tolist()))
    seen = Seen(given, [], None, {}, {}, None, {z: int((path.numbers == z).sum()) for z in elements})
    try:
        seen.radial = radial_distributions(path, settings.furthest, settings.bins, settings.frames)
        seen.factor = structure_factor(path, most=max(1, settings.frames // 4))
    except GeometryError as error:
        reporter.warn(f"{given.name}: {error}")
    for z in elements:
        try:
            seen.diffusion[z] = diffusion(path, path.numbers == z)
        except DataError as error:
            seen.diffusion[z] = str(error)
        with contextlib.suppress(DataError):  # what does not move has no spectrum
            if len(path) >= SPECTRUM:
                seen.spectrum[symbol(z)] = vibrational_dos(path, path.numbers == z, settings.resolution)
    charges = {z: q for n, q in settings.charges.items() if (z := atomic_number(n)) in elements}
    coefficients = {z: d.coefficient for z, d in seen.diffusion.items() if not isinstance(d, str) and not d.doubt}
    seen.missing = _why_no_conductivity(charges, coefficients, given)
    if not seen.missing and given.temperature:
        seen.conductivity = ionic_conductivity(path, coefficients, charges, given.temperature)
    if given.log is not None and given.temperature and path.pbc.all() and np.ptp(np.linalg.det(path.cell)) < 1e-6:
        seen.viscosity = _viscosity(given, path.volume, settings.skip)
    return seen


def _why_no_conductivity(charges: dict[int, float], coefficients: dict[int, float], given: Given) -> str:
    """What is missing for an ionic conductivity; "": nothing."""
    if not charges:
        return f"{given.name}: no conductivity without charges of its ions: charges={{Li: 1}}"
    if not given.temperature:
        return f"{given.name}: no conductivity without a temperature: temperatures=[300]"
    still = ", ".join(symbol(z) for z in charges if z not in coefficients)
    return f"{given.name}: no conductivity: {still} is not seen to diffuse (see its note)" if still else ""


def _viscosity(given: Given, volume: float, skip: float) -> tuple[np.ndarray, np.ndarray] | None:
    """Running integral of Green and Kubo from the log, up to a tenth of its length."""
    import numpy as np

    from rutile.core.units import GPA
    from rutile.simulate.observe.transport import viscosity
    from rutile.tasks.md_page import read_log

    if given.log is None or given.temperature is None:
        return None
    table = read_log(given.log)
    mine = (table["run"] == given.run) & (table["time_fs"] >= 1000 * skip)
    names = ("xx", "xy", "xz", "xy", "yy", "yz", "xz", "yz", "zz")
    pressure = np.stack([table[f"pressure_{n}_GPa"][mine] for n in names], 1).reshape(-1, 3, 3) * GPA
    time = table["time_fs"][mine]
    if len(time) < 100:
        return None
    lag, running = viscosity(pressure, float(time[1] - time[0]), volume, given.temperature)
    end = len(time) // 10
    return lag[:end], running[:end]


def _diffusion_rows(seen: Seen) -> list[DiffusionRow]:
    """One row for each element."""
    rows = []
    for z, found in seen.diffusion.items():
        about: dict[str, Any] = {"diffusion": None, "diffusion_error": None, "exponent": None, "note": found}
        if not isinstance(found, str):
            about = {
                "diffusion": found.coefficient,
                "diffusion_error": found.std,
                "exponent": found.exponent,
                "note": found.doubt,
            }
        rows.append(
            DiffusionRow(
                trajectory=seen.given.name,
                element=symbol(z),
                atoms=seen.counts[z],
                temperature=seen.given.temperature,
                **about,
            )
        )
    return rows


def _shell_rows(seen: Seen) -> list[ShellRow]:
    """One row for each pair of elements."""
    rows = []
    for radial in seen.radial:
        shell = radial.first_shell
        rows.append(
            ShellRow(
                trajectory=seen.given.name,
                centre=symbol(radial.pair[0]),
                neighbour=symbol(radial.pair[1]),
                radius=shell and shell[0],
                coordination=shell and shell[1],
            )
        )
    return rows


def _activation(rows: list[DiffusionRow]) -> list[ActivationRow]:
    """Activation energies of the elements that diffuse at three temperatures or more."""
    import numpy as np

    from rutile.simulate.observe.transport import arrhenius

    by_element: dict[str, list[tuple[float, float, float]]] = defaultdict(list)
    for row in rows:
        if row.temperature and row.diffusion and row.diffusion_error and not row.note:
            by_element[row.element].append((row.temperature, row.diffusion, row.diffusion_error))
    out = []
    for element, points in by_element.items():
        t, d, error = np.array(points).T
        if len(set(t.tolist())) < 3:
            continue
        fit = arrhenius(t, d, error)
        out.append(
            ActivationRow(element=element, energy=fit.energy, energy_error=fit.energy_std, prefactor=fit.prefactor)
        )
    return out


def _write_curves(folder: Path, seen: list[Seen]) -> None:
    """All curves as CSV, long form."""
    tables: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for one in seen:
        for name, about, columns in _curves(one):
            values = zip(*(column.tolist() for column in columns.values()), strict=True)
            head = {"trajectory": one.given.name, **about}
            tables[name] += [head | dict(zip(columns, row, strict=True)) for row in values]
    for name, rows in tables.items():
        write_atomically(folder / f"{name}.csv", as_csv(rows))


def _curves(one: Seen) -> Iterator[tuple[str, dict[str, str], dict[str, np.ndarray]]]:
    """Table, what the curve is of, and its columns."""
    for r in one.radial:
        pair = {"centre": symbol(r.pair[0]), "neighbour": symbol(r.pair[1])}
        yield "radial", pair, {"r": r.r, "g": r.g, "neighbours": r.neighbours}
    if one.factor is not None:
        yield "structure_factor", {}, {"q": one.factor[0], "s": one.factor[1]}
    for z, found in one.diffusion.items():
        if not isinstance(found, str):
            yield "msd", {"element": symbol(z)}, {"lag": found.lag, "msd": found.msd}
    for element, (wave, density) in one.spectrum.items():
        yield "vibrations", {"element": element}, {"wave_number": wave, "density": density}
    if one.viscosity is not None:
        yield "viscosity", {}, {"lag": one.viscosity[0], "viscosity": one.viscosity[1]}


TASK = Task(
    "analyse",
    AnalyseSettings,
    AnalyseResult,
    run,
    positional="trajectories",
    examples=(
        "rutile analyse md skip=2",
        "rutile analyse md-600K md-800K md-1000K 'charges={Li: 1}'",
        "rutile analyse run.traj interval=10 temperatures=[300]",
    ),
)
