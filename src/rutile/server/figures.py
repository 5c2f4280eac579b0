"""What the results of a job look like as curves: drawn from its tables, each point with the structure that it is of."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from ase.formula import Formula

from rutile.core.settings import Result
from rutile.jobs import folder as kept
from rutile.jobs import safe_files
from rutile.jobs.folder import read_json
from rutile.jobs.safe_files import Entry
from rutile.jobs.series import thinned
from rutile.jobs.tables import Job
from rutile.server.forms import known

LARGEST = 30_000_000
"""Bytes of a table that is drawn."""
POINTS, LINES, MOST = 2000, 60, 24
"""Of a line, of a figure, and figures of a job."""
Row = Mapping[str, str]


class FigureLine(Result):
    """One curve."""

    name: str
    """What it is of."""
    x: list[float]
    """Along."""
    y: list[float | None]
    """Up; null: not known there."""
    frames: list[int] | None
    """Structure of each point in the file of the figure; null: points have none."""


class FigureMark(Result):
    """A place along that has a name."""

    x: float
    """Where."""
    name: str
    """Such as Γ, or X|K where a path goes on elsewhere."""


class Figure(Result):
    """Curves over one axis."""

    title: str
    """What is drawn, with the table that it is from."""
    x_name: str
    """Along, with its unit."""
    y_name: str
    """Up, with its unit."""
    joined: bool
    """Whether points of a line follow each other; those of structures of their own do not."""
    lines: list[FigureLine]
    """The curves."""
    marks: list[FigureMark]
    """Places with names."""
    file: str | None
    """Id of the file of structures; null: there is none."""
    live: list[str]
    """Columns of the job's metrics that say the same with fewer points, while it runs."""


