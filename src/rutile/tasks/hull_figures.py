"""Figures of convex hulls over composition: lines for two end members, a triangle for three."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import matplotlib as mpl
import numpy as np

from rutile.simulate.hull import chemical_potentials
from rutile.tasks.property_figures import Line, panel
from rutile.train.drawing import INK, STYLE, look, square, svg

STABLE = 1e-6
"""A phase so near to the hull (eV/atom) is stable."""
TIE = 1e-7
"""A phase so near to a plane of the hull (eV/atom) lies on it."""
CORNERS = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, 0.75**0.5]])
"""Of the triangle."""


def hull_figure(
    title: str, names: Sequence[str], parts: np.ndarray, formation: np.ndarray, above: np.ndarray
) -> str | None:
    """Phases over composition with the hull, as SVG; None for other than two or three end members.

    Args:
        title: heading.
        names: of the end members, [E].
        parts: part of the atoms of each phase that belongs to each end member, [P, E].
        formation: energies of formation (eV/atom), [P].
        above: energies above the hull (eV/atom), [P]; the hull is that of those at 0, with every end member.
    """
    if len(names) == 2:
        return _line(title, names, parts, formation, above)
    return _triangle(title, names, parts, formation, above) if len(names) == 3 else None


def _line(title: str, names: Sequence[str], parts: np.ndarray, formation: np.ndarray, above: np.ndarray) -> str:
    """Formation energies over the part of the second end member."""
    x, on = parts[:, 1], above < STABLE
    order = np.argsort(x[on], kind="stable")
    corner_x, corner_y = x[on][order], formation[on][order]
    lines = [
        Line("not stable", x[~on], formation[~on], points=True, colour=1),
        Line("hull", corner_x, corner_y, colour=0),
        Line("stable", corner_x, corner_y, points=True, colour=0),
    ]
    return panel(title, f"part of {names[1]}", "formation (eV/atom)", [line for line in lines if len(line.x)])


def _triangle(title: str, names: Sequence[str], parts: np.ndarray, formation: np.ndarray, above: np.ndarray) -> str:
    """Compositions as places in a triangle, coloured by the energy above the hull, and ties between stable phases."""
    on = above < STABLE
    place = parts @ CORNERS
    with mpl.rc_context(STYLE):
        figure, axes = square(title)
        for one, other in _ties(parts[on], formation[on]):
            axes.plot(*place[on][[one, other]].T, color=look(0)["color"], linewidth=1.0, zorder=1)
        order = np.flatnonzero(~on)[np.argsort(-above[~on], kind="stable")]  # the lowest on top
        if len(order):
            drawn = axes.scatter(place[order, 0], place[order, 1], c=above[order], s=14, cmap="viridis_r", zorder=2)
            figure.colorbar(drawn, label="above the hull (eV/atom)", shrink=0.8, location="bottom")
        axes.scatter(place[on, 0], place[on, 1], s=34, color=look(0)["color"], edgecolors=INK, linewidths=0.6, zorder=3)
        for name, corner, side in zip(names, CORNERS, ("right", "left", "center"), strict=True):
            up = corner[1] > 0
            axes.annotate(
                name, corner, (0 if up else (-7 if side == "right" else 7), 6 if up else -2),
                textcoords="offset points", ha=side, fontsize=10,
            )  # fmt: skip
        axes.set_aspect("equal")
        axes.set_axis_off()
        axes.margins(0.12)
        return svg(figure)


def _ties(parts: np.ndarray, formation: np.ndarray) -> list[tuple[int, int]]:
    """Pairs of stable phases that are corners of one plane of the hull."""
    planes = chemical_potentials(parts, formation)
    out: set[tuple[int, int]] = set()
    for mu in planes:
        out.update(combinations(np.flatnonzero(np.abs(formation - parts @ mu) < TIE).tolist(), 2))
    return sorted(out)
