"""`rutile saddles`: saddle points around minima, found from one side, and the minima that they join."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from rutile.core.errors import FileError, GeometryError
from rutile.core.files import folder_for_results, write_atomically
from rutile.core.reporting import Reporter, SilentReporter
from rutile.core.settings import Result
from rutile.core.units import ElectronVolt, EVPerAngstrom2, WaveNumber
from rutile.simulate.settings import RelaxSettings, SaddleSearchSettings, SaddleSettings
from rutile.tasks.barrier import IMAGINARY
from rutile.tasks.held import HeldAtoms, held_atoms, refuse_if_all_held
from rutile.tasks.kept_paths import kept_in, question
from rutile.tasks.property import (
    DONE,
    GivenProperty,
    PropertyResult,
    begin,
    kept_by_model,
    part,
    table_of,
    write_result,
    write_structures,
)
from rutile.tasks.task import Task

if TYPE_CHECKING:
    import torch

    from rutile.simulate.saddle_search import Begin, End, Joined, Minima
    from rutile.structures.structures import Structures
    from rutile.tasks.property import Work

FREE = ("out", "device", "on_bad", "atoms_at_once", "same", "nudge")
"""Settings that may change when a run goes on."""


class SaddleTaskSettings(SaddleSearchSettings, HeldAtoms, GivenProperty):
    """Which minima, and how their surroundings are searched."""

    relax: bool = True
    """Relax the structures first, to half of fmax; dimers climb from minima."""
    out: Path = Path("saddles")
    """Folder for table.csv, saddles.extxyz, minima.extxyz, report.html and result.json. A run that was stopped goes on
    after the searches that it kept there."""


class SaddleRow(Result):
    """One saddle point, with those that symmetry makes equal."""

    structure: str
    """File and 0-based frame number of the minimum that it was found from."""
    formula: str
    """Composition."""
    saddle: int | None
    """Its number, from 1, lowest first. None: none was found from this structure."""
    outcome: str
    """done, or what is wrong with it."""
    barrier: ElectronVolt | None = None
    """Above the minimum that it was found from."""
    barrier_std: ElectronVolt | None = None
    """Standard deviation of a committee at the same two structures."""
    joins: str = ""
    """Numbers of the minima on both sides; 0 is the one that it was found from, 0' one like it elsewhere."""
    reverse_barrier: ElectronVolt | None = None
    """Above the minimum on the other side; of saddles that join the given minimum with another one, or one like it."""
    found: int = 0
    """Searches that ended there."""
    imaginary: int | None = None
    """Imaginary modes: 1 at a saddle point."""
    wave_number: WaveNumber | None = None
    """Of its softest mode; negative: imaginary."""
    curvature: EVPerAngstrom2 | None = Field(default=None, repr=False)
    """Along its direction."""


class SaddleTaskResult(PropertyResult):
    """Saddle points, structure by structure."""

    saddles: list[SaddleRow]
    """One row for each."""
    searches: int
    """Made from all structures."""
    converged: int
    """That ended at a saddle point."""
    failures: dict[str, int]
    """Why others did not, and how often."""
    structures: Path
    """The saddle points, extended XYZ."""
    minima: Path
    """The minima that they join, extended XYZ."""


def run(settings: SaddleTaskSettings, reporter: Reporter) -> SaddleTaskResult:
    """Saddle points around minima by the dimer method, many searches in one batch, and which minima they join.

    Raises:
        GeometryError: a structure does not relax.
        SettingsError: atoms that are named are not there, or all are fixed.
    """
    from rutile.simulate.keeper import keeping
    from rutile.simulate.saddle_search import distinct, joined

    work = begin(settings, reporter)
    with folder_for_results(settings.out), kept_by_model(settings, reporter) as keeper:
        fixed = _held(settings, work)
        with keeping(keeper):
            minima, energies = _minima(settings, work, fixed, reporter)
        ends = _searched(settings, work, minima, fixed, reporter)
        with keeping(keeper):
            found = joined(distinct(ends, settings.same), fixed, work.potential, settings, reporter, IMAGINARY)
        rows, known = _rows(settings, work, minima, energies, found, reporter)
        reasons = Counter(end.failure for end in ends if end.failure)
        result = SaddleTaskResult(
            saddles=rows,
            searches=len(ends),
            converged=sum(not end.failure for end in ends),
            failures=dict(reasons.most_common()),
            structures=settings.out / "saddles.extxyz",
            minima=settings.out / "minima.extxyz",
        )
        good = [row for row in rows if row.saddle is not None]
        if good:
            about = [{"source": r.structure, "saddle": r.saddle, "barrier": r.barrier, "joins": r.joins} for r in good]
            write_structures(result.structures, [one.structure for one in found], about)
        every = [(k, n, one) for k, group in enumerate(known) for n, one in enumerate(group.structures)]
        told = [
            {"source": work.names()[k][0], "minimum": n, "energy": known[k].energies[n] - energies[k]}
            for k, n, _ in every
        ]
        write_structures(result.minima, [one for _, _, one in every], told)
        return write_result(settings.out, result, rows, _page(settings, result, rows, known))


