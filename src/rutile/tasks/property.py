"""What tasks that compute properties have in common: potentials with their committee, and files of results."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from rutile.core.elements import formula
from rutile.core.files import write_atomically
from rutile.core.reporting import Reporter, SilentReporter
from rutile.core.settings import Result, Settings
from rutile.tasks.apply import GivenStructures, members_and_bars, readings_given

if TYPE_CHECKING:
    from rutile.data.frames import Frame
    from rutile.data.reading import Reading
    from rutile.potentials.potential import Potential
    from rutile.structures.structures import Structures
    from rutile.train.report import Value

Row = TypeVar("Row", bound=Result)
Part = TypeVar("Part", bound=Settings)
Found = TypeVar("Found")
DONE = "done"


class GivenProperty(GivenStructures):
    """A model, the structures, and a folder for what is found."""

    out: Path
    """Folder for the results."""


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


def begin(settings: GivenStructures, reporter: Reporter) -> Work:
    """The model and the structures.

    Raises:
        RutileError: one of both cannot be used, see `members_and_bars` and `readings_given`.
    """
    from rutile.potentials.combine import Mean, common_elements
    from rutile.structures.structures import concatenate

    members, _ = members_and_bars(settings, reporter)
    readings = list(readings_given(settings, common_elements(members), reporter))
    frames = [r.frame for r in readings if r.frame is not None]
    several = len(members) > 1
    return Work(
        frames,
        concatenate(f.structures() for f in frames),
        Mean(members) if several else members[0],
        members if several else (),
        readings,
    )


def part(settings: Settings, kind: type[Part]) -> Part:
    """The settings of a driver among those of its task."""
    return kind(**{name: getattr(settings, name) for name in kind.model_fields})


def with_spread(rows: Sequence[Row], of: Callable[[Potential], Sequence[Row]], work: Work) -> list[Row]:
    """Rows with the standard deviation over the members in each field `x_std` of a field `x`.

    Args:
        rows: of the committee's mean.
        of: makes the rows with one potential.
        work: has the members; without any the rows are as before.
    """
    if not work.members:
        return list(rows)
    theirs = [of(member) for member in work.members]
    out = []
    for k, row in enumerate(rows):
        names = [n.removesuffix("_std") for n in type(row).model_fields if n.endswith("_std")]
        spread = {}
        for name in names:
            values = [getattr(one[k], name) for one in theirs]
            spread[f"{name}_std"] = None if None in values else float(np.std(values))
        out.append(row.model_copy(update=spread))
    return out


def computed(
    of: Callable[[Potential, Reporter], tuple[list[Row], Found]], work: Work, reporter: Reporter
) -> tuple[list[Row], Found]:
    """Rows of the model (the mean of a committee), with the spread of its members, and what they come from.

    Args:
        of: makes the rows by one potential, and what they come from.
        work: model and structures.
        reporter: told how far the model is; its members work in silence.
    """
    rows, found = of(work.potential, reporter)
    return with_spread(rows, lambda member: of(member, SilentReporter())[0], work), found


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


def write_result(folder: Path, result: Result, rows: Sequence[Result], page: str) -> None:
    """table.csv, result.json and report.html in a folder.

    Raises:
        FileError: it cannot be written.
    """
    write_atomically(folder / "table.csv", as_csv(rows))
    write_atomically(folder / "result.json", (result.model_dump_json(indent=1) + "\n").encode())
    write_atomically(folder / "report.html", page.encode())


def cells(rows: Sequence[Result], names: Sequence[str]) -> list[list[Value]]:
    """Some fields of rows for a table of a page."""
    return [[getattr(row, name) for name in names] for row in rows]
