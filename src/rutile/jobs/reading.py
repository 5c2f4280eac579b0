"""Reading files of strangers: in a child process with limits of time, memory and size, never in the server.

`python -m rutile.jobs.reading KIND FILE FOLDER`: KIND `view` takes what the file says and needs no PyTorch; `data`
finds and checks labels as training does; `facts` says what one frame of a shelf is like. The last line of the output
says what came of it.
"""

from __future__ import annotations

import ctypes
import itertools
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rutile.core.elements import formula
from rutile.core.errors import FileError, GeometryError, RutileError
from rutile.jobs.launch import source_folder
from rutile.jobs.shelf import Picture, Shelf, write_shelf

VIEW, DATA, FACTS = "view", "data", "facts"
FORMATS = ("extxyz", "cif", "poscar", "xsf", "n2p2", "traj")
"""Formats that strangers' files may have; databases are not among them."""
ARCHIVES = (".zip", ".gz", ".tgz", ".bz2", ".xz", ".zst", ".tar", ".7z", ".rar")
MOST_ATOMS = 2_000_000
"""Atoms of one structure."""
DEATH_OF_PARENT = 1
"""Of prctl(2)."""


@dataclass(frozen=True)
class Limits:
    """What a child may take."""

    seconds: int
    """Processor time."""
    gigabytes: float
    """Address space."""
    file_gigabytes: float
    """Largest file that it writes."""
    frames: int | None = None
    """More are left out."""


FOR_VIEW = Limits(20, 6.0, 4.0, 100_000)
FOR_FACTS = Limits(10, 6.0, 0.0)
FOR_DATA = Limits(7200, 24.0, 200.0)


@dataclass(frozen=True)
class Found:
    """What a child made of a file."""

    frames: int
    warnings: list[str]


def read_limited(kind: str, file: Path, folder: Path, limits: Limits) -> Found:
    """Read a file into a new shelf, in a child process.

    Args:
        kind: VIEW or DATA.
        file: to be read; its name says the format.
        folder: of the shelf; appears only when complete.
        limits: of the child.

    Raises:
        FileError: it cannot be understood, or takes too much; one line.
    """
    return Found(**_said(kind, file, folder, limits))


def facts_limited(shelf: Path, frame: int) -> dict[str, Any]:
    """What can be said of a frame of a shelf, computed in a child process; see `facts_of`.

    Raises:
        FileError: it takes too much time or memory; one line.
    """
    return dict(_said(FACTS, shelf, shelf, FOR_FACTS, str(frame))["facts"])


