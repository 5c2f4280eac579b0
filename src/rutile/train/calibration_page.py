"""Sections of the page about a calibration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from rutile.train import figures
from rutile.train.calibration import Checked, QuantityCheck
from rutile.train.report import Block, Card, Figures, Section, Table, Text, format_number

SHOWN = {"energy": ("Energy", "meV/atom", 1000.0), "force": ("Forces", "eV/Å", 1.0)}
"""Title, unit and factor of each quantity."""
BARS = {
    "energy": "An error bar is a length to both sides of the energy of a structure; here per atom.",
    "force": "An error bar is the radius of a ball around the predicted force on an atom.",
}


def calibration_cards(checks: Mapping[str, Checked]) -> list[Card]:
    """Measured coverages and scales as large numbers."""
    out = []
    for name, checked in checks.items():
        s, title = checked.summary, SHOWN[name][0]
        out.append(Card(f"{title} coverage", percent(s.measured), f"asked: {percent(s.coverage)}"))
    out += [Card(f"{SHOWN[n][0]} scale α", format_number(c.summary.scale), "std / spread") for n, c in checks.items()]
    return out


def calibration_sections(
    checks: Mapping[str, Checked], warnings: Sequence[str], modes: Mapping[str, Sequence[QuantityCheck]]
) -> list[Section]:
    """What the error bars mean, what is doubtful, and how good they are on test frames, of all and of calc modes."""
    coverage = next(iter(checks.values())).summary.coverage
    meaning = [
        f"Validation frames fix how many spreads long an error bar is, so that {percent(coverage)} of the reference "
        "values lie within it. The promise: if the next structure is drawn as the validation frames were, the error of "
        "its energy, and that of the force on an atom picked at random from it, stays within its bar with at least "
        "this probability. It holds on average over structures and validation sets: not for each structure, element "
        "or size of force, and not for structures of another kind. Atoms of one frame err together, so that frames "
        "are counted, not atoms; snapshots of one trajectory are no independent frames either.",
        "All that follows is measured on test frames that nothing was fitted to.",
    ]
    out = [Section("What the error bars mean", [Text(text) for text in meaning])]
    if warnings:
        out.append(Section("Warnings", [Text(text) for text in warnings]))
    if modes:
        out.append(_modes_section(modes))
    return [*out, *(_section(name, checked) for name, checked in checks.items())]


def _modes_section(modes: Mapping[str, Sequence[QuantityCheck]]) -> Section:
    columns = ("calc mode", "quantity", "frames fitted on", "scale α", "error bar (spreads)", "coverage", "noise")
    rows = [
        (mode, s.quantity, s.fitted, s.scale, s.quantile, percent(s.measured), percent(s.noise))
        for mode, found in modes.items()
        for s in found
    ]
    text = "Error bars of calc modes with enough frames of their own; in other modes those of all frames hold."
    return Section("Calc modes", [Text(text), Table(columns, rows)])


def _section(name: str, checked: Checked) -> Section:
    title, unit, factor = SHOWN[name]
    s, scores = checked.summary, checked.scores
    grid = np.linspace(0, 1, 101).tolist()
    labels = {"conformal": "conformal", "gaussian": "normal, scaled by α"}
    curves = [figures.Curve(labels[side], grid, values.tolist()) for side, values in checked.curve.items()]
    rmv, rmse = (factor * np.array([getattr(b, k) for b in checked.bins]) for k in ("rmv", "rmse"))
    panels = [
        (figures.coverage_curve(f"{title}: coverage", curves, s.coverage, s.noise), ""),
        (figures.rmse_against_rmv(f"{title}: error by spread", unit, rmv, rmse), "Bins of equal count; RMV: α spread."),
        (figures.error_against_std(f"{title}: each value", unit, factor * scores.spread, factor * scores.error), ""),
    ]
    blocks: list[Block] = [Text(BARS[name]), Figures(panels), _levels(checked, unit, factor)]
    blocks += [_summary(checked, unit, factor), _bins(checked, unit, factor)]
    return Section(title, blocks)


def _levels(checked: Checked, unit: str, factor: float) -> Table:
    columns = ("asked for (%)", "conformal (%)", "normal, scaled by α (%)", "noise (%)", f"median bar ({unit})")
    rows = [
        (*(round(100 * x, 1) for x in (v.level, v.conformal, v.gaussian, v.noise)), factor * v.bar)
        for v in checked.levels
    ]
    return Table(
        columns,
        rows,
        "Coverage on test frames, each frame counting alike; noise: its standard deviation by the number of frames.",
    )


def _summary(checked: Checked, unit: str, factor: float) -> Table:
    s = checked.summary
    large = f"AUROC: spread finds errors above {format_number(factor * s.error_limit)} {unit}"
    rows = [
        ("frames: validation", s.fitted),
        ("frames: test", s.frames),
        ("values: test", s.values),
        ("scale α: std of the error / spread", s.scale),
        ("length of an error bar / spread", s.quantile),
        (f"RMSE ({unit})", factor * s.rmse),
        (f"RMV ({unit}): RMSE if α times the spread were right", factor * s.rmv),
        ("negative log-likelihood, spread as it is", s.nll_before),
        ("negative log-likelihood, scaled by α", s.nll),
        ("miscalibration area, normal errors", s.miscalibration_area),
        ("miscalibration area, conformal", s.miscalibration_area_conformal),
        ("Spearman's rank correlation of error and spread", s.spearman),
        (large, s.auroc),
    ]
    return Table(("", "value"), rows)


def _bins(checked: Checked, unit: str, factor: float) -> Table:
    columns = ("values", f"RMV ({unit})", f"RMSE ({unit})", "within error bars (%)")
    rows = [(b.values, factor * b.rmv, factor * b.rmse, round(100 * b.measured, 1)) for b in checked.bins]
    return Table(columns, rows, "From the smallest spread to the largest.")


def percent(fraction: float) -> str:
    """A fraction in percent, to one digit behind the point."""
    return f"{100 * fraction:.1f}".removesuffix(".0") + " %"
