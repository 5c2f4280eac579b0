"""The page about an adaptive search, also while it goes on: lowest label, parity, versions, who worked when, table."""

from __future__ import annotations

import json
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rutile.search.adaptive import Adaptive
from rutile.search.adaptive_judge import good
from rutile.search.results import lineage
from rutile.tasks.property import table_of
from rutile.tasks.property_figures import Line, panel
from rutile.tasks.search_page import MOST_ANCESTORS
from rutile.tasks.search_start import named
from rutile.train.report import Block, Card, Facts, Figures, Section, Table, Text, Value, render

if TYPE_CHECKING:
    from rutile.tasks.adapt import AdaptSettings
    from rutile.tasks.adapt_results import Shown

SHOWN = 1.0
"""Figures reach so far above the lowest label (eV/atom)."""
COLUMNS = ("structure", "name", "symmetry", "energy", "above", "potential", "relaxed", "atoms", "volume", "why")
VERSION_COLUMNS = ("version", "learned", "frames", "new_energy_before", "new_energy", "old_energy", "correlation",
                   "lowest", "rejected")  # fmt: skip
COLOURS = {"search": 0, "label": 1, "train": 2}


def page(settings: AdaptSettings, adaptive: Adaptive, found: Shown, log: Path) -> str:
    """The whole page.

    Args:
        settings: of the task.
        adaptive: the search, where it is.
        found: rows and structures, lowest first, at least one.
        log: what happened when.
    """
    from rutile.tasks.adapt_results import version_rows

    best, versions = found[0][0], version_rows(adaptive)
    newest = adaptive.version
    rank = "" if newest is None or np.isnan(newest.correlation) else f"{newest.correlation:.2f}"
    cards = [
        Card("lowest label", f"{best.energy:.4f}", f"eV/atom, {best.name or best.symmetry or 'no symmetry'}"),
        Card("labels", str(adaptive.cost), f"{adaptive.answered} structures, {len(adaptive.finals)} relaxed further"),
        Card("relaxations", str(adaptive.relaxed), f"on the potential, {adaptive.failed} failed"),
        Card("versions", str(len(versions)), f"rank correlation {rank}" if rank else ""),
    ]
    sections = [
        Section("Progress", [Figures([(_lowest(adaptive), ""), (_parity(adaptive), ""), (_errors(adaptive), "")])]),
        Section("Different structures, lowest label first", table_of([row for row, _ in found], COLUMNS)),
        Section("Versions of the potential", table_of(versions, VERSION_COLUMNS)) if versions else Section("", []),
        Section("Who worked when", [Figures([(_timeline(log), "")]), _busy(log)]),
        Section("Ancestry of the lowest", _ancestry(adaptive, best.structure)),
        Section("Settings", [Facts(settings.model_dump(mode="json", exclude_unset=True), "settings that were given")]),
    ]
    subtitle = adaptive.ended or "The search goes on; this page is written again now and then."
    title = f"Adaptive search for {named(settings.formula, settings.structure)}"
    return render(title, subtitle, cards, [s for s in sections if s.blocks])


def _lowest(adaptive: Adaptive) -> str:
    """Labels as they came, and the lowest so far."""
    energy = np.array([a.energy for a in adaptive.asked], dtype=float)
    lowest = np.fromiter(accumulate(np.nan_to_num(energy, nan=np.inf), min), float, len(energy))
    zero, count = float(np.nanmin(energy)), np.arange(1, len(energy) + 1)
    lines = [Line("lowest so far", count[lowest - zero <= SHOWN], (lowest - zero)[lowest - zero <= SHOWN], colour=0)]
    kinds = {"first": "random, to begin with", "best": "lowest by the potential", "disputed": "most disputed"}
    for colour, (why, name) in enumerate(kinds.items(), 1):
        mine = np.array([a.question.why == why for a in adaptive.asked]) & (energy - zero <= SHOWN)
        if mine.any():
            lines.append(Line(name, count[mine], (energy - zero)[mine], points=True, colour=colour))
    return panel("Labels", "labels", "energy above the lowest (eV/atom)", lines)


