"""What should be looked at before a job is submitted: elements and stress that a potential does not know, quotas."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel
from sqlalchemy.orm import Session

from rutile.core.elements import symbol
from rutile.jobs import queue
from rutile.jobs.references import REFERENCE, references_in
from rutile.jobs.rights import found
from rutile.jobs.tables import Dataset, StoredModel, StoredStructure, User
from rutile.potentials.named import ELEMENTS

TEACHING = ("train", "retrain", "tune")
"""Tasks that learn from labels."""


@dataclass
class _Read:
    """What a job reads."""

    potentials: list[tuple[str, set[str]]] = field(default_factory=list)
    """Potentials and what they lack, in words, and the elements that they are for; none: any."""
    models: list[StoredModel] = field(default_factory=list)
    parts: list[tuple[str, str, set[str]]] = field(default_factory=list)
    """Settings, names of structures or data, and their elements."""
    data: list[tuple[str, str, int, int]] = field(default_factory=list)
    """Settings, names of data sets, their periodic structures, and how many of these have stress."""


def cautions(session: Session, user: User, task: str, given: dict[str, Any], full: BaseModel | None) -> list[str]:
    """What should be looked at, one line each.

    Args:
        session: that reads.
        user: who asks.
        task: name of it.
        given: settings, with references.
        full: the same with defaults; None: they are wrong.
    """
    read = _read(session, user, given)
    over = queue.over_quota(session, user)
    return [*_strange(read), *_without_stress(read, task, full), *([f"the job would be held: {over}"] if over else [])]


def moves_cells(settings: BaseModel) -> bool:
    """Whether settings, or a part of them, let cells change."""
    if getattr(type(settings), "MOVES_CELL", False):
        return True
    for name, value in settings:
        if isinstance(value, BaseModel) and moves_cells(value):
            return True
        if (name == "cell" and value not in ("none", False)) or (name == "relax" and value is True):
            return True
    return False


def _read(session: Session, user: User, given: dict[str, Any]) -> _Read:
    """Models, structures and data sets that a user may see, of those that settings name."""
    out = _Read()
    named = given.get("model")
    if isinstance(named, str) and ELEMENTS.get(named):
        out.potentials.append((f"{named} is not made for", {symbol(z) for z in ELEMENTS[named]}))
    for key, reference in references_in(given):
        match = REFERENCE.fullmatch(reference)
        assert match is not None
        kind, number = match[1], match[2]
        if not number.isdigit():
            continue
        if kind == "model" and (model := found(session, StoredModel, int(number), user)):
            out.potentials.append((f"{model.name} does not know", set(model.elements)))
            out.models.append(model)
        elif kind == "structure" and (one := found(session, StoredStructure, int(number), user)):
            out.parts.append((key, one.name, set(one.elements)))
        elif kind == "dataset" and (data := found(session, Dataset, int(number), user)) and data.versions:
            newest = data.versions[-1]
            out.parts.append((key, data.name, set(newest.summary.get("elements", {}))))
            labelled = newest.summary.get("labels", {}).get("stress", 0)
            out.data.append((key, data.name, newest.summary.get("periodic", labelled), labelled))
    return out


def _strange(read: _Read) -> Iterator[str]:
    """Elements that potentials do not know."""
    for lacks, known in read.potentials:
        for key, part, elements in read.parts:
            strange = sorted(elements - known) if known else []
            if strange:
                yield f"{key}: {part} holds {', '.join(strange)}, which the potential {lacks}"


def _without_stress(read: _Read, task: str, full: BaseModel | None) -> Iterator[str]:
    """Labels of stress that are not there, where they would matter."""
    if full is not None and moves_cells(full):
        for model in read.models:
            values = [one["values"] for one in model.metrics]
            if values and not any("stress_rmse" in one for one in values):
                yield (
                    f"the potential {model.name} has learned no stress: cells that change may come out wrong; "
                    "compare some with the reference first"
                )
    for key, name, periodic, labelled in read.data if task in TEACHING else ():
        if labelled < periodic:
            yield (
                f"{key}: {name} has stress for {labelled or 'none'} of {periodic} periodic structures: what learns "
                "from it knows little of how cells resist, so do not trust it where cells change"
            )
