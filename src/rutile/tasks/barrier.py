"""`rutile barrier`: reaction paths between pairs of minima, their barriers and saddle points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from rutile.core.errors import GeometryError, SettingsError
from rutile.core.files import folder_for_results, write_atomically
from rutile.core.reporting import Reporter
from rutile.core.settings import Result
from rutile.core.units import Angstrom, ElectronVolt, EVPerAngstrom, WaveNumber
from rutile.simulate.settings import NebSettings, RelaxSettings
from rutile.tasks.held import HeldAtoms, held_atoms, refuse_if_all_held
from rutile.tasks.kept_paths import KeptPaths
from rutile.tasks.property import (
    DONE,
    GivenProperty,
    PropertyResult,
    as_csv,
    begin,
    kept_by_model,
    part,
    table_of,
    write_result,
)
from rutile.tasks.task import Task

if TYPE_CHECKING:
    import torch
    from ase import Atoms

    from rutile.simulate.keeper import Keeper
    from rutile.simulate.neb import Band
    from rutile.structures.structures import Structures
    from rutile.tasks.property import Work

IMAGINARY = 20.0
"""A mode counts as imaginary below minus this wave number (1/cm); nearer to 0 it may be noise."""

PROFILES = {"coordinate": "Å", "energy": "eV"}
"""Units in profiles.csv."""


class FollowSettings(NebSettings, GivenProperty):
    """How paths between two structures each are found and checked."""

    relax: bool = True
    """Relax the beginnings and ends first (to a third of fmax): barriers count from minima."""
    check: bool = True
    """Vibrations of the highest image: a saddle point has exactly one imaginary mode. Needs 6 evaluations for each atom
    that moves."""


class BarrierSettings(HeldAtoms, FollowSettings):
    """Between which structures, and how."""

    structures: list[Path] = Field(min_length=1)
    """Files, folders or patterns of structures: beginnings and ends of paths, with the same atoms in the same order."""
    order: Literal["halves", "pairs"] = "halves"
    """halves: first all beginnings, then all ends in the same order. pairs: beginning, end, beginning, end, ..."""
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
    barrier: ElectronVolt | None = None
    """Energy of the highest image above the beginning; of the end, where the energy only rises; 0 where it only
    falls."""
    barrier_std: ElectronVolt | None = None
    """Standard deviation of a committee at the same images."""
    reverse_barrier: ElectronVolt | None = None
    """The same for the way back."""
    saddle: bool | None = None
    """Whether there is a saddle point between the ends: some image is above both."""
    reaction_energy: ElectronVolt | None = None
    """Energy of the end above the beginning."""
    length: Angstrom | None = None
    """Of the path."""
    top: int | None = None
    """Number of the highest image; 0 is the beginning."""
    imaginary: int | None = None
    """Imaginary modes of the highest image: 1 at a saddle point."""
    wave_number: WaveNumber | None = None
    """Of the softest mode of the highest image; negative: imaginary."""
    fmax: EVPerAngstrom | None = None
    """Largest force of the band."""
    steps: int | None = None
    """Steps taken."""


class BarrierResult(PropertyResult):
    """Barriers, in the order given."""

    paths: list[BarrierRow]
    """One row for each path."""
    images: Path
    """All images with energies and forces."""


def run(settings: BarrierSettings, reporter: Reporter) -> BarrierResult:
    """Reaction paths and barriers between minima: nudged elastic bands with a climbing image, all in one batch."""
    work = begin(settings, reporter)
    if settings.order == "pairs":
        work = _halves(work)
    with folder_for_results(settings.out), kept_by_model(settings, reporter) as keeper:
        rows, bands = follow(settings, work, _held(settings, work), keeper, reporter)
        result = BarrierResult(
            paths=rows,
            images=settings.out / "paths.extxyz",
        )
        result = write_result(settings.out, result, rows, _page(settings, rows, bands), {"profiles.csv": PROFILES})
    return result


def follow(
    settings: FollowSettings,
    work: Work,
    fixed: Sequence[torch.Tensor],
    keeper: Keeper,
    reporter: Reporter,
    strict: bool = True,
) -> tuple[list[BarrierRow], list[Band | None]]:
    """Paths between the first half of some structures and the second, with their files; goes on where it was stopped.

    Args:
        settings: how, and where what is found is kept (images, saddles and profiles are written there).
        work: model and structures.
        fixed: atoms of each path that stay, [atoms] bool.
        keeper: of what the model has done besides paths (`property.kept_by_model`).
        reporter: told how far it is.
        strict: an end that does not relax, or two that become one, are errors; otherwise outcomes of their paths.

    Returns:
        A row for each path, and what it is; None where there is none.

    Raises:
        GeometryError: ends between which there is no path, if strict.
    """
    from rutile.simulate.neb import neb

    kept = KeptPaths(settings, work, [mine.numpy() for mine in fixed])
    paths = kept.read()
    if paths is None:
        found = _first(settings, work, fixed, keeper, reporter)
        why = {k: one for k, one in enumerate(found) if isinstance(one, str)}
        if strict and why:
            raise GeometryError(next(iter(why.values())))
        paths = [one for one in found if not isinstance(one, str)]
        kept.write(paths, why)
    else:
        reporter.info(f"going on with the paths kept in {settings.out}")
    some = [k for k in range(len(fixed)) if k not in kept.left_out]
    done = neb(paths, work.potential, part(settings, NebSettings), reporter, [fixed[k] for k in some], kept.keep)
    bands: list[Band | None] = [None] * len(fixed)
    for k, band in zip(some, done, strict=True):
        bands[k] = band
    kept.write([band.images for band in done], kept.left_out)
    rows = _rows(settings, work, bands, fixed, kept.left_out, keeper, reporter)
    _write_images(settings.out, rows, bands)
    return rows, bands


def _halves(work: Work) -> Work:
    """Beginnings first, from beginning, end, beginning, end, ..."""
    from rutile.structures.structures import concatenate

    frames, readings = ([*of[::2], *of[1::2]] for of in (work.frames, work.readings))
    return replace(work, frames=frames, readings=readings, structures=concatenate(f.structures() for f in frames))


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
    settings: FollowSettings, work: Work, fixed: Sequence[torch.Tensor], keeper: Keeper, reporter: Reporter
) -> list[Structures | str]:
    """First guesses between relaxed ends; where there is none, why."""
    import torch

    from rutile.simulate.guess import first_guess, rattled, require_same_atoms
    from rutile.simulate.keeper import keeping
    from rutile.simulate.relax import relax

    given, half = work.structures, len(work.frames) // 2
    out: list[Structures | str] = [""] * half
    held = [*fixed, *fixed]
    for k, (start, end) in enumerate(zip(given.split()[:half], given.split()[half:], strict=True)):
        try:
            require_same_atoms(start, end)
        except GeometryError as error:
            out[k] = f"from {work.frames[k].source} to {work.frames[half + k].source}: {error}"
            held[half + k] = torch.zeros(end.n_atoms, dtype=torch.bool)
    if settings.relax and not all(out):
        shared = {name: getattr(settings, name) for name in ("pressure", "closest")}
        how = RelaxSettings(fmax=settings.fmax / 3, cell="full" if settings.cell else "none", **shared)
        with keeping(keeper):
            found = relax(given, work.potential, how, reporter, torch.cat(held))
        given = found.structures
        for k in (~found.converged).nonzero().flatten().tolist():
            why = found.failure[k] or "out of steps"
            out[k % half] = out[k % half] or f"{work.frames[k].source} does not relax: {why}; paths join minima"
    parts = given.split()
    for k in range(half):
        if out[k]:
            continue
        try:
            path = first_guess(parts[k], parts[half + k], settings.images, settings.guess, fixed[k])
            out[k] = rattled(path, settings.rattle, fixed[k]) if settings.rattle else path
        except GeometryError as error:
            out[k] = f"from {work.frames[k].source} to {work.frames[half + k].source}: {error}"
    return out


def _rows(
    settings: FollowSettings,
    work: Work,
    bands: Sequence[Band | None],
    fixed: Sequence[torch.Tensor],
    left_out: dict[int, str],
    keeper: Keeper,
    reporter: Reporter,
) -> list[BarrierRow]:
    """What is to be said about each path."""
    rows = []
    for k, ((source, name), band, held) in enumerate(zip(work.names(), bands, fixed, strict=False)):
        if band is None:
            rows.append(BarrierRow(path=source, formula=name, outcome=left_out[k]))
            continue
        outcome = DONE if band.converged else band.failure or f"not converged after {band.steps} steps"
        known: dict[str, Any] = {}
        if not band.failure:
            saddle = float(band.energy[band.top]) > float(band.energy[[0, -1]].max())
            known = {
                "barrier": band.barrier if saddle else max(0.0, band.reaction_energy),
                "barrier_std": _spread(band, work),
                "reverse_barrier": band.reverse_barrier if saddle else max(0.0, -band.reaction_energy),
                "saddle": saddle,
                "reaction_energy": band.reaction_energy,
                "length": float(band.coordinate[-1]),
                "top": band.top,
            } | (_check(band, work, held, keeper, reporter) if settings.check and saddle else {})
            if known.get("imaginary", 1) != 1:
                outcome = f"{outcome}; the highest image has {known['imaginary']} imaginary modes: no saddle point"
        rows.append(BarrierRow(path=source, formula=name, outcome=outcome, fmax=band.fmax, steps=band.steps, **known))
    for row in rows:
        if row.outcome != DONE:
            reporter.warn(f"{row.path} ({row.formula}): {row.outcome}")
    return rows


def _spread(band: Band, work: Work) -> float | None:
    """Standard deviation of a committee's barriers at the images of its mean (eV); 0 where the energy only falls."""
    import numpy as np
    import torch

    from rutile.core.reporting import SilentReporter
    from rutile.simulate.forces import evaluate_many

    if not work.members:
        return None
    highest = int(band.energy.argmax())
    if highest == 0:
        return 0.0
    which = torch.zeros(band.images.n_systems, dtype=torch.bool)
    which[[0, highest]] = True
    two = band.images.select(which)
    energies = [evaluate_many(two, m, two.n_atoms, SilentReporter()).energy for m in work.members]
    return float(np.std([float(e[1] - e[0]) for e in energies]))


