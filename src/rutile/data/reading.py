"""From files to checked, labelled frames: one streaming pass, every problem with its file and frame number."""

from __future__ import annotations

import dataclasses
import fnmatch
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms

from rutile.core.errors import DataError, FileError, LabelError, RutileError, SettingsError
from rutile.core.reporting import Reporter
from rutile.data.checks import check_geometry, check_labels
from rutile.data.frames import Frame
from rutile.data.labels import Labels, Scale, find_labels, label_like_keys, label_names, scale_of, suggestion
from rutile.data.settings import ReadSettings
from rutile.data.store import Store, is_store
from rutile.structures import io
from rutile.structures.formats.common import BadFrame
from rutile.structures.portions import Portion, portions

STORE = "store"
"""What the format of a store is called."""
OF_LABELS = (
    "calc_mode", "code", "functional", "cutoff", "basis", "pseudopotentials", "settings_hash", "seconds", "tries",
    "energies", "label_failure",
)  # fmt: skip
"""What goes with labels: how they were made, energies of the atoms."""


@dataclass(frozen=True)
class Reading:
    """What was made of one frame of a file: a frame, or the reason why it cannot be used."""

    path: Path
    number: int
    """0-based frame in its file."""
    frame: Frame | None = None
    atoms: Atoms | None = None
    """The frame as the file has it, with everything besides the labels, in the file's units."""
    labels: Labels | None = None
    keys: frozenset[str] = frozenset()
    """Names of all numbers the frame holds besides its geometry."""
    problem: RutileError | None = None
    """Names file and frame."""
    last: bool = False
    """Whether nothing behind it can be read in this file."""


def read_frames(paths: Sequence[Path], settings: ReadSettings, reporter: Reporter) -> Iterator[Frame]:
    """Usable frames of files, folders or patterns, in order, one at a time; errors are those of `usable`."""
    for reading in usable(paths, settings, reporter):
        assert reading.frame is not None
        yield reading.frame


def usable(paths: Sequence[Path], settings: ReadSettings, reporter: Reporter) -> Iterator[Reading]:
    """Usable frames with all that the files say about them, in order, one at a time.

    Raises:
        FileError: a file is missing or cannot be understood.
        DataError: a frame cannot be used (with on_bad=error), or no frame is left.
        LabelError: a label key that the settings name is in no frame.
    """
    good = bad = 0
    first = ""
    keys: set[str] = set()
    for reading in readings(paths, settings):
        if reading.problem is not None:
            if settings.on_bad == "error":
                raise reading.problem
            bad += 1
            first = first or str(reading.problem)
            reporter.warn(f"skipped: {reading.problem}")
            continue
        keys |= reading.keys
        good += 1
        yield reading
    where = ", ".join(str(p) for p in paths)
    if good == 0:
        raise DataError(f"{where}: no usable frame" + (f" ({bad} skipped); the first: {first}" if bad else ": empty"))
    if bad:
        reporter.warn(f"{bad} of {good + bad} frames were skipped (on_bad=skip)")
    check_keys_exist(settings, keys, where)


def check_keys_exist(settings: ReadSettings, keys: set[str], where: str) -> None:
    """Refuse a label key that the settings name and no frame has.

    Raises:
        LabelError: names the closest candidate.
    """
    for text in unknown_keys(settings, keys):
        raise LabelError(f"{where}: {text}")


def unknown_keys(settings: ReadSettings, keys: set[str]) -> list[str]:
    """A sentence about each label key that the settings name and that is not among the keys of the frames."""
    named = {"energy": settings.energy_key, "forces": settings.forces_key, "stress": settings.stress_key}
    return [
        suggestion(label, str(key), keys)
        for label, key in named.items()
        if key not in (None, "none") and key not in keys
    ]


def readings(paths: Iterable[Path | str], settings: ReadSettings) -> Iterator[Reading]:
    """Every frame of files, folders or patterns in order, good or bad; raises nothing for bad frames.

    Raises:
        FileError: a path does not exist.
        SettingsError: `modes` of the settings names no file or contradicts itself.
    """
    files = files_of(paths, settings)
    modes = file_modes(files, settings)
    for path in files:
        yield from read_portion(Portion(path, format_of(path, settings), 0, {}), settings, modes.get(path))


