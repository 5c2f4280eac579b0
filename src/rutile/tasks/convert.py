"""`rutile convert`: structures and labels from any format to any other, or into a store."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from rutile.core.errors import DataError, FileError, SettingsError
from rutile.core.files import remove_folder
from rutile.core.reporting import Reporter
from rutile.core.settings import Result, Settings
from rutile.data.settings import EnergyUnit, Format, LengthUnit, ReadSettings
from rutile.tasks.task import Task

if TYPE_CHECKING:
    from ase import Atoms


class ConvertSettings(Settings):
    """What to convert to what."""

    files: list[Path] = Field(min_length=1)
    """Files, stores, folders or patterns to read."""
    out: Path
    """File (or folder) to write. Extended XYZ keeps labels as REF_energy, REF_forces and REF_stress, which rutile finds
    by itself and ASE leaves where they are; trajectories and databases keep them in ASE's calculator slot. NAME.store
    is a folder that `rutile train` reads where it is, of any size; run again, the same command goes on after a kill."""
    format: Format | Literal["store"] | None = None
    """Format to write; without it the name of `out` decides."""
    energy_unit: EnergyUnit | None = None
    """Unit of energies to write; without it the convention of the format (eV; Hartree for n2p2)."""
    length_unit: LengthUnit | None = None
    """Unit of lengths to write; without it the convention of the format (Angstrom; Bohr for n2p2)."""
    overwrite: bool = False
    """Replace a file that exists."""
    workers: int | None = Field(default=None, ge=1)
    """Processes that read for a store; without it one for each core, and one in all for little data."""
    read: ReadSettings = ReadSettings()
    """How to read."""


class ConvertResult(Result):
    """What was written."""

    out: Path
    """File or folder."""
    format: str
    """Its format."""
    frames: int
    """Frames written."""
    skipped: int
    """Frames left out (on_bad=skip)."""
    labels: dict[str, int]
    """Label -> frames in which it was written."""
    lost: dict[str, int]
    """Label -> frames whose label the format cannot hold."""
    names: dict[str, str]
    """Label -> names under which it was found."""


class _Tally:
    """What passed on the way from the reader to the writer."""

    def __init__(self) -> None:
        self.skipped = 0
        self.labels: Counter[str] = Counter()
        self.names: dict[str, set[str]] = {}


def run(settings: ConvertSettings, reporter: Reporter) -> ConvertResult:
    """Convert structures and their labels between file formats, whole or not at all."""
    from rutile.data.reading import files_of
    from rutile.structures import io

    if settings.format == "store" or (settings.format is None and settings.out.suffix == ".store"):
        return _to_store(settings, reporter)
    format = io.format_for_writing(settings.out, settings.format)
    if settings.out.exists() and not settings.overwrite:
        raise FileError(f"{settings.out} exists: choose another name, or say overwrite=true")
    if any(path.resolve() == settings.out.resolve() for path in files_of(settings.files, settings.read)):
        raise FileError(f"{settings.out} is one of the files to read: choose another name")
    tally = _Tally()
    frames = reporter.track(_frames(settings, format, tally, reporter), f"converting to {settings.out.name}")
    count = io.write_frames(settings.out, frames, format)
    holds = io.FORMATS[format].holds
    lost = {label: n for label, n in tally.labels.items() if label not in holds}
    for label, n in lost.items():
        reporter.warn(f"{io.FORMATS[format].what} cannot hold {label}: lost in {n} frames")
    return ConvertResult(
        out=settings.out,
        format=format,
        frames=count,
        skipped=tally.skipped,
        labels={label: n for label, n in tally.labels.items() if label in holds},
        lost=lost,
        names={label: ", ".join(sorted(names)) for label, names in tally.names.items()},
    )


def _to_store(settings: ConvertSettings, reporter: Reporter) -> ConvertResult:
    """Make a store of all frames.

    Raises:
        FileError: the place is taken or cannot be written, or a file cannot be read.
        SettingsError: units to write, which a store does not have.
    """
    from rutile.data.making import make_store
    from rutile.data.store import is_store

    if settings.energy_unit or settings.length_unit:
        raise SettingsError(
            "energy_unit, length_unit: a store is in eV and Å; read.energy_unit says what the files are in"
        )
    old = settings.out.exists()
    if old and not settings.overwrite:
        raise FileError(f"{settings.out} exists: choose another name, or say overwrite=true")
    if old and not is_store(settings.out):
        raise FileError(f"{settings.out} exists and is no store: choose another name")
    place = settings.out.with_name(f"{settings.out.name}.new") if old else settings.out
    store, tally = make_store(settings.files, place, settings.read, reporter, settings.workers)
    if old:
        remove_folder(settings.out)
        place.rename(settings.out)
    reporter.info(f"{len(store)} frames, {store.n_atoms} atoms: rutile train {settings.out}")
    return ConvertResult(
        out=settings.out,
        format="store",
        frames=tally.frames,
        skipped=tally.skipped,
        labels=dict(tally.labels),
        lost={},
        names={label: ", ".join(sorted(names)) for label, names in tally.names.items()},
    )


def _frames(settings: ConvertSettings, format: str, tally: _Tally, reporter: Reporter) -> Iterator[Atoms]:
    """Frames to write, in the units of the file to write, with labels under clean names.

    Raises:
        DataError: a frame cannot be used, or there is none.
    """
    from rutile.data.labels import writing_scale
    from rutile.data.reading import check_keys_exist, readings, relabelled, scaled

    scale = writing_scale(settings.energy_unit, settings.length_unit, format)
    good, keys = 0, set[str]()
    for reading in readings(settings.files, settings.read):
        if reading.problem is not None:
            if settings.read.on_bad == "error":
                raise reading.problem
            tally.skipped += 1
            reporter.warn(f"skipped: {reading.problem}")
            continue
        assert reading.labels is not None
        for label, name in reading.labels.names.items():
            tally.labels[label] += 1
            tally.names.setdefault(label, set()).add(name)
        good += 1
        keys |= reading.keys
        yield scaled(relabelled(reading, settings.read), scale)
    where = ", ".join(map(str, settings.files))
    if good == 0:
        raise DataError(f"{where}: no usable frame" + (f" ({tally.skipped} skipped)" if tally.skipped else ""))
    check_keys_exist(settings.read, keys, where)


TASK = Task(
    name="convert",
    settings=ConvertSettings,
    result=ConvertResult,
    run=run,
    positional="files",
    examples=(
        "rutile convert xsf/*.xsf out=data.extxyz",
        "rutile convert data.extxyz out=systems format=deepmd",
        "rutile convert omat/*.aselmdb out=omat.store",
        "rutile convert omat.store out=omat.extxyz",
    ),
)
