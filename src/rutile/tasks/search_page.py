"""The page about a search: energies as they were found, operators, the table, and the ancestry of the best one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate
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

    from rutile.search.log import Done
    from rutile.tasks.search import SearchSettings, SearchTaskResult

SHOWN = 0.9
"""Part of the energies that the figure reaches up to."""
PICTURES = 6
"""Structures that the page shows."""
MOST_ANCESTORS = 40
"""Rows of the ancestry on the page."""


def page(
    settings: SearchSettings, result: SearchTaskResult, done: Sequence[Done], order: Ranking,
    images: Sequence[Atoms] = (),
) -> str:  # fmt: skip
    """The whole page.

    Args:
        settings: of the task.
        result: what it found.
        done: all that was relaxed, in order.
        order: what is low among the structures of the result.
        images: the structures of the result, in the same order.
    """
    best = result.structures[0]
    cards = [
        Card("lowest", f"{best.energy:.4f}", f"eV/atom, {best.symmetry or 'no symmetry'}"),
        Card("found", str(best.hits), f"times, first as number {best.first}"),
    ]
    first, high, over = [], done, "the lowest"
    if isinstance(order, AboveHull):
        high, over = [_above(d, order) for d in done], "the hull"
        best = min(result.structures, key=lambda row: row.formation or 0.0)
        text = f"eV/atom, {best.formula} {best.symmetry}".rstrip()
        cards = [Card("stable", str(result.stable)), Card("lowest formation", f"{best.formation:.4f}", text)]
        first = [hull_section(result, done, order, settings.window)]
    cards += [Card("relaxed", str(result.relaxed), f"{result.failed} failed"), Card("pools", str(result.pools))]
    if result.relaxed < settings.relaxations:
        cards[-2] = Card("relaxed", str(result.relaxed), f"of {settings.relaxations}, {result.failed} failed")
    sections = [
        *first,
        Section("Energies", _energies(high, over)),
        Section("Different structures, lowest first", [*_gallery(images), *table_of(result.structures, _COLUMNS)]),
        Section("Operators", _operators(done, high, order)),
        Section("Ancestry of the lowest", _ancestry(best.number, high, over)),
        Section("Settings", [Facts(settings.model_dump(mode="json"), "all settings")]),
    ]
    return render(f"Search for {named(settings.formula, settings.structure)}", str(settings.model), cards, sections)


_COLUMNS = [
    "number", "formula", "symmetry", "energy", "formation", "above", "hits", "first", "atoms", "volume", "operator",
    "parents",
]  # fmt: skip


def _gallery(images: Sequence[Atoms]) -> list[Block]:
    """Pictures of the lowest structures, and their files."""
    shown = images[:PICTURES]
    pictures = [
        (portrait(a), f"{k}: {a.info.get('symmetry') or 'no symmetry'}, +{a.info.get('above', 0.0):.4f} eV/atom")
        for k, a in enumerate(shown, 1)
    ]
    links = [(f"{k}: {name}", f"{FILES}/{name}") for k, name in enumerate(names_of(images), 1)]
    return [Figures(pictures), Links(links)] if pictures else []


def _above(d: Done, order: AboveHull) -> Done:
    """A structure with its energy above the hull in the place of its energy."""
    r = d.relaxed
    return d if r.failure else replace(d, relaxed=replace(r, energy=order.of(r.atoms, r.energy)))


def _energies(done: Sequence[Done], over: str) -> list[Block]:
    """Each relaxed structure, and the lowest so far; of variable composition above the hull."""
    energy = np.array([np.nan if d.relaxed.failure else d.relaxed.energy for d in done])
    lowest = np.fromiter(accumulate(np.nan_to_num(energy, nan=np.inf), min), float, len(energy))
    zero = float(np.nanmin(energy))
    top = float(np.nanquantile(energy, SHOWN)) - zero
    count = np.arange(1, len(energy) + 1)
    shown = energy - zero <= top
    lines = [
        Line("relaxed", count[shown], (energy - zero)[shown], points=True, colour=1),
        Line("lowest so far", count[lowest - zero <= top], (lowest - zero)[lowest - zero <= top], colour=0),
    ]
    label = f"energy above {over} (eV/atom)"
    if over == "the hull":
        return [Figures([(panel("Search", "structures relaxed", label, lines[:1]), "")])]
    return [Figures([(panel("Search", "structures relaxed", label, lines), ""), (energies_by_operator(done), "")])]


def _operators(done: Sequence[Done], high: Sequence[Done], order: Ranking) -> list[Block]:
    """What each operator made, and how low; `high`: with energies that can be compared."""
    rows: list[list[Value]] = []
    good = [d for d in done if not d.relaxed.failure]
    order_then = order.again()
    better = Counter(d.candidate.operator for d in good if order_then.take(d.relaxed.atoms, d.relaxed.energy))
    for name in sorted({d.candidate.operator for d in done}):
        mine = [d.relaxed.energy for d in high if d.candidate.operator == name and not d.relaxed.failure]
        made = sum(d.candidate.operator == name for d in done)
        rows.append([name, made, made - len(mine), better[name], min(mine, default=None)])
    mixed = isinstance(order, AboveHull)
    heads = ["hull lowered", "lowest above it (eV/atom)"] if mixed else ["lowest so far", "lowest (eV/atom)"]
    told = "how often it lowered the hull" if mixed else "how often it made a new lowest"
    return [Table(["operator", "made", "failed", *heads], rows, told)]


def _ancestry(number: int, done: Sequence[Done], over: str) -> list[Block]:
    """The structures that the best one descends from."""
    known = lineage(number, {d.candidate.number: d for d in done})
    rows: list[list[Value]] = [
        [d.candidate.number, d.candidate.operator, " ".join(map(str, d.candidate.parents)), d.relaxed.energy]
        for d in known[:MOST_ANCESTORS]
    ]
    out: list[Block] = [Figures([(family_tree(known, over), "")])] if len(known) > 1 else []
    head = "above the hull (eV/atom)" if over == "the hull" else "energy (eV/atom)"
    out.append(Table(["number", "operator", "parents", head], rows, "the youngest first"))
    if len(known) > MOST_ANCESTORS:
        out.append(Text(f"{len(known) - MOST_ANCESTORS} older ones are in search.jsonl."))
    return out