def _parity(adaptive: Adaptive) -> str:
    """What each version said about structures before they were labelled, and what the newest says now."""
    labels = [a for a in good(adaptive.asked)]
    zero = labels[0].energy
    then = [(a.energy - zero, a.question.energy - zero) for a in labels if np.isfinite(a.question.energy)]
    now_by = dict(adaptive.version.trained.energies) if adaptive.version is not None else {}
    now = [(a.energy - zero, now_by[a.number] - zero) for a in labels if a.number in now_by]
    lines = [Line("", [0, SHOWN], [0, SHOWN], colour=0)]
    for name, colour, pairs in (("when it was found", 1, then), ("newest version", 2, now)):
        xy = np.array(pairs).reshape(-1, 2)
        xy = xy[(xy[:, 0] <= SHOWN) & (np.abs(xy[:, 1]) <= SHOWN)]
        lines.append(Line(name, xy[:, 0], xy[:, 1], points=True, colour=colour))
    return panel("Potential and labels", "label above the lowest (eV/atom)", "potential (eV/atom)", lines)


def _errors(adaptive: Adaptive) -> str:
    """Errors of energies on new structures, before and after they were learned, and on old ones."""
    kept = [v for v in adaptive.versions if not v.rejected]
    number = np.array([v.number for v in kept], dtype=float)
    lines = []
    for name, colour, key in (
        ("new, before", 1, "new_before"),
        ("new, after", 2, "new_after"),
        ("old", 0, "old_after"),
    ):
        values = np.array([getattr(v.trained, key).energy for v in kept], dtype=float)
        known = np.isfinite(values)
        lines.append(Line(name, number[known], values[known], colour=colour))
    return panel("Versions", "version", "energy RMSE (eV/atom)", lines, log=True)


def _spans(log: Path) -> dict[str, list[tuple[float, float, int]]]:
    """When pieces of work of each kind began and ended (s), and how many were at work then."""
    begun: dict[tuple[str, int], float] = {}
    out: dict[str, list[tuple[float, float, int]]] = {}
    with log.open("rb") as file:
        for line in file:
            if not line.endswith(b"\n"):
                break
            event: dict[str, Any] = json.loads(line)
            for what in ("gave", "came"):
                if what in event:
                    key = event[what]["kind"], event[what]["number"]
                    if what == "gave":
                        begun[key] = event[what]["at"]
                    elif key in begun:
                        out.setdefault(key[0], []).append((begun[key], event[what]["at"], key[1]))
    return out


def _timeline(log: Path) -> str:
    """How many pieces of work of each kind workers had at each time."""
    spans = _spans(log)
    zero = min((s[0] for each in spans.values() for s in each), default=0.0)
    lines = []
    for kind, colour in COLOURS.items():
        x: list[float] = []
        y: list[int] = []
        at_work = 0
        ends = [(t, c) for begin, end, _ in spans.get(kind, []) for t, c in ((begin - zero, 1), (end - zero, -1))]
        for time, change in sorted(ends):
            x += [time, time]
            y += [at_work, at_work + change]
            at_work += change
        lines.append(Line(kind, x, y, colour=colour))
    return panel("Who worked when", "time (s)", "pieces of work that workers had", lines)


def _busy(log: Path) -> Block:
    """Time of each kind of work."""
    rows: list[list[Value]] = []
    spans = _spans(log)
    whole = max((s[1] for each in spans.values() for s in each), default=0.0)
    whole -= min((s[0] for each in spans.values() for s in each), default=0.0)
    for kind in COLOURS:
        mine = spans.get(kind, [])
        took = sum(end - begin for begin, end, _ in mine)
        mean = took / len(mine) if mine else None
        rows.append([kind, len(mine), took, mean, took / whole if whole else None])
    return Table(["work", "pieces", "time (s)", "each (s)", "workers busy on average"], rows, "")


def _ancestry(adaptive: Adaptive, number: int) -> list[Block]:
    """The structures that the lowest one descends from."""
    family = lineage(number, adaptive.past)[:MOST_ANCESTORS]
    rows: list[list[Value]] = [
        [d.number, d.operator, " ".join(map(str, d.parents)), d.place, None if d.failure else d.energy] for d in family
    ]
    if not family:  # one of the first labels, before there was a version
        rows = [[number, adaptive.known[number][0].operator, "", None, None]]
    head = ["structure", "operator", "parents", "relaxed on version", "energy by it (eV/atom)"]
    return [
        Table(head, rows, ""),
        Text("Those of all structures are in adapt.jsonl, labels in labelled.extxyz."),
    ]
