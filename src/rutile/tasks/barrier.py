"""`rutile barrier`: reaction paths between pairs of minima, their barriers and saddle points."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from rutile.core.errors import GeometryError, SettingsError
from rutile.core.files import folder_for_results, write_atomically
from rutile.core.reporting import Reporter
from rutile.core.settings import Result
from rutile.simulate.settings import NebSettings, RelaxSettings
from rutile.tasks.held import HeldAtoms, held_atoms, refuse_if_all_held
from rutile.tasks.kept_paths import KeptPaths
from rutile.tasks.property import DONE, GivenProperty, as_csv, begin, cells, part, write_result
from rutile.tasks.task import Task

if TYPE_CHECKING:
    import torch
    from ase import Atoms

    from rutile.simulate.neb import Band
    from rutile.structures.structures import Structures
    from rutile.tasks.property import Work

IMAGINARY = 20.0
"""A mode counts as imaginary below minus this wave number (1/cm); nearer to 0 it may be noise."""


class BarrierSettings(NebSettings, HeldAtoms, GivenProperty):
    """Between which structures, and how."""

    structures: list[Path] = Field(min_length=1)
    """Files, folders or patterns of structures: the first half of them are the beginnings of paths, the second half
    their ends, in the same order, with the same atoms in the same order."""
    relax: bool = True
    """Relax the beginnings and ends first (to a third of fmax): barriers count from minima."""
    check: bool = True
    """Vibrations of the highest image: a saddle point has exactly one imaginary mode. Needs 6 evaluations for each atom
    that moves."""
    out: Path = Path("barriers")
    """Folder for table.csv, profiles.csv (energy of all images), paths.extxyz, saddles.extxyz, report.html and
    result.json. A run that was stopped goes on from what it kept there."""


class BarrierRow(Result):
    """One path."""

    path: str
    """File and 0-based frame number of its beginning."""
    formula: str
    """Composition."""
    outcome: str
    """done, or what went wrong."""
    barrier: float | None = None
    """Energy of the highest image above the beginning (eV)."""
    barrier_std: float | None = None
    """Standard deviation of a committee at the same images (eV)."""
    reverse_barrier: float | None = None
    """Energy of the highest image above the end (eV)."""
    reaction_energy: float | None = None
    """Energy of the end above the beginning (eV)."""
    length: float | None = None
    """Of the path (Å)."""
    top: int | None = None
    """Number of the highest image; 0 is the beginning."""
    imaginary: int | None = None
    """Imaginary modes of the highest image: 1 at a saddle point."""
    wave_number: float | None = None
    """Of the softest mode of the highest image (1/cm); negative: imaginary."""
    fmax: float | None = None
    """Largest force of the band (eV/Å)."""
    steps: int | None = None
    """Steps taken."""


class BarrierResult(Result):
    """Barriers, in the order given."""

    paths: list[BarrierRow]
    """One row for each path."""
    table: Path
    """The rows as CSV."""
    images: Path
    """All images with energies and forces."""
    report: Path
    """Figures and tables."""


def run(settings: BarrierSettings, reporter: Reporter) -> BarrierResult:
    """Reaction paths and barriers between minima: nudged elastic bands with a climbing image, all in one batch."""
    from rutile.simulate.neb import neb

    work = begin(settings, reporter)
    with folder_for_results(settings.out):
        fixed = _held(settings, work)
        kept = KeptPaths(settings, work, [mine.numpy() for mine in fixed])
        paths = kept.read()
        if paths is None:
            paths = _first(settings, work, fixed, reporter)
            kept.write(paths)
        else:
            reporter.info(f"going on with the paths kept in {settings.out}")
        bands = neb(paths, work.potential, part(settings, NebSettings), reporter, fixed, kept.keep)
        rows = _rows(settings, work, bands, fixed, reporter)
        result = BarrierResult(
            paths=rows,
            table=settings.out / "table.csv",
            images=settings.out / "paths.extxyz",
            report=settings.out / "report.html",
        )
        _write_images(settings.out, rows, bands)
        write_result(settings.out, result, rows, _page(settings, rows, bands))
        kept.done([band.images for band in bands])
    return result


def _held(settings: BarrierSettings, work: Work) -> list[torch.Tensor]:
    """Atoms of each path that stay, as its beginning says, [atoms] bool."""
    import torch

    count = len(work.readings)
    if count % 2:
        raise SettingsError(
            f"structures: {count} of them; paths need as many ends as beginnings (first half, second half)"
        )
    held = [held_atoms(settings, reading) for reading in work.readings[: count // 2]]
    for frame, mine in zip(work.frames, held, strict=False):
        refuse_if_all_held([frame], mine)
    return [torch.from_numpy(mine) for mine in held]


def _first(
    settings: BarrierSettings, work: Work, fixed: Sequence[torch.Tensor], reporter: Reporter
) -> list[Structures]:
    """First guesses between relaxed ends."""
    import torch

    from rutile.simulate.guess import first_guess
    from rutile.simulate.relax import relax

    given = work.structures
    if settings.relax:
        shared = {name: getattr(settings, name) for name in ("pressure", "closest")}
        how = RelaxSettings(fmax=settings.fmax / 3, cell="full" if settings.cell else "none", **shared)
        found = relax(given, work.potential, how, reporter, torch.cat([*fixed, *fixed]))
        for frame, ok, why in zip(work.frames, found.converged.tolist(), found.failure, strict=True):
            if not ok:
                raise GeometryError(f"{frame.source} does not relax: {why or 'out of steps'}; paths join minima")
        given = found.structures
    parts, paths = given.split(), []
    half = len(parts) // 2
    for k in range(half):
        try:
            paths.append(first_guess(parts[k], parts[half + k], settings.images, settings.guess, fixed[k]))
        except GeometryError as error:
            raise GeometryError(f"from {work.frames[k].source} to {work.frames[half + k].source}: {error}") from None
    return paths


def _rows(
    settings: BarrierSettings, work: Work, bands: Sequence[Band], fixed: Sequence[torch.Tensor], reporter: Reporter
) -> list[BarrierRow]:
    """What is to be said about each path."""
    rows = []
    for (source, name), band, held in zip(work.names(), bands, fixed, strict=False):
        outcome = DONE if band.converged else band.failure or f"not converged after {band.steps} steps"
        known: dict[str, Any] = {}
        if not band.failure:
            known = {
                "barrier": band.barrier,
                "barrier_std": _spread(band, work),
                "reverse_barrier": band.reverse_barrier,
                "reaction_energy": band.reaction_energy,
                "length": float(band.coordinate[-1]),
                "top": band.top,
            } | (_check(band, work, held, settings, reporter) if settings.check else {})
            if known.get("imaginary", 1) != 1:
                outcome = f"{outcome}; the highest image has {known['imaginary']} imaginary modes: no saddle point"
        if outcome != DONE:
            reporter.warn(f"{source} ({name}): {outcome}")
        rows.append(BarrierRow(path=source, formula=name, outcome=outcome, fmax=band.fmax, steps=band.steps, **known))
    return rows


def _spread(band: Band, work: Work) -> float | None:
    """Standard deviation of a committee's barriers at the images of its mean (eV)."""
    import numpy as np
    import torch

    from rutile.core.reporting import SilentReporter
    from rutile.simulate.forces import evaluate_many

    if not work.members:
        return None
    which = torch.zeros(band.images.n_systems, dtype=torch.bool)
    which[[0, band.top]] = True
    two = band.images.select(which)
    energies = [evaluate_many(two, m, two.n_atoms, SilentReporter()).energy for m in work.members]
    return float(np.std([float(e[1] - e[0]) for e in energies]))


