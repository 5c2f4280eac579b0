"""The work on one structure: an engine, tried twice, that stays for the next structure."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from ase import Atoms

from rutile.label.catalogue import make
from rutile.label.labeler import AGAIN, Failure, Label, Labeler, Outcome
from rutile.label.settings import EngineBase

_mine = threading.local()
_all: list[Labeler] = []
_lock = threading.Lock()


@dataclass(frozen=True)
class Work:
    """Labels a structure; with one engine for each thread that does so."""

    settings: EngineBase
    """Of the engine."""

    def __call__(self, atoms: Atoms) -> Outcome:
        """The label or why there is none; a failure that may be luck is tried once more with safer settings."""
        labeler = self._labeler()
        refused = labeler.refuse(atoms)
        if refused is not None:
            return refused
        first = labeler.label(atoms)
        if isinstance(first, Label) or first.kind not in AGAIN:
            return first
        second = labeler.label(atoms, safer=True)
        if isinstance(second, Failure):
            return Failure(second.kind, f"{second.reason} (also with safer settings)", second.last_lines)
        return Label(second.energy, second.forces, second.stress, second.provenance | {"tries": 2})

    def _labeler(self) -> Labeler:
        """The engine of this thread."""
        kept: dict[str, Labeler] = _mine.__dict__.setdefault("labelers", {})
        key = self.settings.model_dump_json()
        if key not in kept:
            kept[key] = make(self.settings)
            with _lock:
                _all.append(kept[key])
        return kept[key]


def close_all() -> None:
    """End all engines that threads of this process keep; they start again when there is work."""
    with _lock:
        labelers = list(_all)
        _all.clear()
    _mine.__dict__.clear()
    for labeler in labelers:
        labeler.close()
