"""Data sets: labelled structures in versions, with what can be asked of them without reading them all."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, HTTPException, Query
from sqlalchemy.orm import Session

from rutile.core.errors import FileError
from rutile.jobs import data_sets, quality, queue
from rutile.jobs.disk import SHELF
from rutile.jobs.references import job_of
from rutile.jobs.rights import may_change
from rutile.jobs.shelf import DRAWN, Shelf
from rutile.jobs.sources import file_name, inputs_of
from rutile.jobs.tables import Dataset, DatasetVersion
from rutile.server import parts, shapes
from rutile.server.dataset_shapes import (
    DatasetChange,
    DatasetPage,
    DatasetView,
    DatasetWish,
    Difference,
    Histogram,
    HistogramOf,
    Listing,
    NewFromSelection,
    Parts,
    Points,
    PointsOf,
    Selection,
    Spread,
    TableOf,
    VersionView,
    VersionWish,
)
from rutile.server.frames import FrameView, frame_view, numbers
from rutile.server.people import Here, Reading, Somebody, Who, Writing
from rutile.server.platform import Platform
from rutile.server.routes.structures import write_extxyz
from rutile.server.shapes import FrameNumber, Number

router = APIRouter(prefix="/datasets", tags=["datasets"])
MOST_LISTED = 100
"""Structures that differ between versions and are named."""


@router.get("")
def list_datasets(
    who: Somebody,
    session: Reading,
    search: Annotated[str, Query(max_length=200)] = "",
    page: Annotated[int, Query(ge=1, le=1_000_000)] = 1,
    size: Annotated[int, Query(ge=1, le=200)] = 20,
    sort: Annotated[str, Query(pattern="^-?(name|licence|privacy|created)$")] = "-created",
) -> DatasetPage:
    """Data sets that one may see; `search`: part of the name; `sort`: -name begins with the last."""
    conditions = shapes.listed(Dataset, search, who)
    rows, total = shapes.paged(session, Dataset, conditions, page, size, sort)
    return DatasetPage(items=[_view(d, who) for d in rows], total=total)


@router.post("", status_code=201)
def add_dataset(wish: DatasetWish, who: Somebody, platform: Here, session: Reading) -> DatasetView:
    """Add a data set; it is read in the background, `state` of its version says how far."""
    source, name = _file(session, platform, who, wish.file)
    given = wish.model_dump(exclude={"file"})
    dataset = Dataset(owner_id=who.user.id, created=time.time(), **given)
    return _added(platform, who, dataset, source, name, job_of(wish.file))


@router.post("/{number}/versions", status_code=201)
def add_version(number: Number, wish: VersionWish, who: Somebody, platform: Here, session: Reading) -> DatasetView:
    """Add a version; the older ones stay."""
    dataset = shapes.changed(session, Dataset, number, who)
    source, name = _file(session, platform, who, wish.file)
    return _added(platform, who, dataset, source, name, job_of(wish.file))


@router.post("/{number}/selection", status_code=201)
def keep_selection(
    number: Number, wish: NewFromSelection, who: Somebody, platform: Here, session: Reading
) -> DatasetView:
    """Make a data set of some structures of this one."""
    dataset, version, shelf = _shelf(session, platform, number, who, wish.version)
    chosen = np.flatnonzero(_chosen(shelf, wish))
    if not len(chosen):
        raise HTTPException(422, "no structure fits")
    return _of_frames(platform, who, dataset, version, shelf, chosen, wish.name)


@router.post("/{number}/parts", status_code=201)
def divide_dataset(number: Number, wish: Parts, who: Somebody, platform: Here, session: Reading) -> list[DatasetView]:
    """Divide a version into data sets for training, validation and test; what no frame falls to is left out."""
    dataset, version, shelf = _shelf(session, platform, number, who, wish.version)
    if wish.valid + wish.test >= 1:
        raise HTTPException(422, "valid and test leave nothing to train on")
    sides = parts.divided(shelf, wish.by, wish.valid, wish.test, wish.seed)
    return [
        _of_frames(platform, who, dataset, version, shelf, np.flatnonzero(sides == side), f"{dataset.name}, {name}",
                   f"{name}, {wish.by}, seed {wish.seed}")
        for side, name in enumerate(parts.SIDES) if (sides == side).any()
    ]  # fmt: skip


@router.get("/{number}/differences")
def see_differences(
    number: Number,
    first: Annotated[int, Query(ge=1, le=2**31 - 1)],
    second: Annotated[int, Query(ge=1, le=2**31 - 1)],
    who: Somebody,
    platform: Here,
    session: Reading,
) -> Difference:
    """What differs between two versions, structure by structure."""
    shelves = [_shelf(session, platform, number, who, version)[2] for version in (first, second)]
    found = parts.differences(*shelves)
    columns = {name: [_spread(shelf.column(name)) for shelf in shelves] for name in DRAWN}
    return Difference(
        same=found.same, relabelled=len(found.relabelled), removed=len(found.removed), added=len(found.added),
        removed_frames=found.removed[:MOST_LISTED], added_frames=found.added[:MOST_LISTED],
        relabelled_frames=found.relabelled[:MOST_LISTED], columns=columns,
    )  # fmt: skip


@router.get("/{number}")
def see_dataset(number: Number, who: Somebody, session: Reading) -> DatasetView:
    """One data set."""
    return _view(shapes.seen(session, Dataset, number, who), who)


@router.patch("/{number}")
def change_dataset(number: Number, wish: DatasetChange, who: Somebody, session: Writing) -> DatasetView:
    """Change what is said about it."""
    dataset = shapes.changed(session, Dataset, number, who)
    shapes.alter(session, dataset, wish.model_dump(exclude_none=True), who, f"dataset {number}")
    return _view(dataset, who)


@router.delete("/{number}", status_code=204)
def delete_dataset(number: Number, who: Somebody, platform: Here, session: Writing) -> None:
    """Remove a data set; contents that no other one has go, too."""
    dataset = shapes.changed(session, Dataset, number, who)
    contents = {v.sha256 for v in dataset.versions}
    queue.refuse_in_use(session, f"dataset:{number}")
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
        groups=[shelf.groups[k] for k in shelf.column("group")[some]],
        modes=[shelf.modes[k] for k in shelf.column("mode")[some]],
        columns={name: numbers(shelf.column(name)[some].astype(float)) for name in DRAWN},
        selected=len(there),
    )


def _file(session: Session, platform: Platform, who: Who, reference: str) -> tuple[Path, str]:
    """Path and name of the file that a reference means."""
    found = inputs_of(session, platform.home, who.user, {"file": reference})
    if not found or not Path(found[0].source).is_file():
        raise FileError(f"file = {reference}: expected upload:..., job:12/name or dataset:3")
    return Path(found[0].source), found[0].name


def _added(
    platform: Platform, who: Who, dataset: Dataset, source: Path, name: str, job: int | None = None
) -> DatasetView:
    """A version of a file: kept by its content, read in the background unless it was read before."""
    with platform.database.reading() as session:
        shapes.refuse_without_room(session, who, source.stat().st_size)
    sha256, there = data_sets.keep_file(platform.home, source, name)
    with platform.database.writing() as session:
        dataset = session.merge(dataset)
        session.flush()
        session.refresh(dataset)
        version = data_sets.add_version(session, dataset, sha256, there, job)
        who.did(session, "added a version", f"dataset {dataset.id}", after={"name": dataset.name, "sha256": sha256})
        view = _view(dataset, who)
        number = version.id
    platform.librarian.read(number)
    return view


def _of_frames(
    platform: Platform, who: Who, dataset: Dataset, version: DatasetVersion, shelf: Shelf, chosen: np.ndarray,
    name: str, how: str = "",
) -> DatasetView:  # fmt: skip
    """A data set of some frames of a version."""
    path = platform.home.cache / f"selection-{time.time_ns()}.extxyz"
    source = f"{len(chosen)} structures of dataset:{dataset.id}@{version.number}{f' ({how})' if how else ''}"
    try:
        write_extxyz(shelf, chosen.tolist(), path)
        fresh = Dataset(
            owner_id=who.user.id, created=time.time(), name=name[:200], licence=dataset.licence, privacy="private",
            source=source, description=dataset.description,
        )  # fmt: skip
        return _added(platform, who, fresh, path, file_name(name, ".extxyz"))
    finally:
        path.unlink(missing_ok=True)


def _spread(column: np.ndarray) -> Spread:
    known = column[np.isfinite(column)].astype(float)
    if not len(known):
        return Spread(least=None, middle=None, largest=None)
    return Spread(least=float(known.min()), middle=float(np.median(known)), largest=float(known.max()))


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
    if wish.check is not None:
        mask &= quality.CHECKS[wish.check][0](shelf)
    for column, names, name in (("group", shelf.groups, wish.group), ("mode", shelf.modes, wish.mode)):
        if name is not None:
            mask &= shelf.column(column) == (names.index(name) if name in names else -1)
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
    empty: dict[str, Any] = {"atoms": 0, "elements": {}, "labels": {}, "checks": [], "groups": {}, "modes": {}}
    known = version.summary if version.state == "ready" else {}
    return VersionView(
        **{name: getattr(version, name) for name in names}, **{k: known.get(k, none) for k, none in empty.items()}
    )
