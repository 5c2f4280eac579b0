"""`rutile screen`: a chain of tasks on many structures, by any executor, into one table."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from pydantic import Field, JsonValue, model_validator

from rutile.core.describe import entries, units_of
from rutile.core.errors import DataError, MissingPackageError, SettingsError
from rutile.core.executors.settings import ExecutorSettings, ThreadsSettings
from rutile.core.files import folder_for_results, write_atomically
from rutile.core.reporting import Reporter
from rutile.tasks import screen_items
from rutile.tasks.apply import GivenStructures, model_content
from rutile.tasks.catalogue import TASKS, load_task
from rutile.tasks.property import PropertyResult
from rutile.tasks.screen_chain import PASSED_ON, Chain, Chunk, Item, check_chain
from rutile.tasks.task import Task

COLUMN = re.compile(r"(?P<task>[a-z]+)\d*(\[.*\])?\.(?P<field>\w+)")
"""Name of a column: task, its place if it comes twice, what tells several rows apart, field."""


MOST_DRAWN = 4
"""Columns that are drawn on the page."""
MOST_NAMED = 20
"""Structures that are named in a figure."""


class ScreenSettings(screen_items.Varied, GivenStructures):
    """Which structures, and what is done with each."""

    structures: list[Path] = []
    """Files, folders or patterns of structures; labels in them are ignored. None with build=..."""
    ends: list[Path] = []
    """Files of as many structures, with the same atoms in the same order: each is the end of a path that begins with
    the one of its number. The chain then is of relax and barrier."""
    on_bad: Literal["error", "skip"] = "skip"
    """What to do with a structure that cannot be read or worked on: list it in the table and go on with the others, or
    stop at the first one (error)."""
    chain: list[dict[str, JsonValue]] = Field(min_length=1)
    """Tasks in order, with their settings: [{task: relax, cell: full}, {task: eos}]. Of relax, eos, elastic, phonons,
    expansion, vibrations, surfaces, defects, boundaries, faults, adsorb (its lowest minimum), binding, swap, hop, md,
    analyse (after md) and, with ends, barrier. What relax gives is what the next ones take."""
    chunk: int = Field(default=16, ge=1)
    """Structures that are worked on together, as one piece of work: more make better use of batches, fewer of many
    workers."""
    workers: int = Field(default=1, ge=1)
    """Pieces of work at the same time."""
    executor: ExecutorSettings = ThreadsSettings()
    """Where: threads here, processes here (local), jobs of a cluster (slurm)."""
    parquet: bool = False
    """Write table.parquet, too (needs pyarrow)."""
    out: Path = Path("screen")
    """Folder for table.csv, report.html, final.extxyz (structures after the last task, with the columns of the table),
    result.json, and what each chunk left (parts). What is done there is not done again."""

    @model_validator(mode="after")
    def _can_be_done(self) -> Self:
        """Refuse what cannot be, before anything is done."""
        if bool(self.structures) == (self.build is not None):
            raise SettingsError(
                "structures: give files of structures, or a builder that makes them (build=...), not both"
            )
        if self.ends and self.build is not None:
            raise SettingsError("ends: they belong to structures of files; a builder makes its own")
        pairs = bool(self.ends)
        if self.build is not None:
            pairs = self.build.builder in screen_items.OF_PAIRS
            screen_items.varied(self)
        check_chain(self.chain, self.shared, pairs)
        return self

    @property
    def shared(self) -> dict[str, JsonValue]:
        """Settings of all tasks of the chain."""
        return {k: v for k, v in self.model_dump(mode="json").items() if k in PASSED_ON}


class ScreenResult(PropertyResult):
    """What came of it."""

    structures: int
    """How many."""
    done: int
    """That went through the whole chain."""
    known: int
    """That an earlier run had done."""
    columns: list[str] = Field(repr=False)
    """Of the table."""
    final: Path
    """The structures after the last task."""


def run(settings: ScreenSettings, reporter: Reporter) -> ScreenResult:
    """Screen many structures: a chain of tasks (relax, eos, barrier, ...) on each, into one sortable table.

    Raises:
        SettingsError: the chain cannot be.
        DataError: a structure cannot be worked on, with on_bad=error.
    """
    from rutile.core.executors.catalogue import open_executor
    from rutile.core.executors.executor import Lost

    if settings.parquet:
        _pyarrow()
    with folder_for_results(settings.out):
        chunks, unread = _chunks(settings, reporter)
        done: dict[int, list[dict[str, Any]]] = {}
        for k, chunk in enumerate(chunks):
            if (rows := _kept(chunk.folder)) is not None:
                done[k] = _good(rows, settings)
        known = sum(len(rows) for rows in done.values())
        todo = [k for k in range(len(chunks)) if k not in done]
        with open_executor(settings.executor, settings.workers, reporter) as executor:
            results = executor.each(Chain(settings.chain, settings.shared), [chunks[k] for k in todo])
            for number, found in reporter.track(results, "Screening", len(todo)) if todo else ():
                chunk = chunks[todo[number]]
                if isinstance(found, Lost):
                    lost = [{"structure": item.source, "outcome": found.reason} for item in chunk.items]
                    done[todo[number]] = _good(lost, settings)
                    continue
                write_atomically(chunk.folder / "rows.json", json.dumps(found).encode())
                done[todo[number]] = _good(found, settings)
        return _finish(settings, [*(row for k in sorted(done) for row in done[k]), *unread], known, reporter)


def _good(rows: list[dict[str, Any]], settings: ScreenSettings) -> list[dict[str, Any]]:
    """The rows, if none of them stops the screen."""
    for row in rows:
        if settings.on_bad == "error" and row["outcome"] != "done":
            raise DataError(f"{row['structure']}: {row['outcome']}; on_bad=skip lists it and goes on with the others")
    return rows


def _chunks(settings: ScreenSettings, reporter: Reporter) -> tuple[list[Chunk], list[dict[str, Any]]]:
    """The structures in pieces of work, and rows of those that cannot be read.

    The name of a folder says what is done in it.
    """
    unread: list[dict[str, Any]] = []
    if settings.build is not None:
        items = screen_items.built(settings, settings.out / "built", reporter)
    else:
        items, unread = screen_items.read_items(settings, settings.ends, reporter)
    what = [settings.chain, settings.precision, settings.mode]
    head = hashlib.sha256(json.dumps(what, sort_keys=True).encode() + model_content(settings.model))
    links: list[JsonValue] = [{k: v for k, v in link.items() if k != "task"} for link in settings.chain]
    for path in screen_items.files_named(links):  # such as those of adsorbates
        head.update(path.read_bytes())
    out = []
    for first in range(0, len(items), settings.chunk):
        part, key = items[first : first + settings.chunk], head.copy()
        _add(key, part)
        out.append(Chunk(settings.out / "parts" / key.hexdigest()[:16], part))
    return out, unread


def _add(digest: Any, items: Sequence[Item]) -> None:
    """Update a digest by all that items are."""
    for item in items:
        digest.update(json.dumps([item.source, item.facts, len(item.images)], sort_keys=True).encode())
        for atoms in item.images:
            for values in (atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc):
                digest.update(np.ascontiguousarray(values).tobytes())


def _kept(folder: Path) -> list[dict[str, Any]] | None:
    """Rows of a chunk that is done."""
    try:
        rows: list[dict[str, Any]] = json.loads((folder / "rows.json").read_text())
    except (OSError, ValueError):
        return None
    return rows


def _finish(settings: ScreenSettings, rows: list[dict[str, Any]], known: int, reporter: Reporter) -> ScreenResult:
    """Table, structures and page."""
    from ase import Atoms

    from rutile.structures.io import write_frames
    from rutile.tasks.property import as_csv

    finals = [row.pop("final", None) for row in rows]
    columns = list(dict.fromkeys(name for row in rows for name in row))
    table = [{name: row.get(name) for name in columns} for row in rows]
    failed = [row for row in table if row["outcome"] != "done"]
    for row in failed:
        reporter.warn(f"{row['structure']}: {row['outcome']}")
    write_atomically(settings.out / "table.csv", as_csv(table))
    images = []
    for row, final in zip(table, finals, strict=True):
        if final is not None:
            atoms = Atoms(final["numbers"], positions=final["positions"], cell=final["cell"], pbc=final["pbc"])
            atoms.info = {k.replace(".", "_"): v for k, v in row.items() if isinstance(v, str | int | float)}
            images.append(atoms)
    final_path = settings.out / "final.extxyz"
    if images:
        write_frames(final_path, images)
    if settings.parquet:
        _write_parquet(settings.out / "table.parquet", table)
    result = ScreenResult(
        structures=len(table), done=len(table) - len(failed), known=known, columns=columns,
        table=settings.out / "table.csv", final=final_path, report=settings.out / "report.html",
        units={"table.csv": column_units(columns)},
    )  # fmt: skip
    write_atomically(settings.out / "result.json", (result.model_dump_json(indent=1) + "\n").encode())
    write_atomically(result.report, _page(settings, result, table).encode())
    return result


def column_units(columns: Sequence[str]) -> dict[str, str]:
    """Symbols of the units of columns such as `eos.volume` or `surfaces[(1 1 1) 0].energy`, of those that have one."""
    found = {}
    for column in columns:
        match = COLUMN.fullmatch(column)
        if match and (unit := _units(match["task"]).get(match["field"])):
            found[column] = unit
    return found


@cache
def _units(task: str) -> dict[str, str]:
    """Units in the rows of a task."""
    kinds = [k for e in entries(load_task(task).result) for k in e.groups.values()] if task in TASKS else []
    return {name: unit for kind in kinds for name, unit in units_of(kind).items()}


def _page(settings: ScreenSettings, result: ScreenResult, table: Sequence[dict[str, Any]]) -> str:
    """The report."""
    from rutile.train.report import Card, Facts, Figures, Section, Table, render

    plain = [c for c in result.columns if all(isinstance(row[c], str | int | float | None) for row in table)]
    shown = [c for c in plain if any(row[c] not in (None, "") for row in table)]
    last = f"{settings.chain[-1]['task']}"  # what was asked for: right behind what was varied
    told = [c for c in shown if "." not in c or c.startswith("build.")]
    shown = told + sorted((c for c in shown if c not in told), key=lambda c: not c.startswith(last))
    cells = [[row[c] for c in shown] for row in table]
    units, note = result.units["table.csv"], "Click on a heading to sort. What columns mean: `rutile TASK --help`."
    heads = [f"{c} ({units[c]})" if c in units else c for c in shown]
    cards = [Card("structures", str(result.structures)), Card("done", str(result.done), "through the whole chain")]
    results = {c: h for c, h in zip(shown, heads, strict=True) if c not in told and not c.endswith(("_std", "_error"))}
    drawn = _sorted_values(table, results, [c for c in told if c.startswith("build.")])
    sections = [
        Section("Table", [*([Figures(drawn)] if drawn else []), Table(heads, cells, note, sortable=True)]),
        Section("Settings", [Facts(settings.model_dump(mode="json"), "all settings")]),
    ]
    return render("Screening", " → ".join(str(link["task"]) for link in settings.chain), cards, sections)


def _sorted_values(
    table: Sequence[dict[str, Any]], results: Mapping[str, str], varied: Sequence[str]
) -> list[tuple[str, str]]:
    """Figures of the first columns of numbers that differ: their values in ascending order, with captions.

    Args:
        table: the rows.
        results: columns and their headings.
        varied: columns that tell the structures of a builder apart; without any formulas do.
    """
    from rutile.tasks.property_figures import Line, panel

    figures = []
    for column, heading in results.items():
        rows = [r for r in table if type(r[column]) in (int, float) and np.isfinite(r[column])]
        rows.sort(key=lambda r: float(r[column]))
        if len({r[column] for r in rows}) < 2:
            continue
        labels = [
            " ".join("none" if r[c] is None else str(r[c]) for c in varied) if varied else str(r.get("formula"))
            for r in rows
        ]
        names = labels if len(rows) <= MOST_NAMED else []
        points = Line("", list(range(len(rows))), [float(r[column]) for r in rows], points=True)
        figures.append((panel("", "" if names else "structures in order", heading, [points], names=names), column))
        if len(figures) == MOST_DRAWN:
            break
    return figures


def _pyarrow() -> Any:
    """The package that writes Parquet."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise MissingPackageError("parquet=true needs the package pyarrow: pip install 'rutile[parquet]'") from None
    return pyarrow


def _write_parquet(path: Path, table: Sequence[dict[str, Any]]) -> None:
    """The table as Parquet."""
    import io

    pyarrow, data = _pyarrow(), io.BytesIO()
    plain = [
        {k: v if isinstance(v, str | int | float | None) else json.dumps(v) for k, v in row.items()} for row in table
    ]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(plain), data)
    write_atomically(path, data.getvalue())


TASK = Task(
    "screen",
    ScreenSettings,
    ScreenResult,
    run,
    positional="structures",
    examples=(
        "rutile screen candidates.extxyz model=run 'chain=[{task: relax, cell: full}, {task: elastic}]'",
        "rutile screen cifs/*.cif model=run chain='[{task: relax, cell: full}, {task: eos}]' workers=8 executor=slurm",
        "rutile screen start.extxyz ends=end.extxyz model=run 'chain=[{task: barrier, fixed_below: 4}]'",
        "rutile screen examples/co_dissociation.yaml model=run",
    ),
)
