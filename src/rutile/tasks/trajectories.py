"""What tasks about trajectories have in common: where they come from, and reading them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from rutile.core.errors import DataError, FileError, SettingsError
from rutile.core.files import did_you_mean
from rutile.core.settings import Settings
from rutile.core.units import HOTTEST, Femtosecond, Kelvin, Picosecond

if TYPE_CHECKING:
    from rutile.simulate.observe.trajectory import Trajectory


class GivenTrajectories(Settings):
    """Which trajectories to look at."""

    trajectories: list[Path] = Field(min_length=1)
    """Folders of `rutile md`, or files that ASE reads (extxyz, traj, ...) or H5MD, of one trajectory each."""
    interval: Femtosecond | None = Field(default=None, gt=0)
    """Time from frame to frame; needed only where the frames do not say their `time` (fs)."""
    skip: Picosecond = Field(default=0.0, ge=0)
    """Leave out the beginning of each trajectory: equilibration."""
    temperatures: list[Annotated[Kelvin, Field(gt=0, le=HOTTEST)]] = []
    """Of each trajectory, for what depends on it; folders of `rutile md` know theirs."""


@dataclass(frozen=True)
class Given:
    """One trajectory to look at."""

    name: str
    path: Path
    temperature: float | None
    log: Path | None
    """Log of `rutile md`, and"""
    run: int = 0
    """number of the run in it."""


def given_trajectories(settings: GivenTrajectories) -> list[Given]:
    """The trajectories, with what their folders know."""
    out: list[Given] = []
    for path in settings.trajectories:
        if path.is_dir():
            out += _of_md(path)
        elif path.exists():
            out.append(Given(str(path), path, None, None))
        else:
            raise FileError(f"cannot read {path}: no such file{did_you_mean(path)}")
    if settings.temperatures:
        if len(settings.temperatures) != len(out):
            raise SettingsError(
                f"temperatures: {len(settings.temperatures)} of them for {len(out)} trajectories; give one for each"
            )
        out = [Given(g.name, g.path, t, g.log, g.run) for g, t in zip(out, settings.temperatures, strict=True)]
    return out


def _of_md(folder: Path) -> list[Given]:
    """Trajectories in a folder of `rutile md`."""
    try:
        told = json.loads((folder / "result.json").read_text())
        runs, files = told["runs"], [folder / Path(p).name for p in told["trajectories"]]
    except (OSError, ValueError, KeyError):
        raise FileError(f"{folder} is no folder of a finished `rutile md` (result.json); give files instead") from None
    return [
        Given(str(path), path, row["temperature"], folder / "log.csv", row["run"])
        for row, path in zip(runs, files, strict=True)
    ]


def read_trajectory(given: Given, settings: GivenTrajectories) -> Trajectory:
    """The frames of one trajectory, without equilibration.

    Raises:
        DataError: too few frames, other atoms in some, or times that are missing or not even.
    """
    from rutile.simulate.md.h5md import read_h5md
    from rutile.simulate.observe.trajectory import Trajectory, even_interval, trajectory, unwrapped
    from rutile.structures.io import iterate

    if given.path.suffix in (".h5", ".hdf5"):
        told = read_h5md(given.path)
        if len(told["time"]) < 2:
            raise DataError(f"{given.name}: fewer than two frames")
        positions = unwrapped(told["position"], told["cell"], told["pbc"])
        found = Trajectory(
            told["numbers"], positions, told["cell"], told["pbc"],
            settings.interval or even_interval(told["time"], given.name), told.get("velocity"),
        )  # fmt: skip
    else:
        found = trajectory(iterate(given.path), settings.interval, given.name)
    return found.after(1000 * settings.skip) if settings.skip else found


def atomic_number(name: str) -> int:
    """Atomic number of an element in `charges`."""
    from ase.data import atomic_numbers

    if name not in atomic_numbers:
        raise SettingsError(f"charges: {name!r} is no element")
    return int(atomic_numbers[name])
