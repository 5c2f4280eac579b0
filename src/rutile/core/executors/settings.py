"""Settings of executors; `ExecutorSettings` is any of them, told apart by `name`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import Field, field_validator, model_validator

from rutile.core.settings import Settings
from rutile.core.units import Gigabyte, Second

WALL_TIME = re.compile(r"(?:(\d+)-)?(\d{1,3}):(\d{2}):(\d{2})")
"""Days, hours, minutes, seconds."""


class ThreadsSettings(Settings):
    """Threads of this process: enough where each piece of work is a program that is started and waited for."""

    name: Literal["threads"] = "threads"


class LocalSettings(Settings):
    """Processes on this machine (Dask). One that is lost is replaced, and what it was doing is done again."""

    name: Literal["local"] = "local"


class SlurmSettings(Settings):
    """Jobs of Slurm (Dask), each with one worker; one that is lost or reaches its wall time is replaced.

    What a user's own `~/.config/dask/jobqueue.yaml` says under `jobqueue: slurm:` holds where nothing is said here.
    """

    name: Literal["slurm"] = "slurm"
    partition: str = ""
    """Partition (`#SBATCH -p`); by default the one of the cluster."""
    account: str = ""
    """Account that pays (`#SBATCH -A`); by default the user's own."""
    wall_time: str = "01:00:00"
    """Wall time of a job (HH:MM:SS or D-HH:MM:SS); the work may take much longer than one job."""
    reserve: Second | None = Field(default=None, ge=0)
    """A job takes no new work in the last so many seconds of its wall time, so that what it is doing can end; by
    default a tenth of the wall time. As long as one piece of work takes is a good choice."""
    cores: int = Field(default=1, ge=1)
    """Cores of a job, for one piece of work at a time."""
    memory: Gigabyte | None = Field(default=None, gt=0)
    """Memory of a job (`#SBATCH --mem`); by default what the cluster gives."""
    directives: list[str] = []
    """More lines for the head of the job script, such as `--qos=short` or `--gres=gpu:1`."""
    prologue: list[str] = []
    """Lines of shell before the worker starts, such as `module load espresso`."""
    python: str = ""
    """Python of the jobs, with rutile installed; by default the one that runs this."""
    interface: str = ""
    """Network interface through which jobs and this process talk, such as ib0; `lo` where all is on one machine."""
    logs: Path = Path("slurm-logs")
    """Folder for what the jobs print."""
    patience: Second | None = Field(default=None, gt=0)
    """Give up when there has been no worker for so long; by default jobs may wait in the queue for ever."""
    idle: Second = Field(default=300.0, ge=0)
    """Jobs that have had nothing to do for so long are given back; they are asked for again when there is work."""
    death_timeout: Second = Field(default=60.0, gt=0)
    """A job whose worker cannot reach this process for so long ends by itself."""

    @field_validator("wall_time")
    @classmethod
    def _is_time(cls, value: str) -> str:
        if WALL_TIME.fullmatch(value) is None or seconds_of(value) < 60:
            raise ValueError(f"{value!r} is no wall time: write HH:MM:SS or D-HH:MM:SS, at least a minute")
        return value

    @model_validator(mode="after")
    def _reserve_fits(self) -> SlurmSettings:
        if self.reserve is not None and self.reserve >= self.seconds:
            raise ValueError(f"reserve = {self.reserve:g} s is not less than wall_time = {self.wall_time}")
        return self

    @property
    def seconds(self) -> float:
        """The wall time."""
        return seconds_of(self.wall_time)


def seconds_of(wall_time: str) -> float:
    """A wall time in seconds.

    >>> seconds_of("1-02:00:30")
    93630.0
    """
    found = WALL_TIME.fullmatch(wall_time)
    assert found is not None
    days, hours, minutes, seconds = (int(x or 0) for x in found.groups())
    return float(((24 * days + hours) * 60 + minutes) * 60 + seconds)


ExecutorSettings: TypeAlias = Annotated[ThreadsSettings | LocalSettings | SlurmSettings, Field(discriminator="name")]
"""Settings of any executor."""


class StationSettings(Settings):
    """Workers of one kind, where there are several kinds."""

    workers: int = Field(default=1, ge=1)
    """Pieces of work at the same time."""
    executor: ExecutorSettings = ThreadsSettings()
    """Where: threads here, processes here (local), jobs of a cluster (slurm)."""
