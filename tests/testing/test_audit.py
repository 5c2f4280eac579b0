"""What an audit of an adaptive search finds in logs that are in order, and in logs that are not."""

from __future__ import annotations

import json

import pytest

from rutile.testing.audit import audit


def given(kind, number, **more):
    return {"gave": {"kind": kind, "number": number, **more}}


def came(kind, number, **more):
    return {"came": {"kind": kind, "number": number, **more}}


LABEL = {"structure": 0, "label": 0, "why": "low"}
GROUP = {"version": 0, "made": [{"number": 1, "parents": [0]}]}
SOUND = [
    {"search": {}}, given("label", 0, **LABEL), came("label", 0), given("train", 0), came("train", 0),
    given("search", 0, **GROUP), came("search", 0, done=[{"number": 1}]),
]  # fmt: skip
FAULTS = {
    "labels_not_done": [given("label", 1, structure=1, label=1, why="low"), came("label", 1, lost="killed")],
    "structures_missing": [given("label", 1, structure=3, label=1, why="low"), came("label", 1)],
    "orphans": [given("search", 1, version=0, made=[{"number": 2, "parents": [7]}]), came("search", 1, done=[])],
    "not_asked_for": [came("train", 5)],
    "came_twice": [came("train", 0)],
    "labelled_twice": [given("label", 1, **LABEL), came("label", 1)],
    "relaxed_twice_on_a_version": [given("search", 1, version=0, made=[]), came("search", 1, done=[{"number": 1}])],
}


def audited(folder, lines):
    path = folder / "adapt.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return audit(path, tries=2)


def test_a_sound_log_has_no_fault(tmp_path):
    found = audited(tmp_path, SOUND)
    assert (found["labels"], found["versions"], found["relaxations"]) == (1, 1, 1)
    assert not any(found[name] for name in (*FAULTS, "labels_given_up", "workers_lost"))


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_found_and_no_other(tmp_path, fault):
    found = audited(tmp_path, SOUND + FAULTS[fault])
    assert found[fault] > 0
    assert not any(found[name] for name in FAULTS if name != fault)


def test_a_label_that_was_tried_as_often_as_allowed_is_given_up_and_not_lost(tmp_path):
    lost = [given("label", 1, structure=1, label=1, why="low"), came("label", 1, lost="killed")]
    found = audited(tmp_path, SOUND + 2 * lost)
    assert (found["labels_given_up"], found["labels_not_done"], found["workers_lost"]) == (1, 0, 2)