def _held(settings: SaddleTaskSettings, work: Work) -> list[torch.Tensor]:
    """Atoms of each structure that stay, [atoms] bool."""
    import torch

    from rutile.core.errors import SettingsError

    out = []
    for frame, reading in zip(work.frames, work.readings, strict=True):
        mine = held_atoms(settings, reading)
        refuse_if_all_held([frame], mine)
        if settings.centres and max(settings.centres) >= len(mine):
            raise SettingsError(
                f"centres: {frame.source} has no atom {max(settings.centres)} (it has {len(mine)}, counted from 0)"
            )
        if settings.centres and mine[settings.centres].all():
            raise SettingsError(f"centres: all of them are fixed in {frame.source}")
        out.append(torch.from_numpy(mine))
    return out


def _minima(
    settings: SaddleTaskSettings, work: Work, fixed: Sequence[torch.Tensor], reporter: Reporter
) -> tuple[list[Structures], list[float]]:
    """The structures at their minima, and their energies (eV)."""
    import torch

    from rutile.simulate.relax import relax

    how = RelaxSettings(fmax=settings.fmax / 2, closest=settings.closest, max_steps=2000 if settings.relax else 0)
    done = relax(work.structures, work.potential, how, reporter, torch.cat([*fixed]))
    for k, frame in enumerate(work.frames):
        if settings.relax and not bool(done.converged[k]):
            why = done.failure[k] or f"not relaxed after {int(done.steps[k])} steps"
            raise GeometryError(f"{frame.source} does not relax: {why}; searches begin at minima")
    return done.structures.split(), done.energy.tolist()


def _searched(
    settings: SaddleTaskSettings,
    work: Work,
    minima: Sequence[Structures],
    fixed: Sequence[torch.Tensor],
    reporter: Reporter,
) -> list[End]:
    """Where all searches end; those of a part are kept when they are done."""
    from rutile.simulate.saddle_search import beginnings, climbed

    kept = _Kept(settings, work, minima, fixed)
    begins = beginnings(minima, fixed, settings)
    ends = kept.read(begins)
    if ends:
        reporter.info(f"going on after {len(ends)} of {len(begins)} searches")
    for batch in _batches(begins[len(ends) :], settings.atoms_at_once):
        ends += climbed(batch, fixed, work.potential, part(settings, SaddleSettings), reporter)
        kept.write(ends)
    return ends


def _batches(begins: Sequence[Begin], atoms: int) -> Iterator[list[Begin]]:
    """Searches together, up to so many atoms; a larger one alone."""
    waiting: list[Begin] = []
    for one in begins:
        if waiting and sum(b.structure.n_atoms for b in waiting) + one.structure.n_atoms > atoms:
            yield waiting
            waiting = []
        waiting.append(one)
    if waiting:
        yield waiting


class _Kept:
    """Searches that are done, in a file of numbers, one for each question."""

    def __init__(
        self, settings: SaddleTaskSettings, work: Work, minima: Sequence[Structures], fixed: Sequence[torch.Tensor]
    ) -> None:
        self.question = question(settings, work, [mine.numpy() for mine in fixed], FREE)
        self.path, self.minima = kept_in(settings.out, self.question), minima

    def read(self, begins: Sequence[Begin]) -> list[End]:
        """Those of the same question."""
        import torch

        from rutile.simulate.saddle_search import End

        try:
            content = json.loads(self.path.read_text())
        except FileNotFoundError:
            return []
        except (OSError, ValueError) as error:
            raise FileError(f"cannot read {self.path}: {error}; remove it to begin anew") from None
        if content.get("question") != self.question:
            return []
        out = []
        for one, told in zip(begins, content["ends"], strict=False):
            positions, direction = (torch.tensor(told[n], dtype=torch.float64) for n in ("positions", "direction"))
            numbers: dict[str, Any] = {name: told[name] for name in ("energy", "curvature", "failure")}
            structure = self.minima[one.minimum].replace(positions=positions)
            out.append(End(one.minimum, structure, direction, **numbers))
        return out

    def write(self, ends: Sequence[End]) -> None:
        """Keep these."""
        told = [
            {
                "positions": end.structure.positions.tolist(), "direction": end.direction.tolist(),
                "energy": end.energy, "curvature": end.curvature, "failure": end.failure,
            }
            for end in ends
        ]  # fmt: skip
        write_atomically(self.path, json.dumps({"question": self.question, "ends": told}).encode())


