"""Relaxed structures and evaluated batches of a property, kept in the folder of its results until these are written.

A line of JSON for each, floats bit for bit, so that the same command goes on where it was killed, to the same numbers.
Keys are made of the question, so that lines of another question are merely not asked for.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from rutile.core.errors import FileError
from rutile.core.lock import alone_in
from rutile.core.reporting import Reporter

KEPT = ".kept.jsonl"
"""Name of the file."""
Arrays = Mapping[str, np.ndarray]


class KeptWork:
    """What is done in one folder."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / KEPT
        self.done: dict[str, Arrays] = {}

    @contextmanager
    def opened(self, reporter: Reporter) -> Iterator[None]:
        """Read what an earlier run kept, and keep other processes out of the folder meanwhile.

        Raises:
            FileError: it cannot be read or written, or another process is at work.
        """
        with alone_in(self.path.parent, reporter):
            try:
                self._read()
            except OSError as error:
                raise FileError(
                    f"cannot read {self.path}: {error.strerror or error}; remove it to begin anew"
                ) from None
            if self.done:
                reporter.info(f"going on: {len(self.done)} pieces of work of an earlier run are kept in {self.path}")
            yield

    def add(self, key: str, values: Arrays) -> None:
        """Keep one piece.

        Raises:
            FileError: it cannot be written; what was kept before stays.
        """
        line = json.dumps({"key": key, "values": {name: _packed(array) for name, array in values.items()}})
        try:
            with self.path.open("a", encoding="ascii") as file:
                file.write(line + "\n")
        except OSError as error:
            raise FileError(
                f"cannot write {self.path}: {error.strerror or error}; what was done before is kept there: make room, "
                "and run it again to go on"
            ) from None

    def _read(self) -> None:
        """All whole lines; the rest of the file, half written when a run was killed, is cut off."""
        if not self.path.exists():
            return
        whole = 0
        with self.path.open("rb") as file:
            for line in file:
                if not line.endswith(b"\n"):  # the next one would be written behind it
                    break
                try:
                    found = json.loads(line)
                    self.done[found["key"]] = {name: _unpacked(*v) for name, v in found["values"].items()}
                except (ValueError, KeyError, TypeError):
                    break
                whole += len(line)
        with self.path.open("ab") as file:
            file.truncate(whole)


class PartOf:
    """The part of what is kept that belongs to one potential, as a `simulate.keeper.Memory`.

    Args:
        work: all of it.
        potential: what tells it from others: contents of files, settings, which member of a committee.
    """

    def __init__(self, work: KeptWork, potential: str) -> None:
        self.work, self.potential = work, potential

    def recall(self, key: str) -> Arrays | None:
        """What was kept; None: nothing."""
        return self.work.done.get(f"{self.potential} {key}")

    def keep(self, key: str, values: Arrays) -> None:
        """Keep it."""
        self.work.add(f"{self.potential} {key}", values)


def _packed(array: np.ndarray) -> tuple[str, list[int], str]:
    """Type, shape and bytes of an array."""
    whole = np.ascontiguousarray(array)
    return whole.dtype.str, list(array.shape), base64.b64encode(whole.tobytes()).decode()


def _unpacked(kind: str, shape: list[int], data: str) -> np.ndarray:
    """An array."""
    return np.frombuffer(base64.b64decode(data), dtype=np.dtype(kind)).reshape(shape).copy()
