"""Figures of properties, as SVG text to put inside an HTML page; style and SVG are those of `train.drawing`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np

from rutile.train.drawing import STYLE, look, square, svg

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


def panel(title: str, x_label: str, y_label: str, lines: Sequence[Line], *, log: bool = False) -> str:
    """Lines and points over one pair of axes.

    Args:
        title: heading.
        x_label: quantity with unit.
        y_label: quantity with unit.
        lines: what to draw.
        log: logarithmic y.
    """
    with mpl.rc_context(STYLE):
        figure, axes = square(title)
        axes.set(xlabel=x_label, ylabel=y_label, yscale="log" if log else "linear")
        for k, line in enumerate(lines):
            kind = look(k if line.colour is None else line.colour)
            if line.points:
                axes.plot(line.x, line.y, "o", markersize=4, color=kind["color"], label=line.label or None)
            else:
                axes.plot(line.x, line.y, label=line.label or None, **kind)
        if axes.get_legend_handles_labels()[1]:
            axes.legend()
        return svg(figure)
