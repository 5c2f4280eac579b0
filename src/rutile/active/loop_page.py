"""The page about a loop of active learning: a row and a section for each round."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rutile.active.loop import round_name
from rutile.train import figures
from rutile.train.report import Block, Card, Facts, Figures, Links, Section, Table, Text, Value, render

CLASSES = ("accurate", "candidate", "failed", "impossible")
COLUMNS = {
    "round": "round",
    "explored": "explored",
    "accurate": "accurate",
    "candidates": "candidates",
    "failed": "failed",
    "impossible": "impossible",
    "chosen": "chosen",
    "checked": "checked",
    "wrong": "wrong",
    "label_failures": "no label",
    "labels": "labels",
    "frames": "frames",
    "new_force_rmse": "new frames (eV/Å)",
    "valid_force_rmse": "validation (eV/Å)",
    "test_force_rmse": "test (eV/Å)",
    "force_scale": "error/spread",
}
PAGES = (
    ("choice.html", "what was chosen, and why"),
    ("decisions.csv", "every decision"),
    ("labelled.failures.jsonl", "labels that failed"),
    ("computed.failures.jsonl", "labels that failed"),
    ("checked.extxyz", "labels of the check"),
    ("model/report.html", "training"),
    ("calibration/report.html", "calibration"),
    ("labelled.extxyz", "labelled frames"),
)
"""Files in the folder of a round, and what they are."""
LEAST_COLUMNS = 6
"""Rounds for which the figure of classes has room."""
HONEST = (
    "Errors are RMSE of force components. New frames: of the committee of the round before, on what it chose, before "
    "it learned it: the errors where it knows least. Validation: frames like those trained on."
)


def page(
    rows: Sequence[Mapping[str, Any]],
    details: Sequence[Mapping[str, Any]],
    ended: str,
    folder: Path,
    settings: Mapping[str, Any],
) -> str:
    """The whole page.

    Args:
        rows: of the table, one for each round.
        details: of each round, what is not in the table.
        ended: why the loop ended; empty: it goes on.
        folder: of the loop.
        settings: that were given, as JSON values.
    """
    last = rows[-1]
    share = next((r["share"] for r in reversed(rows) if r["share"] is not None), None)
    error = next(
        (r[k] for k in ("test_force_rmse", "valid_force_rmse") for r in reversed(rows) if r[k] is not None), None
    )
    cards = [
        Card("rounds", str(last["round"])),
        Card("candidates", "–" if share is None else f"{100 * share:.3g} %", "of what was met last"),
        Card("labels", str(last["labels"]), "made for the loop"),
        Card("force error", "–" if error is None else f"{error:.3g}", "eV/Å, newest"),
    ]
    table: list[list[Value]] = [[row[name] for name in COLUMNS] for row in rows]
    first = Section(
        "Rounds",
        [
            Text(f"Ended: {ended}." if ended else "The loop goes on."),
            Figures(_panels(rows)),
            Table(tuple(COLUMNS.values()), table, HONEST),
        ],
    )
    parts = [
        _round(row, more, folder) for row, more in zip(reversed(rows), reversed(details), strict=True)
    ]  # the newest first
    return render(
        "Active learning", folder.name, cards, [first, *parts, Section("Plan", [Facts(settings, "as given")])]
    )


def _panels(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Figures over all rounds."""
    out = []
    met = [r for r in rows if r["explored"] is not None and r["accurate"] is not None]
    if met:
        room = [""] * (LEAST_COLUMNS - len(met))  # a narrow figure would be drawn too large
        total = [max(1, sum(r[_column(c)] for c in CLASSES)) for r in met]
        values = [[r[_column(c)] / n for r, n in zip(met, total, strict=True)] + [0.0] * len(room) for c in CLASSES]
        names = [str(r["round"]) for r in met] + room
        out.append(
            (figures.shares("What was met", "round", CLASSES, names, values), "Per cent of the explored structures.")
        )
    errors = (("new frames", "new_force_rmse"), ("validation", "valid_force_rmse"), ("test", "test_force_rmse"))
    for x, label in (("round", "round"), ("labels", "labels")):
        curves = [
            figures.Curve(name, *_known(rows, x, key)) for name, key in errors if any(r[key] is not None for r in rows)
        ]
        if curves:
            out.append((figures.learning_curve("Force error", "eV/Å", curves, label), ""))
    labels = figures.Curve("", *_known([r for r in rows if r["labels"]], "round", "labels"))
    if labels.x:
        out.append((figures.learning_curve("Labels", "labels", [labels], "round"), "Made so far."))
    return out


def _known(rows: Sequence[Mapping[str, Any]], x: str, y: str) -> tuple[list[float], list[float]]:
    """Points of a curve, without those that are not known."""
    points = [(float(r[x]), float(r[y])) for r in rows if r[y] is not None]
    return [p[0] for p in points], [p[1] for p in points]


def _column(kind: str) -> str:
    return "candidates" if kind == "candidate" else kind


def _round(row: Mapping[str, Any], more: Mapping[str, Any], folder: Path) -> Section:
    """One round."""
    number = int(row["round"])
    blocks: list[Block] = []
    if more.get("choice"):
        choice: Mapping[str, Mapping[str, int]] = more["choice"]
        columns = ("explored", *CLASSES, "chosen")
        lines: list[list[Value]] = [[name, *(counts.get(c, 0) for c in columns)] for name, counts in choice.items()]
        caption = (
            f"Members agree below {row['low']:.3g} eV/Å; beyond {row['high']:.3g} eV/Å a structure counts as broken."
        )
        blocks.append(Table(("system and explorer", *columns), lines, caption))
    if more.get("ended"):
        ends: list[list[Value]] = [
            [name, how, n] for name, counts in more["ended"].items() for how, n in counts.items()
        ]
        blocks.append(Table(("system and explorer", "went on", "runs"), ends))
    if more.get("failures"):
        failed: list[list[Value]] = [[kind, n] for kind, n in more["failures"].items()]
        blocks.append(Table(("label failed", "structures"), failed))
    if row["checked"] is not None:
        verdict = (
            f"{row['wrong']} of {row['checked']} structures about which the members agree, drawn by lot and labelled, "
            f"have a force error (root mean square of the vectors) above {row['low']:.3g} eV/Å."
        )
        blocks.append(Text(verdict))
    if row["new_force_rmse"] is not None:
        was = row["new_energy_rmse"]
        energy = "" if was is None else f" and {1e3 * was:.3g} meV/atom"
        error = f"{row['new_force_rmse']:.3g} eV/Å{energy}"
        blocks.append(Text(f"Before it learned them, the committee erred by {error} on the new frames."))
    place = round_name(number)
    links = [(text, f"{place}/{name}") for name, text in PAGES if (folder / place / name).exists()]
    if links:
        blocks.append(Links(links))
    return Section(f"Round {number}", blocks or [Text("Nothing is done yet.")])
