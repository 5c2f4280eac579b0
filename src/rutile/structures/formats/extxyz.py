"""Extended XYZ: frames are found here one at a time, and parsed by ASE.

Written files keep every digit (shortest decimal that reads back as the same double); ASE's own writer rounds to 8.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from io import StringIO
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from ase import Atoms
from ase.io.extxyz import key_val_dict_to_str, key_val_str_to_dict, read_xyz

from rutile.core.errors import DataError, FileError
from rutile.structures.formats.common import MAX_LINE, BadFrame, Entry, decode

OURS = ("Lattice", "Properties", "pbc")
"""Names in the comment line that are the structure's own."""
SHORTEST_ATOM = 8
"""Bytes of the shortest possible line of an atom, "H 0 0 0" and its end."""
_NINE = re.compile(r"(^|\s)(stress|virial)(?=\s*=)")


def read(path: Path, at: int = 0, line: int = 0, frames: int | None = None) -> Iterator[Entry]:
    """Frames of an extended XYZ file, one at a time.

    A frame followed by something else than the header of another has a wrong number of atoms: it is bad, and reading
    goes on at the next line that is a number alone.

    Args:
        path: the file.
        at: byte at which a frame begins, from which on it is read.
        line: number of lines before that byte.
        frames: number of frames to read; default: to the end.

    Raises:
        FileError: from here on the file cannot be understood.
    """
    with path.open("rb") as handle:
        size = os.fstat(handle.fileno()).st_size
        handle.seek(at)
        yield from islice(_entries(handle, size, line), frames)


def _entries(handle: BinaryIO, size: int, number: int) -> Iterator[Entry]:
    header = handle.readline(MAX_LINE)
    while header:
        if not header.strip():
            header, number = handle.readline(MAX_LINE), number + 1
            continue
        lines = _frame_lines(handle, header, number, size)
        number += len(lines) + 1
        header = handle.readline(MAX_LINE)
        extra = 0
        while header.strip() and not _is_header(header):
            decode(header, number)
            header, number, extra = handle.readline(MAX_LINE), number + 1, extra + 1
        if extra:
            yield BadFrame(
                DataError(f"{len(lines) - 1} atoms announced, but {extra} more lines follow: a wrong number of atoms")
            )
            continue
        try:
            yield _parse(lines)
        except DataError as error:
            yield BadFrame(error)


def places(path: Path, frames: int) -> Iterator[tuple[int, dict[str, int | None]]]:
    """Number of the first frame, and arguments of `read`, for portions of so many frames; found without parsing.

    Where the file cannot be understood the last portion takes all the rest.
    """
    with path.open("rb") as handle:
        found = begin = line = number = 0
        start = (0, 0, 0)  # frame, byte, line
        header = handle.readline(MAX_LINE)
        while header:
            if not header.strip():
                begin, line, header = handle.tell(), line + 1, handle.readline(MAX_LINE)
                continue
            if not _is_header(header):
                break
            if found - start[0] == frames:
                yield start[0], {"at": start[1], "line": start[2], "frames": frames}
                start = (found, begin, line)
            number = int(header) + 1
            if sum(1 for _ in islice(handle, number)) < number:
                break
            line += number + 1
            begin, header = handle.tell(), handle.readline(MAX_LINE)
            while header.strip() and not _is_header(header):
                line += 1
                begin, header = handle.tell(), handle.readline(MAX_LINE)
            found += 1
    yield start[0], {"at": start[1], "line": start[2], "frames": None}


def _is_header(line: bytes) -> bool:
    return re.fullmatch(rb"\s*\d{1,15}\s*", line) is not None


def _frame_lines(handle: BinaryIO, header: bytes, number: int, size: int) -> list[str]:
    """Comment line and atom lines of the frame whose header was just read; `number` lines were read before it."""
    text = decode(header, number).strip()
    if not _is_header(header):
        raise FileError(f"line {number + 1} should be a number of atoms, but is {text[:40]!r}: not extended XYZ")
    count = int(text)
    left = size - handle.tell()
    if count * SHORTEST_ATOM > left + 1:
        raise FileError(
            f"line {number + 1} announces {count} atoms, but only {left} bytes follow: truncated, or a wrong header"
        )
    lines = []
    for k in range(count + 1):
        line = handle.readline(MAX_LINE)
        if not line:
            raise FileError(f"the file ends in the middle of a frame ({max(k - 1, 0)} of {count} atoms): truncated")
        lines.append(decode(line, number + 1 + k))
    return lines


