"""The page about a search: energies as they were found, operators, the table, and the ancestry of the best one."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING

import numpy as np

from rutile.search.results import lineage
from rutile.tasks.property import table_of
from rutile.tasks.property_figures import Line, panel
from rutile.tasks.search_figures import energies_by_operator, family_tree, portrait
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


def page(settings: SearchSettings, result: SearchTaskResult, done: Sequence[Done], images: Sequence[Atoms] = ()) -> str:
    """The whole page.

    Args:
        settings: of the task.
        result: what it found.
        done: all that was relaxed, in order.
        images: the structures of the result, in the same order.
    """
    best = result.structures[0]
    cards = [
        Card("lowest", f"{best.energy:.4f}", f"eV/atom, {best.symmetry or 'no symmetry'}"),
        Card("found", str(best.hits), f"times, first as number {best.first}"),
        Card("relaxed", str(result.relaxed), f"{result.failed} failed"),
        Card("pools", str(result.pools)),
    ]
    sections = [
        Section("Energies", [Figures([(_energies(done), ""), (energies_by_operator(done), "")])]),
        Section("Different structures, lowest first", [*_gallery(images), *table_of(result.structures, _COLUMNS)]),
        Section("Operators", _operators(done)),
        Section("Ancestry of the lowest", _ancestry(best.number, done)),
        Section("Settings", [Facts(settings.model_dump(mode="json"), "all settings")]),
    ]
    return render(f"Search for {named(settings)}", str(settings.model), cards, sections)


_COLUMNS = ["number", "symmetry", "energy", "above", "hits", "first", "atoms", "volume", "operator", "parents"]


def _gallery(images: Sequence[Atoms]) -> list[Block]:
    """Pictures of the lowest structures, and their files."""
    shown = images[:PICTURES]
    pictures = [
        (portrait(a), f"{k}: {a.info.get('symmetry') or 'no symmetry'}, +{a.info.get('above', 0.0):.4f} eV/atom")
        for k, a in enumerate(shown, 1)
    ]
    links = [(f"{k}: {name}", f"{FILES}/{name}") for k, name in enumerate(names_of(images), 1)]
    return [Figures(pictures), Links(links)] if pictures else []


def _energies(done: Sequence[Done]) -> str:
    """Each relaxed structure, and the lowest so far."""
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
    return panel("Search", "structures relaxed", "energy above the lowest (eV/atom)", lines)


def _operators(done: Sequence[Done]) -> list[Block]:
    """What each operator made, and how low."""
    rows: list[list[Value]] = []
    lowest = np.inf
    better: dict[str, int] = {}
    for d in done:
        if not d.relaxed.failure and d.relaxed.energy < lowest - 1e-6:
            lowest = d.relaxed.energy
            better[d.candidate.operator] = better.get(d.candidate.operator, 0) + 1
    for name in sorted({d.candidate.operator for d in done}):
        mine = [d for d in done if d.candidate.operator == name]
        good = [d.relaxed.energy for d in mine if not d.relaxed.failure]
        rows.append([name, len(mine), len(mine) - len(good), better.get(name, 0), min(good) if good else None])
    return [
        Table(
            ["operator", "made", "failed", "lowest so far", "lowest (eV/atom)"], rows, "how often it made a new lowest"
        )
    ]


def _ancestry(number: int, done: Sequence[Done]) -> list[Block]:
    """The structures that the best one descends from."""
    known = lineage(number, {d.candidate.number: d for d in done})
    rows: list[list[Value]] = [
        [d.candidate.number, d.candidate.operator, " ".join(map(str, d.candidate.parents)), d.relaxed.energy]
        for d in known[:MOST_ANCESTORS]
    ]
    out: list[Block] = [Figures([(family_tree(known), "")])] if len(known) > 1 else []
    out.append(Table(["number", "operator", "parents", "energy (eV/atom)"], rows, "the youngest first"))
    if len(known) > MOST_ANCESTORS:
        out.append(Text(f"{len(known) - MOST_ANCESTORS} older ones are in search.jsonl."))
    return out