def _rows(
    settings: SaddleTaskSettings,
    work: Work,
    minima: Sequence[Structures],
    energies: Sequence[float],
    found: Sequence[Joined],
    reporter: Reporter,
) -> tuple[list[SaddleRow], list[Minima]]:
    """What is to be said about each saddle point, and the minima that were met around each structure."""
    from rutile.simulate.saddle_search import Minima

    known = [Minima(one, e, settings.same) for one, e in zip(minima, energies, strict=True)]
    rows: list[SaddleRow] = []
    for k, (source, name) in enumerate(work.names()):
        mine = [one for one in found if one.minimum == k]
        for n, one in enumerate(mine):
            sides = [known[k].number(s, e) for s, e in zip(one.sides, one.energies, strict=True)]
            outcome = one.failure or DONE
            if one.imaginary != 1:
                outcome = f"it has {one.imaginary} imaginary modes: no saddle point"
            elif (0, True) not in sides and not one.failure:
                outcome = "it does not join the given minimum"
            elif sides == [(0, True), (0, True)] and not one.failure:
                outcome = "both sides lead back to the given minimum: a bump beside it, no way to another"
            other = sides[1 - sides.index((0, True))] if (0, True) in sides else None
            back = None if other is None else one.energy - known[k].energies[other[0]]
            rows.append(
                SaddleRow(
                    structure=source, formula=name, saddle=n + 1, outcome=outcome, barrier=one.energy - energies[k],
                    barrier_std=_spread(work, minima[k], one.structure), joins=" - ".join(sorted(map(_text, sides))),
                    reverse_barrier=back, found=one.found, imaginary=one.imaginary, wave_number=one.wave_number,
                    curvature=one.curvature,
                )
            )  # fmt: skip
        if not mine:
            rows.append(SaddleRow(structure=source, formula=name, saddle=None, outcome="no saddle point was found"))
            reporter.warn(f"{source} ({name}): no saddle point was found: more tries, or another push or max_steps")
    return rows, known


def _text(side: tuple[int, bool]) -> str:
    """Number of a minimum, with a stroke if its atoms are elsewhere."""
    number, here = side
    return f"{number}{'' if here else chr(39)}"


def _spread(work: Work, minimum: Structures, saddle: Structures) -> float | None:
    """Standard deviation of a committee's barriers at the structures of its mean (eV)."""
    import numpy as np

    from rutile.simulate.forces import evaluate_many
    from rutile.structures.structures import concatenate

    if not work.members:
        return None
    two = concatenate([minimum, saddle])
    energies = [evaluate_many(two, m, two.n_atoms, SilentReporter()).energy for m in work.members]
    return float(np.std([float(e[1] - e[0]) for e in energies]))


def _page(
    settings: SaddleTaskSettings, result: SaddleTaskResult, rows: Sequence[SaddleRow], known: Sequence[Minima]
) -> str:
    """The report."""
    from rutile.tasks.property_figures import MOST_CURVES, Line, panel
    from rutile.train.report import Card, Facts, Figures, Section, render

    figures = []
    for source in list(dict.fromkeys(row.structure for row in rows))[:MOST_CURVES]:
        mine = [r for r in rows if r.structure == source and r.barrier is not None and r.reverse_barrier is not None]
        lines = [
            Line(f"{r.saddle}: {r.joins}", [0, 1, 2], [0, r.barrier, r.barrier - r.reverse_barrier])
            for r in mine[:MOST_CURVES]
            if r.barrier is not None and r.reverse_barrier is not None
        ]
        if lines:
            figures.append(
                (panel(mine[0].formula, "", "energy (eV)", lines, names=("minimum", "saddle", "minimum")), source)
            )
    names = ["structure", "saddle", "outcome", "barrier", "barrier_std", "joins", "reverse_barrier", "found",
             "imaginary", "wave_number"]  # fmt: skip
    cards = [
        Card("searches", str(result.searches), f"{result.converged} ended at a saddle point"),
        Card("saddle points", str(sum(row.saddle is not None for row in rows)), "that differ"),
        Card("minima", str(sum(len(group.structures) for group in known)), "that differ"),
    ]
    sections = [
        Section("From minimum to minimum", [Figures(figures)]),
        Section("Saddle points", table_of(rows, names)),
        Section("Settings", [Facts(settings.model_dump(mode="json"), "all settings")]),
    ]
    return render("Saddle points", str(settings.model), cards, sections)


TASK = Task(
    "saddles",
    SaddleTaskSettings,
    SaddleTaskResult,
    run,
    positional="structures",
    examples=(
        "rutile saddles adatom.extxyz model=run fixed_below=6 centres=[12] tries=20",
        "rutile saddles cluster.xyz model=run tries=100 push=0.5 radius=4",
    ),
)