def files_of(paths: Iterable[Path | str], settings: ReadSettings) -> list[Path]:
    """Files and stores of a list of files, stores, folders and patterns, sorted within each.

    Raises:
        FileError: a path does not exist.
        SettingsError: the settings say how to read labels, but one of the paths is a store.
    """
    files = io.expand(paths, is_store)
    stores = [path for path in files if is_store(path)]
    if stores and settings.model_copy(update={"on_bad": "error"}) != ReadSettings():
        raise SettingsError(f"read: the labels of the store {stores[0]} were chosen when it was made; leave out read")
    return files


def format_of(path: Path, settings: ReadSettings) -> str:
    """Format of a file, or "store"."""
    return STORE if is_store(path) else settings.format or io.detect(path)


def portions_of(path: Path, settings: ReadSettings, frames: int) -> Iterator[Portion]:
    """The portions of a file or store, of at most `frames` frames where it can be divided."""
    if not is_store(path):
        yield from portions(path, format_of(path, settings), frames)
        return
    for first in range(0, len(Store.open(path)), frames):
        yield Portion(path, STORE, first, {"frames": frames})


def read_portion(portion: Portion, settings: ReadSettings, mode: str | None = None) -> Iterator[Reading]:
    """Every frame of a portion of a file in order, good or bad; `mode` is the calc mode of all, if it is known."""
    if portion.format == STORE:
        yield from _stored(portion)
        return
    path, scale, number = portion.path, scale_of(settings, portion.format), portion.first
    try:
        for entry in io.entries(path, portion.format, portion.first, portion.where):
            reading = _read_one(path, number, entry, settings, scale)
            if mode is not None and reading.frame is not None:
                reading = dataclasses.replace(reading, frame=dataclasses.replace(reading.frame, calc_mode=mode))
            yield reading
            number += 1
    except FileError as error:
        rest = "" if number == 0 else " (nothing behind this frame can be read)"
        yield Reading(path, number, problem=type(error)(f"{error}{rest}"), last=True)


def _stored(portion: Portion) -> Iterator[Reading]:
    """Frames of a store, whose labels were found and checked when it was made."""
    try:
        store = Store.open(portion.path)
        for k in range(portion.first, min(len(store), portion.first + portion.where.get("frames", len(store)))):
            frame = store[k]
            found = {"energy": frame.energy, "forces": frame.forces, "stress": frame.stress}
            names = {label: label for label, value in found.items() if value is not None}
            labels = Labels(frame.energy, frame.forces, frame.stress, names)
            yield Reading(portion.path, k, frame, to_atoms(frame), labels, frozenset(names))
    except FileError as error:
        yield Reading(portion.path, portion.first, problem=error, last=True)


def file_modes(files: Sequence[Path], settings: ReadSettings) -> dict[Path, str]:
    """Calc mode of each file to which `modes` of the settings gives one.

    Raises:
        SettingsError: a key fits no file, or two keys give one file different modes.
    """
    out: dict[Path, str] = {}
    for key, mode in settings.modes.items():
        there = Path(key).resolve()
        fitting = [f for f in files if fnmatch.fnmatch(str(f), key) or f.name == key or f.resolve() == there]
        if not fitting:
            raise SettingsError(f"read.modes: {key!r} fits none of the files ({', '.join(map(str, files))})")
        for file in fitting:
            if out.setdefault(file, mode) != mode:
                raise SettingsError(f"read.modes: {file} fits two keys, one says {out[file]!r}, the other {mode!r}")
    return out


def _read_one(path: Path, number: int, entry: Atoms | BadFrame, settings: ReadSettings, scale: Scale) -> Reading:
    place = f"{path}: frame {number}"
    if isinstance(entry, BadFrame):
        return Reading(path, number, problem=type(entry.problem)(f"{place}: {entry.problem}"))
    try:
        with np.errstate(all="ignore"):  # absurd numbers give infinities, which the checks name
            frame, labels = to_frame(entry, settings, scale, source=f"{path}#{number}")
    except DataError as error:
        return Reading(path, number, problem=type(error)(f"{place}: {error}"))
    return Reading(path, number, frame, entry, labels, frozenset(label_like_keys(entry)))


