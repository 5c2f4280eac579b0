"""Chains of tasks in `rutile screen`: which tasks can be links, their settings, and how they work on a chunk."""

from __future__ import annotations

import difflib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import JsonValue

from rutile.core.config import build
from rutile.core.elements import formula
from rutile.core.errors import RutileError, SettingsError
from rutile.core.reporting import SilentReporter
from rutile.core.settings import Settings
from rutile.tasks.catalogue import TASKS, load_task

if TYPE_CHECKING:
    from ase import Atoms

GOOD = ("done", "converged")
"""Outcomes with which a structure goes on."""


@dataclass(frozen=True)
class Kind:
    """A task as a link."""

    rows: str
    """Field of its result that has the rows."""
    keys: tuple[str, ...] = ()
    """Fields that tell the rows of one structure apart; they become part of the names of columns."""
    lowest: bool = False
    """Only the first of the rows that have these fields alike."""


KINDS: dict[str, Kind] = {
    "relax": Kind("structures"),
    "eos": Kind("structures"),
    "elastic": Kind("structures"),
    "phonons": Kind("structures"),
    "expansion": Kind("structures"),
    "vibrations": Kind("structures"),
    "surfaces": Kind("surfaces", ("miller", "termination")),
    "defects": Kind("defects", ("defect",)),
    "boundaries": Kind("boundaries", ("boundary",)),
    "faults": Kind("faults", ("plane", "direction")),
    "hop": Kind("directions", ("direction",)),
    "adsorb": Kind("minima", ("adsorbates",), lowest=True),
    "binding": Kind("binding", ("guest", "guests")),
    "swap": Kind("runs", ("temperature",)),
    "barrier": Kind("paths"),
    "md": Kind("runs", ("run",)),
    "analyse": Kind("diffusion", ("element",)),
}
"""Tasks that say something about each structure by itself."""
OF_PAIRS = ("relax", "barrier")
"""Tasks that take a beginning and an end."""
PASSED_ON = ("model", "precision", "device", "mode")
"""Settings that all links share."""
COMMON = ("structure", "slab", "path", "trajectory", "formula", "outcome")
"""Fields of rows that are no columns of their own."""
OURS = ("structures", "trajectories", "out", "format", "order", "on_bad")
"""Settings of tasks that the screen fills in."""


def known_links() -> list[str]:
    """Tasks that can be links, of those that there are."""
    return [name for name in KINDS if name in TASKS]


@dataclass(frozen=True)
class Item:
    """What is screened: a structure, or the two ends of a path."""

    source: str
    """Where it comes from."""
    images: tuple[Atoms, ...]
    """One, or beginning and end."""
    facts: dict[str, JsonValue]
    """Columns that are known from the start: what was varied."""


@dataclass(frozen=True)
class Chunk:
    """One piece of work."""

    folder: Path
    """For its files."""
    items: list[Item]
    """In order."""


Now = dict[int, tuple["Atoms", ...]]


