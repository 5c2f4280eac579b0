"""`rutile vibrations`: modes, infrared intensities and free energies of molecules."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from rutile.core.files import folder_for_results, write_atomically
from rutile.core.reporting import Reporter, SilentReporter
from rutile.core.settings import Result
from rutile.core.units import KB, Angstrom, Boltzmann, ElectronVolt, KilometrePerMole, WaveNumber
from rutile.simulate.settings import VibrationSettings
from rutile.tasks.held import HeldAtoms, held_atoms, refuse_if_all_held
from rutile.tasks.property import (
    DONE,
    GivenProperty,
    PropertyResult,
    as_csv,
    begin,
    computed,
    headings,
    outcomes,
    part,
    table_of,
    write_result,
)
from rutile.tasks.task import Task

if TYPE_CHECKING:
    from ase import Atoms

    from rutile.potentials.potential import Potential
    from rutile.simulate.vibrations import Vibrations
    from rutile.structures.structures import Structures
    from rutile.tasks.property import Work
    from rutile.train.report import Block, Value

IMAGINARY = -20.0
"""Modes below this (1/cm) are reported as imaginary; weaker ones may be errors of the differences."""
WIDTH = 10.0
"""Full width at half maximum of lines in spectra (1/cm)."""

MODES = {"frequency": "1/cm", "reduced_mass": "amu", "intensity": "km/mol"}
"""Units in modes.csv."""


class VibrationTaskSettings(VibrationSettings, HeldAtoms, GivenProperty):
    """Molecules, and how to compute their vibrations."""

    out: Path = Path("vibrations")
    """Folder for table.csv, modes.csv (frequency, reduced mass and intensity of each mode), modes.extxyz (a frame for
    each mode with the moves of the atoms in `mode`), report.html and result.json."""


class VibrationRow(Result):
    """The vibrations of one structure."""

    structure: str
    """File and 0-based frame number."""
    formula: str
    """Composition."""
    outcome: str
    """done, or what went wrong with the relaxation."""
    kind: str
    """ideal gas (a free molecule), or harmonic (some atoms are held, or there is a cell)."""
    energy: ElectronVolt
    """At the minimum."""
    shortest: Angstrom | None
    """Shortest distance between two atoms at the minimum: the bond of a molecule of two. None: there is one atom."""
    frequencies: list[WaveNumber] = Field(repr=False)
    """Wave numbers in ascending order; negative for imaginary ones."""
    intensities: list[KilometrePerMole] | None = Field(default=None, repr=False)
    """Infrared intensities, of potentials that predict charges."""
    lowest: WaveNumber
    """Lowest wave number."""
    lowest_std: WaveNumber | None = None
    """Standard deviation of a committee."""
    highest: WaveNumber
    """Highest wave number."""
    highest_std: WaveNumber | None = None
    """Standard deviation of a committee."""
    imaginary: int
    """Imaginary modes (stronger than 20 / cm)."""
    zero_point: ElectronVolt
    """Zero-point energy."""
    zero_point_std: ElectronVolt | None = None
    """Standard deviation of a committee."""
    enthalpy: ElectronVolt = Field(repr=False)
    """H - E, zero-point energy included."""
    entropy: Boltzmann
    """Of vibrations, and of a free molecule's rotation and translation."""
    gibbs: ElectronVolt
    """G - E = H - T S - E."""
    gibbs_std: ElectronVolt | None = None
    """Standard deviation of a committee."""
    symmetry_number: int = Field(repr=False)
    """Rotations that leave the molecule as it is; 0 where it does not rotate."""
    external: WaveNumber = Field(repr=False)
    """Largest wave number of translations and rotations before they were projected out."""


class VibrationTaskResult(PropertyResult):
    """Vibrations, in the order given."""

    structures: list[VibrationRow]
    """One row for each structure."""
    modes: Path
    """All modes as CSV."""
    moves: Path
    """Structures at their minima, one frame for each mode, extended XYZ."""


def run(settings: VibrationTaskSettings, reporter: Reporter) -> VibrationTaskResult:
    """Vibrations of molecules or adsorbed atoms: modes, infrared intensities, zero-point and free energies.

    The displaced copies of all structures are evaluated together.

    Raises:
        SettingsError: the potential is not smooth, or there is no atom of a number in `fixed`.
    """
    from rutile.structures.io import write_frames

    work = begin(settings, reporter)
    with folder_for_results(settings.out):
        rows, (found, start) = computed(lambda p, r: _rows(work, p, settings, r), work, settings, reporter)
        result = VibrationTaskResult(
            structures=rows,
            modes=settings.out / "modes.csv",
            moves=settings.out / "modes.extxyz",
        )
        lines = [line for row, one in zip(rows, found, strict=True) for line in _lines(row, one)]
        write_atomically(result.modes, as_csv(lines or [{"structure": ""}]))
        write_frames(result.moves, _moves(rows, found, start))
        result = write_result(settings.out, result, rows, _page(rows, found, settings), {"modes.csv": MODES})
    return result