def to_frame(atoms: Atoms, settings: ReadSettings, scale: Scale, source: str = "") -> tuple[Frame, Labels]:
    """A checked frame with its labels, from ASE atoms.

    Raises:
        DataError: the frame cannot be used; without file and number.
    """
    if scale.length != 1.0:
        atoms = atoms.copy() if atoms.calc is None else _copy_with_results(atoms)
        atoms.set_cell(atoms.cell.array * scale.length, scale_atoms=False)
        atoms.positions *= scale.length
    numbers = np.array(atoms.numbers, dtype=np.int64)
    positions = np.array(atoms.positions, dtype=np.float64)
    cell, pbc = np.array(atoms.cell.array, dtype=np.float64), np.array(atoms.pbc, dtype=bool)
    check_geometry(numbers, positions, cell, pbc, settings.closest)
    labels = find_labels(atoms, settings, scale)
    check_labels(labels.energy, labels.forces, labels.stress, len(numbers))
    weight = _weight(atoms, settings.weight_key)
    group = str(atoms.info.get(settings.group_key, ""))
    mode = str(atoms.info.get(settings.mode_key, ""))
    frame = Frame(
        numbers, positions, cell, pbc, labels.energy, labels.forces, labels.stress, group, mode, weight, source
    )
    return frame, labels


def _copy_with_results(atoms: Atoms) -> Atoms:
    copy: Atoms = atoms.copy()
    copy.calc = atoms.calc
    return copy


def relabelled(reading: Reading, settings: ReadSettings) -> Atoms:
    """A usable frame with labels under REF_energy, REF_forces, REF_stress and all else that the file says about it."""
    assert reading.frame is not None
    assert reading.atoms is not None
    atoms, original, drop = to_atoms(reading.frame), reading.atoms, label_names(settings)
    for key, value in original.info.items():
        if key not in drop:
            atoms.info.setdefault(key, value)
    for key, value in original.arrays.items():
        if key not in drop and key not in atoms.arrays:
            atoms.new_array(key, value)
    return atoms


def unlabelled(reading: Reading, settings: ReadSettings) -> Atoms:
    """A usable frame without labels and what says whose they are, with all else that the file says about it."""
    assert reading.frame is not None
    bare = dataclasses.replace(reading.frame, energy=None, forces=None, stress=None, calc_mode="")
    atoms = relabelled(dataclasses.replace(reading, frame=bare), settings)
    for key in OF_LABELS:
        atoms.info.pop(key, None)
        atoms.arrays.pop(key, None)
    return atoms


def scaled(atoms: Atoms, scale: Scale) -> Atoms:
    """Atoms whose geometry and REF_* labels are multiplied by the factors of `scale`; changes them in place."""
    if scale == Scale(1.0, 1.0, 1.0):
        return atoms
    atoms.set_cell(atoms.cell.array * scale.length, scale_atoms=False)
    atoms.positions *= scale.length
    if "REF_energy" in atoms.info:
        atoms.info["REF_energy"] *= scale.energy
    if "REF_forces" in atoms.arrays:
        atoms.arrays["REF_forces"] *= scale.force
    if "REF_stress" in atoms.info:
        atoms.info["REF_stress"] *= scale.stress
    return atoms


def _weight(atoms: Atoms, key: str) -> float:
    try:
        weight = float(atoms.info.get(key, 1.0))
    except (TypeError, ValueError):
        weight = float("nan")
    if not (np.isfinite(weight) and weight >= 0):
        raise DataError(f"the weight under {key!r} is {atoms.info[key]!r}: a number of at least 0 is expected")
    return weight


def to_atoms(frame: Frame) -> Atoms:
    """ASE atoms with the labels of a frame under REF_energy, REF_forces, REF_stress."""
    atoms = Atoms(frame.numbers, positions=frame.positions, cell=frame.cell, pbc=frame.pbc)
    if frame.energy is not None:
        atoms.info["REF_energy"] = frame.energy
    if frame.forces is not None:
        atoms.arrays["REF_forces"] = np.array(frame.forces)
    if frame.stress is not None:
        atoms.info["REF_stress"] = np.array(frame.stress)
    for key, value in (("config_type", frame.group), ("calc_mode", frame.calc_mode)):
        if value:
            atoms.info[key] = value
    if frame.weight != 1.0:
        atoms.info["config_weight"] = frame.weight
    return atoms
