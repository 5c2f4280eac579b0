"""Sections of the report page from training histories, assessments, censuses and settings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from rutile.core.units import GPA
from rutile.potentials.calibration import Calibration
from rutile.potentials.dimers import CORE, FRACTIONS, DimerCurve, worst_first
from rutile.train import figures
from rutile.train.assess import Assessment, FrameError
from rutile.train.drawing import COLOURS
from rutile.train.metrics import Row
from rutile.train.report import Block, Card, Facts, Figures, Section, Table, Text, Value, format_number

QUANTITIES = {
    "energy": ("Energy", "meV/atom", 1000.0),
    "force": ("Force components", "eV/Å", 1.0),
    "force_vector": ("Force vectors", "eV/Å", 1.0),
    "stress": ("Stress components", "GPa", 1.0 / GPA),
}
"""Name, unit and factor with which a page shows each quantity of `train.metrics`."""
DRAWN = 18
"""Pairs of elements whose dimer curves are shown, at most."""
BOXES = 15
"""Elements or groups whose distribution of errors is shown, at most."""
SHORT = ("mae", "rmse")
KINDS = {"mae": "MAE", "rmse": "RMSE", "max": "max"}


def cards(rows: Iterable[Row]) -> list[Card]:
    """RMSE of energy, force and stress as large numbers."""
    return [
        Card(f"{_name(row).split()[0]} RMSE", format_number(row["rmse"] * _factor(row)), _unit(row))
        for row in _base(rows)
        if row["subset"] == "all" and row["quantity"] != "force_vector"
    ]


def errors_section(rows: Sequence[Row], title: str = "Errors") -> Section:
    """Error tables: all frames, below and above the force limit, by calc mode, element, group."""
    base = _base(rows)
    blocks: list[Block] = [_error_table([r for r in base if r["subset"] in ("all", "limit")], "frames", "")]
    by_mode = [r for r in base if r["subset"] == "mode"]
    if by_mode:
        blocks.append(_wide_table(by_mode, "calc mode", "By reference method (calc_mode)."))
    by_element = [r for r in base if r["subset"] == "element"]
    if by_element:
        blocks.append(_error_table(by_element, "element", "Forces by element. An energy belongs to a whole structure."))
    by_group = [r for r in base if r["subset"] == "group"]
    if by_group:
        blocks.append(_wide_table(by_group, "group", "By kind of frame (config_type)."))
    return Section(title, blocks)


def parity_section(assessment: Assessment, title: str = "Parity") -> Section:
    """Parity plots and error histograms of energy, force and stress."""
    parity, histogram = [], []
    for name, pairs in assessment.pairs.items():
        label, unit, factor = QUANTITIES[name]
        values = pairs.values
        if not values.size:
            continue
        errors = factor * (values[1] - values[0])
        wide, scale = ("eV/atom", 1.0) if name == "energy" else (unit, factor)
        parity.append((figures.parity(label, wide, scale * values[0], scale * values[1]), ""))
        histogram.append((figures.histogram(label, unit, errors), ""))
    blocks: list[Block] = [Figures(parity), Figures(histogram)] if parity else [Text("These frames have no labels.")]
    return Section(title, blocks)


def calibration_section(
    assessment: Assessment, calibration: Calibration | None = None, title: str = "Calibration"
) -> Section | None:
    """Error against spread of a committee, and the error bars in its model file; None for a single potential."""
    if not assessment.committee:
        return None
    spread = []
    for name, pairs in assessment.pairs.items():
        label, unit, factor = QUANTITIES[name]
        reference, predicted, std = pairs.values
        if reference.size:
            errors = factor * (predicted - reference)
            spread.append((figures.error_against_std(label, unit, factor * std, errors), ""))
    blocks: list[Block] = [
        Text("Does the committee know when it is wrong? Points on the line: its spread is the size of its error."),
        Figures(spread),
    ]
    if calibration is None:
        text = "Its error bars are not calibrated: rutile calibrate gives them a stated coverage and a page."
        return Section(title, [*blocks, Text(text)])
    facts: dict[str, Any] = {"stated coverage": calibration.coverage}
    for name, scale in (("energy", calibration.energy), ("forces", calibration.forces)):
        if scale is not None:
            facts |= {f"{name}: measured coverage": calibration.measured.get(name)}
            facts |= {f"{name}: error bar (spreads)": scale.quantile, f"{name}: frames fitted on": scale.frames}
    return Section(title, [*blocks, Facts(facts)])


def worst_section(worst: Sequence[FrameError], title: str = "Worst frames") -> Section:
    """The frames with the largest errors, with file and frame number."""
    columns = (
        "frame",
        "formula",
        "group",
        "energy error (meV/atom)",
        "force RMSE (eV/Å)",
        "largest force error (eV/Å)",
    )
    rows = [
        (
            e.frame,
            e.formula,
            e.group,
            None if e.energy_error is None else 1000 * e.energy_error,
            e.force_rmse,
            e.force_max,
        )
        for e in worst
    ]
    return Section(title, [Table(columns, rows, "Worst first, by the RMSE of their forces. Frame numbers begin at 0.")])


def dimers_section(curves: Sequence[DimerCurve], modes: Sequence[str], title: str = "Dimers") -> Section:
    """Energies of two atoms in vacuum, worst pairs first, and which pairs are not repulsive in the core.

    Args:
        curves: of all pairs.
        modes: names of the calc modes, by number.
        title: heading.
    """
    order = worst_first(curves)
    bad = [c for c in order if c.hole is not None]

    def label(c: DimerCurve) -> str:
        return f"{c.name} {modes[c.mode]}".strip() if len(modes) > 1 else c.name

    shown = order[:DRAWN]
    each = len(COLOURS)
    panels = []
    for k in range(0, len(shown), each):
        lines = [figures.Curve(label(c), FRACTIONS, c.energy.tolist()) for c in shown[k : k + each]]
        panels.append((figures.dimer_curves("Two atoms", "energy - isolated atoms (eV)", CORE, lines), ""))
    intro = (
        f"Two atoms in vacuum, a bond length being the sum of the covalent radii. {len(curves) - len(bad)} of "
        f"{len(curves)} pairs are repulsive everywhere below {CORE:g} bond lengths (shaded)."
    )
    if len(shown) < len(curves):
        intro += f" The {len(shown)} worst are shown."
    blocks: list[Block] = [Text(intro), Figures(panels)]
    if bad:
        rows = [(label(c), c.bond, c.hole) for c in bad[:DRAWN]]
        columns = ("pair", "bond length (Å)", "not repulsive at (Å)")
        blocks.append(Table(columns, rows, "Pairs with a hole: simulations can fall in."))
    return Section(title, blocks)


def curves_section(history: Sequence[Mapping[str, Any]], title: str = "Learning curves") -> Section:
    """Errors over the epochs, from the rows of a run's metrics.csv.

    A column `valid_energy_rmse` (or train_...) is the RMSE of that quantity on that part of the data; the loss gets its
    own panel. Rows without a column are skipped.
    """
    parts = [("train", "training"), ("valid", "validation")]
    quantities = {k: QUANTITIES[k] for k in ("energy", "force")} | {"virial": ("Virial", "meV/atom", 1000.0)}
    panels: dict[str, tuple[str, list[figures.Curve]]] = {}
    for name, (label, unit, factor) in quantities.items():
        curves = [curve(history, f"{part}_{name}_rmse", shown, factor) for part, shown in parts]
        panels[f"{label} RMSE"] = (unit, [c for c in curves if c])
    panels["Loss"] = ("", [c for c in (curve(history, f"{part}_loss", shown, 1.0) for part, shown in parts) if c])
    drawn = [(figures.learning_curve(label, unit, curves), "") for label, (unit, curves) in panels.items() if curves]
    return Section(title, [Figures(drawn)] if drawn else [Text("No epoch has ended yet.")])


def schedule_section(history: Sequence[Mapping[str, Any]], title: str = "Schedule") -> Section:
    """Learning rate and prefactors of the loss at the end of each epoch."""
    names = {"energy": "energy", "force": "forces", "virial": "virial"}
    rate = curve(history, "learning_rate", "", 1.0)
    weights = [curve(history, f"prefactor_{name}", label, 1.0) for name, label in names.items()]
    panels = [("Learning rate", [rate]), ("Prefactors of the loss", weights)]
    kept = [(name, [c for c in curves if c is not None]) for name, curves in panels]
    drawn = [(figures.learning_curve(name, "", curves), "") for name, curves in kept if curves]
    note = (
        "The weights of the loss follow the learning rate, so the training loss of different epochs does not compare; "
        "the validation loss is always taken with the last weights."
    )
    return Section(title, [Figures(drawn), Text(note)] if drawn else [Text("No epoch has ended yet.")])


def residuals_section(assessment: Assessment, title: str = "Residuals") -> Section:
    """Distribution of errors by element, by group and, where there are several, by reference method."""
    drawn = []
    for what, heading in (("element", "by element"), ("group", "by group"), ("mode", "by method")):
        for quantity, by_name in assessment.residuals_by(what).items():
            label, unit, factor = QUANTITIES[quantity]
            if not by_name or (what != "element" and len(by_name) < 2):
                continue
            size = {name: float(np.sqrt((errors**2).mean())) for name, errors in by_name.items()}
            shown = sorted(by_name, key=lambda name: -size[name])[:BOXES]
            left_out = f" The {BOXES} of {len(by_name)} with the largest RMSE." if len(by_name) > BOXES else ""
            boxes = {_short(name or "(none)"): factor * by_name[name] for name in shown}
            drawn.append((figures.residual_boxes(f"{label} {heading}", unit, boxes), f"Largest RMSE first.{left_out}"))
    note = "Boxes hold the middle half of the errors, whiskers 90 %; the line is their median, the dot their mean."
    return Section(title, [Text(note), Figures(drawn)] if drawn else [Text("These frames have no labels.")])


def timings_section(
    history: Sequence[Mapping[str, Any]], totals: Mapping[str, float], title: str = "Timings"
) -> Section:
    """Where the time went.

    Args:
        history: rows of metrics.csv.
        totals: seconds of each part of the work, by name.
        title: heading.
    """
    facts: dict[str, str] = {f"{name} (s)": format_number(seconds) for name, seconds in totals.items()}
    columns = {
        "training, each epoch (s)": "train_seconds",
        "validation, each epoch (s)": "valid_seconds",
        "structures per second": "structures_per_second",
        "atoms per second": "atoms_per_second",
        "part of the steps spent waiting for batches": "loader_wait",
    }
    for name, column in columns.items():
        found = [float(row[column]) for row in history if _number(row.get(column))]
        if found:
            facts[f"{name}, median"] = format_number(float(np.median(found)))
    seconds = [("train_seconds", "training"), ("valid_seconds", "validation")]
    panels = [
        ("Time of an epoch", "s", [curve(history, column, label, 1.0) for column, label in seconds]),
        ("Throughput", "atoms per second", [curve(history, "atoms_per_second", "", 1.0)]),
    ]
    kept = [(name, unit, [c for c in curves if c is not None]) for name, unit, curves in panels]
    drawn = [(figures.learning_curve(name, unit, curves), "") for name, unit, curves in kept if curves]
    blocks: list[Block] = [Facts(facts)]
    return Section(title, [*blocks, Figures(drawn)] if drawn else blocks)


def settings_section(parts: Mapping[str, Mapping[str, Any]], title: str = "Settings") -> Section:
    """Settings of the run, folded by part."""
    return Section(title, [Facts(facts, folded=name) for name, facts in parts.items()])


def curve(
    history: Sequence[Mapping[str, Any]], column: str, label: str, factor: float, x: str = "epoch"
) -> figures.Curve | None:
    """A column of metrics.csv times a factor against another one; None where no row has both."""
    both = [row for row in history if _number(row.get(column)) and _number(row.get(x))]
    points = [(float(row[x]), float(row[column])) for row in both]
    if not points:
        return None
    at, y = np.array(points).T
    return figures.Curve(label, at.tolist(), (y * factor).tolist())


def _base(rows: Iterable[Row]) -> list[Row]:
    """Rows in internal units: each quantity once."""
    return [row for row in rows if row["unit"] != "GPa"]


def _error_table(rows: Sequence[Row], what: str, caption: str) -> Table:
    columns = (what, "quantity", "unit", "values", *KINDS.values())
    body: list[list[Value]] = [
        [str(r["name"]), _name(r), _unit(r), int(r["count"]), *(float(r[kind]) * _factor(r) for kind in KINDS)]
        for r in rows
    ]
    return Table(columns, body, caption)


def _wide_table(rows: Sequence[Row], what: str, caption: str) -> Table:
    """One line for each name, with MAE and RMSE of energy, force components and stress side by side."""
    cells = {(str(r["name"]), str(r["quantity"])): r for r in rows}
    shown = [q for q in ("energy", "force", "stress") if any(key[1] == q for key in cells)]
    columns = [what, *(f"{QUANTITIES[q][0].split()[0]} {KINDS[k]} ({QUANTITIES[q][1]})" for q in shown for k in SHORT)]
    body: list[list[Value]] = []
    for name in dict.fromkeys(name for name, _ in cells):
        line = [cells.get((name, q)) for q in shown]
        body.append([name, *(None if r is None else float(r[k]) * _factor(r) for r in line for k in SHORT)])
    return Table(columns, body, caption)


def _name(row: Row) -> str:
    return QUANTITIES[str(row["quantity"])][0]


def _unit(row: Row) -> str:
    return QUANTITIES[str(row["quantity"])][1]


def _factor(row: Row) -> float:
    return QUANTITIES[str(row["quantity"])][2]


def _number(value: Any) -> bool:
    try:
        return value is not None and value != "" and bool(np.isfinite(float(value)))
    except ValueError:
        return False


def _short(name: str) -> str:
    """A long name by its beginning and its end."""
    return name if len(name) <= 20 else f"{name[:9]}…{name[-10:]}"
