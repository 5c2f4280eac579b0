"""What the log of an adaptive search says about its book-keeping: is anything lost, or done twice?"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from rutile.search.adaptive_settings import AdaptiveSettings
from rutile.search.log import records


def audit(path: Path, tries: int = AdaptiveSettings.model_fields["tries"].default) -> dict[str, int]:
    """Counts of a log; all but the first five are 0 where nothing went wrong and the search has ended.

    Args:
        path: adapt.jsonl.
        tries: a label whose workers were lost so many times was given up, and counts as that.

    Raises:
        FileError: the log cannot be read.
    """
    given: Counter[tuple[str, int]] = Counter()
    came: Counter[tuple[str, int]] = Counter()
    labels: Counter[tuple[int, bool]] = Counter()
    relaxed: Counter[tuple[int, int]] = Counter()
    versions: dict[int, int] = {}
    made: set[int] = set()
    lost: Counter[tuple[str, int]] = Counter()
    orphans = unasked = 0
    for _, record, _ in records(path):
        if "gave" in record:
            event = record["gave"]
            key = event["kind"], event["number"]
            again, given[key] = key in given, given[key] + 1
            if event["kind"] == "search":
                versions[event["number"]] = event["version"]
                orphans += sum(p not in made for c in event["made"] for p in c["parents"])
                made |= {c["number"] for c in event["made"]}
            elif event["kind"] == "label":
                made.add(event["structure"])
                labels[event["label"], event["why"] == "final"] += not again
        elif "came" in record:
            event = record["came"]
            key = event["kind"], event["number"]
            unasked += key not in given
            if "lost" in event:
                lost[key] += 1
                continue
            came[key] += 1
            for one in event.get("done", ()):
                relaxed[one["number"], versions[event["number"]]] += 1
    given_up = {key for key, n in lost.items() if n >= tries and key not in came}
    return {
        "labels": sum(k == "label" for k, _ in came), "versions": sum(k == "train" for k, _ in came),
        "relaxations": sum(relaxed.values()), "workers_lost": lost.total(),
        "labels_given_up": sum(k == "label" for k, _ in given_up),
        "labels_not_done": sum(k == "label" and (k, n) not in came.keys() | given_up for k, n in given),
        "structures_missing": len(set(range(max(made, default=-1) + 1)) - made), "orphans": orphans,
        "not_asked_for": unasked, "came_twice": sum(n > 1 for n in came.values()),
        "labelled_twice": sum(n > 1 for n in labels.values()),
        "relaxed_twice_on_a_version": sum(n > 1 for n in relaxed.values()),
    }  # fmt: skip
