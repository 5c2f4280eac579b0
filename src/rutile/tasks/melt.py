"""`rutile melt`: melting points from crystal and liquid side by side."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from rutile.core.errors import SettingsError
from rutile.core.files import folder_for_results, remove_unfinished, write_atomically
from rutile.core.lock import alone_in
from rutile.core.reporting import Reporter
from rutile.core.settings import Result
from rutile.core.units import GPA, Kelvin, PerPicosecond, Picosecond, Second
from rutile.simulate.settings import MeltSettings
from rutile.tasks.apply import add_structures, model_content
from rutile.tasks.property import GivenProperty, PropertyResult, Work, as_csv, begin, part, table_of, write_result
from rutile.tasks.task import Task

if TYPE_CHECKING:
    from rutile.simulate.melting import Bracket, Verdict
    from rutile.tasks.melt_round import Grown
    from rutile.train.report import Block

UNITS = {"temperature": "K", "time": "ps"}
"""In the table of growth."""


class MeltTaskSettings(MeltSettings, GivenProperty):
    """Crystals, and where their melting points are looked for."""

    checkpoint_seconds: Second = Field(default=60.0, ge=0)
    """Time between two checkpoints."""
    out: Path = Path("melt")
    """Folder for table.csv (runs), growth.csv (crystalline part along the way), report.html, result.json, and a folder
    for each crystal with those of its rounds and their trajectories. If work was begun in it, it goes on."""


class MeltRunRow(Result):
    """One run at one temperature."""

    structure: str
    """File and 0-based frame number."""
    formula: str
    """Composition."""
    round: int
    """Counted from 0."""
    temperature: Kelvin
    """Of the run."""
    verdict: str
    """froze, melted or undecided."""
    time: Picosecond
    """Until it was decided, or the end."""
    start: float
    """Crystalline part at the start (dimensionless)."""
    end: float
    """Crystalline part at the end (dimensionless)."""
    rate: PerPicosecond | None
    """Of the crystalline part while there were both; positive: crystal grows."""
    note: str
    """What else ended it."""


class MeltRow(Result):
    """The melting point of one crystal."""

    structure: str
    """File and 0-based frame number."""
    formula: str
    """Composition."""
    atoms: int
    """In the box."""
    melting_point: Kelvin | None
    """Middle of the bracket; None: it was not found between the temperatures tried."""
    error: Kelvin | None
    """Half the width of the bracket."""
    melting_point_std: Kelvin | None
    """Standard deviation of a committee: of the melting points of its members, to first order from the same runs."""
    low: Kelvin | None
    """Highest temperature at which crystal grew."""
    high: Kelvin | None
    """Lowest temperature at which it melted."""
    rate_zero: Kelvin | None
    """Where the line through the rates near the bracket crosses zero."""
    note: str
    """What to think of it."""


class MeltResult(PropertyResult):
    """Melting points, in the order given."""

    structures: list[MeltRow]
    """One row for each crystal."""
    runs: list[MeltRunRow]
    """All runs."""
    growth: Path
    """Crystalline part of each run along the way, as CSV."""


@dataclass
class Search:
    """What is known of one crystal so far."""

    grown: list[Grown] = field(default_factory=list)
    rounds: list[int] = field(default_factory=list)

    def bracket(self) -> Bracket:
        """Where the melting point lies."""
        from rutile.simulate.melting import bracket

        return bracket([g.temperature for g in self.grown], [g.verdict for g in self.grown])


def run(settings: MeltTaskSettings, reporter: Reporter) -> MeltResult:
    """Melting points of crystals: crystal and liquid side by side, at several temperatures at once, in rounds.

    Above the melting point the liquid grows, below it the crystal. Goes on where it was stopped when run again. A
    committee moves atoms by its mean.

    Raises:
        SettingsError: lowest is not below highest, or the folder belongs to other work.
        GeometryError: a structure is no crystal, or the third vector of its cell is not upright.
        DataError: half of the crystal did not melt, or all of it did.
    """
    if settings.lowest >= settings.highest:
        raise SettingsError(f"lowest={settings.lowest:g} K is not below highest={settings.highest:g} K")
    from rutile.simulate.eos import require_crystals

    work = begin(settings, reporter)
    require_crystals(work.structures, "a melting point", work.sources())
    with folder_for_results(settings.out), alone_in(settings.out, reporter):
        remove_unfinished(settings.out)
        found = [_search(work, k, settings, reporter) for k in range(len(work.frames))]
        rows, runs = [], []
        for (source, name), one in zip(work.names(), found, strict=True):
            rows.append(_row(source, name, one, settings.pressure))
            runs += [_run_row(source, name, n, g) for n, g in zip(one.rounds, one.grown, strict=True)]
        result = MeltResult(
            structures=rows,
            runs=runs,
            growth=settings.out / "growth.csv",
        )
        write_atomically(result.growth, as_csv(_lines(rows, found)))
        page = _page(result, found, settings)
        result = write_result(settings.out, result, runs, page, {result.growth.name: UNITS})
    return result


def _search(work: Work, k: int, settings: MeltTaskSettings, reporter: Reporter) -> Search:
    """All rounds of one crystal."""
    from rutile.simulate.melting import next_temperatures
    from rutile.tasks.melt_round import one_round

    source, name = work.names()[k]
    found, how = Search(), part(settings, MeltSettings)
    for n in range(settings.rounds):
        kelvin = next_temperatures(found.bracket(), [g.temperature for g in found.grown], how)
        if not kelvin:
            break
        reporter.info(f"{source} ({name}), round {n}: {', '.join(f'{t:.0f}' for t in kelvin)} K")
        folder = settings.out / f"{k:03d}_{name}" / f"round-{n}"
        members = list(work.members) or [work.potential]
        grown = one_round(
            folder, work.structures.split()[k], members, how, n, kelvin, settings.checkpoint_seconds,
            _identity(settings, work, k), reporter,
        )  # fmt: skip
        found.grown += grown
        found.rounds += [n] * len(grown)
    return found


def _identity(settings: MeltTaskSettings, work: Work, k: int) -> dict[str, object]:
    """What must be the same for a round to go on."""
    digest = hashlib.sha256(model_content(settings.model))
    add_structures(digest, [work.frames[k]])
    said = part(settings, MeltSettings).model_dump(mode="json", exclude={"rounds", "within"})
    return said | {"precision": settings.precision, "mode": settings.mode, "work": digest.hexdigest()[:16]}


def _row(source: str, name: str, one: Search, pressure: float) -> MeltRow:
    """What all rounds of one crystal say."""
    from rutile.simulate.melting import zero_of_rates

    found = one.bracket()
    rated = [(g.temperature, g.rate) for g in one.grown if g.rate is not None]
    t, rates = np.array(rated).T if rated else np.zeros((2, 0))
    note = ""
    if found.point is None:
        note = "all runs froze" if found.low is not None else "all runs melted" if found.high is not None else (
            "nothing was decided: a longer time, or temperatures farther apart"
        )  # fmt: skip
    elif found.contradiction:
        note = "a run melted below one that froze: chance decides so near to the melting point; more atoms say more"
    elif found.undecided:
        note = f"undecided at {', '.join(f'{x:.0f} K' for x in found.undecided)}: a longer time says more"
    return MeltRow(
        structure=source, formula=name, atoms=one.grown[0].atoms if one.grown else 0, melting_point=found.point,
        error=found.error, melting_point_std=_spread(one, found.point, pressure),
        low=found.low, high=found.high, rate_zero=zero_of_rates(t, rates, found), note=note,
    )  # fmt: skip


def _spread(one: Search, point: float | None, pressure: float) -> float | None:
    """Standard deviation of the melting points of the members of a committee (K)."""
    from rutile.simulate.melting import points_of_members

    seen = [g.seen for g in one.grown if g.seen is not None]
    if point is None or not seen:
        return None
    parts, energies, volumes = zip(*((s.part, s.energies, s.volume) for s in seen), strict=True)
    points = points_of_members(point, parts, energies, volumes, pressure * GPA)
    return None if points is None else float(points.std())


def _run_row(source: str, name: str, n: int, g: Grown) -> MeltRunRow:
    """What one run says."""
    return MeltRunRow(
        structure=source, formula=name, round=n, temperature=g.temperature, verdict=g.verdict,
        time=float(g.time[-1]) if len(g.time) else 0.0, start=float(g.part[0]) if len(g.part) else float("nan"),
        end=float(g.part[-1]) if len(g.part) else float("nan"), rate=g.rate, note=g.note,
    )  # fmt: skip


def _lines(rows: Sequence[MeltRow], found: Sequence[Search]) -> list[dict[str, object]]:
    """The crystalline part of all runs along the way."""
    return [
        {
            "structure": row.structure,
            "round": n,
            "temperature": g.temperature,
            "time": float(t),
            "crystalline": float(f),
        }
        for row, one in zip(rows, found, strict=True)
        for n, g in zip(one.rounds, one.grown, strict=True)
        for t, f in zip(g.time, g.part, strict=True)
    ]


def _page(result: MeltResult, found: Sequence[Search], settings: MeltTaskSettings) -> str:
    """The report."""
    from rutile.tasks.property_figures import MOST_CURVES
    from rutile.train.report import Card, Facts, Figures, Section, render

    names = [
        "structure",
        "formula",
        "atoms",
        "melting_point",
        "error",
        "melting_point_std",
        "low",
        "high",
        "rate_zero",
        "note",
    ]
    sections = [Section("Melting points", table_of(result.structures, names))]
    for row, one in list(zip(result.structures, found, strict=True))[:MOST_CURVES]:
        mine = [r for r in result.runs if r.structure == row.structure]
        run_names = ["round", "temperature", "verdict", "time", "start", "end", "rate", "note"]
        blocks: list[Block] = [Figures(_figures(one)), *table_of(mine, run_names)]
        sections.append(Section(f"{row.formula}, {row.structure}", blocks))
    sections.append(Section("Settings", [Facts(settings.model_dump(mode="json"), "all settings")]))
    cards = [
        Card(row.formula, "unknown" if row.melting_point is None else f"{row.melting_point:.0f}",
             row.note if row.error is None else f"± {row.error:.0f} K")
        for row in result.structures[:4]
    ]  # fmt: skip
    return render("Melting points", str(settings.model), cards, sections)


def _figures(one: Search) -> list[tuple[str, str]]:
    """Growth along the way of each round, and rates over temperature."""
    from rutile.tasks.property_figures import Line, panel

    out = []
    for n in sorted(set(one.rounds)):
        lines = [
            Line(f"{g.temperature:.0f} K", g.time, g.part)
            for at, g in zip(one.rounds, one.grown, strict=True)
            if at == n and len(g.time)
        ]
        out.append((panel(f"Round {n}", "time (ps)", "crystalline part", lines), ""))
    verdicts: tuple[Verdict, ...] = ("froze", "melted", "undecided")
    rated = [
        Line(kind, [g.temperature for g in mine], [g.rate or 0.0 for g in mine], points=True)
        for kind in verdicts
        if (mine := [g for g in one.grown if g.verdict == kind and g.rate is not None])
    ]
    if rated:
        out.append((panel("Growth", "temperature (K)", "rate (1/ps)", rated), "Above zero the crystal grows."))
    return out


TASK = Task(
    "melt",
    MeltTaskSettings,
    MeltResult,
    run,
    positional="structures",
    examples=(
        "rutile melt al.cif model=emt lowest=400 highest=900 atoms=1000",
        "rutile melt ar.cif model=lennard_jones lowest=50 highest=100 expansion=0.15 compressibility=0.5 timestep=5",
    ),
)
