"""The page about molecular dynamics: temperature, energies, pressure and volume along the way."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rutile.tasks.property import table_of
from rutile.tasks.property_figures import Line, panel
from rutile.train.report import Block, Card, Facts, Figures, Section, Text, render

if TYPE_CHECKING:
    from rutile.tasks.md import MdResult

MOST_RUNS = 12
"""Runs that are drawn."""
MOST_POINTS = 2000
"""Points of a curve."""
TOO_SHORT = (
    "No curves: each run has fewer than two rows in the log. It was too short for log_every, or ended at once; the "
    "table below says why."
)
PANELS = {
    "Temperature": ("temperature_K", "K", False),
    "Potential energy": ("potential_eV", "eV/atom", True),
    "Conserved quantity": ("conserved_eV", "eV/atom, from its start", True),
    "Pressure": ("pressure_GPa", "GPa", False),
    "Volume": ("volume_A3", "Å³/atom", True),
    "Disagreement": ("disagreement_eV_A", "eV/Å", False),
}
"""Title -> (column, unit, for each atom)."""


def read_log(path: Path) -> dict[str, np.ndarray]:
    """Columns of the log by name; NaN where there is no value."""
    with path.open(newline="", encoding="utf-8") as file:
        header, *lines = list(csv.reader(file))
    values = np.array([[float(x) if x else np.nan for x in line] for line in lines]).reshape(-1, len(header))
    return {name: values[:, k] for k, name in enumerate(header)}


def page(result: MdResult, table: Mapping[str, np.ndarray], settings: Mapping[str, Any]) -> str:
    """The whole page.

    Args:
        result: of the task.
        table: columns of the log.
        settings: of the task, as JSON values.
    """
    kelvins = [r.temperature for r in result.runs if r.temperature is not None]
    cards = [
        Card("runs", str(len(result.runs)), f"{result.stopped} ended early" if result.stopped else "all to their end"),
        Card("time", f"{max(r.time for r in result.runs):.4g}", "ps"),
        Card("temperature", f"{np.mean(kelvins):.4g}" if kelvins else "–", "K, mean"),
    ]
    names = ["run", "structure", "formula", "temperature", "temperature_error", "potential", "potential_error",
             "pressure", "pressure_error", "volume", "volume_error", "density", "drift", "outcome"]  # fmt: skip
    note = "Without the equilibration; standard errors from blocks."
    figures = _panels(result, table)
    drawn: list[Block] = [Figures(figures), *_left_out(result)] if figures else [Text(TOO_SHORT)]
    sections = [
        Section("Along the way", drawn),
        Section("Means", table_of(result.runs, names, note)),
        Section("Settings", [Facts(settings, "all settings")]),
    ]
    return render("Molecular dynamics", str(settings["ensemble"]["name"]), cards, sections)


def _left_out(result: MdResult) -> list[Text]:
    """What is not drawn."""
    more = len(result.runs) - MOST_RUNS
    return [Text(f"The first {MOST_RUNS} runs; {more} more are in the log.")] if more > 0 else []


def _panels(result: MdResult, table: Mapping[str, np.ndarray]) -> list[tuple[str, str]]:
    """Figures of what there is."""
    from ase.formula import Formula

    sizes = [len(Formula(r.formula)) for r in result.runs]
    out = []
    for title, (column, unit, per_atom) in PANELS.items():
        curves = []
        for r, n in list(zip(result.runs, sizes, strict=True))[:MOST_RUNS]:
            mine = table["run"] == r.run
            t, x = table["time_fs"][mine] / 1000, table[column][mine] / (n if per_atom else 1)
            if column == "conserved_eV" and len(x):
                x = x - x[0]
            if np.isfinite(x).sum() > 1 and (np.ptp(x[np.isfinite(x)]) > 0 or x[np.isfinite(x)].any()):
                step = max(1, len(t) // MOST_POINTS)
                curves.append(Line(f"run {r.run}" if len(result.runs) > 1 else "", t[::step], x[::step]))
        if curves:
            out.append((panel(title, "time (ps)", unit, curves), ""))
    return out
