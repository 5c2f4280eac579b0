"""aselmdb: ASE database rows in LMDB, the layout of fairchem's data sets (OC20, OMat24, ...).

Keys are ids in ASCII digits; values are zlib-compressed JSON of an ASE row (numbers, positions, cell, pbc, energy,
forces, stress, key_value_pairs, data, ...). The reserved keys "nextid", "deleted_ids" and "metadata" hold compressed
JSON as well. Source: fairchem-core, `core/datasets/lmdb_database.py`.

Needs the optional package `lmdb`.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.db.core import now
from ase.db.row import AtomsRow
from ase.io.jsonio import decode as decode_ase

from rutile.core.errors import DataError, FileError, MissingPackageError
from rutile.structures.formats.common import BadFrame, Entry
from rutile.structures.formats.through_ase import calculated, from_row, split_info

MAP_SIZE = 1 << 40
"""Largest size of a written file (bytes); the file itself grows as needed."""
LARGEST_ROW = 1 << 30
"""Bytes of a decompressed row beyond which it is damage."""


def _lmdb() -> Any:
    try:
        import lmdb
    except ImportError:
        raise MissingPackageError("aselmdb files need the package lmdb: pip install lmdb") from None
    return lmdb


def read(path: Path, ids: Sequence[int] | None = None) -> Iterator[Entry]:
    """Rows in order of their ids, one at a time.

    Args:
        path: the file.
        ids: of the rows; default: all.

    Raises:
        MissingPackageError: lmdb is not installed.
        FileError: not such a file.
    """
    with _transaction(path) as transaction:
        for number in _ids(transaction) if ids is None else ids:
            yield _row(transaction.get(str(number).encode()), number)


def places(path: Path, frames: int) -> Iterator[tuple[int, dict[str, list[int]]]]:
    """Number of the first frame, and arguments of `read`, for portions of so many rows."""
    try:
        with _transaction(path) as transaction:
            ids = _ids(transaction)
    except FileError:
        yield 0, {}  # `read` says what is wrong
        return
    for first in range(0, len(ids), frames):
        yield first, {"ids": ids[first : first + frames]}


def _ids(transaction: Any) -> list[int]:
    return sorted(int(key) for key in transaction.cursor().iternext(values=False) if key.isdigit())


@contextmanager
def _transaction(path: Path) -> Iterator[Any]:
    """An open file, for reading."""
    lmdb = _lmdb()
    try:
        environment = lmdb.open(str(path), subdir=path.is_dir(), readonly=True, lock=False, meminit=False)
    except lmdb.Error as error:
        raise FileError(f"not an LMDB file, or damaged ({str(error)[:100]})") from None
    try:
        _require_whole(path / "data.mdb" if path.is_dir() else path, environment)
        with environment.begin() as transaction:
            yield transaction
    except lmdb.Error as error:
        raise FileError(f"damaged LMDB file ({str(error)[:100]})") from None
    finally:
        environment.close()


def _require_whole(path: Path, environment: Any) -> None:
    """Refuse a truncated file: LMDB maps it into memory, and touching what is not there would kill the process.

    Raises:
        FileError: the file is shorter than its own table of contents says.
    """
    need = (environment.info()["last_pgno"] + 1) * environment.stat()["psize"]
    if (size := path.stat().st_size) < need:
        raise FileError(f"truncated: {size} bytes of {need}")


def _row(value: bytes, number: int) -> Entry:
    try:
        unpacker = zlib.decompressobj()
        text = unpacker.decompress(value, LARGEST_ROW)
        content = decode_ase(text.decode()) if b"__ndarray__" in text else json.loads(text)
        content = {
            k: np.array(v) if isinstance(v, list) and k not in ("constraints",) else v for k, v in content.items()
        }
        content.setdefault("unique_id", str(number))
        row = AtomsRow({**content, "id": number})
    except Exception as error:
        return BadFrame(DataError(f"row {number} is damaged ({type(error).__name__}: {str(error)[:100]})"))
    return from_row(row)


def write(path: Path, frames: Iterable[Atoms]) -> int:
    """Write rows with labels in their calculator fields.

    Raises:
        MissingPackageError: lmdb is not installed.
    """
    lmdb = _lmdb()
    count = 0
    try:
        with (
            lmdb.open(str(path), subdir=False, map_size=MAP_SIZE, meminit=False, lock=False) as environment,
            environment.begin(write=True) as transaction,
        ):
            for atoms in frames:
                count += 1
                transaction.put(str(count).encode(), _pack(_content(atoms)))
            transaction.put(b"nextid", _pack(count + 1))
            transaction.put(b"metadata", _pack({"format": "aselmdb written by rutile"}))
    except lmdb.Error as error:
        raise FileError(f"cannot be written: {str(error)[:100]}") from None
    return count


def _content(atoms: Atoms) -> dict[str, Any]:
    labelled = calculated(atoms)
    pairs, data = split_info(labelled)
    row = AtomsRow(labelled)
    keys = [k for k in row.__dict__ if k[0] != "_" and k not in ("id", "info", "constraints")]
    content = {k: row[k] for k in keys if row.get(k) is not None}
    content |= {"cell": np.asarray(labelled.cell.array), "mtime": now(), "ctime": now()}
    if pairs:
        content["key_value_pairs"] = pairs
    if data:
        content["data"] = data
    return content


def _pack(value: Any) -> bytes:
    return zlib.compress(json.dumps(value, default=_plain).encode())


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")
