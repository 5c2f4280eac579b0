"""What tasks that compute properties have in common: potentials with their committee, and files of results."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np
from pydantic import Field

from rutile.core.describe import units_of
from rutile.core.elements import formula
from rutile.core.files import write_atomically
from rutile.core.reporting import Reporter, SilentReporter
from rutile.core.settings import Result, Settings
from rutile.tasks.apply import GivenStructures, members_and_bars, model_content, readings_given
from rutile.tasks.kept_work import KEPT, KeptWork, PartOf

if TYPE_CHECKING:
    from rutile.data.frames import Frame
    from rutile.data.reading import Reading
    from rutile.potentials.potential import Potential
    from rutile.simulate.settings import PropertySettings
    from rutile.structures.structures import Structures
    from rutile.train.report import Block, Value

Row = TypeVar("Row", bound=Result)
Part = TypeVar("Part", bound=Settings)
Found = TypeVar("Found")
Of = TypeVar("Of", bound="OfCrystal")
DONE = "done"
NOT_THE_POTENTIAL = ("structures", "format", "on_bad", "device")
"""Settings of `GivenStructures` that do not change what a potential says."""


class GivenProperty(GivenStructures):
    """A model, the structures, and a folder for what is found."""

    out: Path
    """Folder for the results."""


class PropertyResult(Result):
    """What all tasks that compute properties return."""

    table: Path = Path("table.csv")
    """The rows as CSV."""
    report: Path = Path("report.html")
    """Figures and tables, as a page."""
    units: dict[str, dict[str, str]] = Field(default={}, repr=False)
    """Units by file and column; columns that are not named here are text, counts or dimensionless."""


Told = TypeVar("Told", bound=PropertyResult)


@dataclass(frozen=True)
class Work:
    """What a task works on."""

    frames: list[Frame]
    """As read."""
    structures: Structures
    """The same as a batch."""
    potential: Potential
    """The model, or the mean of the committee."""
    members: Sequence[Potential]
    """Of a committee; empty for a single potential."""
    readings: Sequence[Reading]
    """What the files say besides, such as constraints."""

    def names(self) -> list[tuple[str, str]]:
        """Source and composition of each structure."""
        return [(frame.source, formula(frame.numbers.tolist())) for frame in self.frames]

    def turned(self) -> list[bool]:
        """Crystals whose vectors are minus those of the file, which were left-handed: so are fractions of the cell."""
        pairs = zip(self.frames, self.readings, strict=True)
        return [
            reading.frame is not None and not np.array_equal(frame.cell, reading.frame.cell) for frame, reading in pairs
        ]

    def sources(self) -> list[str]:
        """Source of each structure."""
        return [frame.source for frame in self.frames]


def begin(settings: GivenStructures, reporter: Reporter) -> Work:
    """The model and the structures.

    Raises:
        RutileError: one of both cannot be used, see `members_and_bars` and `readings_given`.
    """
    from rutile.potentials.combine import common_elements, mean_potential
    from rutile.structures.structures import concatenate

    members, _ = members_and_bars(settings, reporter)
    readings = list(readings_given(settings, common_elements(members), reporter))
    frames = [_right_handed(r.frame) for r in readings if r.frame is not None]
    return Work(
        frames,
        concatenate(f.structures() for f in frames),
        mean_potential(members),
        members if len(members) > 1 else (),
        readings,
    )


def _right_handed(frame: Frame) -> Frame:
    """A crystal whose vectors are right-handed, of the same lattice: -a, -b, -c where a, b, c are not."""
    turned = bool(frame.pbc.all()) and float(np.linalg.det(frame.cell)) < 0
    return dataclasses.replace(frame, cell=-frame.cell) if turned else frame


def part(settings: Settings, kind: type[Part]) -> Part:
    """The settings of a driver among those of its task."""
    return kind(**{name: getattr(settings, name) for name in kind.model_fields})


def computed(
    of: Callable[[Potential, Reporter], tuple[list[Row], Found]],
    work: Work,
    settings: GivenProperty,
    reporter: Reporter,
) -> tuple[list[Row], Found]:
    """Rows of the model (the mean of a committee), and what they come from; goes on after what an earlier run kept.

    Args:
        of: makes the rows by one potential, and what they come from.
        work: model and structures.
        settings: of the task; its folder must exist.
        reporter: told how far the model is; its members work in silence.

    Returns:
        Rows with the standard deviation over the members in each field `x_std` of a field `x`, and what the mean's come
        from.
    """
    from rutile.simulate.keeper import keeping

    with kept_by_model(settings, reporter) as mine:
        with keeping(mine):
            rows, found = of(work.potential, reporter)
        theirs = []
        for k, member in enumerate(work.members):
            with keeping(PartOf(mine.work, f"{mine.potential} member {k}")):
                theirs.append(of(member, SilentReporter())[0])
    return with_spread(rows, theirs), found


@contextmanager
def kept_by_model(settings: GivenProperty, reporter: Reporter) -> Iterator[PartOf]:
    """What the model of a task (the mean of a committee) has done in its folder, which no other process may use.

    To be named with `simulate.keeper.keeping` around relaxations and evaluations by that potential alone.

    Args:
        settings: of the task; its folder must exist.
        reporter: told how much was kept.

    Raises:
        FileError: the folder cannot be read or written, or another process is at work.
    """
    kept = KeptWork(settings.out)
    with kept.opened(reporter):
        yield PartOf(kept, _potential_of(settings))


def _potential_of(settings: GivenProperty) -> str:
    """Hash of all that tells a potential from others."""
    told = settings.model_dump_json(include=set(GivenStructures.model_fields) - {"model", *NOT_THE_POTENTIAL})
    return hashlib.sha256(told.encode() + model_content(settings.model)).hexdigest()[:16]


def with_spread(rows: Sequence[Row], theirs: Sequence[Sequence[Row]]) -> list[Row]:
    """Rows with the standard deviation over the members in each field `x_std` of a field `x`.

    Args:
        rows: of the committee's mean.
        theirs: of each member; without any the rows are as before.
    """
    if not theirs:
        return list(rows)
    out = []
    for k, row in enumerate(rows):
        names = [n.removesuffix("_std") for n in type(row).model_fields if n.endswith("_std")]
        spread: dict[str, Any] = {}
        for name in names:
            values = [getattr(one[k], name) for one in theirs]
            spread[f"{name}_std"] = None if None in values else np.std(values, axis=0).tolist()
        out.append(row.model_copy(update=spread))
    return out


def settled_crystals(
    work: Work, potential: Potential, settings: PropertySettings, what: str, reporter: Reporter
) -> tuple[Structures, Sequence[str]]:
    """The crystals at their minima by one potential, and for each what went wrong, or "".

    Args:
        work: has the structures.
        potential: gives the forces.
        settings: whether to relax, and limits.
        what: is computed, such as "an elastic tensor".
        reporter: told how far it is.

    Raises:
        GeometryError: a structure is not periodic in three directions.
    """
    from rutile.simulate.eos import require_crystals
    from rutile.simulate.start import settled

    require_crystals(work.structures, what, work.sources())
    return settled(work.structures, potential, settings, reporter)


class OfCrystal(Protocol):
    """What a driver found about one of the crystals."""

    @property
    def crystal(self) -> int:
        """Which of the given structures."""

    @property
    def failure(self) -> str:
        """What went wrong, or ""."""


def rows_of_crystals(
    found: Sequence[Of],
    why: Sequence[str],
    work: Work,
    row: Callable[[Of, dict[str, Any]], Row],
    name: Callable[[Row], str],
    reporter: Reporter,
) -> list[Row]:
    """A row for each result about a crystal; the user is warned of those that are not done.

    Args:
        found: the results.
        why: for each crystal what went wrong with its relaxation, or "".
        work: names the crystals.
        row: makes a row of a result and the fields `structure`, `formula` and `outcome`.
        name: of a row among those of its crystal, for warnings.
        reporter: receives the warnings.
    """
    names, rows = work.names(), []
    for one in found:
        source, composition = names[one.crystal]
        outcome = why[one.crystal] or one.failure or DONE
        rows.append(row(one, {"structure": source, "formula": composition, "outcome": outcome}))
        if outcome != DONE:
            reporter.warn(f"{source} ({composition}) {name(rows[-1])}: {outcome}")
    return rows


def write_structures(path: Path, structures: Iterable[Structures], about: Iterable[Mapping[str, Any]]) -> None:
    """Structures with what is to be said about each in the comment of its frame.

    Args:
        path: of the file.
        structures: batches of one.
        about: names and values for each.

    Raises:
        FileError: it cannot be written.
    """
    from rutile.structures.io import write_frames

    images = []
    for one, info in zip(structures, about, strict=True):
        (atoms,) = one.to_ase()
        atoms.info.update(info)
        images.append(atoms)
    write_frames(path, images)


def as_csv(rows: Sequence[Result] | Sequence[Mapping[str, Any]]) -> bytes:
    """Rows of one kind, at least one, as CSV with a head."""
    plain = [row.model_dump() if isinstance(row, Result) else dict(row) for row in rows]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(plain[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(plain)
    return text.getvalue().encode()


def outcomes(failures: Sequence[Sequence[str]], work: Work, reporter: Reporter) -> list[str]:
    """For each structure what became of it: done, or the first thing that went wrong, of which the user is warned.

    Args:
        failures: of each stage, one text for each structure, "" where it went well.
        work: names the structures.
        reporter: receives the warnings.
    """
    out = [next((w for w in why if w), DONE) for why in zip(*failures, strict=True)]
    for (source, name), text in zip(work.names(), out, strict=True):
        if text != DONE:
            reporter.warn(f"{source} ({name}): {text}")
    return out


def write_result(
    folder: Path,
    result: Told,
    rows: Sequence[Result],
    page: str,
    more: Mapping[str, Mapping[str, str]] | None = None,
) -> Told:
    """table.csv, result.json and report.html in a folder; what was kept to go on from is removed.

    Args:
        folder: exists.
        result: without units and the places of table and page.
        rows: of the table, at least one.
        page: HTML.
        more: units of the columns of other tables in the folder, by file.

    Returns:
        The result with them.

    Raises:
        FileError: it cannot be written.
    """
    units = {"table.csv": units_of(type(rows[0]))} | {name: dict(each) for name, each in (more or {}).items()}
    result = result.model_copy(update={"units": units, "table": folder / "table.csv", "report": folder / "report.html"})
    write_atomically(result.table, as_csv(rows))
    write_atomically(folder / "result.json", (result.model_dump_json(indent=1) + "\n").encode())
    write_atomically(result.report, page.encode())
    (folder / KEPT).unlink(missing_ok=True)
    return result


def table_of(rows: Sequence[Result], names: Sequence[str], caption: str = "", *, sortable: bool = True) -> list[Block]:
    """A table of some fields of rows, with units in its headings, and what the columns mean.

    Args:
        rows: of one kind, at least one.
        names: of the fields; those without any value are left out.
        caption: below the table.
        sortable: whether a click on a heading sorts.
    """
    from rutile.train.report import Facts, Table

    kind = type(rows[0])
    shown = [name for name in names if any(getattr(row, name) is not None for row in rows)]
    cells: list[list[Value]] = [[_cell(getattr(row, name)) for name in shown] for row in rows]
    heads = headings(shown, units_of(kind))
    meanings = {n: " ".join((kind.model_fields[n].description or "").split()) for n in shown}
    return [Table(heads, cells, caption, sortable=sortable), Facts(meanings, "what the columns mean")]


def headings(names: Sequence[str], units: Mapping[str, str]) -> list[str]:
    """Headings of columns, such as "bulk modulus (GPa)"; a spread is "± (GPa)"."""
    words = ["±" if name.endswith(("_std", "_error")) else name.replace("_", " ") for name in names]
    return [f"{w} ({units[n]})" if n in units else w for w, n in zip(words, names, strict=True)]


def _cell(value: Any) -> Value:
    """A value that a page can show."""
    return ", ".join(f"{x:.4g}" for x in value) if isinstance(value, tuple | list) else value
