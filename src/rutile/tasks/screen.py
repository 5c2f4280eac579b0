"""`rutile screen`: a chain of tasks on many structures, by any executor, into one table."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field, JsonValue, ValidationError

from rutile.core.elements import formula
from rutile.core.errors import MissingPackageError, RutileError, SettingsError
from rutile.core.executors.settings import ExecutorSettings, ThreadsSettings
from rutile.core.files import folder_for_results, write_atomically
from rutile.core.reporting import Reporter, SilentReporter
from rutile.core.settings import Result, Settings
from rutile.tasks.apply import GivenStructures, add_structures, model_content
from rutile.tasks.catalogue import load_task
from rutile.tasks.task import Task

if TYPE_CHECKING:
    from ase import Atoms

    from rutile.data.frames import Frame

LINKS = ("relax", "eos", "elastic", "phonons", "expansion", "vibrations")
"""Tasks that say something about each structure by itself."""
PASSED_ON = ("model", "precision", "device", "mode")
"""Settings that all links share."""
COMMON = ("structure", "formula", "outcome")
"""Columns that the rows of all tasks have."""


class ScreenSettings(GivenStructures):
    """Which structures, and what is done with each."""

    chain: list[dict[str, JsonValue]] = Field(min_length=1)
    """Tasks in order, with their settings: [{task: relax, cell: full}, {task: eos}]. Of relax, eos, elastic, phonons,
    expansion and vibrations. What relax gives is what the next ones take."""
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


class ScreenResult(Result):
    """What came of it."""

    structures: int
    """How many."""
    done: int
    """That went through the whole chain."""
    known: int
    """That an earlier run had done."""
    columns: list[str]
    """Of the table."""
    table: Path
    """One line for each structure."""
    final: Path
    """The structures after the last task."""
    report: Path
    """The table, sortable."""


@dataclass(frozen=True)
class Chunk:
    """One piece of work."""

    folder: Path
    """For its files."""
    structures: list[Atoms]
    """As given."""
    sources: list[str]
    """Where they come from."""


@dataclass(frozen=True)
class Links:
    """Does the whole chain with a chunk of structures; one that cannot be worked on does not stop the others."""

    chain: list[dict[str, JsonValue]]
    """Tasks with their settings."""
    shared: dict[str, JsonValue]
    """Model, precision, device, mode."""

    def __call__(self, chunk: Chunk) -> list[dict[str, Any]]:
        """A row for each structure: columns of the table, and the final structure under `final`."""
        chunk.folder.mkdir(parents=True, exist_ok=True)
        rows: list[dict[str, Any]] = [
            {"structure": source, "formula": formula(atoms.numbers.tolist()), "outcome": "done"}
            for source, atoms in zip(chunk.sources, chunk.structures, strict=True)
        ]
        now = dict(enumerate(chunk.structures))
        for step, link in enumerate(self.chain):
            now = self._link(chunk.folder, step, link, now, rows)
        for k, atoms in now.items():
            rows[k]["final"] = {
                "numbers": atoms.numbers.tolist(), "positions": atoms.positions.tolist(),
                "cell": atoms.cell.array.tolist(), "pbc": atoms.pbc.tolist(),
            }  # fmt: skip
        return rows

    def _link(
        self, folder: Path, step: int, link: dict[str, JsonValue], now: dict[int, Atoms], rows: list[dict[str, Any]]
    ) -> dict[int, Atoms]:
        """One task with all structures that came so far; those that go on."""
        if not now:
            return now
        name = str(link["task"])
        try:
            found, after = self._run(folder, step, link, list(now.values()))
        except RutileError as error:
            if len(now) == 1:
                ours = f"{_given(folder, step)}#0: "  # the user knows the structure by another name
                rows[next(iter(now))]["outcome"] = f"{name}: {str(error).splitlines()[0].removeprefix(ours)}"
                return {}
            out: dict[int, Atoms] = {}
            for k, atoms in now.items():  # one of them cannot be worked on: see which
                out |= self._link(folder, step, link, {k: atoms}, rows)
            return out
        for k, row in zip(now, found, strict=True):
            outcome = str(row.get("outcome", "done"))
            if outcome not in ("done", "converged"):
                rows[k]["outcome"] = f"{name}: {outcome}"
            prefix = f"{name}{'' if self._first(step) else step + 1}."
            rows[k] |= {prefix + c: v for c, v in row.items() if c not in COMMON}
        going = [k for k in now if rows[k]["outcome"] == "done"]
        return {k: atoms for k, atoms in zip(now, after, strict=True) if k in going}

    def _first(self, step: int) -> bool:
        """Whether a task comes for the first time in the chain."""
        return all(link["task"] != self.chain[step]["task"] for link in self.chain[:step])

    def _run(
        self, folder: Path, step: int, link: dict[str, JsonValue], structures: Sequence[Atoms]
    ) -> tuple[list[dict[str, Any]], list[Atoms]]:
        """Rows of a task, and the structures after it."""
        from rutile.structures.io import read_all, write_frames

        task = load_task(str(link["task"]))
        given = _given(folder, step)
        write_frames(given, structures)
        out = folder / (f"{step + 1}-relaxed.extxyz" if task.name == "relax" else f"{step + 1}-{task.name}")
        settings = link_settings(link, self.shared, [given], out)
        result: Any = task.run(settings, SilentReporter())
        rows = [row.model_dump(mode="json") for row in result.structures]
        return rows, read_all(out) if task.name == "relax" else list(structures)


def _given(folder: Path, step: int) -> Path:
    """File of what a task in the chain is given."""
    return folder / f"{step + 1}-given.extxyz"


def link_settings(
    link: dict[str, JsonValue], shared: dict[str, JsonValue], structures: list[Path], out: Path
) -> Settings:
    """Settings of a task in the chain.

    Raises:
        SettingsError: there is no such task, or it does not know such settings.
    """
    name = link.get("task")
    if name not in LINKS:
        raise SettingsError(f"chain: task = {name!r}; tasks of a chain are {', '.join(LINKS)}")
    given = {k: v for k, v in link.items() if k != "task"}
    if wrong := sorted(set(given) & {*PASSED_ON, "structures", "out", "format"}):
        raise SettingsError(f"chain: {name}: {wrong[0]} is set for all tasks together, beside chain")
    kind = load_task(str(name)).settings
    try:
        return kind.model_validate({**shared, **given, "structures": structures, "out": out})
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(x) for x in first["loc"])
        raise SettingsError(f"chain: {name}: {place}: {first['msg']} (got {first['input']!r})") from None


def run(settings: ScreenSettings, reporter: Reporter) -> ScreenResult:
    """Screen many structures: a chain of tasks (relax, eos, elastic, ...) on each, into one sortable table."""
    from rutile.core.executors.catalogue import open_executor
    from rutile.core.executors.executor import Lost

    if settings.parquet:
        _pyarrow()
    shared = {k: v for k, v in settings.model_dump(mode="json").items() if k in PASSED_ON}
    for link in settings.chain:
        link_settings(link, shared, [Path("x")], Path("x"))
    with folder_for_results(settings.out):
        chunks = _chunks(settings, reporter)
        done: dict[int, list[dict[str, Any]]] = {}
        for k, chunk in enumerate(chunks):
            if (rows := _kept(chunk.folder)) is not None:
                done[k] = rows
        known = sum(len(rows) for rows in done.values())
        todo = [k for k in range(len(chunks)) if k not in done]
        with open_executor(settings.executor, settings.workers, reporter) as executor:
            results = executor.each(Links(settings.chain, shared), [chunks[k] for k in todo])
            for number, found in reporter.track(results, "Screening", len(todo)) if todo else ():
                chunk = chunks[todo[number]]
                if isinstance(found, Lost):
                    done[todo[number]] = [{"structure": s, "outcome": found.reason} for s in chunk.sources]
                    continue
                write_atomically(chunk.folder / "rows.json", json.dumps(found).encode())
                done[todo[number]] = found
        return _finish(settings, [row for k in sorted(done) for row in done[k]], known, reporter)


def _chunks(settings: ScreenSettings, reporter: Reporter) -> list[Chunk]:
    """The structures in pieces of work; the name of a folder says what is done in it."""
    frames = list(_frames(settings, reporter))
    what = [settings.chain, settings.precision, settings.mode]
    head = hashlib.sha256(json.dumps(what, sort_keys=True).encode() + model_content(settings.model))
    out = []
    for first in range(0, len(frames), settings.chunk):
        part, key = frames[first : first + settings.chunk], head.copy()
        add_structures(key, part)
        folder = settings.out / "parts" / key.hexdigest()[:16]
        out.append(Chunk(folder, [_plain(f) for f in part], [f.source for f in part]))
    return out


def _frames(settings: ScreenSettings, reporter: Reporter) -> Iterator[Frame]:
    """The structures; whether a model knows their elements is seen when they are worked on."""
    from rutile.tasks.apply import read_given

    return read_given(settings, (), reporter)


def _plain(frame: Frame) -> Atoms:
    """A structure alone."""
    from ase import Atoms

    return Atoms(frame.numbers, positions=frame.positions, cell=frame.cell, pbc=frame.pbc)


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
    )  # fmt: skip
    write_atomically(settings.out / "result.json", (result.model_dump_json(indent=1) + "\n").encode())
    write_atomically(result.report, _page(settings, result, table).encode())
    return result


def _page(settings: ScreenSettings, result: ScreenResult, table: Sequence[dict[str, Any]]) -> str:
    """The report."""
    from rutile.train.report import Card, Facts, Section, Table, render

    plain = [c for c in result.columns if all(isinstance(row[c], str | int | float | None) for row in table)]
    shown = [c for c in plain if any(row[c] not in (None, "") for row in table)]
    cells = [[row[c] for c in shown] for row in table]
    cards = [Card("structures", str(result.structures)), Card("done", str(result.done), "through the whole chain")]
    sections = [
        Section(
            "Table", [Table(shown, cells, "Click on a heading to sort. Units: `rutile TASK --help`.", sortable=True)]
        ),
        Section("Settings", [Facts(settings.model_dump(mode="json"), "all settings")]),
    ]
    return render("Screening", " → ".join(str(link["task"]) for link in settings.chain), cards, sections)


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
    ),
)
