"""All that happens in a search, in the order in which it happened: a search goes on from its log alone.

One JSON object in each line: first what the search is, then `made` (a structure that was given, or of whom one is to be
made, and by which operators) and `done` (what was made, and what became of it). A line that was cut off by a kill is
dropped. In older logs structures are made already in `made`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rutile.core.errors import FileError, SettingsError
from rutile.search.genetic import Genetic
from rutile.search.individual import Candidate, Order, Relaxed, Way, from_json, to_json
from rutile.search.past import Past
from rutile.simulate.md.growing_file import GrowingFile


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
        first = next(records(path), None)
        plain = json.loads(json.dumps(identity))
        given = plain if unusual is None else json.loads(json.dumps(unusual))
        if first is not None and (changed := _changed(first[1].get("search", {}), plain, given)):
            raise SettingsError(
                f"{path} is of another search ({', '.join(changed)} changed): give the settings it "
                "had, or another folder as out="
            )
        self._file: GrowingFile | None = None
        if first is None:
            self._file = GrowingFile(path)
            self.add({"search": identity})

    def events(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """What was there before, with its places (bytes), one after another; to be read to the end before `add`.

        Raises:
            FileError: it cannot be read.
        """
        if self._file is not None:
            return
        size = 0
        for place, record, end in records(self.path):
            if place:  # the first says what the search is
                yield place, record
            size = end
        self._file = GrowingFile(self.path, size)

    def add(self, record: Mapping[str, Any]) -> int:
        """Write down a record; gives its place (bytes).

        Raises:
            FileError: it cannot be written.
        """
        assert self._file is not None, "events that were there are read first"
        place = self._file.size
        self._file.add(json.dumps(record) + "\n")
        return place


class Log(Journal):
    """The log of one search; arguments and errors are those of `Journal`."""

    def __init__(self, path: Path, identity: Mapping[str, Any], unusual: Mapping[str, Any] | None = None) -> None:
        super().__init__(path, identity, unusual)
        self.past = Past(lambda place: from_json(record_at(path, place)["done"]["atoms"]))
        """What was relaxed."""

    def replay(self, search: Genetic) -> None:
        """Bring a fresh search to where the log ends."""
        for place, record in self.events():
            if "made" in record:
                search.begin(begun_of(record["made"]))
            else:
                one = record["done"]
                self._receive(search, made_of(one, search.waiting[one["number"]]), relaxed_of(one), place)
        for number, one in search.waiting.items():
            if isinstance(one, Order):
                parents = {n: self.past.atoms(n) for way in one.ways for n in way.parents}
                search.waiting[number] = replace(one, parents=parents)

    def made(self, group: Sequence[Order | Candidate]) -> None:
        """Write down what was made, or of whom it is made, before it is given to anybody."""
        for one in group:
            self.add({"made": begun_record(one)})

    def done(self, search: Genetic, results: Sequence[tuple[Candidate, Relaxed]]) -> None:
        """Write down what came of some structures, and have the search receive it."""
        for child, r in results:
            ordered = isinstance(search.waiting[child.number], Order)
            record = relaxed_record(child.number, r) | ({"made": candidate_record(child)} if ordered else {})
            self._receive(search, child, r, self.add({"done": record}))

    def _receive(self, search: Genetic, c: Candidate, r: Relaxed, place: int) -> None:
        self.past.add(c.number, c.operator, c.parents, r.energy, r.failure, r.atoms.numbers, place)
        search.settle(c)
        search.receive([(c.number, r)])


def past_of(path: Path) -> Past:
    """What was relaxed, of a log that is only read: its search may be at work.

    Raises:
        FileError: it cannot be read.
    """
    past = Past(lambda place: from_json(record_at(path, place)["done"]["atoms"]))
    begun: dict[int, Order | Candidate] = {}
    for place, record, _ in records(path):
        if "made" in record:
            one = begun_of(record["made"])
            begun[one.number] = one
        elif "done" in record:
            number, r = record["done"]["number"], relaxed_of(record["done"])
            c = made_of(record["done"], begun.pop(number))
            past.add(number, c.operator, c.parents, r.energy, r.failure, r.atoms.numbers, place)
    return past


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


def records(path: Path) -> Iterator[tuple[int, dict[str, Any], int]]:
    """Place of each whole record of a file (bytes), the record, and where it ends; a file that is not there has none.

    Raises:
        FileError: it cannot be read.
    """
    if not path.exists():
        return
    place = 0
    try:
        with path.open("rb") as file:
            for line in file:
                end = place + len(line)
                if not line.endswith(b"\n"):
                    return
                yield place, json.loads(line), end
                place = end
    except ValueError:
        return  # the rest was cut off
    except OSError as error:
        raise FileError(f"cannot read {path}: {error.strerror or error}") from None


def record_at(path: Path, place: int) -> dict[str, Any]:
    """The record that begins at a place (bytes).

    Raises:
        FileError: it cannot be read, or has changed since.
    """
    try:
        with path.open("rb") as file:
            file.seek(place)
            found: dict[str, Any] = json.loads(file.readline())
            return found
    except OSError as error:
        raise FileError(f"cannot read {path}: {error.strerror or error}") from None
    except ValueError:
        raise FileError(f"{path} was changed while the search ran: byte {place} begins no record") from None


def begun_record(one: Order | Candidate) -> dict[str, Any]:
    """What was made, or of whom it is made, as JSON values."""
    if isinstance(one, Candidate):
        return candidate_record(one)
    return {"number": one.number, "ways": [[way.operator, way.parents, way.times] for way in one.ways]}


def begun_of(known: Mapping[str, Any]) -> Order | Candidate:
    """The same again; an order without the parents."""
    if "ways" not in known:
        return candidate_of(known)
    ways = tuple(Way(operator, tuple(parents), times) for operator, parents, times in known["ways"])
    return Order(known["number"], ways)


def made_of(known: Mapping[str, Any], begun: Order | Candidate) -> Candidate:
    """What was made of it."""
    return begun if isinstance(begun, Candidate) else candidate_of(known["made"])


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
