"""Reading and writing structures in files: which format, and one frame at a time.

Frames travel as ASE Atoms with whatever labels the file holds in `info`, `arrays` or the calculator slot;
`data.reading` decides which of them are the reference labels. Lengths in Angstrom and energies in eV, by the
convention of each format.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from ase import Atoms

from rutile.core.errors import DataError, FileError, RutileError
from rutile.core.files import did_you_mean
from rutile.structures.formats.common import BadFrame, Entry


@dataclass(frozen=True)
class FileFormat:
    """One file format."""

    module: str
    """Module with `read(path) -> Iterator[Entry]` and `write(path, frames) -> int`."""
    what: str
    """One line for people."""
    holds: tuple[str, ...]
    """Labels that the format can hold: energy, forces, stress."""
    one_frame: bool = False
    """Whether a file holds one structure only; several are written as numbered files of a folder."""
    read: str = "read"
    """Name of the reading function."""
    write: str = "write"
    """Name of the writing function."""


EF = ("energy", "forces")
EFS = ("energy", "forces", "stress")
_ROOM = "rutile.structures.formats"
FORMATS: dict[str, FileFormat] = {
    "extxyz": FileFormat(f"{_ROOM}.extxyz", "extended XYZ", EFS),
    "cif": FileFormat(f"{_ROOM}.through_ase", "CIF", (), read="read_cif", write="write_cif"),
    "poscar": FileFormat(f"{_ROOM}.poscar", "VASP POSCAR or CONTCAR", (), one_frame=True),
    "xsf": FileFormat(f"{_ROOM}.xsf", "XSF of aenet", EF, one_frame=True),
    "n2p2": FileFormat(f"{_ROOM}.n2p2", "n2p2 (RuNNer) input.data", EF),
    "deepmd": FileFormat(f"{_ROOM}.deepmd", "DeePMD folder of set.*/*.npy", EFS),
    "traj": FileFormat(f"{_ROOM}.through_ase", "ASE trajectory", EFS, read="read_traj", write="write_traj"),
    "db": FileFormat(f"{_ROOM}.through_ase", "ASE database (SQLite)", EFS, read="read_db", write="write_db"),
    "aselmdb": FileFormat(f"{_ROOM}.aselmdb", "ASE rows in LMDB (fairchem)", EFS),
}


def expand(paths: Iterable[Path | str], whole: Callable[[Path], bool] | None = None) -> list[Path]:
    """Files of a list of files, folders and patterns such as "data/*.xyz", sorted within each.

    Args:
        paths: the list.
        whole: tells folders that count as one file; those of DeePMD always do.

    Raises:
        FileError: a path or pattern matches nothing.
    """
    found: list[Path] = []
    for given in paths:
        path = Path(given).expanduser()
        if path.is_dir() and not _is_system(path) and not (whole and whole(path)):
            inside = _inside(path, whole)
            if not inside:
                raise FileError(f"{path}: the folder holds no file of a known format ({', '.join(FORMATS)})")
            found += inside
        elif path.exists():
            found.append(path)
        elif any(c in str(path) for c in "*?["):
            anchor = Path(path.anchor) if path.is_absolute() else Path()
            matches = sorted(anchor.glob(str(path.relative_to(path.anchor) if path.is_absolute() else path)))
            if not matches:
                raise FileError(f"{path}: no file matches this pattern")
            found += expand(matches, whole)
        else:
            raise FileError(f"{path}: no such file{did_you_mean(path)}")
    return found


def _inside(folder: Path, whole: Callable[[Path], bool] | None) -> list[Path]:
    found: list[Path] = []
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if _is_system(path) or (path.is_file() and by_name(path) is not None) or (whole and whole(path)):
            found.append(path)
        elif path.is_dir():
            found += _inside(path, whole)
    return found


def _is_system(path: Path) -> bool:
    """Whether a folder is one system of DeePMD."""
    return path.is_dir() and (path / "type.raw").is_file()


def by_name(path: Path) -> str | None:
    """Format that the name of a file suggests."""
    name = path.name.lower()
    if path.is_dir():
        return "deepmd" if next(path.rglob("type.raw"), None) else None
    suffixes = {
        ".xyz": "extxyz", ".extxyz": "extxyz", ".cif": "cif", ".poscar": "poscar", ".vasp": "poscar", ".xsf": "xsf",
        ".traj": "traj", ".db": "db", ".aselmdb": "aselmdb", ".lmdb": "aselmdb",
    }  # fmt: skip
    if path.suffix.lower() in suffixes:
        return suffixes[path.suffix.lower()]
    if name.startswith(("poscar", "contcar")):
        return "poscar"
    if name.startswith("input.data") or path.suffix.lower() == ".data":
        return "n2p2"
    return None


def detect(path: Path) -> str:
    """Format of an existing file, by its name and else by its first bytes.

    Raises:
        FileError: no known format.
    """
    name = by_name(path) or _by_content(path)
    if name is None:
        raise FileError(f"{path}: unknown file format; say format=... (known: {', '.join(FORMATS)})")
    return name


def _by_content(path: Path) -> str | None:
    try:
        with path.open("rb") as handle:
            start = handle.read(4096)
    except OSError:
        return None
    first = start.split(b"\n")[0].strip()
    if first == b"begin":
        return "n2p2"
    if start.startswith(b"SQLite format 3"):
        return "db"
    if first.isdigit():
        return "extxyz"
    if b"PRIMVEC" in start or first in (b"ATOMS", b"CRYSTAL"):
        return "xsf"
    return None


def format_for_writing(path: Path, format: str | None = None) -> str:
    """Format in which to write a path.

    Raises:
        FileError: the name says none and none is given.
    """
    name = format or by_name(path)
    if name is None:
        raise FileError(f"{path}: the name says no file format; say format=... (known: {', '.join(FORMATS)})")
    return name


def _lookup(name: str) -> FileFormat:
    if name not in FORMATS:
        raise FileError(f"unknown file format {name!r}: choose one of {', '.join(FORMATS)}")
    return FORMATS[name]


def entries(
    path: Path | str, format: str | None = None, first: int = 0, where: Mapping[str, Any] | None = None
) -> Iterator[Entry]:
    """Frames of one file in order, a `BadFrame` in the place of each that cannot be read.

    Args:
        path: the file.
        format: its format; default: as its name or content says.
        first: number of the first frame of a portion of the file.
        where: arguments of the format's reader that say which portion (see `structures.portions`).

    Raises:
        FileError: the file, or its rest, cannot be understood. The message names the file.
    """
    path = Path(path)
    if not path.exists():
        raise FileError(f"{path}: no such file{did_you_mean(path)}")
    spec = _lookup(format or detect(path))
    reader: Callable[..., Iterator[Entry]] = getattr(import_module(spec.module), spec.read)
    number = first
    try:
        for entry in reader(path, **(where or {})):
            yield entry
            number += 1
    except FileError as error:
        raise type(error)(f"{path}: frame {number}: {error}") from None
    except OSError as error:
        at = f"frame {number}: " if number else ""
        raise FileError(f"{path}: {at}cannot be read: {error.strerror or error}") from None


def iterate(path: Path | str, format: str | None = None) -> Iterator[Atoms]:
    """Frames of one file, one at a time.

    Raises:
        FileError: the file, or its rest, cannot be understood.
        DataError: a frame cannot be read. Messages name the file and the 0-based frame.
    """
    for number, entry in enumerate(entries(path, format)):
        if isinstance(entry, BadFrame):
            raise type(entry.problem)(f"{path}: frame {number}: {entry.problem}")
        yield entry


def write_frames(path: Path | str, frames: Atoms | Iterable[Atoms], format: str | None = None) -> int:
    """Write frames whole or not at all (to a temporary name, then renamed); returns how many.

    Labels are taken from `REF_energy`, `REF_forces`, `REF_stress` and else from the calculator slot.

    Raises:
        FileError: the format is unknown or the place cannot be written.
    """
    path = Path(path)
    spec = _lookup(format_for_writing(path, format))
    writer: Callable[[Path, Iterable[Atoms]], int] = getattr(import_module(spec.module), spec.write)
    problems: list[RutileError] = []
    images = _noting(iter([frames] if isinstance(frames, Atoms) else frames), problems)
    folder_of_files = spec.one_frame and by_name(path) is None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
            part = Path(folder) / path.name
            if folder_of_files:
                count = _write_numbered(part, images, writer, name_of=spec.module.rsplit(".", 1)[1])
            elif spec.one_frame:
                count = writer(part, [_only(images, spec)])
            else:
                count = writer(part, images)
            _move(part, path)
    except (FileError, DataError) as error:
        if error in problems:  # of where the frames come from, not of this file
            raise
        raise type(error)(f"{path}: {error}") from None
    except OSError as error:
        raise FileError(f"{path}: cannot be written: {error.strerror or error}") from None
    return count


def _noting(frames: Iterator[Atoms], problems: list[RutileError]) -> Iterator[Atoms]:
    """The frames; an error of their source is also put into `problems`."""
    try:
        yield from frames
    except RutileError as error:
        problems.append(error)
        raise


def _only(frames: Iterator[Atoms], spec: FileFormat) -> Atoms:
    """The only frame.

    Raises:
        DataError: there is none, or another one.
    """
    first = next(frames, None)
    if first is None:
        raise DataError("no frame to write")
    if next(frames, None) is not None:
        raise DataError(f"{spec.what} holds one structure; give the name of a folder for several")
    return first


def _write_numbered(
    folder: Path, frames: Iterator[Atoms], writer: Callable[[Path, Iterable[Atoms]], int], name_of: str
) -> int:
    """One numbered file for each frame."""
    pattern = "POSCAR_{:06d}" if name_of == "poscar" else "structure_{:06d}." + name_of
    folder.mkdir()
    count = 0
    for atoms in frames:
        writer(folder / pattern.format(count), [atoms])
        count += 1
    return count


def _move(part: Path, path: Path) -> None:
    """Put a finished file or folder into its place; an existing file is replaced, a folder with content is not."""
    if path.is_dir() and any(path.iterdir()):
        raise FileError("the folder exists and is not empty; remove it or choose another name")
    if path.is_dir():
        path.rmdir()
    part.replace(path)


def read_all(path: Path | str, format: str | None = None) -> list[Atoms]:
    """All frames of one file."""
    return list(iterate(path, format))
