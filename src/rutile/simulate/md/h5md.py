"""Trajectories as HDF5 files in the layout of H5MD, readable at any instant, whatever happens to their writer.

The whole file is laid out before the first step: contiguous datasets with room for every frame, reserved on the disk.
A frame is then written as bytes to its place, and last its step number; frames that are not there yet have step -1.
The structure of the file never changes, so that a kill cannot damage it, and a frame that is written again is no second
one. A disk that is too small says so at the start.

    /particles/atoms/species                   [N] atomic numbers
    /particles/atoms/mass                      [N] (u)
    /particles/atoms/position/{value,step,time}    [F, N, 3] (Angstrom), not wrapped; [F]; [F] (fs)
    /particles/atoms/velocity/value            [F, N, 3] (Angstrom fs-1)
    /particles/atoms/force/value               [F, N, 3] (eV Angstrom-1), if asked for
    /particles/atoms/box/edges/value           [F, 3, 3] (Angstrom), rows
    /observables/potential_energy/value        [F] (eV)

Source: P. de Buyl, P. H. Colberg and F. Hoefling, Comput. Phys. Commun. 185, 1546 (2014),
doi:10.1016/j.cpc.2014.01.018. Needs h5py. Letters of shapes: N atoms, F frames.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import numpy as np

import rutile
from rutile.core.errors import FileError, MissingPackageError

GROUP = "particles/atoms"
TIMES = (f"{GROUP}/position/step", f"{GROUP}/position/time")
ABSENT = -1
"""Step number of a frame that was not written."""


def _h5py() -> Any:
    try:
        import h5py
    except ImportError:
        raise MissingPackageError(
            "trajectories in HDF5 need h5py: pip install 'rutile[hdf5]', or take trajectory=extxyz"
        ) from None
    return h5py


class H5mdFile:
    """The trajectory of one run.

    Args:
        path: of the file.
        numbers: atomic numbers, [N].
        masses: (amu), [N].
        pbc: periodic directions, [3].
        frames: room for so many.
        arrays: of velocity and force, those to keep.
        keep: frames of a file that exists to keep; None: begin anew.

    Raises:
        FileError: there is no room on the disk, or the file to keep was changed.
        MissingPackageError: h5py is not installed.
    """

    def __init__(
        self,
        path: Path,
        numbers: np.ndarray,
        masses: np.ndarray,
        pbc: np.ndarray,
        frames: int,
        arrays: tuple[str, ...],
        keep: int | None = None,
    ) -> None:
        self.path, self.frames = path, frames
        try:
            old = _rows(path, keep) if keep else {}
            if old and len(old[TIMES[0]]) == frames:
                self._places = _places(path)
                self._forget(keep or 0)
                return
            temporary = path.with_name(f".{path.name}.unfinished")
            _lay_out(temporary, numbers, masses, pbc, frames, arrays)
            _reserve(temporary)
            self._places = _places(temporary)
            temporary.replace(path)
            self._forget(0)
            for k in range(keep or 0):
                self.write(k, {name: rows[k] for name, rows in old.items()})
        except OSError as error:
            raise _failed(path, error) from None

    def _forget(self, first: int) -> None:
        """Mark frames from this one on as absent."""
        offset, _, _ = self._places[TIMES[0]]
        self._put(offset + 8 * first, np.full(self.frames - first, ABSENT, dtype=np.int64))

    def write(self, k: int, frame: dict[str, np.ndarray]) -> None:
        """Write frame k: dataset -> its values there; the step number comes last.

        Raises:
            FileError: the file cannot be written.
        """
        try:
            for name in sorted(frame.keys() & self._places.keys(), key=lambda n: n == TIMES[0]):
                offset, dtype, size = self._places[name]
                self._put(offset + k * size, np.ascontiguousarray(frame[name], dtype=dtype))
        except OSError as error:
            raise _failed(self.path, error) from None

    def _put(self, offset: int, values: np.ndarray) -> None:
        with self.path.open("r+b", buffering=0) as file:
            file.seek(offset)
            data = values.tobytes()
            while data:
                data = data[file.write(data) :]

    def flush(self) -> None:
        """See that all is on the disk."""
        with self.path.open("rb") as file:
            os.fsync(file.fileno())


def frame_values(
    step: int, time: float, positions: np.ndarray, cell: np.ndarray, energy: float, **arrays: np.ndarray
) -> dict[str, np.ndarray]:
    """A frame for `H5mdFile.write`: positions [N, 3] (Angstrom), cell [3, 3], energy (eV), other arrays by name."""
    named: dict[str, Any] = {f"{GROUP}/{name}/value": values for name, values in arrays.items()}
    named |= {TIMES[0]: step, TIMES[1]: time, f"{GROUP}/position/value": positions}
    named |= {f"{GROUP}/box/edges/value": cell, "observables/potential_energy/value": energy}
    return {name: np.asarray(value) for name, value in named.items()}


def _lay_out(
    path: Path, numbers: np.ndarray, masses: np.ndarray, pbc: np.ndarray, frames: int, arrays: tuple[str, ...]
) -> None:
    """The file with all its room and no frame."""
    h5py = _h5py()
    n, unit = len(numbers), {"position": "Angstrom", "velocity": "Angstrom fs-1", "force": "eV Angstrom-1"}
    with h5py.File(path, "w", libver="earliest") as file:
        head = file.create_group("h5md")
        head.attrs["version"] = np.array([1, 1])
        head.create_group("author").attrs["name"] = "rutile"
        creator = head.create_group("creator")
        creator.attrs["name"], creator.attrs["version"] = "rutile", rutile.__version__
        atoms = file.create_group(GROUP)
        atoms["species"], atoms["mass"] = np.asarray(numbers, dtype=np.int64), np.asarray(masses, dtype=np.float64)
        atoms["mass"].attrs["unit"] = "u"
        step = _room(file, TIMES[0], (frames,), np.int64, "")
        time = _room(file, TIMES[1], (frames,), np.float64, "fs")
        box = atoms.create_group("box")
        box.attrs["dimension"] = 3
        box.attrs["boundary"] = np.array([b"periodic" if p else b"none" for p in pbc])
        for name in ("position", *arrays):
            _room(file, f"{GROUP}/{name}/value", (frames, n, 3), np.float32, unit[name])
        _room(file, f"{GROUP}/box/edges/value", (frames, 3, 3), np.float64, "Angstrom")
        _room(file, "observables/potential_energy/value", (frames,), np.float64, "eV")
        for group in (*(f"{GROUP}/{a}" for a in arrays), f"{GROUP}/box/edges", "observables/potential_energy"):
            file[group]["step"], file[group]["time"] = step, time


def _room(file: Any, name: str, shape: tuple[int, ...], dtype: Any, unit: str) -> Any:
    """An empty contiguous dataset with its place on the disk."""
    h5py = _h5py()
    layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    layout.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    layout.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    parent = file.require_group(name.rsplit("/", 1)[0])
    kind = h5py.h5t.py_create(np.dtype(dtype))
    h5py.h5d.create(parent.id, name.rsplit("/", 1)[1].encode(), kind, h5py.h5s.create_simple(shape), dcpl=layout)
    if unit:
        file[name].attrs["unit"] = unit
    return file[name]


def _reserve(path: Path) -> None:
    """Take the room on the disk now.

    Raises:
        OSError: there is not enough.
    """
    size = path.stat().st_size
    with path.open("r+b") as file:
        os.posix_fallocate(file.fileno(), 0, size)


def _places(path: Path) -> dict[str, tuple[int, np.dtype[Any], int]]:
    """Dataset with one row for each frame -> (offset of the first, type, bytes of a row)."""
    out: dict[str, tuple[int, np.dtype[Any], int]] = {}
    with _h5py().File(path, "r") as file:
        frames = file[TIMES[0]].shape[0]

        def note(name: str, item: Any) -> None:
            known = any(item == file[other] for other in out)
            if hasattr(item, "shape") and item.shape[:1] == (frames,) and item.id.get_offset() and not known:
                out[name] = (item.id.get_offset(), item.dtype, item.dtype.itemsize * int(np.prod(item.shape[1:])))

        for name in TIMES:
            note(name, file[name])
        file[GROUP].visititems(lambda name, item: note(f"{GROUP}/{name}", item) if name.endswith("value") else None)
        note("observables/potential_energy/value", file["observables/potential_energy/value"])
    return out


def _rows(path: Path, keep: int) -> dict[str, np.ndarray]:
    """What a file holds, dataset by dataset.

    Raises:
        FileError: it has fewer frames than are to be kept.
    """
    try:
        with _h5py().File(path, "r") as file:
            rows = {name: file[name][...] for name in _places(path)}
    except (OSError, KeyError) as error:
        raise FileError(f"cannot read {path}: {error}; put it back, or begin in another folder") from None
    if int((rows[TIMES[0]][:keep] != ABSENT).sum()) < keep:
        raise FileError(f"{path} has fewer frames than when the run stopped: put it back, or begin in another folder")
    return rows


def read_h5md(path: Path) -> dict[str, np.ndarray]:
    """All frames that were written: positions, velocities, forces [F, N, 3], cells, energies, steps, times, numbers.

    Raises:
        FileError: the file cannot be read.
    """
    try:
        with _h5py().File(path, "r") as file:
            there = file[TIMES[0]][...] != ABSENT
            names = {"step": TIMES[0], "time": TIMES[1], "cell": f"{GROUP}/box/edges/value"}
            names |= {"energy": "observables/potential_energy/value"}
            names |= {name: f"{GROUP}/{name}/value" for name in ("position", "velocity", "force")}
            out = {name: file[place][there] for name, place in names.items() if place in file}
            out |= {"numbers": file[f"{GROUP}/species"][...], "mass": file[f"{GROUP}/mass"][...]}
            out["pbc"] = np.array([b == b"periodic" for b in file[f"{GROUP}/box"].attrs["boundary"]])
            return out
    except (OSError, KeyError) as error:
        raise FileError(f"cannot read {path} as a trajectory: {error}") from None


def _failed(path: Path, error: OSError) -> FileError:
    told = re.search("error message = '([^']+)'", str(error))  # h5py says the rest in several lines
    why = told[1].capitalize() if told else error.strerror or str(error).splitlines()[0]
    return FileError(f"cannot write {path}: {why}; make room, and run the same command again to go on")
