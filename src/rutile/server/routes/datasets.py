"""Data sets: labelled structures in versions, with what can be asked of them without reading them all."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, HTTPException, Query
from pydantic import Field
from sqlalchemy.orm import Session

from rutile.core.errors import FileError
from rutile.core.settings import Result, Settings
from rutile.jobs import data_sets
from rutile.jobs.rights import may_change, visible
from rutile.jobs.shelf import DRAWN, Shelf
from rutile.jobs.sources import inputs_of
from rutile.jobs.tables import Dataset, DatasetVersion
from rutile.server import shapes
from rutile.server.frames import FrameView, frame_view, numbers
from rutile.server.librarian import SHELF
from rutile.server.people import Here, Reading, Somebody, Who, Writing
from rutile.server.platform import Platform
from rutile.server.routes.structures import write_extxyz
from rutile.server.shapes import FrameNumber, Name, Number

router = APIRouter(prefix="/datasets", tags=["datasets"])
Privacy = Literal["private", "group", "public"]
Column = Literal["energy_per_atom", "fmax", "atoms", "volume_per_atom", "pressure"]
Text = Annotated[str, Field(max_length=20_000)]


class DatasetWish(Settings):
    """A data set, or a new version of one."""

    name: Name
    """Its name."""
    file: Annotated[str, Field(max_length=500)]
    """upload:abc, job:12/labelled.extxyz, or dataset:3 for a copy."""
    description: Text = ""
    """What it holds."""
    licence: Annotated[str, Field(max_length=200)] = ""
    """Under which it may be used."""
    source: Annotated[str, Field(max_length=1000)] = ""
    """Where it comes from: DOI, address."""
    privacy: Privacy = "private"
    """Who may see it."""


class VersionWish(Settings):
    """A new version."""

    file: Annotated[str, Field(max_length=500)]
    """upload:abc or job:12/labelled.extxyz."""


class DatasetChange(Settings):
    """What is to be changed; what is not given stays."""

    name: Name | None = None
    """Its name."""
    description: Text | None = None
    """What it holds."""
    licence: Annotated[str, Field(max_length=200)] | None = None
    """Under which it may be used."""
    source: Annotated[str, Field(max_length=1000)] | None = None
    """Where it comes from."""
    privacy: Privacy | None = None
    """Who may see it."""


class VersionView(Result):
    """A version."""

    number: int
    """dataset:ID@NUMBER in settings."""
    sha256: str
    """Of the file: same content, same hash."""
    file: str
    """Name of the file."""
    state: str
    """reading, ready or refused."""
    reason: str
    """Why it was refused, or what was left out."""
    created: float
    """When it came (s since 1970)."""
    bytes: int
    """Size of the file."""
    frames: int
    """Structures that can be used."""
    atoms: int
    """Of all structures."""
    elements: dict[str, int]
    """Element -> structures that hold it."""
    labels: dict[str, int]
    """energy, forces, stress -> structures that have it."""
    checks: list[str]
    """What should be looked at: outliers, copies, labels that are missing."""


class DatasetView(Result):
    """A data set."""

    id: int
    """Its number: dataset:ID in settings."""
    name: str
    """Its name."""
    owner: str
    """Whose it is."""
    mine: bool
    """Whether the one who asks may change it."""
    privacy: str
    """Who may see it."""
    description: str
    """What it holds."""
    licence: str
    """Under which it may be used."""
    source: str
    """Where it comes from."""
    created: float
    """When it came (s since 1970)."""
    versions: list[VersionView]
    """Oldest first."""


class DatasetPage(Result):
    """A page of the list."""

    items: list[DatasetView]
    """Data sets of this page."""
    total: int
    """Data sets that fit the filter."""


class Histogram(Result):
    """How often values occur."""

    column: str
    """Of what."""
    unit: str
    """Its unit."""
    edges: list[float]
    """Of the bins, one more than counts."""
    counts: list[int]
    """Structures in each bin."""
    selected: int
    """Structures that fit the filter."""


class Points(Result):
    """Two numbers of some structures, for a scatter plot where a click shows the structure."""

    x: list[float | None]
    """First number."""
    y: list[float | None]
    """Second number."""
    frames: list[int]
    """Which structure each point is."""
    selected: int
    """Structures that fit the filter; these are some of them, evenly."""


class Selection(Settings):
    """Which structures are meant."""

    version: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = None
    """Of this version; default the newest one."""
    elements: Annotated[str, Field(max_length=500, pattern=r"^([A-Z][a-z]?(,[A-Z][a-z]?)*)?$")] = ""
    """With all of these elements: Ti,O."""
    only: bool = False
    """And no others."""
    column: Column | None = None
    """With a number between two bounds: this number..."""
    low: Annotated[float, Field(allow_inf_nan=False)] | None = None
    """...from here..."""
    high: Annotated[float, Field(allow_inf_nan=False)] | None = None
    """...to here."""


class HistogramOf(Selection):
    """A histogram of the structures that are meant."""

    of: Column
    """Of this number."""
    bins: int = Field(default=50, ge=2, le=500)
    """So many bins."""


class PointsOf(Selection):
    """Points of the structures that are meant."""

    x: Column
    """First number."""
    y: Column
    """Second number."""
    most: int = Field(default=3000, ge=1, le=20_000)
    """So many points at most."""


class TableOf(Selection):
    """A page of a table of the structures that are meant."""

    sort: Column | None = None
    """By this number; default: as they lie."""
    down: bool = False
    """The largest first."""
    page: int = Field(default=1, ge=1, le=10_000_000)
    """Which page."""
    size: int = Field(default=20, ge=1, le=500)
    """Structures on a page."""


class NewFromSelection(Selection):
    """A data set of the structures that are meant, for training on them."""

    name: Name
    """Its name."""


class Listing(Result):
    """Structures one after another, as a table."""

    frames: list[int]
    """Which."""
    formulas: list[str]
    """Of each."""
    columns: dict[str, list[float | None]]
    """Numbers of each."""
    selected: int
    """Structures that fit the filter."""


@router.get("")
def list_datasets(
    who: Somebody,
    session: Reading,
    search: Annotated[str, Query(max_length=200)] = "",
    page: Annotated[int, Query(ge=1, le=1_000_000)] = 1,
    size: Annotated[int, Query(ge=1, le=200)] = 20,
) -> DatasetPage:
    """Data sets that one may see, newest first; `search`: part of the name."""
    conditions = [visible(Dataset, who.user)]
    if search:
        conditions.append(Dataset.name.icontains(search, autoescape=True))
    rows, total = shapes.paged(session, Dataset, conditions, page, size)
    return DatasetPage(items=[_view(d, who) for d in rows], total=total)


@router.post("", status_code=201)
def add_dataset(wish: DatasetWish, who: Somebody, platform: Here, session: Reading) -> DatasetView:
    """Add a data set; it is read in the background, `state` of its version says how far."""
    source, name = _file(session, platform, who, wish.file)
    given = wish.model_dump(exclude={"file"})
    dataset = Dataset(owner_id=who.user.id, created=time.time(), **given)
    return _added(platform, who, dataset, source, name)


@router.post("/{number}/versions", status_code=201)
def add_version(number: Number, wish: VersionWish, who: Somebody, platform: Here, session: Reading) -> DatasetView:
    """Add a version; the older ones stay."""
    dataset = shapes.changed(session, Dataset, number, who)
    source, name = _file(session, platform, who, wish.file)
    return _added(platform, who, dataset, source, name)


@router.post("/{number}/selection", status_code=201)
def keep_selection(
    number: Number, wish: NewFromSelection, who: Somebody, platform: Here, session: Reading
) -> DatasetView:
    """Make a data set of some structures of this one."""
    dataset, version, shelf = _shelf(session, platform, number, who, wish.version)
    chosen = np.flatnonzero(_chosen(shelf, wish))
    if not len(chosen):
        raise HTTPException(422, "no structure fits")
    path = platform.home.cache / f"selection-{time.time_ns()}.extxyz"
    try:
        write_extxyz(shelf, chosen.tolist(), path)
        fresh = Dataset(
            owner_id=who.user.id, created=time.time(), name=wish.name, licence=dataset.licence, privacy="private",
            source=f"{len(chosen)} structures of dataset:{number}@{version.number}", description=dataset.description,
        )  # fmt: skip
        return _added(platform, who, fresh, path, f"{wish.name}.extxyz")
    finally:
        path.unlink(missing_ok=True)


@router.get("/{number}")
def see_dataset(number: Number, who: Somebody, session: Reading) -> DatasetView:
    """One data set."""
    return _view(shapes.seen(session, Dataset, number, who), who)


@router.patch("/{number}")
def change_dataset(number: Number, wish: DatasetChange, who: Somebody, session: Writing) -> DatasetView:
    """Change what is said about it."""
    dataset = shapes.changed(session, Dataset, number, who)
    given = wish.model_dump(exclude_none=True)
    before = {name: getattr(dataset, name) for name in given}
    for name, value in given.items():
        setattr(dataset, name, value)
    who.did(session, "changed", f"dataset {number}", before=before, after=given)
    return _view(dataset, who)


@router.delete("/{number}", status_code=204)
def delete_dataset(number: Number, who: Somebody, platform: Here, session: Writing) -> None:
    """Remove a data set; contents that no other one has go, too."""
    dataset = shapes.changed(session, Dataset, number, who)
    contents = {v.sha256 for v in dataset.versions}
    session.delete(dataset)
    session.flush()
    data_sets.forget_unused(session, platform.home, contents)
    who.did(session, "deleted", f"dataset {number}", before={"name": dataset.name})


@router.get("/{number}/frames/{frame}")
def see_frame(
    number: Number,
    frame: FrameNumber,
    who: Somebody,
    platform: Here,
    session: Reading,
    version: Annotated[int, Query(ge=1, le=2**31 - 1)] | None = None,
) -> FrameView:
    """One structure with its labels."""
    return frame_view(_shelf(session, platform, number, who, version)[2], frame)


@router.get("/{number}/histogram")
def see_histogram(
    number: Number, wish: Annotated[HistogramOf, Query()], who: Somebody, platform: Here, session: Reading
) -> Histogram:
    """How often values of a number occur among the structures that are meant."""
    shelf = _shelf(session, platform, number, who, wish.version)[2]
    mask = _chosen(shelf, wish)
    values = shelf.column(wish.of)[mask].astype(float)
    counts, edges = np.histogram(values[np.isfinite(values)], wish.bins)
    return Histogram(
        column=wish.of,
        unit=DRAWN[wish.of],
        edges=edges.tolist(),
        counts=counts.tolist(),
        selected=int(mask.sum()),
    )


@router.get("/{number}/points")
def see_points(
    number: Number, wish: Annotated[PointsOf, Query()], who: Somebody, platform: Here, session: Reading
) -> Points:
    """Two numbers of some of the structures that are meant."""
    shelf = _shelf(session, platform, number, who, wish.version)[2]
    there = np.flatnonzero(_chosen(shelf, wish))
    some = there[:: max(1, -(-len(there) // wish.most))]
    x, y = (numbers(shelf.column(name)[some].astype(float)) for name in (wish.x, wish.y))
    return Points(x=x, y=y, frames=some.tolist(), selected=len(there))


@router.get("/{number}/table")
def see_table(
    number: Number, wish: Annotated[TableOf, Query()], who: Somebody, platform: Here, session: Reading
) -> Listing:
    """Structures that are meant, one page of a table; sorted by a number, or as they lie."""
    shelf = _shelf(session, platform, number, who, wish.version)[2]
    there = np.flatnonzero(_chosen(shelf, wish))
    if wish.sort is not None:
        values = shelf.column(wish.sort)[there].astype(float)
        there = there[np.argsort(-values if wish.down else values, kind="stable")]  # what has none comes last
    some = there[(wish.page - 1) * wish.size : wish.page * wish.size]
    return Listing(
        frames=some.tolist(),
        formulas=[shelf.formula(int(k)) for k in some],
        columns={name: numbers(shelf.column(name)[some].astype(float)) for name in DRAWN},
        selected=len(there),
    )


def _file(session: Session, platform: Platform, who: Who, reference: str) -> tuple[Path, str]:
    """Path and name of the file that a reference means."""
    found = inputs_of(session, platform.home, who.user, {"file": reference})
    if not found or not Path(found[0].source).is_file():
        raise FileError(f"file = {reference}: expected upload:..., job:12/name or dataset:3")
    return Path(found[0].source), found[0].name


def _added(platform: Platform, who: Who, dataset: Dataset, source: Path, name: str) -> DatasetView:
    """A version of a file: kept by its content, read in the background unless it was read before."""
    sha256, there = data_sets.keep_file(platform.home, source, name)
    with platform.database.writing() as session:
        dataset = session.merge(dataset)
        session.flush()
        session.refresh(dataset)
        version = data_sets.add_version(session, dataset, sha256, there)
        who.did(session, "added a version", f"dataset {dataset.id}", after={"name": dataset.name, "sha256": sha256})
        view = _view(dataset, who)
        number = version.id
    platform.librarian.read(number)
    return view


def _shelf(
    session: Session, platform: Platform, number: int, who: Who, version: int | None
) -> tuple[Dataset, DatasetVersion, Shelf]:
    """The structures of a version.

    Raises:
        HTTPException: 404 no such data set or version; 409 it is not ready.
    """
    dataset = shapes.seen(session, Dataset, number, who)
    versions = [v for v in dataset.versions if version is None or v.number == version]
    if not versions:
        raise HTTPException(404, "no such version")
    ready = [v for v in versions if v.state == "ready"]
    if not ready:
        raise HTTPException(409, f"version {versions[-1].number} is not ready: {versions[-1].reason or 'being read'}")
    return dataset, ready[-1], Shelf(platform.home.dataset(ready[-1].sha256) / SHELF)


def _chosen(shelf: Shelf, wish: Selection) -> np.ndarray:
    """Which frames a selection means, [F] bool."""
    mask = np.ones(len(shelf), bool)
    if wish.elements:
        mask &= shelf.of_elements(wish.elements.split(","), wish.only)
    if wish.column is not None:
        values = shelf.column(wish.column)
        mask &= values >= (-np.inf if wish.low is None else wish.low)
        mask &= values <= (np.inf if wish.high is None else wish.high)
    return mask


def _view(dataset: Dataset, who: Who) -> DatasetView:
    names = ("id", "name", "privacy", "description", "licence", "source", "created")
    return DatasetView(
        **{name: getattr(dataset, name) for name in names},
        owner=dataset.owner.name,
        mine=may_change(dataset, who.user),
        versions=[_version(v) for v in dataset.versions],
    )


def _version(version: DatasetVersion) -> VersionView:
    names = ("number", "sha256", "file", "state", "reason", "created", "bytes", "frames")
    empty: dict[str, Any] = {"atoms": 0, "elements": {}, "labels": {}, "checks": []}
    return VersionView(**{name: getattr(version, name) for name in names}, **(empty | version.summary))
