"""The page about a search of settings: history, the best settings, what mattered, all trials."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.trial import TrialState

from rutile.train import figures
from rutile.train.report import Card, Facts, Figures, Section, Table, Text, Value, format_number, render
from rutile.train.search import PROBLEM, Search, state_of

FEWEST = 8
"""Complete trials from which on importances are told."""
UNITS = {"loss": "", "energy": "eV/atom", "force": "eV/Å", "virial": "eV/atom"}


@dataclass(frozen=True)
class Known:
    """What is known of one trial."""

    number: int
    """From 0."""
    state: str
    """complete, pruned, diverged, failed or running."""
    value: float | None
    """What is made small; of a trial that ended early its last value."""
    epochs: int
    """Complete ones."""
    seconds: float
    """Of training."""
    values: dict[str, str | int | float | bool | None]
    """Settings that varied: plain values, others as JSON text."""
    problem: str = ""
    """Why it failed."""


def known(search: Search) -> list[Known]:
    """All trials, in order."""
    out = []
    for t in search.open().get_trials(deepcopy=False):
        last = t.intermediate_values[max(t.intermediate_values)] if t.intermediate_values else None
        value = t.value if t.value is not None else last
        values = {d.key: t.params.get(d.key) for d in search.dimensions}
        more = t.user_attrs
        out.append(Known(t.number, state_of(t), value, int(more.get("epochs", 0)), float(more.get("seconds", 0.0)),
                         values, str(more.get(PROBLEM, ""))))  # fmt: skip
    return out


def ranked(trials: Sequence[Known]) -> list[Known]:
    """The complete ones by value, then the others in order."""
    return sorted(trials, key=lambda k: (k.state != "complete", k.value if k.state == "complete" else 0.0, k.number))


def importance(search: Search) -> dict[str, float]:
    """Setting -> part of what divides good from bad trials that goes with it; empty where there are few trials."""
    study = search.open()
    done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if len(done) < FEWEST or len({t.value for t in done}) < 2:
        return {}
    evaluator = optuna.importance.PedAnovaImportanceEvaluator()
    found = optuna.importance.get_param_importances(study, evaluator=evaluator)
    return {str(key): round(float(value), 4) for key, value in found.items()}


def page(search: Search, trials: Sequence[Known], weights: Mapping[str, float]) -> str:
    """The whole page."""
    order = ranked(trials)
    best = order[0]
    unit = UNITS[search.goal]
    cards = [
        Card(f"best {search.goal}", format_number(best.value or 0.0), unit),
        Card("trial", str(best.number), f"of {len(trials)}"),
        Card("ended early", str(sum(k.state == "pruned" for k in trials)), "trials"),
        Card("failed", str(sum(bool(k.problem) for k in trials)), "trials"),
    ]
    sections = [
        Section("Best settings", [_best(best, weights)]),
        Section("History", [Text(HISTORY), Figures(_history(search, trials))]),
        Section("Trials", [_table(search, order)]),
        Section("Settings", [Facts(search.base.model_dump(mode="json", exclude=set(best.values)), "all settings")]),
    ]
    names = ", ".join(d.key for d in search.dimensions)
    return render("Search of settings", names, cards, sections)


HISTORY = (
    "Every trial by its number, and against each setting that varied; the line is the best so far. Trials that ended "
    "early stand where they were then."
)


def _best(best: Known, weights: Mapping[str, float]) -> Table:
    rows = [(key, _plain(value), weights.get(key)) for key, value in best.values.items()]
    caption = (
        "Importance: part of what divides the best tenth of the trials from all that goes with the setting (PED-ANOVA, "
        "Watanabe, Bansal and Hutter 2023)."
    )
    return Table(("setting", "best", "importance"), rows, caption if weights else "Too few trials for importances.")


def _history(search: Search, trials: Sequence[Known]) -> list[tuple[str, str]]:
    """By number, and by each number that varied."""
    label = " ".join(filter(None, (search.goal, f"({UNITS[search.goal]})" if UNITS[search.goal] else "")))
    groups = {
        "complete": [k for k in trials if k.state == "complete" and k.value is not None],
        "ended early": [k for k in trials if k.state == "pruned" and k.value is not None],
    }
    numbers = {name: ([float(k.number) for k in some], [k.value or 0.0 for k in some]) for name, some in groups.items()}
    out = [(figures.trials("History", "trial", label, numbers, best=True, log=False), "")]
    for d in search.dimensions:
        points = {n: [k for k in some if k.values[d.key] is not None] for n, some in groups.items()}
        if all(_is_number(k.values[d.key]) for some in points.values() for k in some):
            at = {n: ([float(str(k.values[d.key])) for k in s], [k.value or 0.0 for k in s]) for n, s in points.items()}
            out.append((figures.trials(d.key.rsplit(".", 1)[-1], d.key, label, at, best=False, log=d.log), ""))
    return out


def _table(search: Search, trials: Sequence[Known]) -> Table:
    """All trials, best first."""
    columns = ["trial", "state", f"{search.goal} {UNITS[search.goal]}".strip(), *(d.key for d in search.dimensions),
               "epochs", "time (s)", "problem"]  # fmt: skip
    rows: list[list[Value]] = [
        [k.number, k.state, k.value, *(_plain(k.values[d.key]) for d in search.dimensions), k.epochs,
         round(k.seconds, 1), k.problem]
        for k in trials
    ]  # fmt: skip
    return Table(columns, rows, "Complete trials by value, then the others. Values of these: where they stood.",
                 frozenset({(0, 2)}))  # fmt: skip


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _plain(value: Any) -> Value:
    return value if value is None or isinstance(value, str | int | float | bool) else json.dumps(value)