def _rows(
    work: Work, potential: Potential, settings: VibrationTaskSettings, reporter: Reporter
) -> tuple[list[VibrationRow], tuple[list[Vibrations], Structures]]:
    """The rows by one potential; what they come from, and the minima."""
    import torch

    from rutile.potentials.checks import require_smooth
    from rutile.simulate.forces import evaluate_many
    from rutile.simulate.start import settled
    from rutile.simulate.vibrations import free_energy, vibrations

    if not settings.rough:
        require_smooth(potential, "a vibrational analysis")
    how = part(settings, VibrationSettings)
    fixed = torch.from_numpy(np.concatenate([held_atoms(settings, reading) for reading in work.readings]))
    refuse_if_all_held(work.frames, fixed.numpy())
    start, why = settled(work.structures, potential, how, reporter, "none", fixed)
    energies = evaluate_many(start, potential, how.atoms_at_once, SilentReporter()).energy.tolist()
    found = vibrations(start, potential, how, reporter, fixed)
    texts = outcomes([why], work, reporter)
    rows = []
    for (source, name), text, one, atoms, seen, energy in zip(
        work.names(), texts, start.split(), start.to_ase(), found, energies, strict=True
    ):
        more = free_energy(one, seen, how)
        wave = seen.frequency
        row = VibrationRow(
            structure=source,
            formula=name,
            outcome=text,
            kind="ideal gas" if seen.free else "harmonic",
            energy=energy,
            shortest=_shortest(atoms),
            frequencies=wave.tolist(),
            intensities=None if seen.intensity is None else seen.intensity.tolist(),
            lowest=float(wave[0]) if len(wave) else 0.0,
            highest=float(wave[-1]) if len(wave) else 0.0,
            imaginary=int((wave < IMAGINARY).sum()),
            zero_point=more.zero_point,
            enthalpy=more.enthalpy,
            entropy=more.entropy / KB,
            gibbs=more.gibbs,
            symmetry_number=more.symmetry_number,
            external=seen.external,
        )
        rows.append(row)
        if row.imaginary and text == DONE:
            reporter.warn(f"{source} ({name}): {row.imaginary} imaginary modes, the worst {row.lowest:.0f} / cm: not a "
                          "minimum; free energies leave them out")  # fmt: skip
    return rows, (found, start)


def _shortest(atoms: Atoms) -> float | None:
    """Shortest distance between two atoms (Angstrom)."""
    apart = atoms.get_all_distances(mic=bool(atoms.pbc.any()))[np.triu_indices(len(atoms), 1)]
    return float(apart.min()) if len(apart) else None


def _lines(row: VibrationRow, one: Vibrations) -> list[dict[str, Any]]:
    """The modes of one structure."""
    return [
        {
            "structure": row.structure,
            "formula": row.formula,
            "mode": k,
            "frequency": float(one.frequency[k]),
            "reduced_mass": float(one.reduced_mass[k]),
            "intensity": None if one.intensity is None else float(one.intensity[k]),
        }
        for k in range(len(one.frequency))
    ]


def _moves(rows: Sequence[VibrationRow], found: Sequence[Vibrations], start: Structures) -> list[Atoms]:
    """A frame for each mode; of an atom alone one without."""
    frames = []
    for row, one, atoms in zip(rows, found, start.to_ase(), strict=True):
        for k in range(len(one.frequency)):
            frame = atoms.copy()
            frame.info.update(source=row.structure, frequency=float(one.frequency[k]))
            frame.arrays["mode"] = one.modes[k]
            frames.append(frame)
        if not len(one.frequency):
            frames.append(atoms)
    return frames


def spectrum(frequency: np.ndarray, intensity: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lorentz lines of a width of 10 / cm at real frequencies: wave numbers (1/cm) and intensities per 1/cm.

    Args:
        frequency: (1/cm), negative where imaginary, [M].
        intensity: of each mode: km/mol, or 1 to count them, [M].
    """
    real = frequency > 0
    axis = np.linspace(0, 1.1 * float(frequency.max(initial=100.0)), 2000)
    half = WIDTH / 2
    lines = half / np.pi / ((axis[:, None] - frequency[None, real]) ** 2 + half**2)
    return axis, lines @ intensity[real]


def _page(rows: Sequence[VibrationRow], found: Sequence[Vibrations], settings: VibrationTaskSettings) -> str:
    """The report."""
    from rutile.tasks.property_figures import MOST_CURVES, Line, panel
    from rutile.train.report import Card, Facts, Figures, Section, Table, render

    names = ["structure", "formula", "outcome", "kind", "shortest", "lowest", "highest", "imaginary", "zero_point",
             "zero_point_std", "entropy", "gibbs", "gibbs_std"]  # fmt: skip
    sections = [Section("Structures", table_of(rows, names, f"At {settings.temperature:g} K."))]
    for row, one in list(zip(rows, found, strict=True))[:MOST_CURVES]:
        blocks: list[Block] = []
        if len(one.frequency):
            what, unit, weight = "Infrared spectrum", "km/mol per 1/cm", one.intensity
            if weight is None:
                what, unit, weight = "Density of modes", "modes per 1/cm", np.ones(len(one.frequency))
            figure = panel(what, "wave number (1/cm)", unit, [Line("", *spectrum(one.frequency, weight))])
            without = "; imaginary modes are left out" if row.imaginary else ""
            blocks.append(Figures([(figure, f"Lines {WIDTH:g} / cm wide{without}.")]))
        lines: list[list[Value]] = [
            [d["mode"], d["frequency"], d["reduced_mass"], d["intensity"]] for d in _lines(row, one)[-60:]
        ]
        blocks.append(Table(headings(("mode", *MODES), MODES), lines))
        sections.append(Section(f"{row.formula}, {row.structure}", blocks))
    sections.append(Section("Settings", [Facts(settings.model_dump(mode="json"), "all settings")]))
    minima = sum(not row.imaginary for row in rows)
    cards = [Card("structures", str(len(rows))), Card("minima", str(minima), f"of {len(rows)}")]
    return render("Vibrations", str(settings.model), cards, sections)


TASK = Task(
    "vibrations",
    VibrationTaskSettings,
    VibrationTaskResult,
    run,
    positional="structures",
    examples=(
        "rutile vibrations water.xyz model=run",
        "rutile vibrations adsorbed.extxyz model=committee.rutile fixed_below=8 temperature=500",
    ),
)
