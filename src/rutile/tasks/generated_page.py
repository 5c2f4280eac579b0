"""The page about structures that were made: how many of what, and a map of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from rutile.build.guards import BONDED, Measured
from rutile.build.plan import Tally, images
from rutile.core.elements import formula
from rutile.train import figures
from rutile.train.report import Card, Facts, Figures, Section, Table, Text, Value, render

PICTURES = 3
"""Structures of each step that are drawn."""
LARGEST_PICTURE = 150
"""Atoms of the largest of them."""
MOST_NEIGHBOURS = 16
"""Larger numbers of neighbours count as this one."""


def page(tallies: Sequence[Tally], out: Path, settings: Mapping[str, Any]) -> str:
    """The whole page.

    Args:
        tallies: of the steps.
        out: the structures.
        settings: of the task, as JSON values.
    """
    made = [t for t in tallies if t.made]
    every = [m for t in made for m in t.measured]
    names = sorted({name for m in every for name in m.elements})
    cards = [
        Card("structures", str(len(every)), f"of {sum(t.asked for t in tallies)} asked"),
        Card("atoms", str(sum(m.atoms for m in every))),
        Card("elements", str(len(names)), ", ".join(names[:6]) + (", ..." if len(names) > 6 else "")),
        Card("parents", str(sum(len(t.used) for t in tallies))),
    ]
    sections = [
        Section("What was made", [_table(tallies), *_refusals(tallies)]),
        Section("Map", [Text(MAP), Figures(_panels(made))]),
        Section("Neighbours", [Text(NEIGHBOURS), Figures(_coordination(every, names))]),
        Section("Elements", [_elements(made, names)]),
        Section("Examples", [Figures(figs) for figs in _pictures(made, out)]),
        Section("Settings", [Facts(settings, "all settings that were given")]),
    ]
    return render("Generated structures", out.name, cards, sections)


MAP = (
    "Each colour is a step. Distances are those of the two nearest atoms of a structure; density and volume are those "
    "of structures that are periodic in three directions."
)
NEIGHBOURS = (
    f"Atoms nearer than {BONDED:g} times the sum of their covalent radii count as neighbours; where there are "
    "nonmetals, two metals do not."
)


def _table(tallies: Sequence[Tally]) -> Table:
    """One line for each step."""
    columns = ("step", "builder", "asked", "made", "parents", "atoms")
    rows: list[list[Value]] = []
    for t in tallies:
        sizes = [m.atoms for m in t.measured]
        span = f"{min(sizes)} to {max(sizes)}" if sizes else "–"
        rows.append([t.label, t.builder, t.asked, t.made, f"{len(t.used)} of {t.parents}", span])
    return Table(columns, rows)


def _refusals(tallies: Sequence[Tally]) -> list[Table]:
    """Refused draws by step and reason."""
    reasons = [reason for reason, _ in sum((t.refused for t in tallies), Counter()).most_common()]
    rows: list[list[Value]] = [[t.label, *(t.refused[reason] for reason in reasons)] for t in tallies]
    caption = "What is refused is drawn anew, except where it is one of a list."
    return [Table(["refused draws", *reasons], rows, caption)] if reasons else []


def _panels(made: Sequence[Tally]) -> list[tuple[str, str]]:
    """Distributions of what can be measured, by step."""
    quantities: list[tuple[str, str, Callable[[Measured], float | None]]] = [
        ("Sizes", "atoms", lambda m: m.atoms),
        ("Nearest atoms", "distance / sum of covalent radii", lambda m: m.contact),
        ("Shortest distance", "Å", lambda m: m.nearest),
        ("Volume", "Å³/atom", lambda m: m.volume),
        ("Density", "g/cm³", lambda m: m.density),
    ]
    out = []
    for title, label, of in quantities:
        found = {t.label: [v for v in map(of, t.measured) if v is not None] for t in made}
        if any(found.values()):
            out.append((figures.distributions(title, label, found), ""))
    return out


def _coordination(every: Sequence[Measured], names: Sequence[str]) -> list[tuple[str, str]]:
    """Share of the atoms of each element by number of neighbours."""
    found: dict[str, Counter[int]] = {name: Counter() for name in names}
    for m in every:
        for name, counts in m.neighbours.items():
            for neighbours, atoms in counts.items():
                found[name][min(int(neighbours), MOST_NEIGHBOURS)] += atoms
    grid = [[found[name][k] / max(1, sum(found[name].values())) for k in range(MOST_NEIGHBOURS + 1)] for name in names]
    columns = [str(k) for k in range(MOST_NEIGHBOURS)] + [f"{MOST_NEIGHBOURS}+"]
    return [(figures.shares("Share of the atoms of each element", "neighbours", list(names), columns, grid), "")]


def _elements(made: Sequence[Tally], names: Sequence[str]) -> Table:
    """Structures with each element, by step."""
    rows: list[list[Value]] = []
    for t in made:
        counts = Counter(name for m in t.measured for name in m.elements)
        rows.append([t.label, *(counts[name] for name in names)])
    return Table(["structures with", *names], rows)


def _pictures(made: Sequence[Tally], out: Path) -> list[list[tuple[str, str]]]:
    """Some structures of each step, evenly from the first to the last."""
    wanted: dict[int, int] = {}
    start = 0
    for step, t in enumerate(made):
        small = [k for k, m in enumerate(t.measured) if m.atoms <= LARGEST_PICTURE]
        for k in small[:: max(1, -(-len(small) // PICTURES))]:
            wanted[start + k] = step
        start += t.made
    found: list[list[tuple[str, str]]] = [[] for _ in made]
    last = max(wanted, default=-1) + 1
    for number, atoms in enumerate(islice(images(out), last)):
        if number in wanted:
            caption = f"{formula(atoms.numbers)}, {atoms.info['parent']}"
            found[wanted[number]].append((figures.structure(atoms), caption))
    return [f for f in found if f]
