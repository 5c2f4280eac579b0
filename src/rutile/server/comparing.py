"""Jobs beside each other: what they ask and found, their curves, and the best that each reached."""

from __future__ import annotations

import re
from typing import Any

from rutile.core.settings import Result
from rutile.jobs import folder as kept
from rutile.jobs.folder import read_json
from rutile.jobs.home import Home
from rutile.jobs.tables import Job
from rutile.server.job_output import Series, series_of

PLACE = ("queue", "cores", "gpus", "memory", "wall_time")
"""Where a job runs: compared beside its settings."""
AXES = ("epoch", "step", "steps", "generation", "time", "seconds")
"""Columns that curves go along, the first one that all have."""
LOWER = re.compile(r"loss|rmse|mae|error|fmax")
"""Columns of which the smallest value is the best."""


class Curve(Result):
    """One column of one job."""

    job: int
    """Whose it is."""
    x: list[float]
    """Along."""
    y: list[float | None]
    """Up."""


class Best(Result):
    """The best value of one column of one job."""

    job: int
    """Whose it is."""
    value: float
    """The smallest of all rows, not the last."""
    at: float
    """Where along."""


class Compared(Result):
    """Curves of several jobs."""

    x_name: str
    """What they go along; empty: the number of the row."""
    curves: dict[str, list[Curve]]
    """Column -> curve of each job that has it, in the order asked for."""
    best: dict[str, list[Best]]
    """Column, of losses and errors only -> best of each job that has it."""


def rows_of(home: Home, jobs: list[Job], all_rows: bool) -> dict[str, list[Any]]:
    """Dotted key -> value of each job; of keys whose values are all the same only where `all_rows`."""
    trees = []
    for job in jobs:
        place = {name: getattr(job, name) for name in PLACE}
        result = read_json(home.job(job.id) / kept.RESULT) or {}
        trees.append(_flat({"task": job.task, "settings": job.settings, "place": place, "result": result}))
    keys = dict.fromkeys(key for tree in trees for key in tree)
    rows = {key: [tree.get(key) for tree in trees] for key in keys}
    return {key: values for key, values in rows.items() if all_rows or any(v != values[0] for v in values)}


def curves_of(home: Home, jobs: list[Job], points: int) -> Compared:
    """What the jobs reported, column by column."""
    series = {job.id: series_of(home.job(job.id) / kept.METRICS, points) for job in jobs}
    some = [one for one in series.values() if one.rows]
    x_name = next((name for name in AXES if some and all(name in one.columns for one in some)), "")
    curves: dict[str, list[Curve]] = {}
    for number, one in series.items():
        along = _along(one, x_name)
        for name in one.columns:
            if name not in AXES:
                curves.setdefault(name, []).append(Curve(job=number, x=along, y=one.columns[name]))
    best = {name: [_best(curve) for curve in own] for name, own in curves.items() if LOWER.search(name.lower())}
    return Compared(x_name=x_name, curves=curves, best=best)


def _along(one: Series, x_name: str) -> list[float]:
    column = one.columns.get(x_name, [])
    return [float(row if not column or column[k] is None else column[k] or 0.0) for k, row in enumerate(one.index)]


def _best(curve: Curve) -> Best:
    """Of all rows: thinning keeps the smallest value of every part."""
    value, at = min((y, x) for x, y in zip(curve.x, curve.y, strict=True) if y is not None)
    return Best(job=curve.job, value=value, at=at)


def _flat(tree: Any, key: str = "") -> dict[str, Any]:
    """Dotted keys of a tree; lists are values."""
    if not isinstance(tree, dict):
        return {key: tree}
    out: dict[str, Any] = {}
    for name, inner in tree.items():
        out |= _flat(inner, f"{key}.{name}" if key else str(name))
    return out
