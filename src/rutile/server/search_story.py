"""What the log of a search tells, read as it grows."""

from __future__ import annotations

import functools
import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

from rutile.core.elements import formula_of, symbol
from rutile.core.settings import Result
from rutile.jobs.series import Growing

WORK = ("search", "label", "train")
"""Kinds of work of an adaptive search."""


class FoundRow(Result):
    """A structure that was made and relaxed."""

    number: int
    """In the order in which they were made."""
    order: int
    """In the order in which they were relaxed, as the newest potential has it; the first one is 1."""
    formula: str
    """Of all its atoms."""
    elements: dict[str, int]
    """Element -> atoms."""
    energy: float | None
    """Of each atom (eV); null: it failed."""
    operator: str
    """How it was made."""
    parents: list[int]
    """Of whom."""
    failure: str
    """Why it failed."""
    cycle: int | None
    """Version of the potential that relaxed it, in an adaptive search."""


class LabelPoint(Result):
    """A structure that was labelled in an adaptive search."""

    number: int
    """Which label."""
    at: float
    """When it was asked for (s since 1970)."""
    seconds: float | None
    """How long the engine took."""
    why: str
    """Why it was chosen."""
    spread: float | None
    """Disagreement of the committee: the standard deviation of the energy of each atom (eV)."""
    error: float | None
    """Energy of the potential less that of the engine, of each atom (eV)."""
    energy: float | None
    """Of the engine, of each atom (eV)."""
    failure: str
    """Why there is none."""


class WorkStep(Result):
    """How many workers of a kind are busy from a moment on."""

    at: float
    """Seconds since the search began."""
    busy: int
    """So many."""


class SavedStep(Result):
    """What an adaptive search has from a moment on."""

    at: float
    """Seconds since the search began."""
    structures: int
    """Structures that were relaxed, each once."""
    labels: int
    """Labels that the engine gave."""


class Story(Growing):
    """A log of a search, plain or adaptive.

    Args:
        path: of the log.
        root: as of `Growing`.
    """

    def begin(self) -> None:
        """Forget everything."""
        self.found: dict[int, FoundRow] = {}
        """By their numbers; what was relaxed again is here as it was last."""
        self.done = 0
        self.labels: list[LabelPoint] = []
        self.trainings = 0
        self.work: dict[str, list[WorkStep]] = {kind: [] for kind in WORK}
        self.saved: list[SavedStep] = []
        self.counts: Counter[str] = Counter()
        self._labelled = 0
        self._first: float | None = None
        self._made: dict[int, dict[str, Any]] = {}
        self._gave: dict[int, dict[str, Any]] = {}
        self._places: dict[int, int] = {}
        self._versions: dict[int, int | None] = {}

    @property
    def operators(self) -> dict[str, int]:
        """How many each made, those that wait to be relaxed counted."""
        return dict(self.counts + Counter(_operator(one) for one in self._made.values()))

    def take(self, row: dict[str, Any], place: int) -> None:
        """What a line tells."""
        gone, came = row.get("gave") or row, row.get("came") or row
        kind = str(gone.get("kind") or came.get("kind") or "")
        if kind in WORK:
            self._busy(kind, 1 if "gave" in row else -1, (gone if "gave" in row else came).get("at"))
        for one in _several(gone.get("made")):
            light = {name: one[name] for name in ("operator", "ways", "parents") if name in one}
            self._made[one.get("number", -1)] = light | {"version": gone.get("version")}
        for one in _several(came.get("done")):
            self._places[int(one.get("number", -1))] = place
            self._relaxed(one)
        if kind == "label" and "gave" in row:
            self._gave[gone.get("number", -1)] = {k: v for k, v in gone.items() if k != "atoms"}
        elif kind == "label":
            self.labels.append(_label(self._gave.pop(came.get("number", -1), {}), came))
            self._labelled += not self.labels[-1].failure
        elif kind == "train" and "came" in row:
            self.trainings += 1
        if kind in ("search", "label") and "came" in row:
            self._saved(came.get("at"))

    def _relaxed(self, one: dict[str, Any]) -> None:
        self.done += 1
        fresh = _found(one, one.get("made") or self._made.pop(one.get("number", -1), {}), self.done)
        self.counts[fresh.operator] += fresh.number not in self.found
        self.found[fresh.number] = fresh

    def _busy(self, kind: str, change: int, at: Any) -> None:
        if not isinstance(at, int | float):
            return
        self._first = float(at) if self._first is None else self._first
        steps = self.work[kind]
        busy = max(0, (steps[-1].busy if steps else 0) + change)
        steps.append(WorkStep(at=float(at) - self._first, busy=busy))

    def _saved(self, at: Any) -> None:
        if isinstance(at, int | float) and self._first is not None:
            saved = SavedStep(at=float(at) - self._first, structures=len(self.found), labels=self._labelled)
            self.saved.append(saved)

    def record(self, number: int) -> dict[str, Any] | None:
        """What the log has of a relaxed structure (`atoms`, `energy`); None: there is none of that number."""
        place = self._places.get(number)
        if place is None:
            return None
        with self.opened() as file:
            file.seek(place)
            row = json.loads(file.readline())
        done = _several((row.get("came") or row).get("done"))
        return next((one for one in done if one.get("number") == number), None)


@functools.lru_cache(16)
def _kept(path: Path, root: Path) -> Story:
    return Story(path, root)


def story_of(path: Path, root: Path) -> Story:
    """The story of a log, as it is now.

    Args:
        path: of the log; one that does not exist is empty.
        root: folder below which no link is followed.
    """
    story = _kept(path, root)
    with story.lock:
        story.catch_up()
    return story


def _several(value: Any) -> list[dict[str, Any]]:
    """Records of a line: a search writes one, an adaptive search many."""
    return [one for one in (value if isinstance(value, list) else [value]) if isinstance(one, dict)]


def _operator(made: dict[str, Any]) -> str:
    ways = made.get("ways") or [[""]]
    return str(made.get("operator") or ways[0][0])


def made_of(done: dict[str, Any]) -> tuple[str, dict[str, int]]:
    """Formula of a relaxed structure, and how many atoms of each element it has."""
    atoms = Counter(int(z) for z in done.get("atoms", {}).get("numbers", []))
    return formula_of(atoms), {symbol(z): n for z, n in sorted(atoms.items())}


def _found(done: dict[str, Any], made: dict[str, Any], order: int) -> FoundRow:
    formula, parts = made_of(done)
    energy = done.get("energy")
    return FoundRow(
        number=int(done.get("number", -1)), order=order, formula=formula,
        elements=parts, energy=energy if energy is not None and math.isfinite(energy) else None,
        operator=_operator(made), parents=[int(p) for p in made.get("parents", [])],
        failure=str(done.get("failure") or ""), cycle=made.get("version"),
    )  # fmt: skip


def _label(gave: dict[str, Any], came: dict[str, Any]) -> LabelPoint:
    truth, guess = came.get("energy"), gave.get("energy")  # of each atom, both
    error = None if truth is None or guess is None else guess - truth
    begin, end = gave.get("at"), came.get("at")
    return LabelPoint(
        number=int(came.get("number", -1)), at=float(begin or end or 0.0), why=str(gave.get("why", "")),
        seconds=None if begin is None or end is None else end - begin, spread=gave.get("spread"), error=error,
        energy=truth, failure=str(came.get("failure") or ""),
    )  # fmt: skip