@dataclass(frozen=True)
class Chain:
    """Does all tasks with a chunk; a structure that cannot be worked on does not stop the others."""

    links: list[dict[str, JsonValue]]
    """Tasks with their settings."""
    shared: dict[str, JsonValue]
    """Model, precision, device, mode."""

    def __call__(self, chunk: Chunk) -> list[dict[str, Any]]:
        """A row for each item: columns of the table, and the final structure under `final`."""
        chunk.folder.mkdir(parents=True, exist_ok=True)
        rows: list[dict[str, Any]] = [
            {"structure": i.source, "formula": formula(i.images[0].numbers.tolist()), "outcome": "done"} | i.facts
            for i in chunk.items
        ]
        given: Now = {k: item.images for k, item in enumerate(chunk.items)}
        for k, images in self._followed(chunk.folder, 0, given, rows).items():
            atoms = images[0]
            rows[k]["final"] = {
                "numbers": atoms.numbers.tolist(), "positions": atoms.positions.tolist(),
                "cell": atoms.cell.array.tolist(), "pbc": atoms.pbc.tolist(),
            }  # fmt: skip
        return rows

    def _followed(self, folder: Path, begin: int, now: Now, rows: list[dict[str, Any]]) -> Now:
        """The chain from a link on with all that came so far; those that go through it."""
        before: list[int] = []  # what the link before was given
        for step in range(begin, len(self.links)):
            name = str(self.links[step]["task"])
            try:
                found, after = self._run(folder, step, now, before)
            except RutileError as error:
                if len(now) > 1:
                    return self._one_by_one(folder, step - (name == "analyse"), now, rows)
                ours = f"{_given(folder, step)}#0: "  # the user knows the structure by another name
                rows[next(iter(now))]["outcome"] = f"{name}: {str(error).splitlines()[0].removeprefix(ours)}"
                return {}
            prefix = f"{name}{'' if self._first(step) else step + 1}"
            for k, mine in zip(now, found, strict=True):
                bad = [str(row["outcome"]) for row in mine if str(row.get("outcome", "done")) not in GOOD]
                if bad:
                    rows[k]["outcome"] = f"{name}: {bad[0]}"
                rows[k] |= _columns(prefix, mine, KINDS[name].keys)
            before = list(now)
            now = {k: images for k, images in zip(now, after, strict=True) if rows[k]["outcome"] == "done"}
            if not now:
                break
        return now

    def _one_by_one(self, folder: Path, begin: int, now: Now, rows: list[dict[str, Any]]) -> Now:
        """The same where one of them cannot be worked on, each in a folder of its own: see which."""
        out: Now = {}
        for k, images in now.items():
            alone = folder / f"{k:03d}"
            alone.mkdir(exist_ok=True)
            out |= self._followed(alone, begin, {k: images}, rows)
        return out

    def _first(self, step: int) -> bool:
        """Whether a task comes for the first time in the chain."""
        return all(link["task"] != self.links[step]["task"] for link in self.links[:step])

    def _run(
        self, folder: Path, step: int, now: Now, before: Sequence[int]
    ) -> tuple[list[list[dict[str, Any]]], list[tuple[Atoms, ...]]]:
        """Rows of a task for each item, and the structures after it."""
        from rutile.structures.io import read_all, write_frames

        link = self.links[step]
        task, given = load_task(str(link["task"])), _given(folder, step)
        count, images = len(now), [one for side in zip(*now.values(), strict=True) for one in side]
        write_frames(given, images)
        out = folder / (f"{step + 1}-relaxed.extxyz" if task.name == "relax" else f"{step + 1}-{task.name}")
        source = folder / f"{step}-md" if task.name == "analyse" else given
        settings = link_settings(f"chain[{step}]", link, self.shared, source, out)
        result: Any = task.run(settings, SilentReporter())
        kind = KINDS[task.name]
        rows = getattr(result, kind.rows)
        owner = {t: before[n] for t, n in _runs_of(source).items()} if task.name == "analyse" else {}
        place = {k: n for n, k in enumerate(now)}
        mine: list[list[dict[str, Any]]] = [[] for _ in images]
        for row in rows:
            if owner and owner[row.trajectory] not in place:
                continue  # its run has failed
            of = mine[place[owner[row.trajectory]] if owner else _number(row, rows)]
            if not (kind.lowest and any(all(o[key] == getattr(row, key) for key in kind.keys) for o in of)):
                of.append(row.model_dump(mode="json"))
        if task.name == "relax" and len(images) > count:  # of both ends
            mine = [[_both(mine[k][0], mine[count + k][0])] for k in range(count)]
        after = read_all(out) if task.name == "relax" else images
        return mine[:count], [tuple(after[k::count]) for k in range(count)]


def _both(beginning: dict[str, Any], end: dict[str, Any]) -> dict[str, Any]:
    """One row about both ends of a path."""
    bad = [row["outcome"] for row in (beginning, end) if row["outcome"] not in GOOD]
    more = {f"end_{name}": value for name, value in end.items() if name not in COMMON}
    return beginning | more | {"outcome": bad[0] if bad else "done"}


