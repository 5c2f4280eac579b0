"""The page about a choice of structures: how far members disagree, what was taken, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rutile.active.choose import Decision, Kind, Levels, standardised
from rutile.active.disagreement import Disagreement
from rutile.train import figures
from rutile.train.report import Card, Facts, Figures, Section, Table, Text, Value, render

LISTED = 100
"""Chosen structures in the table; all are in the file of decisions."""
MEANING: dict[Kind, str] = {
    "impossible": "atoms too close, or a force beyond reason",
    "accurate": "the members agree: the data hold such structures",
    "candidate": "the members disagree: the data lack such structures",
    "failed": "so much disagreement that the structure itself is likely to be broken",
}


def page(
    names: Sequence[str],
    decisions: Sequence[Decision],
    found: Disagreement,
    features: tuple[np.ndarray, np.ndarray],
    levels: Levels,
    calibrated: bool,
    settings: Mapping[str, Any],
) -> str:
    """The whole page.

    Args:
        names: of S structures.
        decisions: about each.
        found: how far members disagree about each.
        features: of the structures [S, F] and of known ones [K, F].
        levels: trust levels.
        calibrated: whether disagreement is in the size of errors.
        settings: as JSON values.
    """
    kinds = Counter(d.kind for d in decisions)
    chosen = sorted((d.rank, k) for k, d in enumerate(decisions) if d.rank is not None)
    cards = [
        Card("chosen", str(len(chosen)), f"of {len(names)} structures"),
        Card("candidates", str(kinds["candidate"]), "the members disagree"),
        Card("accurate", str(kinds["accurate"]), "the members agree"),
    ]
    unit = "standard deviation of the force error (eV/Å)" if calibrated else "spread of the force (eV/Å)"
    possible = np.array([d.kind != "impossible" for d in decisions])
    pictures = [
        (figures.levels("Disagreement", unit, found.force[possible], levels.low, levels.high),
         "The largest over the atoms of each structure that is possible."),
        (_map(decisions, *features),
         "Features of accurate structures and candidates, their first two principal components."),
    ]  # fmt: skip
    classes: list[list[Value]] = [[kind, kinds[kind], meaning] for kind, meaning in MEANING.items()]
    reasons = Counter(d.reason for d in decisions if d.rank is None and d.kind == "candidate")
    rows: list[list[Value]] = [
        [rank, names[k], float(found.force[k]), 1e3 * float(found.energy[k]), int(found.atom[k])]
        for rank, k in chosen[:LISTED]
    ]
    sections = [
        Section("What was found", [
            Figures(pictures),
            Table(("class", "structures", ""), classes),
            Text("; ".join(f"{n} candidates {why}" for why, n in reasons.items()) or "Every candidate was chosen."),
        ]),
        Section("Chosen", [
            Table(("rank", "structure", "force (eV/Å)", "energy (meV/atom)", "atom"), rows,
                  "Disagreement about force and energy, and the atom whose force it is."
                  + (f" The first {LISTED}." if len(chosen) > LISTED else ""))
        ]),
        Section("Settings", [Facts(settings, "all settings")]),
    ]  # fmt: skip
    return render("Structures worth a label", f"{len(chosen)} chosen", cards, sections)


def _map(decisions: Sequence[Decision], features: np.ndarray, known: np.ndarray) -> str:
    """Structures in the plane of their first two principal components; without broken ones, far from all others."""
    sound = np.array([d.kind in ("accurate", "candidate") for d in decisions], dtype=bool)
    decisions = [d for d, good in zip(decisions, sound, strict=True) if good]
    if not decisions and not len(known):
        return figures.scatter("Map", [])
    x, base = standardised(features[sound], known)
    whole = np.concatenate([base, x]) if len(base) else x
    _, _, directions = np.linalg.svd(whole - whole.mean(0), full_matrices=False)
    plane = np.zeros((2, whole.shape[1]))
    plane[: len(directions[:2])] = directions[:2]
    taken = np.array([d.rank is not None for d in decisions], dtype=bool)
    clouds = [(base, "known"), (x[~taken], "left"), (x[taken], "chosen")]
    return figures.scatter(
        "Map", [figures.Curve(name, *(plane @ cloud.T).tolist()) for cloud, name in clouds if len(cloud)]
    )
