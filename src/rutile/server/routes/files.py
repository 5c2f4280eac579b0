"""Files of a job: list, preview, download, all in one archive. Files have ids; no path is ever asked for."""

from __future__ import annotations

import tempfile
import zipfile
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import Annotated, BinaryIO
from urllib.parse import quote

from fastapi import APIRouter, HTTPException
from fastapi import Path as InPath
from fastapi.responses import Response, StreamingResponse
from sqlalchemy.orm import Session

from rutile.core.settings import Result
from rutile.jobs import safe_files
from rutile.jobs.folder import FILES
from rutile.jobs.safe_files import Entry
from rutile.jobs.shelf import Shelf
from rutile.jobs.sources import file_name, readable
from rutile.jobs.tables import Job
from rutile.server import shapes
from rutile.server.crate import write_crate
from rutile.server.figures import Figure, figures_of
from rutile.server.frames import FrameView, Track, frame_view, shelf_of, track
from rutile.server.lineage import Lineage, lineage_of
from rutile.server.people import Here, Reading, Somebody, Who
from rutile.server.platform import Platform
from rutile.server.shapes import FrameNumber, Number
from rutile.train.report import SORTING

router = APIRouter(prefix="/jobs/{number}", tags=["files"])
FileId = Annotated[str, InPath(min_length=20, max_length=20, pattern="^[0-9a-f]+$")]
_SORTING = b64encode(sha256(SORTING.removeprefix("<script>").removesuffix("</script>").encode()).digest()).decode()
REPORT = (
    f"sandbox allow-scripts; default-src 'none'; script-src 'sha256-{_SORTING}'; style-src 'unsafe-inline'; "
    "img-src data:"
)
"""What a report may do, in a frame without an origin: its tables are sorted, no other script runs."""
LOCKED = {"Content-Security-Policy": "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:"}
"""Files of users run nothing, also where a browser shows them."""
PIECE = 1 << 20
PREVIEW = 200_000
"""Bytes of text that a preview shows."""
PICTURES = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".gif": "image/gif",
    ".webp": "image/webp",
}
STRUCTURES = {".extxyz", ".xyz", ".cif", ".vasp", ".poscar", ".xsf", ".traj"}


class FileView(Result):
    """A file or folder that a job wrote."""

    id: str
    """To be asked for."""
    path: str
    """Within the job, with slashes."""
    folder: bool
    """Whether it is a folder."""
    size: int
    """Bytes."""
    changed: float
    """When it was last written (s since 1970)."""
    kind: str
    """folder, structures, table, text, picture, page, model or data: how it can be shown."""
    reference: str
    """By which another job can read it."""


class Preview(Result):
    """The beginning of a file as text."""

    path: str
    """Of the file."""
    kind: str
    """As of the file."""
    text: str
    """Its beginning; empty where it is no text."""
    whole: bool
    """Whether that is all."""
    size: int
    """Bytes of the file."""


@router.get("/files")
def list_files(number: Number, who: Somebody, platform: Here, session: Reading) -> list[FileView]:
    """Everything that the job wrote, folders before what is in them."""
    root = _root(session, platform, number, who)
    return [
        FileView(id=e.id, path=e.path, folder=e.folder, size=e.size, changed=e.changed, kind=kind_of(e),
                 reference=f"job:{number}/{e.path}")
        for e in safe_files.listing(root)
    ]  # fmt: skip


@router.get("/files/{file}/preview")
def preview_file(number: Number, file: FileId, who: Somebody, platform: Here, session: Reading) -> Preview:
    """The beginning of a file as text."""
    root = _root(session, platform, number, who)
    entry = _entry(root, file)
    with _opened(root, entry) as stream:
        data = stream.read(PREVIEW)
    text = "" if b"\0" in data else data.decode(errors="replace")
    return Preview(path=entry.path, kind=kind_of(entry), text=text, whole=entry.size <= PREVIEW, size=entry.size)


@router.get("/figures")
def see_figures(number: Number, who: Somebody, platform: Here, session: Reading) -> list[Figure]:
    """Curves of the tables that the job wrote, where it is known how these are drawn; points know their structures."""
    job = shapes.seen(session, Job, number, who)
    return figures_of(job, platform.home.job(job.id))


@router.get("/files/{file}/frames/{frame}")
def see_frame(
    number: Number, file: FileId, frame: FrameNumber, who: Somebody, platform: Here, session: Reading
) -> FrameView:
    """One structure of a file of structures, with energy and forces where the file has them."""
    return frame_view(_shelf(session, platform, number, file, who), frame)


@router.get("/files/{file}/track")
def see_track(number: Number, file: FileId, who: Somebody, platform: Here, session: Reading) -> Track:
    """Energy and largest force of every structure of a file: for a curve below the picture."""
    return track(_shelf(session, platform, number, file, who))


@router.get("/files/{file}/download", response_class=Response)
def download_file(number: Number, file: FileId, who: Somebody, platform: Here, session: Reading) -> Response:
    """A file as it is, to be kept; a browser shows only pictures, and runs nothing."""
    root = _root(session, platform, number, who)
    entry = _entry(root, file)
    stream = _opened(root, entry)
    name = PurePosixPath(entry.path).name
    picture = PICTURES.get(PurePosixPath(name).suffix.lower())
    manner = "inline" if picture else "attachment"
    headers = LOCKED | {"Content-Disposition": f"{manner}; filename*=UTF-8''{quote(name)}"}
    return StreamingResponse(pieces(stream), media_type=picture or "application/octet-stream", headers=headers)


