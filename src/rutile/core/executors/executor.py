"""What an executor is: a function of one item, many items, results in any order.

The work on an item is a picklable function of a picklable item, and doing it twice does no harm, so that the same
work is done in this process, in other processes, or on other machines:

    with open_executor(settings.executor, settings.workers, reporter) as executor:
        for number, outcome in executor.each(work, items):
            ...
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol, TypeVar

A = TypeVar("A")
B = TypeVar("B")


@dataclass(frozen=True)
class Lost:
    """In place of a result: the workers that were at work on this item were lost, again and again."""

    reason: str
    """One line for people."""


class Executor(Protocol):
    """Something that does many pieces of work; one `each` at a time."""

    def each(self, work: Callable[[A], B], items: Iterable[A]) -> Iterator[tuple[int, B | Lost]]:
        """Number of each item and what came of it, as they are done: each item exactly once.

        What a lost worker was doing is done again by another. When the iteration is left early, work that has not
        begun is left; what runs is finished or ended.

        Raises:
            Exception: what `work` raised; work that has not begun is left.
            ExecutorError: there are no workers, and none will come.
        """
        ...
