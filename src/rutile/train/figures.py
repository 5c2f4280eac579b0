"""Figures of a training or an evaluation, as SVG text to put inside an HTML page.

Style and SVG are those of `train.drawing`; clouds of points are small embedded pictures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from ase import Atoms
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, ScalarFormatter

from rutile.train.drawing import COLOURS, INK, STYLE, look, plain_ticks, square, svg

MOST_POINTS = 20_000
"""A parity plot draws at most this many points (its numbers always count all of them)."""
SHOWN_RANGE = 1e-5
"""Smaller parts of the largest value, such as forces that vanish by symmetry, lie outside a plot of error by spread."""


@dataclass(frozen=True)
class Curve:
    """One line of a learning-curve panel."""

    label: str
    """Name in the legend."""
    x: Sequence[float]
    """For example epochs."""
    y: Sequence[float]
    """Same length; points that are not finite or not positive are left out (the axis is logarithmic)."""


def learning_curve(title: str, unit: str, curves: Sequence[Curve], x_label: str = "epoch") -> str:
    """Curves on a logarithmic axis, for example the training and the validation error of one quantity."""
    with mpl.rc_context(STYLE):
        figure, axes = square(title)
        axes.set(xlabel=x_label, ylabel=unit, yscale="log")
        for k, curve in enumerate(curves):
            x, y = np.asarray(curve.x, dtype=float), np.asarray(curve.y, dtype=float)
            keep = np.isfinite(y) & (y > 0)
            axes.plot(x[keep], y[keep], marker="o" if keep.sum() < 3 else "", label=curve.label, **look(k))
        if all(float(x).is_integer() for curve in curves for x in curve.x):  # epochs, rounds, labels
            axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        plain_ticks(axes.yaxis)
        if any(curve.label for curve in curves):
            axes.legend()
        return svg(figure)


def against_rate(title: str, unit: str, curves: Sequence[Curve]) -> str:
    """Curves against the learning rate, both axes logarithmic; the lowest point of each is marked."""
    with mpl.rc_context(STYLE):
        figure, axes = square(title)
        axes.set(xlabel="learning rate", ylabel=unit, xscale="log", yscale="log")
        for k, curve in enumerate(curves):
            x, y = np.asarray(curve.x, dtype=float), np.asarray(curve.y, dtype=float)
            keep = np.isfinite(y) & (y > 0)
            if keep.any():
                at = [int(y[keep].argmin())]
                axes.plot(x[keep], y[keep], marker="o", markersize=4, markevery=at, label=curve.label, **look(k))
        plain_ticks(axes.yaxis)
        axes.legend()
        return svg(figure)


def trials(
    title: str,
    x_label: str,
    y_label: str,
    points: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    *,
    best: bool,
    log: bool,
) -> str:
    """Values of trials as points, on a logarithmic axis.

    Args:
        title: heading.
        x_label: what x is, for example the number of the trial or a setting.
        y_label: what was made small, with its unit.
        points: name of a group -> x and y of its trials; the first group is that of the complete ones.
        best: draw the lowest value of the first group so far.
        log: logarithmic x, too.
    """
    with mpl.rc_context(STYLE):
        figure, axes = square(title)
        axes.set(xlabel=x_label, ylabel=y_label, yscale="log", xscale="log" if log else "linear")
        for k, (name, (x, y)) in enumerate(points.items()):
            if len(x):
                face = "none" if k else COLOURS[0]
                axes.plot(x, y, "o", markersize=4, color=COLOURS[k], markerfacecolor=face, label=name)
            if best and k == 0 and len(x):
                axes.step(x, np.minimum.accumulate(y), where="post", color=COLOURS[0], linewidth=1.2)
        if axes.get_legend_handles_labels()[1]:
            plain_ticks(axes.yaxis)
            if log:
                plain_ticks(axes.xaxis)
            axes.legend()
        return svg(figure)


def residual_boxes(title: str, unit: str, residuals: Mapping[str, np.ndarray]) -> str:
    """Spread of errors by name, one box for each: median, quartiles, whiskers to 5 and 95 %, the mean as a dot.

    Args:
        title: name of the quantity.
        unit: of the errors.
        residuals: errors [M] by name, drawn from top to bottom.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(3.6, max(1.6, 0.9 + 0.26 * len(residuals))), layout="constrained")
        axes = figure.add_subplot()
        axes.set(title=title, xlabel=f"predicted - reference ({unit})")
        names = list(residuals)
        boxes = []
        for name in names:
            low, q1, middle, q3, high = np.quantile(residuals[name], (0.05, 0.25, 0.5, 0.75, 0.95))
            mean = residuals[name].mean()
            boxes.append(dict(whislo=low, q1=q1, med=middle, q3=q3, whishi=high, mean=mean, fliers=[], label=name))
        line = {"color": INK, "linewidth": 0.9}
        look: Any = {
            "boxprops": {"facecolor": COLOURS[0], "alpha": 0.55, "linewidth": 0},
            "medianprops": line | {"linewidth": 1.6},
            "whiskerprops": line,
            "capprops": line,
            "meanprops": {"marker": "o", "markersize": 3.5, "markerfacecolor": COLOURS[1], "markeredgewidth": 0},
        }
        axes.bxp(
            boxes, orientation="horizontal", widths=0.6, patch_artist=True, showmeans=True, showfliers=False, **look
        )
        axes.invert_yaxis()
        axes.axvline(0, color=INK, alpha=0.45, linewidth=0.9, zorder=0)
        axes.grid(visible=False, axis="y")
        axes.xaxis.set_major_locator(MaxNLocator(5))
        return svg(figure)


