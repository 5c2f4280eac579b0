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


class Pool(Protocol):
    """Workers of one kind."""

    def start(self) -> Client:
        """Start them, or ask for them.

        Raises:
            ExecutorError: there will be none.
        """
        ...

    def look(self, hands: Mapping[str, Hand], wanted: int | None) -> None:
        """Called again and again while there is work.

        Args:
            hands: the workers that are there, by address.
            wanted: how many pieces of work there are; None: unknown.

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

    def close(self) -> None:
        """End them, whatever they are doing."""
        ...
