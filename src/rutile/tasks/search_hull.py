"""The section about the convex hull on the page of a search of variable composition."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rutile.search.ranking import AboveHull
from rutile.tasks.hull_figures import STABLE, hull_figure
from rutile.tasks.property import table_of
from rutile.train.report import Block, Figures, Section

if TYPE_CHECKING:
    from rutile.search.past import Past
    from rutile.tasks.search import SearchTaskResult

LEAST_SHOWN, SHOWN = 0.03, 3.0
"""Structures are drawn up to the larger of this above the hull (eV/atom), and this times the depth of the hull."""
COLUMNS = ["formula", "symmetry", "formation", "energy", "hits", "first", "atoms", "volume", "number"]


def hull_section(result: SearchTaskResult, past: Past, order: AboveHull, window: float) -> Section:
    """Figure and table of the hull.

    Args:
        result: what was found.
        past: all that was relaxed.
        order: the hull of the structures of the result.
        window: structures up to so far above the hull are drawn at most (eV/atom).
    """
    stable = [row for row in result.structures if row.above < STABLE]
    corners = {row.number for row in stable}
    deepest = -min((row.formation or 0.0 for row in stable), default=0.0)
    shown = min(window, max(LEAST_SHOWN, SHOWN * deepest))
    parts, formation, above = [], [], []
    for d in past:
        if d.failure:
            continue
        energy, height = d.energy, order.of(d, d.energy)
        if d.number in corners:
            height, energy = 0.0, next(row.energy for row in stable if row.number == d.number)
        elif height > shown:
            continue
        parts.append(order.parts(d))
        formation.append(order.formation(d, energy))
        above.append(height if d.number in corners else max(height, 2 * STABLE))
    names = order.compositions.names
    figure = hull_figure("Convex hull", names, np.array(parts), np.array(formation), np.array(above))
    caption = f"{len(parts)} relaxed structures, up to {shown:.2g} eV/atom above the hull"
    blocks: list[Block] = [] if figure is None else [Figures([(figure, caption)])]
    return Section("Convex hull", [*blocks, *table_of(stable, COLUMNS)])