def distributions(title: str, unit: str, values: Mapping[str, Sequence[float]]) -> str:
    """Stacked histograms of one quantity, a colour for each name.

    Args:
        title: name of the quantity.
        unit: of the values.
        values: [M] by name; an empty one keeps its colour for other figures, not all are.
    """
    with mpl.rc_context(STYLE):
        figure, axes = square(title)
        every = np.concatenate([np.asarray(v, dtype=float) for v in values.values()])
        low, high = float(every.min()), float(every.max())
        alike = high - low < 1e-9 * max(abs(low), abs(high), 1e-9)
        low, high = (low - 0.5, high + 0.5) if alike else (low, high)
        looks = [look(k)["color"] for k in range(len(values))]
        hatches = [("", "///", "...", "xxx")[k // len(COLOURS) % 4] for k in range(len(values))]
        labels = [name if len(v) else "_" for name, v in values.items()]  # "_" is left out of the legend
        axes.hist(list(values.values()), bins=30, range=(low, high), stacked=True, color=looks, hatch=hatches,
                  label=labels, linewidth=0)  # fmt: skip
        axes.set(xlabel=unit, ylabel="structures")
        axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
        if len(values) > 1:
            axes.legend(fontsize=7, handlelength=1.2)
        return svg(figure)


def shares(
    title: str, unit: str, rows: Sequence[str], columns: Sequence[str], values: Sequence[Sequence[float]]
) -> str:
    """A table of shares (0 to 1) as coloured fields, with those above 1 % written in as per cent.

    Args:
        title: heading.
        unit: what the columns are.
        rows: names.
        columns: names.
        values: [rows, columns].
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(0.42 * len(columns) + 1.2, 0.36 * len(rows) + 1.2), layout="constrained")
        axes = figure.add_subplot()
        grid = np.asarray(values, dtype=float)
        axes.imshow(grid, cmap="Blues", vmin=0, vmax=1.2, aspect="auto")
        axes.set(title=title, xlabel=unit, xticks=range(len(columns)), xticklabels=columns,
                 yticks=range(len(rows)), yticklabels=rows)  # fmt: skip
        axes.grid(visible=False)
        for i, j in zip(*np.nonzero(grid >= 0.01), strict=True):
            dark = "white" if grid[i, j] > 0.7 else "black"
            axes.text(j, i, f"{100 * grid[i, j]:.0f}", ha="center", va="center", fontsize=8, color=dark)
        return svg(figure)


def structure(atoms: Atoms, rotation: str = "-80x,10y,5z") -> str:
    """A structure with its cell, seen slightly from above or turned otherwise (angles about axes, as ASE has them)."""
    from ase.visualize.plot import plot_atoms

    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(2.6, 2.6), layout="constrained")
        axes = figure.add_subplot()
        plot_atoms(atoms, axes, radii=0.6, rotation=rotation, show_unit_cell=2 if atoms.cell.rank else 0)
        axes.set_axis_off()
        return svg(figure)


def parity(title: str, unit: str, reference: np.ndarray, predicted: np.ndarray) -> str:
    """Predicted against reference values, coloured by density, with the errors written in.

    Args:
        title: name of the quantity.
        unit: of both axes.
        reference: [M].
        predicted: [M].
    """
    with mpl.rc_context(STYLE):
        figure, axes = square(title)
        low, high = _range(np.concatenate([reference, predicted]))
        axes.plot([low, high], [low, high], color=INK, alpha=0.45, linewidth=0.9, zorder=1)
        shown = _sample(len(reference))
        density = _density(reference[shown], predicted[shown], low, high)
        order = np.argsort(density, kind="stable")
        x, y = reference[shown][order], predicted[shown][order]
        size = float(np.clip(4000 / max(len(x), 1), 3, 22))
        colours = {"c": density[order], "cmap": "viridis", "vmin": -0.3 * density.max(initial=0)}
        axes.scatter(x, y, s=size, linewidths=0, rasterized=True, zorder=2, **colours)
        axes.set(xlim=(low, high), ylim=(low, high), xlabel=f"reference ({unit})", ylabel=f"predicted ({unit})")
        for axis in (axes.xaxis, axes.yaxis):  # the same plain numbers on both; an offset would cover the label
            axis.set_major_locator(MaxNLocator(4))
            axis.set_major_formatter(ScalarFormatter(useOffset=False))
        axes.text(0.04, 0.96, error_text(predicted - reference, unit), transform=axes.transAxes, va="top", fontsize=9)
        return svg(figure)


def histogram(title: str, unit: str, errors: np.ndarray) -> str:
    """Distribution of errors [M]; the outermost bins hold what lies beyond. Many errors: a logarithmic count."""
    with mpl.rc_context(STYLE):
        figure, axes = square(title)
        reach = float(np.quantile(np.abs(errors), 0.995)) * 1.2 if len(errors) else 1.0
        reach = reach if np.isfinite(reach) and reach > 0 else 1e-12
        bins = 2 * int(np.clip(np.sqrt(len(errors)), 10, 60) // 2) + 1
        many = len(errors) > 1000
        axes.hist(np.clip(errors, -reach, reach), bins=bins, range=(-reach, reach), color=COLOURS[0], log=many)
        axes.axvline(0, color=INK, alpha=0.45, linewidth=0.9)
        axes.set(xlabel=f"predicted - reference ({unit})", ylabel="count")
        return svg(figure)


def error_against_std(title: str, unit: str, std: np.ndarray, errors: np.ndarray) -> str:
    """Absolute error against the committee's standard deviation, both [M], on logarithmic axes.

    The line in steps is the RMSE of ten bins of equal count: for a calibrated committee it lies on the diagonal.
    """
    with mpl.rc_context(STYLE):
        figure, axes = square(title)
        size = np.abs(errors)
        keep = (std > 0) & (size > 0) & np.isfinite(std) & np.isfinite(size)
        axes.set(xscale="log", yscale="log", xlabel=f"committee std ({unit})", ylabel=f"|error| ({unit})")
        if keep.any():
            x, y = std[keep], size[keep]
            shown = _sample(len(x))
            axes.scatter(x[shown], y[shown], s=4, color=COLOURS[0], alpha=0.25, linewidths=0, rasterized=True)
            ends = [x.min(), x.max()]
            axes.plot(ends, ends, color=INK, alpha=0.45, linewidth=0.9)
            axes.set_xlim(left=max(x.min(), SHOWN_RANGE * x.max()) / 2)
            axes.set_ylim(bottom=max(y.min(), SHOWN_RANGE * y.max()) / 2)
            bins = np.array_split(np.argsort(x, kind="stable"), min(10, len(x)))
            axes.plot([x[b].mean() for b in bins], [np.sqrt((y[b] ** 2).mean()) for b in bins],
                      color=COLOURS[1], marker="o", markersize=4, label="RMSE of ten bins")  # fmt: skip
            axes.legend(loc="lower right")
        return svg(figure)


def dimer_curves(title: str, unit: str, core: float, curves: Sequence[Curve]) -> str:
    """Energies of pairs of atoms against their distance; logarithmic beyond 1 on both sides of zero.

    Args:
        title: heading.
        unit: of the energies.
        core: everything to the left of this distance must be repulsive; shaded.
        curves: x in bond lengths, y an energy.
    """
    with mpl.rc_context(STYLE):
        figure, axes = square(title)
        axes.set(xlabel="distance (bond lengths)", ylabel=unit)
        axes.set_yscale("symlog", linthresh=1.0)
        axes.axhline(0, color=INK, alpha=0.45, linewidth=0.9)
        for colour, curve in zip(COLOURS, curves, strict=False):
            axes.plot(curve.x, np.asarray(curve.y, dtype=float), color=colour, label=curve.label)
        left = min(curve.x[0] for curve in curves)
        axes.axvspan(left, core, color=INK, alpha=0.07, linewidth=0)
        axes.legend()
        return svg(figure)


def coverage_curve(title: str, curves: Sequence[Curve], chosen: float, noise: float) -> str:
    """Measured against nominal coverage of error bars; on the diagonal they hold what they say.

    Args:
        title: heading.
        curves: x nominal and y measured coverages, 0 to 1.
        chosen: the nominal coverage that is used; marked.
        noise: standard deviation of a measured coverage; twice that is shaded around the diagonal.
    """
    with mpl.rc_context(STYLE):
        figure, axes = square(title)
        p = np.linspace(0, 1, 101)
        most = chosen * (1 - chosen)
        band = 2 * noise * np.sqrt(p * (1 - p) / most)
        low, high = np.clip(p - band, 0, 1), np.clip(p + band, 0, 1)
        axes.fill_between(p, low, high, color=INK, alpha=0.1, linewidth=0, label="noise (2 std)")
        axes.plot([0, 1], [0, 1], color=INK, alpha=0.45, linewidth=0.9)
        for colour, curve in zip(COLOURS, curves, strict=False):
            axes.plot(curve.x, curve.y, color=colour, label=curve.label)
        axes.axvline(chosen, color=INK, alpha=0.45, linewidth=0.9, linestyle=":")
        axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="coverage asked for", ylabel="coverage on test frames")
        axes.legend(loc="best")
        return svg(figure)


def rmse_against_rmv(title: str, unit: str, rmv: np.ndarray, rmse: np.ndarray) -> str:
    """Root mean square error against root mean variance of bins of equal count, both [B]; calibrated: the diagonal."""
    with mpl.rc_context(STYLE):
        figure, axes = square(title)
        axes.set(xscale="log", yscale="log", xlabel=f"RMV ({unit})", ylabel=f"RMSE ({unit})")
        keep = (rmv > 0) & (rmse > 0)
        if keep.any():
            both = np.concatenate([rmv[keep], rmse[keep]])
            ends = [both.min() / 1.3, both.max() * 1.3]
            axes.plot(ends, ends, color=INK, alpha=0.45, linewidth=0.9)
            axes.plot(rmv[keep], rmse[keep], color=COLOURS[1], marker="o", markersize=4)
            axes.set(xlim=ends, ylim=ends)
            for axis in (axes.xaxis, axes.yaxis):  # a narrow range has ticks between the powers of ten
                axis.set_major_locator(LogLocator(subs=(1, 2, 5) if ends[1] < 60 * ends[0] else (1,)))
                axis.set_major_formatter("{x:g}")
                axis.set_minor_formatter(NullFormatter())
        return svg(figure)


def levels(title: str, unit: str, values: np.ndarray, low: float, high: float) -> str:
    """How often values occur, on a logarithmic axis, and two levels that divide them in three."""
    with mpl.rc_context(STYLE):
        figure, axes = square(title)
        axes.set(xlabel=unit, ylabel="structures", xscale="log")
        positive = values[np.isfinite(values) & (values > 0)]
        if len(positive):
            bins = np.geomspace(positive.min() * 0.99, positive.max() * 1.01, 41)
            axes.hist(positive, bins.tolist(), color=COLOURS[0], alpha=0.8)
        for level, name in ((low, "low"), (high, "high")):
            axes.axvline(level, color=INK, linewidth=0.9, linestyle="--")
            axes.annotate(name, (level, 1), xycoords=("data", "axes fraction"), xytext=(3, -10),
                          textcoords="offset points", fontsize=9)  # fmt: skip
        axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.6g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        return svg(figure)


def scatter(title: str, clouds: Sequence[Curve]) -> str:
    """Clouds of points in the plane, later ones on top, without units: a map."""
    with mpl.rc_context(STYLE):
        figure, axes = square(title)
        axes.set(xlabel="first direction", ylabel="second direction", xticks=[], yticks=[])
        for k, cloud in enumerate(clouds):
            axes.scatter(cloud.x, cloud.y, s=7 + 6 * (k == len(clouds) - 1), color=COLOURS[k % len(COLOURS)],
                         alpha=0.7, linewidths=0, label=cloud.label, rasterized=True)  # fmt: skip
        if clouds:
            axes.legend(loc="best")
        return svg(figure)


def energy_order(names: Sequence[str], reference: np.ndarray, predicted: np.ndarray, unit: str) -> str:
    """Relative energies of named structures by two methods, as two columns of levels joined by lines.

    Args:
        names: of the structures.
        reference: [M].
        predicted: [M]; NaN where there is none.
        unit: of both.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(5.2, 4.2), layout="constrained")
        axes = figure.add_subplot()
        for k, (a, b) in enumerate(zip(reference, predicted, strict=True)):
            colour = COLOURS[k % len(COLOURS)]
            axes.plot([0, 0.25], [a, a], color=colour, linewidth=2.5)
            axes.plot([0.75, 1], [b, b], color=colour, linewidth=2.5)
            axes.plot([0.25, 0.75], [a, b], color=colour, linewidth=0.9, linestyle=":")
        _side_labels(axes, names, reference, -0.03, "right")
        _side_labels(axes, names, predicted, 1.03, "left")
        axes.set(xlim=(-0.5, 1.5), xticks=[0.125, 0.875], xticklabels=["DFT", "potential"], ylabel=unit)
        axes.grid(visible=False, axis="x")
        return svg(figure)


def error_text(errors: np.ndarray, unit: str) -> str:
    """Number, MAE, RMSE and largest error, for the corner of a plot."""
    if not len(errors):
        return "no labels"
    size = np.abs(errors)
    mae, rmse, largest = size.mean(), np.sqrt((size**2).mean()), size.max()
    return f"n = {len(errors)}\nMAE {mae:.4g} {unit}\nRMSE {rmse:.4g} {unit}\nmax {largest:.4g} {unit}"


def _side_labels(axes: Axes, names: Sequence[str], values: np.ndarray, x: float, align: str) -> None:
    """Names beside their levels, moved apart where they would touch."""
    good = [k for k in np.argsort(values, kind="stable") if np.isfinite(values[k])]
    if not good:
        return
    gap = 0.055 * (np.nanmax(values) - np.nanmin(values) or 1.0)
    at = -np.inf
    for k in good:
        at = max(float(values[k]), at + gap)
        axes.text(x, at, names[k], ha=align, va="center", fontsize=9)


def _range(values: np.ndarray) -> tuple[float, float]:
    good = values[np.isfinite(values)]
    if not len(good):
        return 0.0, 1.0
    low, high = float(good.min()), float(good.max())
    pad = 0.05 * (high - low) or 1e-6 * max(abs(low), 1.0)
    return low - pad, high + pad


def _sample(n: int) -> np.ndarray:
    """Every point of a small cloud, an even choice of a large one."""
    return np.unique(np.linspace(0, n - 1, min(n, MOST_POINTS)).astype(int)) if n else np.zeros(0, dtype=int)


def _density(x: np.ndarray, y: np.ndarray, low: float, high: float) -> np.ndarray:
    """Logarithm of the number of points in each point's bin, [M]."""
    counts, edges, _ = np.histogram2d(x, y, bins=60, range=[[low, high], [low, high]])
    ix, iy = (np.clip(np.searchsorted(edges, v, side="right") - 1, 0, 59) for v in (x, y))
    return np.asarray(np.log1p(counts[ix, iy]))
