"""All that happens in an adaptive search, in the order in which it happened: it goes on from this alone.

One JSON object in each line: what the search is, then `gave` (work for a worker, with all that makes it) and `came`
(what the worker brought). A line that was cut off by a kill is dropped: what was given then was never begun, and what
came is done again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
from ase import Atoms

from rutile.core.executors.executor import Lost
from rutile.search.adaptive import Adaptive
from rutile.search.adaptive_items import (
    Answer,
    Errors,
    Group,
    Item,
    Kind,
    Lesson,
    Outcome,
    Question,
    Scored,
    Trained,
)
from rutile.search.individual import from_json, to_json
from rutile.search.log import Journal, candidate_of, candidate_record, relaxed_of, relaxed_record

LABELS = ("REF_energy", "REF_stress", "calc_mode", "code")
"""What frames with labels have besides atoms and REF_forces."""


class AdaptiveLog(Journal):
    """The log of one adaptive search; arguments and errors are those of `Journal`."""

    def replay(self, search: Adaptive) -> int:
        """Bring a fresh search to where the log ends; gives how many events there were."""
        events = 0
        for _, line in self.events():
            events += 1
            if "gave" in line:
                event = line["gave"]
                search.begin(event["kind"], event["number"], _item(event, search))
            else:
                event = line["came"]
                search.receive(event["kind"], event["number"], _outcome(event))
        search.resume()
        return events

    def gave(self, kind: Kind, number: int, item: Item, seconds: float) -> None:
        """Write down that work is given away, before it is.

        Args:
            kind: of the work.
            number: of the work.
            item: the work.
            seconds: when, by the clock of the driver (s), for people.
        """
        self.add({"gave": {"kind": kind, "number": number, "at": round(seconds, 3)} | _of_item(item)})

    def came(self, kind: Kind, number: int, outcome: Outcome | Lost, seconds: float) -> None:
        """Write down what came of it, before the search sees it; arguments as those of `gave`."""
        self.add({"came": {"kind": kind, "number": number, "at": round(seconds, 3)} | _of_outcome(outcome)})


def _of_item(item: Item) -> dict[str, Any]:
    if isinstance(item, Group):
        return {"version": item.version, "model": item.model, "made": [candidate_record(c) for c in item.candidates]}
    if isinstance(item, Question):
        return {
            "label": item.label, "structure": item.structure, "why": item.why, "version": item.version,
            "energy": _plain(item.energy), "spread": item.spread, "atoms": frame_record(item.atoms),
        }  # fmt: skip
    return {"version": item.version, "start": item.start, "model": item.model, "new": item.new, "old": item.old}


def _item(event: Mapping[str, Any], search: Adaptive) -> Item:
    if event["kind"] == "search":
        return Group(event["version"], event["model"], tuple(candidate_of(c) for c in event["made"]))
    if event["kind"] == "label":
        return Question(
            event["label"], event["structure"], frame_of(event["atoms"]), event["why"], event["version"],
            _number(event["energy"]), event["spread"],
        )  # fmt: skip
    new, old = tuple(event["new"]), tuple(event["old"])
    return search.equipped(Lesson(event["version"], event["start"], event["model"], new, old))


def _of_outcome(outcome: Outcome | Lost) -> dict[str, Any]:
    if isinstance(outcome, Lost):
        return {"lost": outcome.reason}
    if isinstance(outcome, Answer):
        return {
            "frame": None if outcome.frame is None else frame_record(outcome.frame), "energy": _plain(outcome.energy),
            "force": _plain(outcome.force), "failure": outcome.failure, "cost": outcome.cost,
        }  # fmt: skip
    if isinstance(outcome, Trained):
        errors = {k: [_plain(x) for x in asdict(getattr(outcome, k)).values()] for k in _ERRORS}
        energies = [(n, _plain(e)) for n, e in outcome.energies]
        known = {"model": outcome.model, "frames": outcome.frames, "failure": outcome.failure}
        return known | {"energies": energies} | errors
    return {"done": [relaxed_record(n, s.relaxed) | {"spread": _plain(s.spread)} for n, s in outcome]}


_ERRORS = ("old_before", "old_after", "new_before", "new_after")


def _outcome(event: Mapping[str, Any]) -> Outcome | Lost:
    if "lost" in event:
        return Lost(event["lost"])
    if event["kind"] == "label":
        frame = None if event["frame"] is None else frame_of(event["frame"])
        return Answer(frame, _number(event["energy"]), _number(event["force"]), event["failure"], event["cost"])
    if event["kind"] == "train":
        errors = {k: Errors(*map(_number, event[k])) for k in _ERRORS}
        energies = tuple((n, _number(e)) for n, e in event["energies"])
        return Trained(event["model"], event["frames"], failure=event.get("failure", ""), energies=energies, **errors)
    return [(d["number"], Scored(relaxed_of(d), _number(d["spread"]))) for d in event["done"]]


def frame_record(atoms: Atoms) -> dict[str, Any]:
    """A structure with its labels as JSON values, to the last digit."""
    out = to_json(atoms)
    if "REF_forces" in atoms.arrays:
        out["REF_forces"] = atoms.arrays["REF_forces"].tolist()
    return out | {k: np.asarray(atoms.info[k]).tolist() for k in LABELS if k in atoms.info}


def frame_of(known: dict[str, Any]) -> Atoms:
    """The same again."""
    atoms = from_json(known)
    atoms.info |= {k: np.array(known[k]) if isinstance(known[k], list) else known[k] for k in LABELS if k in known}
    if "REF_forces" in known:
        atoms.arrays["REF_forces"] = np.array(known["REF_forces"]).reshape(-1, 3)
    return atoms


def _plain(x: float) -> float | None:
    """NaN and infinity are no JSON."""
    return float(x) if math.isfinite(x) else None


def _number(x: float | None) -> float:
    return math.nan if x is None else x
