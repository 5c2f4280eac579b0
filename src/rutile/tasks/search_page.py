"""The page about a search: energies as they were found, operators, the table, and the ancestry of the best one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from rutile.search.ranking import AboveHull, Ranking
from rutile.search.results import lineage
from rutile.tasks.property import table_of
from rutile.tasks.property_figures import Line, panel
from rutile.tasks.search_figures import energies_by_operator, family_tree, portrait
from rutile.tasks.search_hull import hull_section
from rutile.tasks.search_start import FILES, named, names_of
from rutile.train.report import Block, Card, Facts, Figures, Links, Section, Table, Text, Value, render

if TYPE_CHECKING:
    from ase import Atoms

    from rutile.search.past import Past
    from rutile.tasks.search import SearchSettings, SearchTaskResult

SHOWN = 0.9
"""Part of the energies that the figure reaches up to."""
PICTURES = 6
"""Structures that the page shows."""
MOST_POINTS = 4000
"""Of the figure of energies; of more structures every so many-th is drawn."""
MOST_ANCESTORS = 40
"""Rows of the ancestry on the page."""


def page(
    settings: SearchSettings, result: SearchTaskResult, past: Past, order: Ranking,
    images: Sequence[Atoms] = (),
) -> str:  # fmt: skip
    """The whole page.

    Args:
        settings: of the task.
        result: what it found.
        past: all that was relaxed.
        order: what is low among the structures of the result.
        images: the structures of the result, in the same order.
    """
    best = result.structures[0]
    cards = [
        Card("lowest", f"{best.energy:.4f}", f"eV/atom, {best.symmetry or 'no symmetry'}"),
        Card("found", str(best.hits), f"times, first as number {best.first}"),
    ]
    first, high, over = [], past.energies, "the lowest"
    if isinstance(order, AboveHull):
        high, over = np.array([np.nan if d.failure else order.of(d, d.energy) for d in past]), "the hull"
        best = min(result.structures, key=lambda row: row.formation or 0.0)
        text = f"eV/atom, {best.formula} {best.symmetry}".rstrip()
        cards = [Card("stable", str(result.stable)), Card("lowest formation", f"{best.formation:.4f}", text)]
        first = [hull_section(result, past, order, settings.window)]
    cards += [Card("relaxed", str(result.relaxed), f"{result.failed} failed"), Card("pools", str(result.pools))]
    if result.relaxed < settings.relaxations:
        cards[-2] = Card("relaxed", str(result.relaxed), f"of {settings.relaxations}, {result.failed} failed")
    pictures = _gallery(images, settings.formula)
    sections = [
        *first,
        Section("Energies", _energies(past, high, over)),
        Section("Different structures, lowest first", [*pictures, *table_of(result.structures, _COLUMNS)]),
        Section("Operators", _operators(past, high, order)),
        Section("Ancestry of the lowest", _ancestry(best.number, past, order)),
        Section("Settings", [Facts(settings.model_dump(mode="json"), "all settings")]),
    ]
    return render(f"Search for {named(settings.formula, settings.structure)}", str(settings.model), cards, sections)


_COLUMNS = [
    "number", "formula", "symmetry", "energy", "formation", "above", "hits", "first", "atoms", "volume", "operator",
    "parents",
]  # fmt: skip


def _gallery(images: Sequence[Atoms], formula: str) -> list[Block]:
    """Pictures of the lowest structures, and their files."""
    shown = images[:PICTURES]
    pictures = [
        (portrait(a), f"{k}: {a.info.get('symmetry') or 'no symmetry'}, +{a.info.get('above', 0.0):.4f} eV/atom")
        for k, a in enumerate(shown, 1)
    ]
    links = [(f"{k}: {name}", f"{FILES}/{name}") for k, name in enumerate(names_of(images, formula), 1)]
    return [Figures(pictures), Links(links)] if pictures else []


def _energies(past: Past, energy: np.ndarray, over: str) -> list[Block]:
    """Each relaxed structure, and the lowest so far; of variable composition above the hull."""
    lowest = np.minimum.accumulate(np.nan_to_num(energy, nan=np.inf))
    zero = float(np.nanmin(energy))
    top = float(np.nanquantile(energy, SHOWN)) - zero
    count = np.arange(1, len(energy) + 1)
    shown = np.flatnonzero(energy - zero <= top)
    shown = shown[:: 1 + len(shown) // MOST_POINTS]
    lines = [
        Line("relaxed", count[shown], (energy - zero)[shown], points=True, colour=1),
        Line("lowest so far", *_steps(count, lowest - zero, top), colour=0),
    ]
    label = f"energy above {over} (eV/atom)"
    if over == "the hull":
        return [Figures([(panel("Search", "structures relaxed", label, lines[:1]), "")])]
    by_operator = energies_by_operator([d.operator for d in past], energy)
    return [Figures([(panel("Search", "structures relaxed", label, lines), ""), (by_operator, "")])]


def _steps(count: np.ndarray, lowest: np.ndarray, top: float) -> tuple[np.ndarray, np.ndarray]:
    """The lowest so far up to `top`, where it changes."""
    changes = np.flatnonzero(np.diff(lowest, prepend=np.inf, append=-np.inf)[:-1] < 0)
    at = np.unique([*changes, *(changes[1:] - 1), len(lowest) - 1])
    at = at[lowest[at] <= top]
    return count[at], lowest[at]


def _operators(past: Past, high: np.ndarray, order: Ranking) -> list[Block]:
    """What each operator made, and how low; `high`: with energies that can be compared."""
    rows: list[list[Value]] = []
    order_then = order.again()
    better = Counter(d.operator for d in past if not d.failure and order_then.take(d, d.energy))
    by = np.array([d.operator for d in past])
    for name in sorted(set(by)):
        mine = high[by == name]
        good = mine[np.isfinite(mine)]
        low = float(good.min()) if len(good) else None
        rows.append([str(name), len(mine), len(mine) - len(good), better[name], low])
    mixed = isinstance(order, AboveHull)
    heads = ["hull lowered", "lowest above it (eV/atom)"] if mixed else ["lowest so far", "lowest (eV/atom)"]
    told = "how often it lowered the hull" if mixed else "how often it made a new lowest"
    return [Table(["operator", "made", "failed", *heads], rows, told)]


def _ancestry(number: int, past: Past, order: Ranking) -> list[Block]:
    """The structures that the best one descends from."""
    mixed = isinstance(order, AboveHull)
    known = [d if d.failure else replace(d, energy=order.of(d, d.energy)) for d in lineage(number, past)]
    rows: list[list[Value]] = [
        [d.number, d.operator, " ".join(map(str, d.parents)), d.energy] for d in known[:MOST_ANCESTORS]
    ]
    over = "the hull" if mixed else "the lowest"
    out: list[Block] = [Figures([(family_tree(known, over), "")])] if len(known) > 1 else []
    head = "above the hull (eV/atom)" if mixed else "energy (eV/atom)"
    out.append(Table(["number", "operator", "parents", head], rows, "the youngest first"))
    if len(known) > MOST_ANCESTORS:
        out.append(Text(f"{len(known) - MOST_ANCESTORS} older ones are in search.jsonl."))
    return out
