"""Sections of the page that lays training runs side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rutile.train import figures
from rutile.train.report import Figures, Section, Table, Text, Value
from rutile.train.runs import TrainingRun
from rutile.train.sections import QUANTITIES, curve

PARTS = {"test": "test", "valid": "validation", "train": "training", "replay": "replayed"}
"""Parts of the data in the order of the tables."""
PANELS = {
    "valid_force_rmse": ("Force components RMSE", "eV/Å", 1.0),
    "valid_energy_rmse": ("Energy RMSE", "meV/atom", 1000.0),
    "valid_virial_rmse": ("Virial RMSE", "meV/atom", 1000.0),
    "valid_loss": ("Loss", "", 1.0),
}
"""Column of metrics.csv -> heading, unit, factor."""
LABEL = 26
"""Characters of a run's name in a legend."""


def error_rows(runs: Sequence[TrainingRun]) -> list[tuple[str, str, str, str, dict[str, float]]]:
    """(part, quantity, kind, unit, run -> error in that unit): RMSE and then MAE, of all runs that know it."""
    rows = []
    for part in PARTS:
        for kind in ("rmse", "mae"):
            for quantity in ("energy", "force", "stress"):
                _, unit, factor = QUANTITIES[quantity]
                key = part, quantity, kind
                found = {run.name: run.errors[key] * factor for run in runs if key in run.errors}
                if found:
                    rows.append((part, quantity, kind, unit, found))
    return rows


def best_of(errors: Mapping[str, float]) -> str:
    """Name of the run with the smallest error; "" where only one is known."""
    return min(errors, key=lambda name: errors[name]) if len(errors) > 1 else ""


def runs_section(runs: Sequence[TrainingRun], title: str = "Runs") -> Section:
    """State, epochs, time and size of each."""
    columns = ("run", "state", "epochs", "best epoch", "training (s)", "s per epoch", "atoms per second",
               "members", "parameters", "folder")  # fmt: skip
    rows: list[list[Value]] = []
    for run in runs:
        best = run.best
        rows.append([
            run.name, run.state, run.epochs, None if best is None else int(best["epoch"]) + 1, run.seconds or None,
            run.median("train_seconds"), run.median("atoms_per_second"), run.members, run.parameters, str(run.folder),
        ])  # fmt: skip
    return Section(title, [Table(columns, rows, "Epochs count from 1. Medians over the epochs.")])


def settings_section(runs: Sequence[TrainingRun], different: Mapping[str, Mapping[str, str]]) -> Section:
    """The settings that differ, one column for each run that has settings."""
    names = [run.name for run in runs if run.settings is not None]
    title = "Settings that differ"
    if len(names) < 2 or not different:
        few = "Fewer than two runs have settings." if len(names) < 2 else "All settings are equal, but for the folder."
        return Section(title, [Text(few)])
    rows = [[setting, *(values[name] for name in names)] for setting, values in different.items()]
    return Section(title, [Table(["setting", *names], rows, "All others are equal. –: there is no such setting.")])


def errors_section(runs: Sequence[TrainingRun], note: str = "") -> Section:
    """Errors of every run, the smallest of each line marked."""
    found = error_rows(runs)
    if not found:
        return Section("Errors", [Text("No run has errors yet.")])
    rows: list[list[Value]] = []
    marked = set()
    for line, (part, quantity, kind, unit, errors) in enumerate(found):
        rows.append([PARTS[part], QUANTITIES[quantity][0], kind.upper(), unit, *(errors.get(r.name) for r in runs)])
        marked |= {(line, 4 + k) for k, run in enumerate(runs) if run.name == best_of(errors)}
    columns = ["structures", "quantity", "", "unit", *(run.name for run in runs)]
    caption = "The smallest of each line is marked. Of runs that are not finished: the best validation so far."
    table = Table(columns, rows, caption, frozenset(marked))
    return Section("Errors", [*([Text(note)] if note else []), table])


def overlay_section(runs: Sequence[TrainingRun], title: str = "Learning curves") -> Section:
    """Validation errors of all runs, by epoch and by time, and their learning rates."""
    drawn = []
    for axis, unit_of_axis in (("epoch", "epoch"), ("seconds", "training time (s)")):
        for column, (label, unit, factor) in PANELS.items():
            lines = [curve(run.history, column, _label(run.name), factor, axis) for run in runs]
            kept = [line for line in lines if line is not None]
            if kept:
                drawn.append((figures.learning_curve(label, unit, kept, unit_of_axis), ""))
    rates = [curve(run.history, "learning_rate", _label(run.name), 1.0) for run in runs]
    kept = [line for line in rates if line is not None]
    if not drawn:
        return Section(title, [Text("No run has been validated yet.")])
    note = (
        "On validation structures; losses with the last weights of each run, which compare only where those are equal."
    )
    return Section(title, [Text(note), Figures([*drawn, (figures.learning_curve("Learning rate", "", kept), "")])])


def _label(name: str) -> str:
    return name if len(name) <= LABEL else "…" + name[-LABEL + 1 :]
