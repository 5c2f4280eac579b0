"""What the thread of Dask tells the thread that shares out work."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias


@dataclass(frozen=True)
class Came:
    """A worker is there."""

    address: str
    name: str
    """Stays the same when its process is replaced; a worker in a job of Slurm is named by the number of the job."""


@dataclass(frozen=True)
class Gone:
    """A worker is there no more."""

    address: str


@dataclass(frozen=True)
class Done:
    """A piece of work is done."""

    ticket: int
    """Number of the try."""
    value: Any
    """What came of it."""
    began: float
    """When, by the clock of the worker (s)."""
    ended: float
    """When, by the same clock (s)."""


@dataclass(frozen=True)
class Raised:
    """A piece of work raised an exception."""

    ticket: int
    error: BaseException


Event: TypeAlias = Came | Gone | Done | Raised