def _check(
    band: Band, work: Work, held: torch.Tensor, keeper: Keeper, reporter: Reporter
) -> dict[str, float | int | None]:
    """Imaginary modes of the highest image, and its softest one."""
    from rutile.simulate.hessian import hessian, wave_numbers
    from rutile.simulate.keeper import keeping

    top = band.images.split()[band.top]
    with keeping(keeper):
        second = hessian(top, work.potential, reporter, held)
    waves, _ = wave_numbers(second, top.numbers[~held])
    return {"imaginary": int((waves < -IMAGINARY).sum()), "wave_number": float(waves[0])}


def _write_images(folder: Path, rows: Sequence[BarrierRow], bands: Sequence[Band | None]) -> None:
    """All images, the highest ones, and energies along the paths."""
    from rutile.structures.io import write_frames

    images: list[Atoms] = []
    tops, points = [], []
    for k, (row, band) in enumerate(zip(rows, bands, strict=True)):
        if band is None:
            continue
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
    if images:
        write_frames(folder / "paths.extxyz", images)
        write_frames(folder / "saddles.extxyz", tops)
        write_atomically(folder / "profiles.csv", as_csv(points))


def curves(rows: Sequence[BarrierRow], bands: Sequence[Band | None]) -> list[tuple[str, str]]:
    """Figures of the energy along paths, the first few, with what is written below."""
    from rutile.tasks.property_figures import MOST_CURVES, Line, panel

    figures: list[tuple[str, str]] = []
    for row, band in zip(rows, bands, strict=True):
        if band is None or band.failure or len(figures) == MOST_CURVES:
            continue
        x, y = band.curve()
        zero = float(band.energy[0])
        lines = [
            Line("", x.numpy(), y.numpy() - zero, colour=0),
            Line("", band.coordinate.numpy(), band.energy.numpy() - zero, points=True, colour=1),
        ]
        figures.append((panel(row.formula, "path (Å)", "energy above the beginning (eV)", lines), row.path))
    return figures


def _page(settings: BarrierSettings, rows: Sequence[BarrierRow], bands: Sequence[Band | None]) -> str:
    """The report."""
    from rutile.train.report import Card, Facts, Figures, Section, render

    names = ["path", "formula", "outcome", "barrier", "barrier_std", "reverse_barrier", "reaction_energy", "saddle",
             "imaginary", "wave_number", "steps"]  # fmt: skip
    note = "Points are images, the line goes through their energies with their slopes."
    sections = [
        Section("Energy along the paths", [Figures(curves(rows, bands))]),
        Section("Barriers", table_of(rows, names, note)),
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
