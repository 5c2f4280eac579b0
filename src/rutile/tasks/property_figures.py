"""Figures of properties, as SVG text to put inside an HTML page; style and SVG are those of `train.drawing`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from rutile.train.drawing import INK, STYLE, look, square, svg

if TYPE_CHECKING:
    from rutile.simulate.phonons import Segment
    from rutile.simulate.surfaces import Wulff

MOST_CURVES = 8
"""Structures drawn on one page; the tables have all."""


@dataclass(frozen=True)
class Line:
    """One line or cloud of a panel."""

    label: str
    """Name in the legend; "": none."""
    x: Sequence[float] | np.ndarray
    """[M]."""
    y: Sequence[float] | np.ndarray
    """[M]."""
    points: bool = False
    """Draw points instead of a line."""
    colour: int | None = None
    """Number of its colour; by default its place in the panel."""


def panel(
    title: str, x_label: str, y_label: str, lines: Sequence[Line], *, log: bool = False, names: Sequence[str] = (),
    beside: bool = False,
) -> str:  # fmt: skip
    """Lines and points over one pair of axes.

    Args:
        title: heading.
        x_label: quantity with unit.
        y_label: quantity with unit.
        lines: what to draw.
        log: logarithmic y.
        names: of x = 0, 1, 2, ..., where x is no quantity.
        beside: whether the legend stands beside the axes: of many lines it would lie over some.
    """
    with mpl.rc_context(STYLE):
        figure, axes = square(title)
        axes.set(xlabel=x_label, ylabel=y_label, yscale="log" if log else "linear")
        if names:
            upright = sum(map(len, names)) > 30  # where they would run into each other
            axes.set_xticks(range(len(names)), names, rotation=90 if upright else 0)
            axes.set_xlim(-0.5, len(names) - 0.5)
        for k, line in enumerate(lines):
            kind = look(k if line.colour is None else line.colour)
            if line.points:
                axes.plot(line.x, line.y, "o", markersize=4, color=kind["color"], label=line.label or None)
            else:
                axes.plot(line.x, line.y, label=line.label or None, **kind)
        if axes.get_legend_handles_labels()[1]:
            axes.legend(**{"loc": "upper left", "bbox_to_anchor": (1.0, 1.0)} if beside else {})
        return svg(figure)


def heights(title: str, values: np.ndarray, vectors: np.ndarray, quantity: str) -> str:
    """Values over two periodic vectors as colours, two periods each way.

    Args:
        title: heading.
        values: at even parts of both vectors, [n, m].
        vectors: [2, 2] (Angstrom).
        quantity: with unit.
    """
    n, m = values.shape
    parts = np.stack(np.meshgrid(np.arange(2 * n + 1) / n, np.arange(2 * m + 1) / m, indexing="ij"), axis=-1)
    x, y = np.moveaxis(parts @ vectors, -1, 0)
    with mpl.rc_context(STYLE):
        figure, axes = square(title)
        twice = np.pad(values, ((0, n + 1), (0, m + 1)), mode="wrap")
        drawn = axes.pcolormesh(x, y, twice, shading="gouraud")
        axes.set(xlabel="shift (Å)", ylabel="shift (Å)", aspect="equal")
        figure.colorbar(drawn, label=quantity, shrink=0.8)
        return svg(figure)


def band_structure(title: str, bands: Sequence[Segment], dos_frequency: np.ndarray, dos: np.ndarray) -> str:
    """Bands over the path through the Brillouin zone, with the density of states beside them.

    Args:
        title: heading.
        bands: the lines of the path.
        dos_frequency: THz, [F].
        dos: states, [F].
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(5.4, 3.4), layout="constrained")
        left, right = figure.subplots(1, 2, sharey=True, width_ratios=(4, 1))
        left.set(title=title, ylabel="frequency (THz)")
        ticks: dict[float, str] = {}
        for segment in bands:
            left.plot(segment.distance, segment.frequency, color=look(0)["color"], linewidth=1.1)
            for at, name in ((segment.distance[0], segment.start), (segment.distance[-1], segment.end)):
                other = ticks.get(float(at), name)
                ticks[float(at)] = name if other == name else f"{other}|{name}"
        left.set_xticks(list(ticks), list(ticks.values()))
        left.set_xlim(min(ticks), max(ticks))
        left.axhline(0, color=INK, linewidth=0.6, alpha=0.5)
        right.plot(dos, dos_frequency, color=look(0)["color"], linewidth=1.1)
        right.set(xlabel="states (1/THz)", xlim=(0, None))
        return svg(figure)


def wulff_shape(title: str, shape: Wulff, names: Mapping[str, tuple[int, int, int]]) -> str:
    """A crystal in equilibrium, seen from the front, a colour for each index.

    Args:
        title: heading.
        shape: its facets.
        names: what to call each index.
    """
    eye = np.array([1.0, 0.45, 0.6])
    eye /= np.linalg.norm(eye)
    right = np.cross([0.0, 0.0, 1.0], eye)
    right /= np.linalg.norm(right)
    plane = np.array([right, np.cross(eye, right)])
    colours = {miller: look(k)["color"] for k, miller in enumerate(names.values())}
    with mpl.rc_context(STYLE):
        figure, axes = square(title)
        seen = set()
        for facet in shape.facets:
            normal = np.cross(facet.corners, np.roll(facet.corners, -1, axis=0)).sum(0)
            normal *= np.sign(normal @ facet.corners.mean(0))
            light = float(normal @ eye / np.linalg.norm(normal))
            if light > 1e-6:
                flat = facet.corners @ plane.T
                axes.fill(*flat.T, color=colours[facet.miller], alpha=0.35 + 0.55 * light, linewidth=0)
                axes.plot(*np.vstack([flat, flat[:1]]).T, color=INK, linewidth=0.7)
                seen.add(facet.miller)
        for name, miller in names.items():
            if miller in seen:
                axes.fill([], [], color=colours[miller], label=f"{name} {100 * shape.share[miller]:.0f} %")
        axes.set_aspect("equal")
        axes.set_axis_off()
        axes.legend(loc="lower center", ncols=3, fontsize=7, bbox_to_anchor=(0.5, -0.15))
        return svg(figure)
