"""Where workers come from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from distributed import Client


@dataclass
class Hand:
    """A worker that is there."""

    address: str
    name: str
    tickets: list[int] = field(default_factory=list)
    """Numbers of the tries that it was given, in order: it is at work on the first."""
    alone: bool = False
    """It is to have no more than it has."""


class Staff(Protocol):
    """Workers of one kind, as those see them who share out work."""

    workers: int
    """Pieces of work at the same time, when all are there."""
    sure: bool
    """Whether all of them are there in a moment, as processes are; jobs of Slurm may have to wait."""
    ahead: int
    """Pieces of work that a worker may be given before it has ended what it does, where these are short."""

    def look(self, hands: Mapping[str, Hand], wanted: int | None) -> None:
        """Called again and again while there is work.

        Args:
            hands: the workers that are there, by address.
            wanted: how many pieces of work there are, done by whom or by nobody yet; None: more than workers.

        Raises:
            ExecutorError: there will be none.
        """
        ...

    def takes_work(self, hand: Hand) -> bool:
        """Whether a worker should be given more work."""
        ...

    def rest(self) -> None:
        """There is no more work for now."""
        ...


class Pool(Staff, Protocol):
    """Workers of Dask."""

    def start(self) -> Client:
        """Start them, or ask for them.

        Raises:
            ExecutorError: there will be none.
        """
        ...

    def close(self) -> None:
        """End them, whatever they are doing."""
        ...