def _said(kind: str, file: Path, folder: Path, limits: Limits, *more: str) -> dict[str, Any]:
    """The last line of what a child says.

    Raises:
        FileError: it says what is wrong, or nothing.
    """
    environment = {"PATH": os.environ.get("PATH", ""), "PYTHONPATH": source_folder(), "OMP_NUM_THREADS": "1",
                   "HOME": os.environ.get("HOME", "/")}  # fmt: skip
    words = [kind, str(file), str(folder), json.dumps(limits.__dict__), *more]
    try:
        done = subprocess.run(
            [sys.executable, "-m", "rutile.jobs.reading", *words], env=environment, capture_output=True, text=True,
            check=False, cwd=folder.parent, umask=0o077, stdin=subprocess.DEVNULL, timeout=10 * limits.seconds + 60,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise FileError(f"{file.name}: reading it takes too long") from None
    said: dict[str, Any] = {}
    with suppress(ValueError, IndexError):
        said = json.loads(done.stdout.splitlines()[-1])
    if "problem" in said:
        raise FileError(str(said["problem"]).replace(f"{file.parent}/", ""))
    if said:
        return said
    if done.returncode < 0:
        raise FileError(f"{file.name}: reading it takes too much time or memory; it may be damaged")
    last = done.stderr.strip().splitlines()[-1:] or ["no reason is known"]
    raise FileError(f"{file.name}: cannot be read: {last[0][:300]}")


def facts_of(one: Picture) -> dict[str, Any]:
    """Symmetry, name of the structure type, density (g/cm^3) and smallest distance (Angstrom) of a structure."""
    from ase import Atoms

    from rutile.build.guards import measure
    from rutile.data.checks import THINNEST, cell_heights
    from rutile.search.names import prototype_of
    from rutile.structures.symmetry import describe_crystal

    atoms = Atoms(one.numbers, one.positions, cell=one.cell, pbc=one.pbc)
    if atoms.pbc.any() and cell_heights(one.cell, one.pbc).min() < THINNEST:
        raise FileError(f"{formula(atoms.numbers)}: opposite faces of its cell are less than {THINNEST} Å apart")
    known = measure(atoms)
    facts: dict[str, Any] = {"density": known.density, "nearest": known.nearest, "symmetry": "", "group": None,
                             "name": ""}  # fmt: skip
    if not one.pbc.any():
        from rutile.search.point_groups import point_group_of

        return facts | {"symmetry": point_group_of(atoms)}
    with suppress(GeometryError):
        crystal = describe_crystal(atoms)
        facts |= {"symmetry": crystal.spacegroup, "group": crystal.number, "name": prototype_of(atoms)}
    return facts


def view_pictures(file: Path) -> Iterator[Picture]:
    """Structures of a file with what their calculator slot holds.

    Raises:
        FileError, DataError: as of `structures.io`.
    """
    from rutile.structures import io

    for k, atoms in enumerate(io.iterate(file, _format(file))):
        _check_size(file, len(atoms))
        _check_numbers(file, k, atoms)
        results = dict(atoms.calc.results) if atoms.calc is not None else {}
        energy, forces, stress = (results.get(k) for k in ("energy", "forces", "stress"))
        if energy is None:
            energy = next((atoms.info[k] for k in ("REF_energy", "energy") if k in atoms.info), None)
        if forces is None:
            forces = next((atoms.arrays[k] for k in ("REF_forces", "forces") if k in atoms.arrays), None)
        yield Picture(
            atoms.numbers, atoms.positions, np.asarray(atoms.cell), atoms.pbc, _number(energy),
            None if forces is None or np.shape(forces) != (len(atoms), 3) else np.asarray(forces, float),
            _tensor(stress),
        )  # fmt: skip


def data_pictures(file: Path, warnings: list[str]) -> Iterator[Picture]:
    """Labelled structures as training takes them; those that cannot be used are left out and told of.

    Raises:
        FileError, DataError: nothing can be used.
    """
    from rutile.core.reporting import SilentReporter
    from rutile.data.duplicates import Recogniser, close_pairs
    from rutile.data.reading import read_frames
    from rutile.data.settings import ReadSettings

    reporter = SilentReporter()
    settings = ReadSettings(on_bad="skip", format=_format(file))  # type: ignore[arg-type]
    known = Recogniser()
    for k, frame in enumerate(read_frames([file], settings, reporter)):
        n = len(frame.numbers)
        _check_size(file, n)
        pairs = close_pairs(frame)
        i, j, d = pairs
        yield Picture(
            frame.numbers, frame.positions, frame.cell, frame.pbc, frame.energy, frame.forces, frame.stress,
            frame.group, frame.calc_mode, nearest=float(d.min()) if len(d) else None,
            alone=n - len(np.union1d(i, j)), copy=int(known.add(frame, pairs, str(k)) or -1),
        )  # fmt: skip
    warnings += [w.replace(f"{file.parent}/", "") for w in reporter.warnings[-50:]]


def _format(file: Path) -> str:
    from rutile.structures import io

    try:
        found = io.detect(file)
    except FileError:
        raise _unknown(file) from None
    if found not in FORMATS:
        raise _unknown(file)
    return found


def _unknown(file: Path) -> FileError:
    remedy = " (an archive: unpack it, and send the files in it)" if file.suffix in ARCHIVES else ""
    return FileError(f"{file.name}: files of this kind are not read here{remedy}; known are {', '.join(FORMATS)}")


def _check_size(file: Path, atoms: int) -> None:
    if atoms > MOST_ATOMS:
        raise FileError(f"{file.name}: a structure of {atoms} atoms; at most {MOST_ATOMS}")


def _check_numbers(file: Path, frame: int, atoms: Any) -> None:
    """Refuse a structure whose atoms or cell are nowhere.

    Raises:
        FileError: the first position, or the cell, that is no finite number.
    """
    wrong = np.flatnonzero(~np.isfinite(atoms.positions).all(axis=1))
    if len(wrong):
        raise FileError(f"{file.name}: frame {frame}: position of atom {wrong[0]} = {atoms.positions[wrong[0]]}: "
                        "expected finite numbers (Å)")  # fmt: skip
    if not np.isfinite(np.asarray(atoms.cell)).all():
        raise FileError(f"{file.name}: frame {frame}: its cell has numbers that are not finite: expected Å")


def _number(value: Any) -> float | None:
    try:
        return None if value is None else float(value)
    except (TypeError, ValueError):
        return None


def _tensor(stress: Any) -> np.ndarray | None:
    """Stress in any of its forms as [3, 3]."""
    if stress is None:
        return None
    flat = np.asarray(stress, float).reshape(-1)
    if flat.size == 9:
        return flat.reshape(3, 3)
    if flat.size != 6:
        return None
    xx, yy, zz, yz, xz, xy = flat
    return np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])


def main(argv: list[str]) -> int:
    """The child."""
    _end_with_parent()
    kind, file, folder = argv[0], Path(argv[1]), Path(argv[2])
    limits = Limits(**json.loads(argv[3]))
    for what, amount in (
        (resource.RLIMIT_CPU, limits.seconds),
        (resource.RLIMIT_AS, int(limits.gigabytes * 1e9)),
        (resource.RLIMIT_FSIZE, int(limits.file_gigabytes * 1e9)),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(what, (amount, amount))
    said: dict[str, Any]
    try:
        if kind == FACTS:
            said = {"facts": facts_of(Shelf(folder).frame(int(argv[4])))}
        else:
            said = _shelved(kind, file, folder, limits)
    except MemoryError:
        said = {"problem": f"{file.name}: reading it takes too much memory"}
    except RutileError as error:
        said = {"problem": " ".join(str(error).split())[:1000]}
    sys.stdout.write(json.dumps(said) + "\n")
    return 2 if "problem" in said else 0


def _end_with_parent() -> None:
    """Go when the server is killed, which reads again when it is back (Linux only)."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(DEATH_OF_PARENT, signal.SIGKILL, 0, 0, 0)


def _shelved(kind: str, file: Path, folder: Path, limits: Limits) -> dict[str, Any]:
    """Structures of a file in a new shelf.

    Raises:
        FileError, DataError: nothing can be used.
    """
    warnings: list[str] = []
    pictures = view_pictures(file) if kind == VIEW else data_pictures(file, warnings)
    first = next(pictures, None)
    if first is None:
        raise FileError(f"{file.name}: no structures")
    return {"frames": write_shelf(itertools.chain([first], pictures), folder, limits.frames), "warnings": warnings}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
