"""What a list of models says of each: its errors on the set that says most, its speed, and which version it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sql
from sqlalchemy.orm import Session

from rutile.jobs.tables import StoredModel

SPEED = "atoms_per_second"
"""What evaluations note beside errors."""
LISTED = {"energy_rmse": "energy_rmse", "force_rmse": "force_rmse", "speed": SPEED}
"""Column of the table -> name among the values of a set."""
OWN = {"train": 0, "valid": 1, "test": 2}
"""Sets that training itself made of its data, and how much errors on them say."""


def best_known(metrics: Sequence[dict[str, Any]], trained_on: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Of each listed value the measurement that says most, of equal ones the newest.

    Errors on a set that the model was not trained on say most, then those on the test set of its training, then on the
    validation set, then on what it was trained on. A speed is the newest one, on whatever set.

    Args:
        metrics: of the model, oldest first: {"set", "job", "values"}.
        trained_on: references of its training data.

    Returns:
        Column of the table -> that measurement; columns of which nothing is known are left out.
    """
    data = {_thing(reference) for reference in trained_on}
    out = {}
    for column, name in LISTED.items():
        having = [one for one in metrics if one["values"].get(name) is not None]
        if having:
            out[column] = max(reversed(having), key=lambda one: 0 if name == SPEED else _says(one["set"], data))
    return out


def note_known(model: StoredModel) -> None:
    """Write what is listed into the columns by which lists are ordered."""
    known = best_known(model.metrics, [one["reference"] for one in model.datasets])
    for column, name in LISTED.items():
        setattr(model, column, known[column]["values"][name] if column in known else None)


def next_version(session: Session, owner: int, name: str) -> int:
    """The number of a new model among those of one owner that have one name; the first is 1."""
    same = (StoredModel.owner_id == owner, StoredModel.name == name)
    return (session.scalar(sql.select(sql.func.max(StoredModel.version)).where(*same)) or 0) + 1


def _says(references: str, data: set[str]) -> int:
    """How much errors on a set say."""
    if references in OWN:
        return OWN[references]
    return 0 if data & {_thing(reference) for reference in references.split(", ")} else len(OWN)


def _thing(reference: str) -> str:
    """A reference without the version: dataset:3@2 is dataset:3."""
    return reference.partition("@")[0]
