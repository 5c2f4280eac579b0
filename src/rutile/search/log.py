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


class Journal:
    """A file of records that begins with what they are about.

    Args:
        path: of the file.
        identity: what decides about the search; a log of another one is refused.
        unusual: the part of it that is no default: what an older log does not tell may have its default. Default: all.

    Raises:
        SettingsError: the file is that of another search.
        FileError: it cannot be read or written.
    """

    def __init__(self, path: Path, identity: Mapping[str, Any], unusual: Mapping[str, Any] | None = None) -> None:
        self.path = path
        known, size = _read(path)
        plain = json.loads(json.dumps(identity))
        given = plain if unusual is None else json.loads(json.dumps(unusual))
        if known and (changed := _changed(known[0].get("search", {}), plain, given)):
            raise SettingsError(
                f"{path} is of another search ({', '.join(changed)} changed): give the settings it "
                "had, or another folder as out="
            )
        self.known = known[1:]
        """Records that were there; those who use them forget them."""
        self._file = GrowingFile(path, size if known else None)
        if not known:
            self.add({"search": identity})

    def add(self, record: Mapping[str, Any]) -> None:
        """Write down a record.

        Raises:
            FileError: it cannot be written.
        """
        self._file.add(json.dumps(record) + "\n")


class Log(Journal):
    """The log of one search; arguments and errors are those of `Journal`."""

    def replay(self, search: Genetic) -> list[Done]:
        """Bring a fresh search to where the log ends; gives what was relaxed."""
        done = []
        for line in self.known:
            if "made" in line:
                search.begin(candidate_of(line["made"]))
            else:
                one = line["done"]
                candidate, relaxed = search.waiting[one["number"]], relaxed_of(one)
                done.append(Done(candidate, relaxed))
                search.receive([(one["number"], relaxed)])
        self.known = []
        return done

    def made(self, candidates: Sequence[Candidate]) -> None:
        """Write down what was made, before it is given to anybody."""
        for c in candidates:
            self.add({"made": candidate_record(c)})

    def done(self, results: Sequence[tuple[int, Relaxed]]) -> None:
        """Write down what came of some structures."""
        for number, r in results:
            self.add({"done": relaxed_record(number, r)})


def _changed(known: Mapping[str, Any], now: Mapping[str, Any], unusual: Mapping[str, Any]) -> list[str]:
    """Names of what is not as it was; of what is not known from then, that is no default."""
    out = set(known) - set(now)
    for name, value in now.items():
        then = known.get(name)
        if name not in known:
            out |= {name} & set(unusual)
        elif isinstance(then, dict) and isinstance(value, dict):
            out |= {name} if _changed(then, value, unusual.get(name, {})) else set()
        elif then != value:
            out.add(name)
    return sorted(out)


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


def candidate_record(c: Candidate) -> dict[str, Any]:
    """A candidate as JSON values."""
    return {"number": c.number, "operator": c.operator, "parents": c.parents, "atoms": to_json(c.atoms)}


def candidate_of(known: Mapping[str, Any]) -> Candidate:
    """The candidate again."""
    return Candidate(known["number"], from_json(known["atoms"]), known["operator"], tuple(known["parents"]))


def relaxed_record(number: int, r: Relaxed) -> dict[str, Any]:
    """What became of a candidate as JSON values."""
    return {
        "number": number, "energy": r.energy if not r.failure else None, "failure": r.failure,
        "steps": r.steps, "atoms": to_json(r.atoms),
    }  # fmt: skip


def relaxed_of(known: Mapping[str, Any]) -> Relaxed:
    """The same again."""
    energy = float("nan") if known["energy"] is None else float(known["energy"])
    return Relaxed(from_json(known["atoms"]), energy, known["failure"], known["steps"])
