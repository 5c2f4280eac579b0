"""All that happens in a search, in the order in which it happened: a search goes on from its log alone.

One JSON object in each line: first what the search is, then `made` (a structure that was made, with its parents and
operator) and `done` (what became of it). A line that was cut off by a kill is dropped.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rutile.core.errors import FileError, SettingsError
from rutile.search.genetic import Genetic
from rutile.search.individual import Candidate, Relaxed, from_json, to_json
from rutile.simulate.md.growing_file import GrowingFile


@dataclass(frozen=True)
class Done:
    """A relaxed structure as the log knows it."""

    candidate: Candidate
    relaxed: Relaxed


class Log:
    """The log of one search.

    Args:
        path: of the file.
        identity: what decides about the search; a log of another one is refused.

    Raises:
        SettingsError: the file is that of another search.
        FileError: it cannot be read or written.
    """

    def __init__(self, path: Path, identity: Mapping[str, Any]) -> None:
        self.path = path
        known, size = _read(path)
        if known and known[0] != {"search": json.loads(json.dumps(identity))}:
            changed = sorted(k for k, v in identity.items() if known[0].get("search", {}).get(k) != v)
            raise SettingsError(
                f"{path} is of another search ({', '.join(changed) or 'other settings'} changed): give the settings it "
                "had, or another folder as out="
            )
        self.known = known[1:]
        self._file = GrowingFile(path, size if known else None)
        if not known:
            self._file.add(json.dumps({"search": identity}) + "\n")

    def replay(self, search: Genetic) -> list[Done]:
        """Bring a fresh search to where the log ends; gives what was relaxed."""
        done = []
        for line in self.known:
            if "made" in line:
                search.begin(_candidate(line["made"]))
            else:
                one = line["done"]
                candidate, relaxed = search.waiting[one["number"]], _relaxed(one)
                done.append(Done(candidate, relaxed))
                search.receive([(one["number"], relaxed)])
        self.known = []
        return done

    def made(self, candidates: Sequence[Candidate]) -> None:
        """Write down what was made, before it is given to anybody."""
        for c in candidates:
            record = {"number": c.number, "operator": c.operator, "parents": c.parents, "atoms": to_json(c.atoms)}
            self._file.add(json.dumps({"made": record}) + "\n")

    def done(self, results: Sequence[tuple[int, Relaxed]]) -> None:
        """Write down what came of some structures."""
        for number, r in results:
            record = {
                "number": number, "energy": r.energy if not r.failure else None, "failure": r.failure,
                "steps": r.steps, "atoms": to_json(r.atoms),
            }  # fmt: skip
            self._file.add(json.dumps({"done": record}) + "\n")


def _read(path: Path) -> tuple[list[dict[str, Any]], int]:
    """Whole lines of a log, and their bytes."""
    if not path.exists():
        return [], 0
    out, size = [], 0
    try:
        for line in _lines(path):
            out.append(json.loads(line))
            size += len(line)
    except ValueError:
        pass  # the rest was cut off
    except OSError as error:
        raise FileError(f"cannot read {path}: {error.strerror or error}") from None
    return out, size


def _lines(path: Path) -> Iterator[bytes]:
    """Lines that end."""
    with path.open("rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                yield line


def _candidate(known: dict[str, Any]) -> Candidate:
    return Candidate(known["number"], from_json(known["atoms"]), known["operator"], tuple(known["parents"]))


def _relaxed(known: dict[str, Any]) -> Relaxed:
    energy = float("nan") if known["energy"] is None else float(known["energy"])
    return Relaxed(from_json(known["atoms"]), energy, known["failure"], known["steps"])
