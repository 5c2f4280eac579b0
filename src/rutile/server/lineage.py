"""Where a job comes from and what was made of it: data, models and jobs, as far as one may see them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import sqlalchemy as sql
from sqlalchemy.orm import Session

from rutile.core.settings import Result
from rutile.jobs.references import REFERENCE
from rutile.jobs.rights import found, visible
from rutile.jobs.tables import Dataset, DatasetVersion, Job, StoredModel, StoredStructure, User

KINDS: dict[str, Any] = {"job": Job, "model": StoredModel, "dataset": Dataset, "structure": StoredStructure}
MOST = 60
"""Things of a graph, those nearest to the job."""


class Node(Result):
    """Something in the graph."""

    reference: str
    """job:12, model:5, dataset:3, structure:7, upload:..."""
    kind: str
    """job, model, dataset, structure or upload."""
    name: str
    """Its name; empty where it is not there any more, or not to be seen."""
    about: str
    """The task of a job, the stage of a model."""
    level: int
    """Steps from the job: below 0 it comes from them, above 0 they come from it."""


class Lineage(Result):
    """A graph: data, models, results."""

    nodes: list[Node]
    """In the order of their levels."""
    edges: list[tuple[str, str]]
    """From what is read or was made by to what reads or was made."""


def lineage_of(session: Session, job: Job, user: User) -> Lineage:
    """The graph around a job: all that it comes from, and models, data sets, structures and jobs that come from it."""
    me = f"job:{job.id}"
    levels, edges, wait = {me: 0}, [], [me]
    while wait and len(levels) < MOST:
        at = wait.pop(0)
        for source in _sources(session, at, user):
            edges.append((source, at))
            if source not in levels:
                levels[source] = levels[at] - 1
                wait.append(source)
    for fresh, of in _made(session, job, user):
        if len(levels) < MOST and fresh not in levels:
            levels[fresh] = levels[of] + 1
            edges.append((of, fresh))
    nodes = [_node(session, reference, level, user) for reference, level in levels.items()]
    return Lineage(nodes=sorted(nodes, key=lambda n: (n.level, n.reference)), edges=list(dict.fromkeys(edges)))


def _sources(session: Session, reference: str, user: User) -> Iterator[str]:
    """What a thing was made of."""
    thing = _thing(session, reference, user)
    if isinstance(thing, Job):
        yield from dict.fromkeys(short(one["reference"]) for one in thing.inputs)
    elif isinstance(thing, StoredModel) and (thing.job_id or thing.parent_id):
        yield f"job:{thing.job_id}" if thing.job_id else f"model:{thing.parent_id}"
    elif isinstance(thing, Dataset):
        yield from dict.fromkeys(f"job:{v.job_id}" for v in thing.versions if v.job_id)
    elif isinstance(thing, StoredStructure) and thing.job_id:
        yield f"job:{thing.job_id}"


def _made(session: Session, job: Job, user: User) -> Iterator[tuple[str, str]]:
    """Models, data sets and structures of a job, and the jobs that read it or these: (what was made, of what)."""
    mine = {
        "model": sql.select(StoredModel.id).where(StoredModel.job_id == job.id, visible(StoredModel, user)),
        "dataset": sql.select(Dataset.id).where(
            Dataset.versions.any(DatasetVersion.job_id == job.id), visible(Dataset, user)
        ),
        "structure": sql.select(StoredStructure.id).where(
            StoredStructure.job_id == job.id, visible(StoredStructure, user)
        ),
    }
    made = [f"{kind}:{number}" for kind, query in mine.items() for number in session.scalars(query.limit(MOST))]
    yield from ((fresh, f"job:{job.id}") for fresh in made)
    inputs = sql.cast(Job.inputs, sql.String)
    for of in (f"job:{job.id}", *made):
        reads = sql.or_(*(inputs.contains(f'"reference":"{of}{end}', autoescape=True) for end in ('"', "/", "@")))
        query = sql.select(Job.id).where(Job.id > job.id, visible(Job, user), reads).order_by(Job.id.desc()).limit(MOST)
        yield from ((f"job:{number}", of) for number in session.scalars(query))


def short(reference: str) -> str:
    """A thing without its version and what is inside.

    >>> short("job:12/run/model.rutile"), short("dataset:3@2")
    ('job:12', 'dataset:3')
    """
    match = REFERENCE.fullmatch(reference)
    return f"{match[1]}:{match[2]}" if match else reference


def _thing(session: Session, reference: str, user: User) -> Any:
    kind, _, number = reference.partition(":")
    return found(session, KINDS[kind], int(number), user) if kind in KINDS and number.isdigit() else None


def _node(session: Session, reference: str, level: int, user: User) -> Node:
    thing = _thing(session, reference, user)
    about = getattr(thing, "task", None) or getattr(thing, "stage", None) or getattr(thing, "formula", None) or ""
    kind = reference.partition(":")[0]
    return Node(reference=reference, kind=kind, name=thing.name if thing else "", about=about, level=level)