@dataclass(frozen=True)
class Drawing:
    """How one table is drawn."""

    x: str
    """Column along; "": the number of the row."""
    up: tuple[tuple[str, ...], ...]
    """Columns of each figure; a name that ends with * stands for all that begin so."""
    by: tuple[str, ...] = ()
    """Columns that tell the lines apart."""
    structures: str = ""
    """File beside it that holds the structures."""
    frame: Callable[[Job, Row, int], int] = lambda job, row, k: k
    """Which structure a row is of: of job, row, and its number in the table."""
    marks: str = ""
    """Column with names of places along."""
    live: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Columns of the metrics that the figure of a column makes needless."""
    changes: tuple[str, ...] = ()
    """Columns (eV) drawn as their change from the start of each line, for each atom where the size of every run is
    known: what drifts little is lost beside what it drifts from."""


def _frame_of_step(job: Job, row: Row, k: int) -> int:
    """Of a run of molecular dynamics, whose log and trajectory have their own intervals."""
    del k
    task = known(job.task)
    setting = task.settings.model_fields.get("every") if task else None
    every = job.settings.get("every", setting.default if setting else 1)
    return round(float(row["step"]) / float(every))


WEIGHTS = "weights.csv"
DRAWINGS: dict[str, Drawing] = {
    "log.csv": Drawing(
        "time_fs", (("temperature_K",), ("potential_eV",), ("conserved_eV",), ("pressure_GPa",), ("volume_A3",)),
        ("run",), "trajectory.extxyz", _frame_of_step, changes=("conserved_eV",),
        live={
            "temperature_K": ("temperature_K", "runs"), "potential_eV": ("potential_eV_atom",),
            "pressure_GPa": ("pressure_GPa",), "volume_A3": ("volume_A3_atom",),
        },
    ),
    "profiles.csv": Drawing("coordinate", (("energy",),), ("path",), "paths.extxyz"),
    "bands.csv": Drawing("distance", (("band*",),), marks="point"),
    "dos.csv": Drawing("frequency", (("states",),)),
    "thermal.csv": Drawing("temperature", (("free_energy",), ("entropy",), ("heat_capacity",))),
    "points.csv": Drawing("volume", (("energy",), ("pressure",)), ("structure",)),
    "radial.csv": Drawing("r", (("g",), ("neighbours",)), ("trajectory", "centre", "neighbour")),
    "structure_factor.csv": Drawing("q", (("s",),), ("trajectory",)),
    "msd.csv": Drawing("lag", (("msd",),), ("trajectory", "element")),
    "vibrations.csv": Drawing("wave_number", (("density",),), ("trajectory", "element")),
    "viscosity.csv": Drawing("lag", (("viscosity",),), ("trajectory",)),
    WEIGHTS: Drawing("", (("weight",), ("loss",))),
    "cumulative.csv": Drawing("frequency", (("kappa_*",),)),
}  # fmt: skip
"""Tables of any task by their names."""
RELAXED = Drawing("", (("energy",), ("fmax",), ("steps",)))
"""The table of a relaxation, named like its structures."""
WAY = Drawing("step", (("energy",), ("fmax",), ("pressure",), ("volume",)), ("structure",))
"""The table of the steps of a relaxation."""
UNITS = {
    "time_fs": "fs", "temperature_K": "K", "potential_eV": "eV", "conserved_eV": "eV", "pressure_GPa": "GPa",
    "volume_A3": "Å³", "band*": "THz", "kappa_*": "W/m/K",
}  # fmt: skip
"""Of tables whose columns say their units themselves, and of many columns together."""
SUFFIXES = {"Å³": "A3"}
"""Units that are written otherwise in the names of columns."""


def figures_of(job: Job, folder: Path) -> list[Figure]:
    """Curves of all tables of a job that are known, those of the whole before those of single structures.

    Args:
        job: whose they are.
        folder: of the job.
    """
    root = folder / kept.FILES
    entries = [e for e in safe_files.listing(root) if not e.folder and not e.path.startswith(f"{kept.INPUTS}/")]
    there = {entry.path: entry for entry in entries}
    told = read_json(folder / kept.RESULT) or {}
    trained = [path for path in there if PurePosixPath(path).name == WEIGHTS]
    for path in trained[:-1]:  # of a potential that learns again and again only the newest
        del there[path]
    out: list[Figure] = []
    for path, entry in there.items():
        drawing, structures = _drawing(job, path, there, PurePosixPath(told.get("path_table") or "").name)
        if drawing is not None and entry.size <= LARGEST and len(out) < MOST:
            units = UNITS | dict((told.get("units") or {}).get(PurePosixPath(path).name, {}))
            rows = _rows(root, path)
            table = _Table(job, path, drawing, rows, units, structures, _runs(told), _atoms(told, rows))
            out += table.figures()
    return out[:MOST]


def _drawing(job: Job, path: str, there: Mapping[str, Entry], way: str) -> tuple[Drawing | None, Entry | None]:
    """How a table is drawn, and the structures beside it; `way` is the name of the table of steps."""
    place = PurePosixPath(path)
    relaxed = str(place.with_suffix(".extxyz"))
    if job.task == "relax" and place.suffix == ".csv":
        if relaxed not in there and place.name == "table.csv":
            relaxed = str(place.with_name("relaxed.extxyz"))
        return (WAY if place.name == way else RELAXED, there[relaxed]) if relaxed in there else (None, None)
    drawing = DRAWINGS.get(place.name)
    beside = there.get(str(place.with_name(drawing.structures))) if drawing and drawing.structures else None
    return drawing, beside


def _rows(root: Path, path: str) -> list[dict[str, str]]:
    with safe_files.open_inside(root, path) as stream:
        return list(csv.DictReader(io.StringIO(stream.read().decode(errors="replace"))))


@dataclass(frozen=True)
class _Table:
    """A table with all that is needed to draw it."""

    job: Job
    path: str
    drawing: Drawing
    rows: list[dict[str, str]]
    units: Mapping[str, str]
    structures: Entry | None
    runs: Mapping[str, str]
    """What is known of each run, by its number."""
    atoms: Mapping[str, int]
    """Atoms of each run, by its number; empty where those of one are not known."""

    def figures(self) -> Iterator[Figure]:
        """Those of which the table has columns."""
        columns = list(self.rows[0]) if self.rows else []
        x = self.drawing.x
        if x and x not in columns:
            return
        for wanted in self.drawing.up:
            up = [c for c in columns for w in wanted if c == w or (w.endswith("*") and c.startswith(w[:-1]))]
            lines = [line for column in up for line in self.lines(column, len(up) > 1)]
            along = self.named(x) if x else "structure"
            if lines:
                yield Figure(
                    title=f"{' and '.join(map(self.plain, wanted))}: {self.path}", lines=lines[:LINES],
                    x_name=along, y_name=self.named(*wanted), joined=bool(x), marks=self.marks(),
                    file=self.structures.id if self.structures else None,
                    live=[name for column in up for name in self.drawing.live.get(column, ())],
                )  # fmt: skip

    def named(self, *columns: str) -> str:
        """A column with its unit; of several only the unit that they have in common."""
        unit = self.units.get(columns[0], "")
        if unit and len(columns) > 1:
            return unit
        if columns[0] in self.drawing.changes:
            return f"change of {self.plain(columns[0])} ({'meV/atom' if self.atoms else unit})"
        return self.plain(columns[0]) + (f" ({unit})" if unit else "")

    def plain(self, column: str) -> str:
        """A column in words."""
        unit = self.units.get(column, "")
        return column.removesuffix("*").removesuffix(f"_{SUFFIXES.get(unit, unit)}").replace("_", " ")

    def marks(self) -> list[FigureMark]:
        """Places with names; where a path goes on elsewhere both are told."""
        names: dict[float, list[str]] = {}
        for row in self.rows if self.drawing.marks else []:
            name, x = row.get(self.drawing.marks), as_number(row.get(self.drawing.x))
            if name and not math.isnan(x):
                names.setdefault(round(x, 9), []).append(name)
        return [FigureMark(x=x, name="|".join(dict.fromkeys(said))) for x, said in names.items()]

    def lines(self, column: str, several: bool) -> Iterator[FigureLine]:
        """The lines of one column: one for each value of the columns that tell them apart."""
        groups: dict[tuple[str, ...], list[tuple[float, float, int]]] = {}
        for k, row in enumerate(self.rows):
            x, y = as_number(row.get(self.drawing.x)) if self.drawing.x else float(k), as_number(row.get(column))
            if not math.isnan(x):
                frame = self.drawing.frame(self.job, row, k) if self.structures else 0
                groups.setdefault(tuple(row.get(name, "") for name in self.drawing.by), []).append((x, y, frame))
        for key, points in groups.items():
            values = self.shown(column, key, np.array([p[1] for p in points]))
            places, columns = thinned({"y": values}, len(points), POINTS)
            if any(y is not None for y in columns["y"]):
                yield FigureLine(
                    name=" ".join([self.plain(column)] * (several or not any(key)) + self.apart(key)),
                    x=[points[k][0] for k in places], y=columns["y"],
                    frames=[points[k][2] for k in places] if self.structures else None,
                )  # fmt: skip

    def shown(self, column: str, key: tuple[str, ...], values: np.ndarray) -> np.ndarray:
        """Values [n] of a line as they are drawn: some as their change from its first number."""
        known = values[np.isfinite(values)]
        if column not in self.drawing.changes or not known.size:
            return values
        size = self.atoms.get(key[self.drawing.by.index("run")]) if self.atoms else None
        change: np.ndarray = values - known[0]
        return 1000 * change / size if size else change

    def apart(self, key: tuple[str, ...]) -> list[str]:
        """What tells a line from the others, in words: a number says of what it is."""
        said = zip(self.drawing.by, key, strict=True)
        return [
            f"{by} {part}{self.runs.get(part, '') if by == 'run' else ''}" if part.isdigit() else part
            for by, part in said
            if part
        ]


def _runs(told: Mapping[str, Any]) -> dict[str, str]:
    """What the result says of each run of molecular dynamics: of what, and its mean temperature."""
    out = {}
    for row in told.get("runs") or []:
        if isinstance(row, dict) and "run" in row:
            kelvin = row.get("temperature")
            said = [row.get("formula") or "", f"{kelvin:.0f} K" if isinstance(kelvin, int | float) else ""]
            out[str(row["run"])] = f" ({', '.join(one for one in said if one)})" if any(said) else ""
    return out


def _atoms(told: Mapping[str, Any], rows: Sequence[Row]) -> dict[str, int]:
    """Atoms of each run of a table, from what the result says of it; empty unless every one is known."""
    sizes = {}
    for row in told.get("runs") or []:
        if isinstance(row, dict) and isinstance(row.get("formula"), str):
            with suppress(ValueError):
                sizes[str(row.get("run"))] = len(Formula(row["formula"]))
    return sizes if all(sizes.get(row.get("run", "")) for row in rows) else {}


def as_number(text: Any) -> float:
    """NaN where there is none."""
    try:
        value = float(text)
    except (TypeError, ValueError):
        return math.nan
    return value if math.isfinite(value) else math.nan
