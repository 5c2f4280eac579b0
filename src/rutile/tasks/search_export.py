"""`rutile search export`: structures that a search found, as files for other programs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from rutile.core.config import build
from rutile.core.errors import DataError, FileError
from rutile.core.files import folder_for_results, write_atomically
from rutile.core.reporting import Reporter
from rutile.core.settings import Result, Settings
from rutile.core.units import EVPerAtom
from rutile.search.settings import GeneticSettings
from rutile.tasks.property import as_csv, part
from rutile.tasks.search import SearchRow, SearchSettings
from rutile.tasks.search_start import LOG, kept_settings, names_of, roles_told, told_of_row
from rutile.tasks.task import Task

if TYPE_CHECKING:
    from ase import Atoms

ENDINGS = {"cif": "cif", "poscar": "vasp", "extxyz": "extxyz"}


class ExportSettings(Settings):
    """Which structures of which search, and as what."""

    folder: Path
    """Of the search; of one that was never finished (it runs, or was stopped) the structures are those relaxed so far,
    to its own limits only."""
    format: Literal["cif", "poscar", "extxyz"] = "extxyz"
    """Of the files, one for each structure; CIF holds crystals only."""
    most: int | None = Field(default=None, ge=1)
    """Structures at most, lowest first."""
    window: EVPerAtom | None = Field(default=None, ge=0)
    """How far above the lowest one they may be."""
    symmetry: list[str] = []
    """Only those with these space groups (or point groups), as the table of the search has them, such as P4_2/mnm."""
    cell: Literal["found", "primitive", "conventional"] = "found"
    """Cell of crystals: as it was found, or in the standard of the International Tables by spglib."""
    out: Path | None = None
    """Folder for the files and table.csv. Default: export in the folder of the search."""


class ExportedRow(SearchRow):
    """One file."""

    file: str
    """Its name."""


class ExportResult(Result):
    """What was written."""

    structures: list[ExportedRow]
    """One row for each file, lowest energy first."""
    out: Path
    """Folder with the files."""
    table: Path
    """The rows as CSV."""


def run(settings: ExportSettings, reporter: Reporter) -> ExportResult:
    """Write structures that a search found to files, one for each, with a table of them.

    Raises:
        FileError: the folder holds no search, or nothing can be written there.
        DataError: no structure is as asked, or it is no crystal and CIF or another cell is asked for.
    """
    from rutile.structures.io import write_frames

    rows, images, formula = _found(settings.folder, reporter)
    wanted = [k for k, row in enumerate(rows) if _asked(row, settings)][: settings.most]
    if not wanted:
        known = ", ".join(dict.fromkeys(r.symmetry or "none" for r in rows))
        raise DataError(
            f"none of {len(rows)} structures of {settings.folder} is as asked; they have the symmetries {known} and "
            f"lie up to {rows[-1].above:.3g} eV/atom above the lowest"
        )
    out = settings.out or settings.folder / "export"
    if out.resolve() == settings.folder.resolve():
        raise FileError(f"out={out} is the folder of the search, whose table.csv would be lost; choose another out=...")
    exported, names = [], names_of([images[k] for k in wanted], formula)
    with folder_for_results(out):
        for place, k in enumerate(reporter.track(wanted, "Writing", len(wanted))):
            name = f"{names[place].rsplit('.', 1)[0]}.{ENDINGS[settings.format]}"
            atoms = _in_cell(images[k], settings, rows[k])
            write_frames(out / name, atoms, settings.format)
            exported.append(ExportedRow(**rows[k].model_dump(), file=name))
        write_atomically(out / "table.csv", as_csv(exported))
    return ExportResult(structures=exported, out=out, table=out / "table.csv")


def _found(folder: Path, reporter: Reporter) -> tuple[list[SearchRow], list[Atoms], str]:
    """Rows and structures of a search, and its formula.

    Raises:
        FileError: it is no search, or its files do not fit together.
        DataError: it has relaxed nothing that can be used yet.
    """
    from rutile.structures.io import read_all

    known, path = kept_settings(folder), folder / "result.json"
    formula = str(known.get("formula", ""))
    if not path.exists():
        reporter.warn(f"{folder}: this search is not finished: structures are as they were relaxed on the way")
        return *_so_far(folder, build(SearchSettings, known | {"out": folder}, {})), formula
    try:
        rows = [SearchRow(**row) for row in json.loads(path.read_text(encoding="utf-8"))["structures"]]
    except (OSError, ValueError, KeyError, TypeError):
        raise FileError(
            f"{path} is not the result of a search: give the folder of one, or finish this one again with: "
            f"rutile search resume {folder}"
        ) from None
    images = read_all(folder / "best.extxyz")
    if len(images) != len(rows):
        raise FileError(f"{folder}: best.extxyz has {len(images)} structures and result.json {len(rows)}")
    return rows, images, formula


def _so_far(folder: Path, settings: SearchSettings) -> tuple[list[SearchRow], list[Atoms]]:
    """Rows and structures of a search that runs or was stopped; nothing in its folder is changed."""
    from rutile.search.genetic import Genetic
    from rutile.search.log import past_of
    from rutile.search.results import distinct
    from rutile.tasks.search import problem_of
    from rutile.tasks.search_table import ranking_of, table

    past = past_of(folder / LOG)
    if len(past) == past.failed:
        raise DataError(f"{folder}: none of {len(past)} relaxed structures can be used so far")
    search = Genetic(problem_of(settings.formula, settings.structure), part(settings, GeneticSettings), settings.seed)
    order = ranking_of(search, past)
    found = distinct(
        past, past.atoms, settings.pool, search.problem.distance, settings.window, settings.keep, order
    )  # fmt: skip
    rows = table(settings, search, past, found, found, order).structures
    images = [roles_told(d.found.atoms) for d in found]
    for row, image in zip(rows, images, strict=True):
        image.info = told_of_row(row)
    return rows, images


def _asked(row: SearchRow, settings: ExportSettings) -> bool:
    near = settings.window is None or row.above <= settings.window
    return near and (not settings.symmetry or row.symmetry in settings.symmetry)


def _in_cell(atoms: Atoms, settings: ExportSettings, row: SearchRow) -> Atoms:
    """In the cell that is asked for.

    Raises:
        DataError: it is no crystal.
    """
    from rutile.structures.symmetry import standard_cell

    if not atoms.pbc.all() and (settings.format != "extxyz" or settings.cell != "found"):
        what = f"format={settings.format}" if settings.format != "extxyz" else f"cell={settings.cell}"
        if settings.format == "poscar" and settings.cell == "found" and atoms.cell.rank == 3:
            return atoms
        raise DataError(f"structure {row.number} is not periodic in three directions: {what} is of crystals; say "
                        "format=extxyz cell=found")  # fmt: skip
    return atoms if settings.cell == "found" else standard_cell(atoms, primitive=settings.cell == "primitive")


TASK = Task(
    "search export",
    ExportSettings,
    ExportResult,
    run,
    positional="folder",
    examples=(
        "rutile search export search format=cif window=0.05 cell=conventional",
        "rutile search export search symmetry=P4_2/mnm,Pbca format=poscar out=known",
    ),
)