@router.get("/files/{file}/page", response_class=Response)
def show_page(number: Number, file: FileId, who: Somebody, platform: Here, session: Reading) -> Response:
    """An HTML report that the job wrote, for a frame: it loads nothing, and runs nothing but what sorts its tables."""
    root = _root(session, platform, number, who)
    entry = _entry(root, file)
    if kind_of(entry) != "page":
        raise HTTPException(404, "this file is no page")
    frame = {"X-Frame-Options": "SAMEORIGIN"}
    headers = frame | {"Content-Security-Policy": f"{REPORT}; frame-ancestors 'self'"}
    return StreamingResponse(pieces(_opened(root, entry)), media_type="text/html; charset=utf-8", headers=headers)


@router.get("/zip", response_class=Response)
def download_all(number: Number, who: Somebody, platform: Here, session: Reading) -> Response:
    """Everything that the job wrote in one archive."""
    job = shapes.seen(session, Job, number, who)
    return archive_of(platform, [job], f"{file_name(job.name)}-{job.id}.zip")


@router.get("/crate", response_class=Response)
def download_crate(number: Number, who: Somebody, platform: Here, session: Reading) -> Response:
    """Everything that the job wrote as an RO-Crate: an archive that says what is in it and where it comes from."""
    job = shapes.seen(session, Job, number, who)
    lineage = lineage_of(session, job, who.user)
    folder = platform.home.job(job.id)
    name = f"{file_name(job.name)}-{job.id}.crate.zip"
    return _archive(platform, name, lambda out: write_crate(out, job, folder, lineage))


@router.get("/lineage")
def see_lineage(number: Number, who: Somebody, session: Reading) -> Lineage:
    """Where the job comes from, and what was made of it: data, models, jobs."""
    return lineage_of(session, shapes.seen(session, Job, number, who), who.user)


def archive_of(platform: Platform, jobs: Sequence[Job], name: str) -> Response:
    """Everything that jobs wrote in one archive, a folder for each.

    Args:
        platform: that has them.
        jobs: that may be seen.
        name: of the archive.
    """

    def write(out: zipfile.ZipFile) -> None:
        for job in jobs:
            root = platform.home.job(job.id) / FILES
            for entry in (one for one in safe_files.listing(root) if not one.folder):
                with _opened(root, entry) as stream, out.open(_member(job, entry), "w", force_zip64=True) as target:
                    for piece in pieces(stream):
                        target.write(piece)

    return _archive(platform, name, write)


def _archive(platform: Platform, name: str, write: Callable[[zipfile.ZipFile], None]) -> Response:
    """An archive that is written whole before it is sent."""
    archive = tempfile.TemporaryFile(dir=platform.home.uploads)  # noqa: SIM115 - closed when it has been sent
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as out:
        write(out)
    archive.seek(0)
    headers = LOCKED | {"Content-Disposition": f"attachment; filename*=UTF-8''{quote(name)}"}
    return StreamingResponse(pieces(archive), media_type="application/zip", headers=headers)


def _member(job: Job, entry: Entry) -> str:
    return f"{file_name(job.name)}-{job.id}/{entry.path.encode(errors='replace').decode()}"


def kind_of(entry: Entry) -> str:
    """How a file can be shown."""
    name = PurePosixPath(entry.path).name
    ending = PurePosixPath(name).suffix.lower()
    if entry.folder:
        return "folder"
    if ending in STRUCTURES or name in ("POSCAR", "CONTCAR"):
        return "structures"
    if ending in PICTURES:
        return "picture"
    kinds = {".csv": "table", ".html": "page", ".rutile": "model"}
    texts = (".txt", ".log", ".json", ".jsonl", ".yaml", ".yml", ".md", ".svg", ".toml", ".dat")
    return kinds.get(ending, "text" if ending in texts else "data")


def pieces(stream: BinaryIO) -> Iterator[bytes]:
    """A file in pieces; it is closed at the end."""
    with stream:
        while piece := stream.read(PIECE):
            yield piece


def _shelf(session: Session, platform: Platform, number: int, file: str, who: Who) -> Shelf:
    """The structures of a file that a job wrote, no part of whose path is a link."""
    job = shapes.seen(session, Job, number, who)
    root = platform.home.job(job.id) / FILES
    entry = _entry(root, file)
    _opened(root, entry).close()
    return shelf_of(platform.home, readable(platform.home, job, entry.path))


def _root(session: Session, platform: Platform, number: int, who: Who) -> Path:
    return platform.home.job(shapes.seen(session, Job, number, who).id) / FILES


def _entry(root: Path, file: str) -> Entry:
    entry = safe_files.find(root, file)
    if entry is None or entry.folder:
        raise HTTPException(404, "no such file")
    return entry


def _opened(root: Path, entry: Entry) -> BinaryIO:
    try:
        return safe_files.open_inside(root, entry.path)
    except OSError:
        raise HTTPException(404, "no such file") from None
