"""Labels by the content of the question: structure, settings that make the numbers, version of the engine.

One small file for each answer, written whole or not at all, in a folder that any number of processes may share: the
same structure is never computed twice, and a run that was killed goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from pydantic import JsonValue

from rutile.core.errors import FileError
from rutile.core.files import write_atomically
from rutile.label.labeler import Failure, Label
from rutile.label.settings import EngineBase

OF_FRAMES = ("kpoints", "charge", "multiplicity")
"""Entries of a frame that change its label."""
DIGITS = 9
"""Decimals of lengths (Angstrom) that count."""


def short_hash(value: JsonValue) -> str:
    """The same value, the same 16 characters."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def settings_hash(settings: EngineBase, version: str) -> str:
    """Names what makes the numbers: settings and version of the engine."""
    return short_hash([settings.identity(), version])


def key_of(atoms: Atoms, made_by: str) -> str:
    """Name of the label of a structure.

    Args:
        atoms: the structure; the order of atoms and the choice of cell count, labels do not.
        made_by: `settings_hash`.
    """
    extra = {k: np.asarray(atoms.info[k]).tolist() for k in OF_FRAMES if k in atoms.info}
    if atoms.has("initial_magmoms"):
        extra["initial_magmoms"] = atoms.get_initial_magnetic_moments().tolist()
    cell = np.where(np.asarray(atoms.pbc)[:, None], atoms.cell.array, 0.0)
    what = [
        made_by,
        atoms.numbers.tolist(),
        (np.round(atoms.positions, DIGITS) + 0.0).tolist(),
        (np.round(cell, DIGITS) + 0.0).tolist(),
        np.asarray(atoms.pbc).tolist(),
        extra,
    ]
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:32]


class LabelCache:
    """A folder of labels, and of failures."""

    def __init__(self, folder: Path) -> None:
        """Use a folder; it is made when the first label comes."""
        self.folder = folder

    def get(self, key: str) -> Label | None:
        """The label of that name; None where there is none, or where its file cannot be understood."""
        found = self._read(self._path(key))
        try:
            return None if found is None else _label(found)
        except (KeyError, TypeError, ValueError):
            return None

    def put(self, key: str, label: Label) -> None:
        """Keep a label.

        Raises:
            FileError: the folder cannot be written.
        """
        stress = None if label.stress is None else label.stress.tolist()
        what = {"energy": label.energy, "forces": label.forces.tolist(), "stress": stress}
        self._write(self._path(key), what | {"provenance": label.provenance})

    def failure(self, key: str, how: str) -> Failure | None:
        """Why there was no label when it was computed in that way."""
        found = self._read(self._path(key, how))
        try:
            return None if found is None else Failure(found["kind"], found["reason"], tuple(found["last_lines"]))
        except (KeyError, TypeError):
            return None

    def put_failure(self, key: str, how: str, failure: Failure) -> None:
        """Keep why there is no label.

        Args:
            key: of the structure.
            how: names how the engine was run (time limit, command), so that another way is tried.
            failure: what happened.

        Raises:
            FileError: the folder cannot be written.
        """
        what = {"kind": failure.kind, "reason": failure.reason, "last_lines": list(failure.last_lines)}
        self._write(self._path(key, how), what)

    def _path(self, key: str, how: str = "") -> Path:
        return self.folder / key[:2] / (f"{key}.{how}.failed.json" if how else f"{key}.json")

    def _write(self, path: Path, what: dict[str, Any]) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise FileError(f"cannot make {path.parent}: {error.strerror or error}; choose another cache=...") from None
        write_atomically(path, json.dumps(what).encode())

    def _read(self, path: Path) -> dict[str, Any] | None:
        try:
            found = json.loads(path.read_bytes())
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) else None


def _label(found: dict[str, Any]) -> Label:
    forces = np.array(found["forces"], dtype=np.float64).reshape(-1, 3)
    stress = None if found["stress"] is None else np.array(found["stress"], dtype=np.float64)
    return Label(float(found["energy"]), forces, stress, dict(found["provenance"]))