def _properties(line: str) -> dict[str, Any]:
    """The comment line; a stress of six numbers, which ASE refuses, becomes a 3x3 matrix like one of nine."""
    info: dict[str, Any] = key_val_str_to_dict(_NINE.sub(r"\1_rutile_\2", line))
    for name in ("stress", "virial"):
        value = info.pop(f"_rutile_{name}", None)
        if value is None:
            continue
        value = np.asarray(value)
        if value.size == 6 and value.dtype.kind in "fi":
            xx, yy, zz, yz, xz, xy = value.ravel()
            value = np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]], dtype=np.float64)
        if value.size != 9 or value.dtype.kind not in "fi":
            raise DataError(f"{name} should be 6 (Voigt) or 9 numbers, but is {str(value)[:60]!r}")
        info[name] = value.reshape(3, 3)
    return info


def _parse(lines: list[str]) -> Atoms:
    count = len(lines) - 1
    if count == 0:
        raise DataError("the frame has no atoms")
    try:
        text = "\n".join([str(count), *lines, ""])
        atoms = next(read_xyz(StringIO(text), index=0, properties_parser=_properties))
    except DataError:
        raise
    except KeyError as error:
        raise DataError(f"unknown element or property {error}") from None
    except Exception as error:
        raise DataError(f"not a valid extended XYZ frame ({type(error).__name__}: {str(error)[:120]})") from None
    assert isinstance(atoms, Atoms)
    return atoms


def write(path: Path, frames: Iterable[Atoms]) -> int:
    """Write frames with all their info, arrays and calculator results; returns how many."""
    count = 0
    with path.open("w") as handle:
        for atoms in frames:
            handle.write(text(atoms))
            count += 1
    return count


def text(atoms: Atoms) -> str:
    """One frame with all its info, arrays and calculator results."""
    info: dict[str, Any] = {}
    if atoms.cell.rank > 0:
        info["Lattice"] = atoms.cell.array.T
    columns: dict[str, np.ndarray] = {
        "species": np.array(atoms.get_chemical_symbols()),
        "pos": atoms.positions,
    }
    columns |= {k: v for k, v in atoms.arrays.items() if k not in ("numbers", "positions")}
    results = atoms.calc.results if atoms.calc is not None else {}
    for name, value in results.items():
        if name in ("energy", "free_energy") and value is not None:
            info[name] = float(value)
        elif name == "stress" and value is not None:
            info[name] = _matrix(np.asarray(value))
        elif name == "forces" and value is not None:
            columns["forces"] = np.asarray(value)
    names = [f"{k}:{_kind(v)}:{v.shape[1] if v.ndim > 1 else 1}" for k, v in columns.items()]
    info["Properties"] = ":".join(names)
    info |= {k: value for k, v in atoms.info.items() if k not in OURS and (value := _written(v)) is not None}
    info["pbc"] = np.array(atoms.pbc)
    words = [_words(v) for v in columns.values()]
    rows = [" ".join(row) for row in zip(*words, strict=True)]
    return "\n".join([str(len(atoms)), key_val_dict_to_str(info), *rows, ""])


def _matrix(stress: np.ndarray) -> np.ndarray:
    if stress.shape != (6,):
        return stress.reshape(3, 3)
    xx, yy, zz, yz, xz, xy = stress
    return np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])


def _written(value: Any) -> Any:
    """An info entry as it reads back, or None for what the format has no word for.

    A 3x3 matrix becomes nine numbers (ASE would write it as JSON), a line break or tab in a text a blank: the comment
    is one line.
    """
    if isinstance(value, str):
        return re.sub(r"[^\S ]", " ", value).replace("\\", "\\\\") or None
    if isinstance(value, np.ndarray) and value.shape == (3, 3) and value.dtype.kind in "fi":
        return value.ravel()
    known = (bool, int, float, np.bool_, np.integer, np.floating, np.ndarray, list, tuple, dict)
    return value if isinstance(value, known) else None


def _kind(column: np.ndarray) -> str:
    return {"f": "R", "i": "I", "u": "I", "b": "L"}.get(column.dtype.kind, "S")


def _words(column: np.ndarray) -> list[str]:
    if column.dtype.kind == "f":
        if column.ndim == 1:
            return [repr(x) for x in column.tolist()]
        return [" ".join(map(repr, row)) for row in column.reshape(len(column), -1).tolist()]
    if column.dtype.kind == "b":
        column = np.where(column, "T", "F")
    if column.ndim == 1:
        return [str(x) for x in column.tolist()]
    return [" ".join(map(str, row)) for row in column.reshape(len(column), -1).tolist()]
