"""Everything that can be found by one text: jobs, searches, data sets, models, structures, templates, tasks."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sql
from sqlalchemy.orm import Session

from rutile.core.settings import Result
from rutile.jobs.rights import visible
from rutile.jobs.tables import Dataset, Job, StoredModel, StoredStructure, Template, User
from rutile.server.job_list import matching, named
from rutile.tasks.catalogue import all_tasks

SEARCHES = ("search", "search resume", "adapt")
"""Tasks whose jobs are searches for structures."""


class Hit(Result):
    """Something that was found."""

    kind: str
    """task, template, model, dataset, structure, search or job."""
    id: int | None
    """Its number; null: of a task."""
    name: str
    """Its name."""
    about: str
    """What it is, in a few words; of a template its task."""


def everything(session: Session, text: str, user: User, most: int) -> list[Hit]:
    """What a user may see with a text in it, so many of each kind at most, newest first.

    Tasks are found by name and summary, jobs as in their list, other things by name; structures by their formula, too.
    """
    low = text.lower()
    tasks = [task for task in all_tasks() if low in task.name.lower() or low in task.summary.lower()]
    tasks.sort(key=lambda task: low not in task.name.lower())
    hits = [Hit(kind="task", id=None, name=task.name, about=task.summary) for task in tasks[:most]]
    hits += [_hit("template", row, row.task) for row in session.scalars(named(Template, text, user).limit(most))]
    hits += [_hit("model", row, f"{row.stage}; {' '.join(row.elements)}")
             for row in session.scalars(named(StoredModel, text, user).limit(most))]  # fmt: skip
    hits += [_hit("dataset", row, row.description) for row in session.scalars(named(Dataset, text, user).limit(most))]
    formula = sql.or_(*(c.icontains(text, autoescape=True) for c in (StoredStructure.name, StoredStructure.formula)))
    of = sql.select(StoredStructure).where(visible(StoredStructure, user), formula)
    hits += [_hit("structure", row, row.formula)
             for row in session.scalars(of.order_by(StoredStructure.id.desc()).limit(most))]  # fmt: skip
    jobs = sql.select(Job.id, Job.name, Job.task, Job.state).where(visible(Job, user), matching(session, text, user))
    jobs, searches = jobs.order_by(Job.id.desc()).limit(most), Job.task.in_(SEARCHES)
    hits += [_hit("search", row, f"{row.task}, {row.state}") for row in session.execute(jobs.where(searches))]
    return hits + [_hit("job", row, f"{row.task}, {row.state}") for row in session.execute(jobs.where(~searches))]


def _hit(kind: str, row: Any, about: str) -> Hit:
    return Hit(kind=kind, id=row.id, name=row.name, about=about[:120])
