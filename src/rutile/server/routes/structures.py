"""Structures that users keep: uploaded, pasted, or taken from what a job wrote."""

from __future__ import annotations

import functools
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import sqlalchemy as sql
from fastapi import APIRouter, HTTPException, Query
from pydantic import Field, model_validator
from sqlalchemy.orm import Session

from rutile.core.errors import FileError
from rutile.core.settings import Result, Settings
from rutile.jobs import queue
from rutile.jobs.reading import facts_limited
from rutile.jobs.references import job_of
from rutile.jobs.rights import may_change, visible
from rutile.jobs.shelf import Shelf
from rutile.jobs.sources import inputs_of
from rutile.jobs.tables import Job, StoredStructure
from rutile.server import shapes
from rutile.server.frames import FrameView, Track, frame_view, shelf_of, track
from rutile.server.people import Here, Reading, Somebody, Who, Writing
from rutile.server.platform import Platform
from rutile.server.shapes import FrameNumber, Name, Number

router = APIRouter(prefix="/structures", tags=["structures"])
Privacy = Literal["private", "group", "public"]
MOST_ATOMS = 1000
"""Of a structure whose symmetry is looked for."""
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


class StructureChange(Settings):
    """What is to be changed; what is not given stays."""

    name: Name | None = None
    """Its name."""
    privacy: Privacy | None = None
    """Who may see it."""


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
    job_id: int | None
    """The job whose file it was kept of, where one may see it."""


class Facts(Result):
    """What a structure is like."""

    symmetry: str
    """Space group of a crystal, point group of a molecule; "": none was found."""
    group: int | None
    """Number of the space group."""
    name: str
    """Of the structure type, where it is known: rutile, fcc, ..."""
    density: float | None
    """Of a crystal (g/cm³)."""
    nearest: float | None
    """Smallest distance of two atoms (Å)."""


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
    sort: Annotated[str, Query(pattern="^-?(name|formula|atoms|frames|privacy|created)$")] = "-created",
) -> StructurePage:
    """Structures that one may see; `search`: part of name or formula; `sort`: -name begins with the last."""
    conditions = [visible(StoredStructure, who.user)]
    if search:
        columns = (StoredStructure.name, StoredStructure.formula)
        conditions.append(sql.or_(*(c.icontains(search, autoescape=True) for c in columns)))
    rows, total = shapes.paged(session, StoredStructure, conditions, page, size, sort)
    return StructurePage(items=_views(session, rows, who), total=total)


@router.post("", status_code=201)
def keep_structure(wish: StructureWish, who: Somebody, platform: Here, session: Reading) -> StructureView:
    """Keep a structure; it is read within limits first."""
    shelf = _read(session, platform, who, wish)
    return keep_frames(platform, who, wish.name, shelf, wish.frame, job_of(wish.file), wish.privacy)


def keep_frames(
    platform: Platform, who: Who, name: str, shelf: Shelf, frame: int | None, job: int | None, privacy: str = "private"
) -> StructureView:
    """Keep a frame of a shelf, or all of them, under a name.

    Args:
        platform: where.
        who: whose it becomes.
        name: of the structure.
        shelf: what is kept.
        frame: only this one; None: all.
        job: the one that wrote what is on the shelf; None: none of the platform.
        privacy: who may see it.

    Raises:
        HTTPException: 404 there is no such frame.
    """
    chosen = range(len(shelf)) if frame is None else [frame]
    if frame is not None and frame >= len(shelf):
        raise HTTPException(404, f"there are {len(shelf)} frames, from 0 on")
    first = shelf.frame(chosen[0])
    row = StoredStructure(
        name=name, owner_id=who.user.id, privacy=privacy, created=time.time(),
        formula=shelf.formula(chosen[0]), frames=len(chosen), atoms=len(first.numbers), elements=list(shelf.elements),
        job_id=job,
    )  # fmt: skip
    with platform.database.writing() as changes:
        changes.add(row)
        changes.flush()
        path = platform.home.structure(row.id)
        write_extxyz(shelf, list(chosen), path)
        size = path.stat().st_size
        try:
            shapes.refuse_without_room(changes, who, size)
        except HTTPException:
            path.unlink()
            raise
        row.bytes = size
        who.did(changes, "kept a structure", f"structure {row.id}", after={"name": row.name})
        changes.flush()
        changes.refresh(row)
        return _views(changes, [row], who)[0]


@router.get("/{number}")
def see_structure(number: Number, who: Somebody, session: Reading) -> StructureView:
    """One structure."""
    return _views(session, [shapes.seen(session, StoredStructure, number, who)], who)[0]


@router.patch("/{number}")
def change_structure(number: Number, wish: StructureChange, who: Somebody, session: Writing) -> StructureView:
    """Change name or privacy."""
    row = shapes.changed(session, StoredStructure, number, who)
    shapes.alter(session, row, wish.model_dump(exclude_none=True), who, f"structure {number}")
    return _views(session, [row], who)[0]


@router.get("/{number}/frames/{frame}")
def see_frame(number: Number, frame: FrameNumber, who: Somebody, platform: Here, session: Reading) -> FrameView:
    """One frame of it."""
    row = shapes.seen(session, StoredStructure, number, who)
    return frame_view(shelf_of(platform.home, platform.home.structure(row.id)), frame)


@router.get("/{number}/frames/{frame}/facts")
def see_facts(number: Number, frame: FrameNumber, who: Somebody, platform: Here, session: Reading) -> Facts:
    """Symmetry, density and smallest distance of one frame."""
    row = shapes.seen(session, StoredStructure, number, who)
    shelf = shelf_of(platform.home, platform.home.structure(row.id))
    if frame >= len(shelf):
        raise HTTPException(404, f"there are {len(shelf)} frames, from 0 on")
    if len(shelf.frame(frame).numbers) > MOST_ATOMS:
        raise HTTPException(413, f"symmetries are looked for among at most {MOST_ATOMS} atoms")
    return Facts(**_facts(shelf.folder, frame))


@functools.lru_cache(1000)
def _facts(shelf: Path, frame: int) -> dict[str, Any]:
    return facts_limited(shelf, frame)


@router.get("/{number}/track")
def see_track(number: Number, who: Somebody, platform: Here, session: Reading) -> Track:
    """Energy and largest force of every frame."""
    row = shapes.seen(session, StoredStructure, number, who)
    return track(shelf_of(platform.home, platform.home.structure(row.id)))


@router.delete("/{number}", status_code=204)
def delete_structure(number: Number, who: Somebody, platform: Here, session: Writing) -> None:
    """Remove a structure that no job is to read."""
    row = shapes.changed(session, StoredStructure, number, who)
    queue.refuse_in_use(session, f"structure:{number}")
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
        atoms.info.update({key: name for key, name in (("config_type", one.group), ("calc_mode", one.mode)) if name})
        if there:
            atoms.calc = SinglePointCalculator(atoms, **there)
        return atoms

    write_frames(path, (atoms_of(k) for k in chosen), "extxyz")


def _views(session: Session, rows: Sequence[StoredStructure], who: Who) -> list[StructureView]:
    names = ("id", "name", "privacy", "created", "formula", "frames", "atoms", "elements")
    made = {row.job_id for row in rows if row.job_id}
    seen = set(session.scalars(sql.select(Job.id).where(Job.id.in_(made), visible(Job, who.user))))
    return [
        StructureView(
            **{name: getattr(row, name) for name in names},
            owner=row.owner.name, mine=may_change(row, who.user), job_id=row.job_id if row.job_id in seen else None,
        )
        for row in rows
    ]  # fmt: skip
