"""From settings of builders to structures: in order, in one process or several, the same structures in either case."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import groupby
from multiprocessing import get_context
from typing import Any

from ase import Atoms

from rutile.build.catalogue import recipe
from rutile.build.crystals import bare
from rutile.build.guards import Measured, guard
from rutile.build.recipe import Draft, Mechanics, NoParentError, Recipe, Refused
from rutile.build.settings import StepSettings
from rutile.core.errors import RutileError
from rutile.core.seeds import stream

USUAL_COUNT = 100
"""Structures of a step that names no count and cannot be counted."""
TOGETHER = 20
"""Structures that a process makes at a time; all of one parent."""
REMEMBERED = 4
"""Parents that a process keeps."""


@dataclass(frozen=True)
class Slots:
    """Places for structures of one parent: each is filled, or refused for good."""

    step: int
    parent: int
    first: int
    """Number of the first structure among those of the parent."""
    count: int


@dataclass(frozen=True)
class Made:
    """What became of a slot."""

    atoms: Atoms | None
    """With provenance in `info`; None: refused."""
    measured: Measured | None
    refused: Counter[str]
    """Why structures drawn for it were refused."""
    attempt: int
    """Number of the last draw."""


class Maker:
    """Makes structures of a plan.

    Args:
        steps: settings of builders.
        seed: of the plan.
        mechanics: as of `build.recipe`.

    Raises:
        RutileError: the settings of a step cannot be met; names the step.
    """

    def __init__(self, steps: Sequence[StepSettings], seed: int, mechanics: Mechanics) -> None:
        self.steps, self.seed = steps, seed
        self.recipes = [self._recipe(k, mechanics) for k in range(len(steps))]
        self._prepared: dict[tuple[int, int], Any] = {}

    def _recipe(self, k: int, mechanics: Mechanics) -> Recipe:
        step = self.steps[k]
        try:
            made = recipe(step, self.seed, mechanics)
        except RutileError as error:
            raise type(error)(f"{step.title}: {error}") from None
        return made

    def asked(self, step: int) -> int:
        """Structures that a step shall give; no more than there are."""
        made, count = self.recipes[step], self.steps[step].count
        if made.each is not None:
            return min(count or 10**9, made.each * len(made.parents))
        return count or USUAL_COUNT

    def bundles(self, slots: Sequence[Slots]) -> list[list[Slots]]:
        """Places, one after another, of parents that are prepared in one go; of others each by itself."""

        def of(place: Slots) -> tuple[int, ...]:
            together = self.recipes[place.step].together
            return place.step, place.parent // together, place.first if together == 1 else 0

        return [list(group) for _, group in groupby(slots, of)]

    def slots(self) -> list[Slots]:
        """All places in order: parent by parent, each with its share."""
        out: list[Slots] = []
        for step, made in enumerate(self.recipes):
            total, parents = self.asked(step), len(made.parents)
            for parent in range(parents):
                share = total // parents + (parent < total % parents)
                if made.each is not None and total < made.each * parents:
                    share = min(max(total - parent * made.each, 0), made.each)
                out += [Slots(step, parent, n, min(TOGETHER, share - n)) for n in range(0, share, TOGETHER)]
        return out

    def fill(self, slots: Slots) -> list[Made]:
        """Structures for some places."""
        return [self.one(slots.step, slots.parent, slots.first + n) for n in range(slots.count)]

    def one(self, step: int, parent: int, number: int, attempt: int = 0) -> Made:
        """One structure; drawn anew until one passes the guards, as often as they allow.

        Args:
            step: number of the step.
            parent: number of the parent.
            number: of the structure among those of the parent.
            attempt: number of the first draw.
        """
        made, settings = self.recipes[step], self.steps[step]
        refused: Counter[str] = Counter()
        last = 1 if made.each is not None else settings.guards.attempts
        while attempt < last:
            rng = stream(self.seed, "build", settings.title, step, parent, number, attempt)
            try:
                which = max(number, min(attempt, 1))  # the parent itself is drawn once only
                draft = made.draw(self._parent(step, parent), which, rng)
                measured = guard(draft, settings.guards)
            except Refused as reason:
                refused[str(reason)] += 1
                attempt += 1
                if isinstance(reason, NoParentError):
                    break
                continue
            return Made(self._named(draft, step, parent, number), measured, refused, attempt)
        return Made(None, None, refused, attempt)

    def _parent(self, step: int, parent: int) -> Any:
        """What a parent was prepared to; a failure is remembered, too.

        Raises:
            Refused: it cannot be prepared.
        """
        key = step, parent
        if key not in self._prepared:
            while len(self._prepared) >= REMEMBERED:
                self._prepared.pop(next(iter(self._prepared)))
            try:
                self._prepared[key] = self.recipes[step].prepare(parent)
            except Refused as reason:
                self._prepared[key] = NoParentError(f"parent: {reason}")
        if isinstance(self._prepared[key], NoParentError):
            raise self._prepared[key]
        return self._prepared[key]

    def _named(self, draft: Draft, step: int, parent: int, number: int) -> Atoms:
        """The structure with its provenance."""
        settings, atoms = self.steps[step], bare(draft.atoms)
        if not draft.whole:
            atoms.wrap()
        atoms.info = {
            "config_type": settings.title,
            "builder": settings.builder,
            "parent": f"{settings.title}: {self.recipes[step].parents[parent]}",
            "number": number,
            "seed": self.seed,
            "parameters": draft.parameters,
        }
        return atoms


def fill_all(maker: Maker, slots: Sequence[Slots], mechanics: Mechanics, workers: int) -> Iterator[Made]:
    """What becomes of all places, in order.

    Args:
        maker: of this process; used alone where one worker is enough.
        slots: the places.
        mechanics: for the makers of other processes.
        workers: processes.

    Raises:
        RutileError: a process was lost.
    """
    if workers <= 1 or len(slots) <= 1:
        for place in slots:
            for n in range(place.count):
                yield maker.one(place.step, place.parent, place.first + n)
        return
    bundles = maker.bundles(slots)
    pool = ProcessPoolExecutor(
        min(workers, len(bundles)),
        mp_context=get_context("spawn"),
        initializer=_begin,
        initargs=(tuple(maker.steps), maker.seed, mechanics),
    )
    try:
        for part in pool.map(_fill, bundles):
            yield from part
    except BrokenProcessPool:
        raise RutileError(
            "a process that makes structures was lost (killed, or out of memory): the same command goes on from here"
        ) from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


_MAKERS: list[Maker] = []
"""The maker of this process, if it is one of several."""


def _begin(steps: Sequence[StepSettings], seed: int, mechanics: Mechanics) -> None:
    _MAKERS[:] = [Maker(steps, seed, mechanics)]


def _fill(bundle: Sequence[Slots]) -> list[Made]:
    return [made for slots in bundle for made in _MAKERS[0].fill(slots)]
