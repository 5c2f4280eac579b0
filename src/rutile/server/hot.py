"""What is used most: tasks, models, data sets and templates of the jobs of the last month that one may see."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

import sqlalchemy as sql
from sqlalchemy.orm import Session

from rutile.core.settings import Result
from rutile.jobs.references import REFERENCE
from rutile.jobs.rights import found, visible
from rutile.jobs.tables import Dataset, Job, StoredModel, Template, User

MONTH = 30 * 86400.0
LOOKED_AT = 5000
"""Jobs that are counted, the newest."""
KINDS: dict[str, Any] = {"model": StoredModel, "dataset": Dataset, "template": Template}


class HotRow(Result):
    """Something that is used."""

    id: int | None
    """Its number; null: of a task."""
    name: str
    """Its name."""
    jobs: int
    """Jobs that used it."""
    task: str | None = None
    """Of a template: the task that it fills the form of."""


class Hot(Result):
    """What is used most."""

    tasks: list[HotRow]
    """Most used first."""
    models: list[HotRow]
    """Most used first."""
    datasets: list[HotRow]
    """Most used first."""
    templates: list[HotRow]
    """Most used first."""


def hottest(session: Session, user: User, most: int) -> Hot:
    """What jobs of the last month used most."""
    recent = sql.select(Job.task, Job.inputs, Job.template_id).where(
        visible(Job, user), Job.created > time.time() - MONTH
    )
    tasks: Counter[str] = Counter()
    used: dict[str, Counter[int]] = {kind: Counter() for kind in KINDS}
    for task, inputs, template in session.execute(recent.order_by(Job.id.desc()).limit(LOOKED_AT)):
        tasks[task] += 1
        named = {match.group(1, 2) for one in inputs if (match := REFERENCE.fullmatch(one["reference"]))}
        if template is not None:
            used["template"][template] += 1
        for kind, number in named:
            if kind in used:
                used[kind][int(number)] += 1
    of_kind = {kind: _named(session, user, kind, counts, most) for kind, counts in used.items()}
    rows = [HotRow(id=None, name=name, jobs=jobs) for name, jobs in tasks.most_common(most)]
    return Hot(
        tasks=rows, models=of_kind["model"], datasets=of_kind["dataset"], templates=of_kind["template"]
    )  # fmt: skip


def _named(session: Session, user: User, kind: str, counts: Counter[int], most: int) -> list[HotRow]:
    """Those that one may see; what was deleted is left out."""
    out: list[HotRow] = []
    for number, jobs in counts.most_common():
        thing = found(session, KINDS[kind], number, user)
        if thing is not None:
            out.append(HotRow(id=number, name=thing.name, jobs=jobs, task=getattr(thing, "task", None)))
        if len(out) == most:
            break
    return out
