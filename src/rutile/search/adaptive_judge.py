"""What an adaptive search concludes from its labels: which are lowest, whether a version ranks them, when to end."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from scipy.stats import rankdata

from rutile.search.adaptive_items import Asked, Errors, Trained, Version
from rutile.search.adaptive_settings import AdaptiveSettings, TeachSettings
from rutile.search.fingerprint import Marks, apart
from rutile.search.settings import PoolSettings

CHANGED = 1e-3
"""A label that is lower by more than this is a new lowest one (eV/atom)."""
FEWEST = 4
"""Labels from which on a rank correlation says something."""


def good(asked: Sequence[Asked]) -> list[Asked]:
    """Labels that are there, lowest energy first."""
    done = [a for a in asked if a.answer is not None and not a.answer.failure]
    return sorted(done, key=lambda a: (a.energy, a.number))


def correlation(asked: Sequence[Asked], energies: Mapping[int, float], window: float) -> float:
    """Spearman's rank correlation of labels and energies by a version, of structures low by either; NaN: too few.

    Args:
        asked: labels.
        energies: by the version, by number of the label (eV/atom).
        window: above the lowest (eV/atom).
    """
    pairs = [(a.energy, energies[a.number]) for a in good(asked) if a.number in energies]
    if not pairs:
        return math.nan
    both = np.array(pairs)
    low = both[(both - both.min(0)).min(1) <= window]
    if len(low) < FEWEST:
        return math.nan
    ranks = np.array([rankdata(column) for column in low.T])
    apart_from_mean = ranks - ranks.mean(1, keepdims=True)
    size = np.sqrt((apart_from_mean**2).sum(1).prod())
    return float((apart_from_mean[0] * apart_from_mean[1]).sum() / size) if size > 0 else math.nan


def forgot(trained: Trained, settings: TeachSettings) -> str:
    """What a version forgot of what an older one knew, or ""."""
    pairs = (
        ("energy", "eV/atom", trained.old_before.energy, trained.old_after.energy, settings.good_energy),
        ("force", "eV/Å", trained.old_before.force, trained.old_after.force, settings.good_force),
    )
    said = [
        f"{name} RMSE {before:.4g} → {after:.4g} {unit}"
        for name, unit, before, after, fine in pairs
        if after > max((1 + settings.tolerance) * before, fine) or (math.isfinite(before) and not math.isfinite(after))
    ]
    return ", ".join(said)


def gained(trained: Trained) -> Errors:
    """By how much errors on new structures fell."""
    before, after = trained.new_before, trained.new_after
    return Errors(before.energy - after.energy, before.force - after.force)


def different(
    asked: Sequence[Asked], marks: Sequence[np.ndarray] | Marks, pool: PoolSettings, most: int
) -> list[Asked]:
    """The different lowest labels.

    Args:
        asked: labels.
        marks: fingerprint of each label's structure.
        pool: when two structures are the same.
        most: how many.
    """
    kept: list[Asked] = []
    for a in good(asked):
        if len(kept) >= most:
            break
        again = any(a.question.structure == k.question.structure for k in kept)  # labelled as two versions relaxed it
        if not again and all(apart(marks[a.number], marks[k.number]) >= pool.same for k in kept):
            kept.append(a)
    return kept


def why_end(
    labels: int, lowest: float, versions: Sequence[Version], relaxed: int, settings: AdaptiveSettings, *, idle: bool
) -> str:
    """Why the search is over, or "".

    Args:
        labels: that are done, without final ones.
        lowest: of them (eV/atom).
        versions: that are not kept out.
        relaxed: relaxations so far.
        settings: of the search.
        idle: nothing is left to label or to learn.
    """
    stop = settings.stop
    if labels >= stop.labels:
        return f"{labels} labels"
    if relaxed >= stop.relaxations:
        return f"{relaxed} relaxations"
    if not versions:
        return ""
    newest = versions[-1]
    if len(versions) > stop.versions:
        unchanged = all(v.lowest - lowest < CHANGED for v in versions[-stop.versions :])
        if unchanged and newest.correlation >= stop.correlation:
            return (
                f"the lowest label has not changed for {stop.versions} versions, and version {newest.number} ranks the "
                f"labels (rank correlation {newest.correlation:.2f})"
            )
    return f"version {newest.number} finds nothing new to label" if idle else ""
