"""What long calculations of properties keep as they go, so that one that was stopped goes on.

Relaxed structures and evaluated batches are the costly parts of every property. Where a task has named a keeper,
`relax` and `evaluate_many` ask it first and give it all that they have done; drivers between them need not know.
Letters of shapes: N atoms.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol

import numpy as np
from torch import Tensor

from rutile.core.settings import Settings
from rutile.structures.structures import Structures

Arrays = Mapping[str, np.ndarray]


class Keeper(Protocol):
    """Keeps arrays by key for one potential; keys of different questions differ."""

    def recall(self, key: str) -> Arrays | None:
        """What was kept; None: nothing."""

    def keep(self, key: str, values: Arrays) -> None:
        """Keep it."""


_open: ContextVar[Keeper | None] = ContextVar("keeper", default=None)


@contextmanager
def keeping(by: Keeper) -> Iterator[None]:
    """Relaxations and evaluations inside are kept; all of them must be by one potential."""
    token = _open.set(by)
    try:
        yield
    finally:
        _open.reset(token)


def keeper() -> Keeper | None:
    """The one that was named in this thread."""
    return _open.get()


def key_of(what: str, structures: Structures, fixed: Tensor | None = None, settings: Settings | None = None) -> str:
    """Hash of a question: the same question, bit for bit, has the same key.

    Args:
        what: is done.
        structures: to which.
        fixed: atoms that do not move, [N] bool.
        settings: how; the size of batches does not matter.
    """
    digest = hashlib.sha256(what.encode())
    digest.update(settings.model_dump_json(exclude={"atoms_at_once"}).encode() if settings is not None else b"")
    s = structures
    for tensor in (s.numbers, s.positions, s.cell, s.pbc, s.system, *([] if fixed is None else [fixed])):
        digest.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().numpy().tobytes())
    return digest.hexdigest()[:32]