def _check(
    band: Band, work: Work, held: torch.Tensor, settings: BarrierSettings, reporter: Reporter
) -> dict[str, float | int | None]:
    """Imaginary modes of the highest image, and its softest one."""
    from rutile.simulate.hessian import hessian, wave_numbers

    top = band.images.split()[band.top]
    waves, _ = wave_numbers(hessian(top, work.potential, reporter, held), top.numbers[~held])
    return {"imaginary": int((waves < -IMAGINARY).sum()), "wave_number": float(waves[0])}


def _write_images(folder: Path, rows: Sequence[BarrierRow], bands: Sequence[Band]) -> None:
    """All images, the highest ones, and energies along the paths."""
    from rutile.structures.io import write_frames

    images: list[Atoms] = []
    tops, points = [], []
    for k, (row, band) in enumerate(zip(rows, bands, strict=True)):
        for i, atoms in enumerate(band.images.to_ase()):
            energy, coordinate = float(band.energy[i] - band.energy[0]), float(band.coordinate[i])
            atoms.info = {
                "path": k,
                "image": i,
                "source": row.path,
                "relative_energy": energy,
                "coordinate": coordinate,
            }
            images.append(atoms)
            points.append({"path": k, "image": i, "coordinate": coordinate, "energy": energy})
        tops.append(images[len(images) - band.images.n_systems + band.top])
    write_frames(folder / "paths.extxyz", images)
    write_frames(folder / "saddles.extxyz", tops)
    write_atomically(folder / "profiles.csv", as_csv(points))


def _page(settings: BarrierSettings, rows: Sequence[BarrierRow], bands: Sequence[Band]) -> str:
    """The report."""
    from rutile.tasks.property_figures import MOST_CURVES, Line, panel
    from rutile.train.report import Card, Facts, Figures, Section, Table, render

    figures = []
    for row, band in zip(rows[:MOST_CURVES], bands, strict=False):
        if band.failure:
            continue
        x, y = band.curve()
        zero = float(band.energy[0])
        lines = [
            Line("", x.numpy(), y.numpy() - zero, colour=0),
            Line("", band.coordinate.numpy(), band.energy.numpy() - zero, points=True, colour=1),
        ]
        figures.append((panel(row.formula, "path (Å)", "energy above the beginning (eV)", lines), row.path))
    names = ["path", "formula", "outcome", "barrier", "barrier_std", "reverse_barrier", "reaction_energy", "imaginary",
             "wave_number", "steps"]  # fmt: skip
    head = ("path", "formula", "outcome", "barrier (eV)", "± (eV)", "backwards (eV)", "reaction (eV)",
            "imaginary modes", "softest mode (1/cm)", "steps")  # fmt: skip
    note = "Points are images, the line goes through their energies with their slopes."
    sections = [
        Section("Energy along the paths", [Figures(figures)]),
        Section("Barriers", [Table(head, cells(rows, names), note)]),
        Section("Settings", [Facts(settings.model_dump(mode="json"), "all settings")]),
    ]
    cards = [Card("paths", str(len(rows))), Card("images", str(settings.images), "between the ends of each")]
    return render("Reaction paths", str(settings.model), cards, sections)


TASK = Task(
    "barrier",
    BarrierSettings,
    BarrierResult,
    run,
    positional="structures",
    examples=(
        "rutile barrier start.extxyz end.extxyz model=run",
        "rutile barrier before.vasp after.vasp model=run fixed_below=4.0 images=9 fmax=0.01",
        "rutile barrier fcc.cif bcc.cif model=run cell=true",
    ),
)