def _number(row: Any, rows: Sequence[Any]) -> int:
    """Number of the structure in its file to which a row belongs; sources end with #number."""
    source = next(str(getattr(row, name)) for name in ("structure", "path", "slab") if hasattr(row, name))
    end = source.rpartition("#")[2]
    return int(end) if end.isdigit() else rows.index(row)


def _runs_of(folder: Path) -> dict[str, int]:
    """To which structure each trajectory in a folder of `rutile md` belongs."""
    told = json.loads((folder / "result.json").read_text())
    owners = [int(str(run["structure"]).rpartition("#")[2]) for run in told["runs"]]
    return {str(folder / Path(p).name): k for p, k in zip(told["trajectories"], owners, strict=True)}


def _columns(prefix: str, rows: Sequence[dict[str, Any]], keys: Sequence[str]) -> dict[str, Any]:
    """Columns of the rows of one structure; where there are several, what tells them apart is part of the names."""
    out: dict[str, Any] = {}
    seen: Counter[str] = Counter()
    for row in rows:
        label = " ".join(str(row[key]) for key in keys if key in row)
        seen[label] += 1
        more = f" {seen[label]}" if seen[label] > 1 else ""
        start = f"{prefix}[{label}{more}]" if len(rows) > 1 else prefix
        skipped = {*COMMON, *(keys if len(rows) > 1 else ())}
        out |= {f"{start}.{name}": value for name, value in row.items() if name not in skipped}
    return out


def _given(folder: Path, step: int) -> Path:
    """File of what a task in the chain is given."""
    return folder / f"{step + 1}-given.extxyz"


def check_chain(links: Sequence[dict[str, JsonValue]], shared: dict[str, JsonValue], pairs: bool) -> None:
    """Refuse a chain that cannot be, before anything runs.

    Args:
        links: tasks with their settings.
        shared: settings of all.
        pairs: whether beginnings and ends of paths are given.

    Raises:
        SettingsError: says the place, such as chain[1].task, and what was meant.
    """
    before = ""
    for k, link in enumerate(links):
        place = f"chain[{k}]"
        link_settings(place, link, shared, Path("x.extxyz"), Path("x"))
        name = str(link["task"])
        if name == "barrier" and not pairs:
            raise SettingsError(f"{place}.task = 'barrier': paths have two ends; give ends=..., or build=dissociation")
        if pairs and name not in OF_PAIRS:
            raise SettingsError(f"{place}.task = {name!r}: with ends, a chain is of {' and '.join(OF_PAIRS)}")
        if name == "analyse" and before != "md":
            raise SettingsError(f"{place}.task = 'analyse': it needs the trajectories of md right before it")
        before = name


def link_settings(
    place: str, link: dict[str, JsonValue], shared: dict[str, JsonValue], given: Path, out: Path
) -> Settings:
    """Settings of a task in the chain.

    Args:
        place: such as chain[1], for messages.
        link: the task with its settings.
        shared: settings of all.
        given: file of structures, or folder of trajectories.
        out: for what the task writes.

    Raises:
        SettingsError: there is no such task, or it does not know such settings; says the place and a near name.
    """
    name = link.get("task")
    if name not in known_links():
        near = difflib.get_close_matches(str(name), known_links(), 1)
        hint = f"did you mean {near[0]}?" if near else f"tasks of a chain are {', '.join(known_links())}"
        if name is None:
            raise SettingsError(f"{place}.task: missing; tasks of a chain are {', '.join(known_links())}")
        raise SettingsError(f"{place}.task = {name!r}: no task of a chain; {hint}")
    mine = {k: v for k, v in link.items() if k != "task"}
    kind = load_task(str(name)).settings
    for key in mine:
        if key in PASSED_ON:
            raise SettingsError(f"{place}.{key}: it is set for all tasks together, beside chain")
        if key in OURS and key in kind.model_fields:
            raise SettingsError(f"{place}.{key}: rutile screen fills that in; leave it out")
    filled: dict[str, Any] = {"trajectories": [given]} if name == "analyse" else {**shared, "structures": [given]}
    try:
        return build(kind, {**mine, **filled, "out": out})
    except SettingsError as error:
        raise SettingsError("\n".join(f"{place}.{line}" for line in str(error).splitlines())) from None
