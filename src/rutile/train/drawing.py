"""How figures look, whatever they show: style, colours, and SVG text to put inside an HTML page.

Lines and letters take the colour of the page's text (`currentColor`), so that one figure reads well on a light and on
a dark page. matplotlib's settings are as before afterwards (`with mpl.rc_context(STYLE)`).
"""

from __future__ import annotations

import io
import re
from typing import Any

from matplotlib.axes import Axes
from matplotlib.axis import Axis, XAxis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

INK = "#010203"
"""Stands for the text colour of the page until the SVG is written."""
COLOURS = ("#3b82c4", "#e07b39", "#3a9d6b", "#a56cc1", "#c4504f", "#8a8f3c")
STYLE: Any = {
    "svg.fonttype": "none", "svg.hashsalt": "rutile", "font.family": "sans-serif", "font.size": 10,
    "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": INK, "xtick.color": INK, "ytick.color": INK,
    "axes.spines.top": False, "axes.spines.right": False, "axes.linewidth": 0.8, "axes.titlesize": 11,
    "axes.titleweight": "bold", "axes.grid": True, "grid.color": INK, "grid.alpha": 0.12, "grid.linewidth": 0.6,
    "legend.frameon": False, "legend.fontsize": 9, "figure.facecolor": "none", "axes.facecolor": "none",
    "savefig.facecolor": "none", "lines.linewidth": 1.6, "axes.axisbelow": True, "svg.image_inline": True,
    "axes.formatter.useoffset": False,
}  # fmt: skip


def plain_ticks(axis: Axis) -> None:
    """Plain numbers on a logarithmic axis that spans less than three powers of ten, as many as have room."""
    low, high = sorted(axis.get_view_interval())
    if high / low >= 1000:
        return
    few = high / low >= 30 and isinstance(axis, XAxis)
    axis.set_major_locator(MaxNLocator(4) if high / low < 10 else LogLocator(subs=(1, 3) if few else (1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.6g}"))
    axis.set_minor_formatter(NullFormatter())


def look(k: int) -> dict[str, Any]:
    """Colour of the k-th line; beyond the last colour they begin again, dashed and dotted."""
    return {"color": COLOURS[k % len(COLOURS)], "linestyle": ("-", "--", ":", "-.")[k // len(COLOURS) % 4]}


def square(title: str) -> tuple[Figure, Axes]:
    """A figure of the usual size with one panel."""
    figure = Figure(figsize=(3.6, 3.4), layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title)
    return figure, axes


def svg(figure: Figure) -> str:
    """SVG without XML header, that fills the width it is given and takes the page's text colour and font."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", dpi=160, transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r' id="[a-z][\w.]*_\d+"', "", text)  # of groups; clip paths and markers keep theirs
    text = re.sub(r'(<svg [^>]*?)width="[^"]*"', r'\1width="100%"', text, count=1, flags=re.DOTALL)
    text = re.sub(r'(<svg [^>]*?)height="[^"]*"', r"\1", text, count=1, flags=re.DOTALL)
    text = re.sub(r"font-family: [^;\"]*", "font-family: inherit", text)
    return text.replace(INK, "currentColor")
