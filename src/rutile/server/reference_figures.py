"""Curves of a model and of its reference in one plot: energy by volume, phonon bands, densities of states."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from rutile.jobs import folder as kept
from rutile.jobs import safe_files
from rutile.jobs.folder import read_json
from rutile.server.figures import LARGEST, Figure, FigureLine, FigureMark, as_number
from rutile.server.reference_values import Known

MODEL, REFERENCE = "model", "reference"
"""Names of lines, which the page says in its language."""
FINE = 200
"""Points of a curve that is drawn from its equation."""
Table = list[dict[str, str]]


def figures_beside(
    task: str, row: Mapping[str, Any], known: Known, mine: Path, theirs: Path | None
) -> Iterator[Figure]:
    """What can be drawn of one structure.

    Args:
        task: eos, elastic or phonons.
        row: of the result of the model.
        known: what the reference says.
        mine: folder of the job of the model.
        theirs: folder of the job of the reference; None where it is none.
    """
    if task == "eos":
        yield from _volumes(row, known, mine, theirs)
    elif task == "phonons" and theirs is not None and known.row is not None:
        yield from _phonons(row, known.row, mine, theirs)


def _volumes(row: Mapping[str, Any], known: Known, mine: Path, theirs: Path | None) -> Iterator[Figure]:
    lines = [_line(MODEL, *_points(mine, row))]
    if known.curve is not None:
        volume = np.linspace(known.curve.volume.min(), known.curve.volume.max(), FINE)
        lines.append(_line(REFERENCE, volume, known.curve.fit.energy_at(volume)))
    elif theirs is not None and known.row is not None:
        lines.append(_line(REFERENCE, *_points(theirs, known.row)))
    if len(lines) > 1 and all(line.x for line in lines):
        title = f"{row['formula']}, {row['structure']}"
        yield _figure(title, "volume (Å³/atom)", "energy above its lowest (meV/atom)", [_above(one) for one in lines])


def _points(folder: Path, row: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Volumes and energies of one structure of an equation of state."""
    told = read_json(folder / kept.RESULT) or {}
    rows = [one for one in _table(folder, str(told.get("points", ""))) if one.get("structure") == row["structure"]]
    return _column(rows, "volume"), _column(rows, "energy")


def _phonons(row: Mapping[str, Any], other: Mapping[str, Any], mine: Path, theirs: Path) -> Iterator[Figure]:
    places = [(mine, PurePosixPath(str(row.get("folder")))), (theirs, PurePosixPath(str(other.get("folder"))))]
    title = f"{row['formula']}, {row['structure']}"
    ours, others = (_table(folder, str(place / "bands.csv")) for folder, place in places)
    marks, names = _marks(ours)
    far, same = _marks(others)
    if len(marks) > 1 and names == same:
        lines = [*_bands(MODEL, ours, None), *_bands(REFERENCE, others, (far, marks))]
        shown = [FigureMark(x=x, name=name) for x, name in zip(marks, names, strict=True)]
        yield _figure(title, "wave vector", "frequency (THz)", lines, shown)
    states = [_table(folder, str(place / "dos.csv")) for folder, place in places]
    if all(states):
        lines = [
            _line(name, _column(table, "frequency"), _column(table, "states"))
            for name, table in zip((MODEL, REFERENCE), states, strict=True)
        ]
        yield _figure(title, "frequency (THz)", "density of states (1/THz)", lines)


def _marks(bands: Table) -> tuple[list[float], list[str]]:
    """Places of the named points of a path, and their names; where it goes on elsewhere both are told."""
    found: dict[float, list[str]] = {}
    for row in bands:
        if row.get("point"):
            found.setdefault(round(as_number(row.get("distance")), 9), []).append(row["point"])
    return list(found), ["|".join(dict.fromkeys(names)) for names in found.values()]


def _bands(name: str, table: Table, stretch: tuple[list[float], list[float]] | None) -> Iterator[FigureLine]:
    """Bands along a path, stretched between named points onto those of another lattice constant."""
    x = _column(table, "distance")
    along = x if stretch is None else np.interp(x, *stretch)
    for column in (key for key in table[0] if key.startswith("band")):
        yield _line(name, along, _column(table, column))


def _figure(title: str, x: str, y: str, lines: list[FigureLine], marks: list[FigureMark] | None = None) -> Figure:
    return Figure(title=title, x_name=x, y_name=y, joined=True, lines=lines, marks=marks or [], file=None, live=[])


def _line(name: str, x: np.ndarray, y: np.ndarray) -> FigureLine:
    there = np.isfinite(x) & np.isfinite(y)
    return FigureLine(name=name, x=x[there].tolist(), y=y[there].tolist(), frames=None)


def _above(line: FigureLine) -> FigureLine:
    """Energies (eV) as what they are above the lowest (meV)."""
    known = [y for y in line.y if y is not None]
    return line.model_copy(update={"y": [1000 * (y - min(known)) for y in known]})


def _column(table: Table, name: str) -> np.ndarray:
    """A column as numbers; NaN where there is none."""
    return np.array([as_number(row.get(name)) for row in table], float)


def _table(folder: Path, path: str) -> Table:
    """A table that a job wrote; empty where it is not there."""
    try:
        with safe_files.open_inside(folder / kept.FILES, path) as stream:
            return list(csv.DictReader(io.StringIO(stream.read(LARGEST).decode(errors="replace"))))
    except OSError:
        return []
