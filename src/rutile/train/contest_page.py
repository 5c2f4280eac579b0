"""The page about a comparison of optimizers: table, learning curves, learning rates."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from rutile.train import figures
from rutile.train.contest import Outcome, Plan, Run
from rutile.train.contestants import PUBLISHED, rate_of
from rutile.train.drawing import COLOURS
from rutile.train.report import Card, Facts, Figures, Section, Table, Text, Value, format_number, render

EACH = len(COLOURS)
"""Lines in one panel."""


def page(outcomes: Sequence[Outcome], plan: Plan, target: float, settings: Mapping[str, Any]) -> str:
    """The whole page.

    Args:
        outcomes: best first.
        plan: how much was tried.
        target: loss whose passes are told.
        settings: of the comparison, as JSON values.
    """
    best = outcomes[0]
    runs = [run for outcome in outcomes for run in outcome.tried]
    cards = [
        Card("best", best.name, f"rate {best.final[0].learning_rate:g}"),
        Card("validation loss", format_number(best.loss), ""),
        Card("trainings", str(len(runs)), f"{sum(bool(r.problem) for r in runs)} diverged"),
    ]
    sections = [
        Section("Result", [Text(protocol(plan)), table(outcomes, target)]),
        Section("Learning curves", [Text("At the best learning rate, the first seed."), Figures(curves(outcomes))]),
        Section("Learning rates", [Text(RATES), Figures(by_rate(outcomes, plan)), rates_table(outcomes, plan)]),
        Section("Settings", [Facts(settings, "all settings")]),
    ]
    return render("Optimizers", ", ".join(o.name for o in outcomes), cards, sections)


RATES = "Lowest validation loss of each learning rate in the first look, with a part of the passes; missing: diverged."


def protocol(plan: Plan) -> str:
    """How it was done."""
    return (
        "Same structures, same first weights and same order for all; the budget counts gradients: a pass is one "
        "gradient of every training structure, line searches included. Learning rates in half decades, "
        f"{plan.rates} at first and more while the best was outermost: {plan.screening} passes each with one seed; "
        f"the best and its neighbours with {plan.passes} passes; the best of these with {len(plan.seeds)} seeds. "
        "Losses are of validation structures, which choose both the learning rate and the epoch. rprop and lbfgs take "
        "all structures in a step."
    )


def table(outcomes: Sequence[Outcome], target: float) -> Table:
    """One line for each optimizer."""
    columns = ("optimizer", "learning rate", "best loss (median)", "best to worst seed", "loss at the end",
               "energy RMSE (meV/atom)", "force RMSE (eV/Å)", f"passes to a loss of {target:.3g}", "steps", "time (s)",
               "CPU time (s)", "diverged", "published TiO2", "published SiAu")  # fmt: skip
    rows = [_line(o, target) for o in outcomes]
    published = [PUBLISHED.get(o.name) for o in outcomes]
    marked = {(0, 2)}
    for k in (0, 1):
        known = {line: both[k] for line, both in enumerate(published) if both is not None}
        marked |= {(min(known, key=lambda line: known[line]), 12 + k)} if known else set()
    caption = (
        "Medians over the seeds. Published: best losses of a comparison of PyTorch's optimizers on TiO2 and SiAu, "
        "whose loss, data and budget were others, so that only the order can be compared."
    )
    return Table(columns, rows, caption, frozenset(marked))


def _line(o: Outcome, target: float) -> list[Value]:
    diverged = f"{sum(bool(run.problem) for run in o.tried)} of {len(o.tried)}"
    published: Sequence[Value] = PUBLISHED.get(o.name, (None, None))
    good = [run for run in o.final if not run.problem]
    if not good:
        return [o.name, *[None] * 10, diverged, *published]
    losses = sorted(run.best for run in o.final)
    energy = [run.energy_rmse for run in good if run.energy_rmse is not None]
    force = [run.force_rmse for run in good if run.force_rmse is not None]
    return [
        o.name, good[0].learning_rate, o.loss, f"{format_number(losses[0])} to {format_number(losses[-1])}",
        median(run.losses[-1] for run in good), 1000 * median(energy) if energy else None,
        median(force) if force else None, o.reached(target), int(median(run.steps for run in good)),
        round(median(run.seconds for run in good), 1), round(median(run.cpu_seconds for run in good), 1), diverged,
        *published,
    ]  # fmt: skip


def curves(outcomes: Sequence[Outcome]) -> list[tuple[str, str]]:
    """Validation loss against passes, in panels."""
    shown = [o for o in outcomes if o.final and o.final[0].losses]
    lines = [figures.Curve(o.name, o.final[0].at, lowest(o.final[0])) for o in shown]
    title = "Lowest validation loss so far"
    return [
        (figures.learning_curve(title, "loss", part, "passes over the data"), _ranks(k, len(part)))
        for k, part in _panels(lines)
    ]


def by_rate(outcomes: Sequence[Outcome], plan: Plan) -> list[tuple[str, str]]:
    """Loss against the learning rate after the first look, in panels."""
    lines = []
    for o in outcomes:
        looks = sorted(_looks(o, plan), key=lambda run: run.half_decades)
        lines.append(figures.Curve(o.name, [r.learning_rate for r in looks], [r.best for r in looks]))
    return [
        (figures.against_rate(f"After {plan.screening} passes", "loss", part), _ranks(k, len(part)))
        for k, part in _panels(lines)
    ]


def rates_table(outcomes: Sequence[Outcome], plan: Plan) -> Table:
    """Loss of every learning rate of every optimizer."""
    looks = {o.name: {run.half_decades: run for run in _looks(o, plan)} for o in outcomes}
    tried = sorted({k for found in looks.values() for k in found})
    rows: list[list[Value]] = []
    marked = set()
    for line, (name, found) in enumerate(looks.items()):
        rows.append([name, *(_look(found.get(k)) for k in tried)])
        good = {k: run.best for k, run in found.items() if run.best < math.inf}
        marked |= {(line, 1 + tried.index(min(good, key=lambda k: good[k])))} if good else set()
    columns = ["optimizer", *(f"{rate_of(k):g}" for k in tried)]
    return Table(columns, rows, f"Lowest validation loss after {plan.screening} passes.", frozenset(marked))


def lowest(run: Run) -> list[float]:
    """Lowest loss so far at each validation."""
    out: list[float] = []
    for loss in run.losses:
        out.append(min(loss, out[-1]) if out else loss)
    return out


def _look(run: Run | None) -> Value:
    return "" if run is None else "diverged" if run.problem else format_number(run.best)


def _looks(outcome: Outcome, plan: Plan) -> list[Run]:
    return [run for run in outcome.tried if (run.passes, run.seed) == (plan.screening, plan.seeds[0])]


def _panels(lines: Sequence[figures.Curve]) -> list[tuple[int, Sequence[figures.Curve]]]:
    return [(k, lines[k : k + EACH]) for k in range(0, len(lines), EACH)]


def _ranks(first: int, count: int) -> str:
    return f"Ranks {first + 1} to {first + count}."
