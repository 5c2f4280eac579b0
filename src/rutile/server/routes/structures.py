"""Structures that users keep: uploaded, pasted, or taken from what a job wrote."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Annotated, Literal

import sqlalchemy as sql
from fastapi import APIRouter, HTTPException, Query
from pydantic import Field, model_validator
from sqlalchemy.orm import Session

from rutile.core.errors import FileError
from rutile.core.settings import Result, Settings
from rutile.jobs.rights import may_change, visible
from rutile.jobs.shelf import Shelf
from rutile.jobs.sources import inputs_of
from rutile.jobs.tables import StoredStructure
from rutile.server import shapes
from rutile.server.frames import FrameView, Track, frame_view, shelf_of, track
from rutile.server.people import Here, Reading, Somebody, Who, Writing
from rutile.server.platform import Platform
from rutile.server.shapes import FrameNumber, Name, Number

router = APIRouter(prefix="/structures", tags=["structures"])
Privacy = Literal["private", "group", "public"]
ENDINGS = {"extxyz": ".extxyz", "cif": ".cif", "poscar": ".vasp", "xsf": ".xsf"}


class StructureWish(Settings):
    """A structure to keep: either text with its format, or a reference to a file."""

    name: Name
    """Its name."""
    text: Annotated[str, Field(max_length=3_000_000)] = ""
    """What was pasted."""
    format: Literal["extxyz", "cif", "poscar", "xsf"] = "extxyz"
    """Of the text."""
    file: Annotated[str, Field(max_length=500)] = ""
    """upload:abc or job:12/relaxed.extxyz."""
    frame: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = None
    """Only this frame of the file."""
    privacy: Privacy = "private"
    """Who may see it."""

    @model_validator(mode="after")
    def _one_of_both(self) -> StructureWish:
        if bool(self.text) == bool(self.file):
            raise ValueError("give either text or file")
        return self


class StructureView(Result):
    """A structure that is kept."""

    id: int
    """Its number: structure:ID in settings."""
    name: str
    """Its name."""
    owner: str
    """Whose it is."""
    mine: bool
    """Whether the one who asks may change it."""
    privacy: str
    """Who may see it."""
    created: float
    """When it was kept (s since 1970)."""
    formula: str
    """Of the first frame."""
    frames: int
    """So many there are."""
    atoms: int
    """Of the first frame."""
    elements: list[str]
    """That occur."""


class StructurePage(Result):
    """A page of the list."""

    items: list[StructureView]
    """Structures of this page."""
    total: int
    """Structures that fit the filter."""


@router.get("")
def list_structures(
    who: Somebody,
    session: Reading,
    search: Annotated[str, Query(max_length=200)] = "",
    page: Annotated[int, Query(ge=1, le=1_000_000)] = 1,
    size: Annotated[int, Query(ge=1, le=500)] = 20,
) -> StructurePage:
    """Structures that one may see, newest first; `search`: part of name or formula."""
    conditions = [visible(StoredStructure, who.user)]
    if search:
        columns = (StoredStructure.name, StoredStructure.formula)
        conditions.append(sql.or_(*(c.icontains(search, autoescape=True) for c in columns)))
    rows, total = shapes.paged(session, StoredStructure, conditions, page, size)
    return StructurePage(items=[_view(s, who) for s in rows], total=total)


@router.post("", status_code=201)
def keep_structure(wish: StructureWish, who: Somebody, platform: Here, session: Reading) -> StructureView:
    """Keep a structure; it is read within limits first."""
    shelf = _read(session, platform, who, wish)
    chosen = range(len(shelf)) if wish.frame is None else [wish.frame]
    if wish.frame is not None and wish.frame >= len(shelf):
        raise HTTPException(404, f"there are {len(shelf)} frames, from 0 on")
    first = shelf.frame(chosen[0])
    row = StoredStructure(
        name=wish.name, owner_id=who.user.id, privacy=wish.privacy, created=time.time(),
        formula=shelf.formula(chosen[0]), frames=len(chosen), atoms=len(first.numbers), elements=list(shelf.elements),
    )  # fmt: skip
    with platform.database.writing() as changes:
        changes.add(row)
        changes.flush()
        write_extxyz(shelf, list(chosen), platform.home.structure(row.id))
        who.did(changes, "kept a structure", f"structure {row.id}", after={"name": row.name})
        changes.refresh(row)
        return _view(row, who)


@router.get("/{number}")
def see_structure(number: Number, who: Somebody, session: Reading) -> StructureView:
    """One structure."""
    return _view(shapes.seen(session, StoredStructure, number, who), who)


@router.get("/{number}/frames/{frame}")
def see_frame(number: Number, frame: FrameNumber, who: Somebody, platform: Here, session: Reading) -> FrameView:
    """One frame of it."""
    row = shapes.seen(session, StoredStructure, number, who)
    return frame_view(shelf_of(platform.home, platform.home.structure(row.id)), frame)


@router.get("/{number}/track")
def see_track(number: Number, who: Somebody, platform: Here, session: Reading) -> Track:
    """Energy and largest force of every frame."""
    row = shapes.seen(session, StoredStructure, number, who)
    return track(shelf_of(platform.home, platform.home.structure(row.id)))


@router.delete("/{number}", status_code=204)
def delete_structure(number: Number, who: Somebody, platform: Here, session: Writing) -> None:
    """Remove a structure; jobs that are to read it will fail."""
    row = shapes.changed(session, StoredStructure, number, who)
    platform.home.structure(row.id).unlink(missing_ok=True)
    session.delete(row)
    who.did(session, "deleted", f"structure {number}", before={"name": row.name})


def _read(session: Session, platform: Platform, who: Who, wish: StructureWish) -> Shelf:
    """The structures of a text or a file.

    Raises:
        FileError: they cannot be read.
        SettingsError: there is no such file.
    """
    if wish.text:
        with tempfile.TemporaryDirectory(dir=platform.home.cache) as folder:
            path = Path(folder) / f"text{ENDINGS[wish.format]}"
            path.write_text(wish.text, encoding="utf-8")
            return shelf_of(platform.home, path)
    found = inputs_of(session, platform.home, who.user, {"file": wish.file})
    if not found:
        raise FileError(f"file = {wish.file}: expected upload:... or job:12/name")
    return named_shelf(platform, Path(found[0].source), found[0].name)


def named_shelf(platform: Platform, source: Path, name: str) -> Shelf:
    """The shelf of a file that is kept under another name than its own."""
    if source.suffix == Path(name).suffix:
        return shelf_of(platform.home, source)
    with tempfile.TemporaryDirectory(dir=platform.home.cache) as folder:
        path = Path(folder) / name
        path.hardlink_to(source)
        return shelf_of(platform.home, path)


def write_extxyz(shelf: Shelf, chosen: list[int], path: Path) -> None:
    """Frames of a shelf as extended XYZ, with energies (eV), forces and stress where there are some."""
    from ase import Atoms
    from ase.calculators.singlepoint import SinglePointCalculator

    from rutile.structures.io import write_frames

    def atoms_of(k: int) -> Atoms:
        one = shelf.frame(k)
        atoms = Atoms(one.numbers, one.positions, cell=one.cell, pbc=one.pbc)
        results = {"energy": one.energy, "forces": one.forces}
        if one.stress is not None:
            results["stress"] = one.stress[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]
        there = {name: value for name, value in results.items() if value is not None}
        if there:
            atoms.calc = SinglePointCalculator(atoms, **there)
        return atoms

    write_frames(path, (atoms_of(k) for k in chosen), "extxyz")


def _view(row: StoredStructure, who: Who) -> StructureView:
    return StructureView(
        id=row.id, name=row.name, owner=row.owner.name, mine=may_change(row, who.user), privacy=row.privacy,
        created=row.created, formula=row.formula, frames=row.frames, atoms=row.atoms, elements=row.elements,
    )  # fmt: skip
