"""The page about Monte Carlo exchanges: energies by step, shares by shell, order of neighbours, best structures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from rutile.core.elements import symbol
from rutile.tasks.property import table_of
from rutile.tasks.property_figures import MOST_CURVES, Line, panel
from rutile.tasks.swap import alphas
from rutile.train.figures import shares, structure
from rutile.train.report import Card, Facts, Figures, Section, render

if TYPE_CHECKING:
    from ase import Atoms

    from rutile.tasks.kept_swaps import Seen
    from rutile.tasks.swap import SwapRow


def page(rows: Sequence[SwapRow], images: Sequence[Atoms], seen: Seen, settings: Mapping[str, Any]) -> str:
    """The whole page.

    Args:
        rows: of the table.
        images: best structures.
        seen: what was observed.
        settings: of the task, as JSON values.
    """
    names = [f"run {k}, {row.temperature:g} K" for k, row in enumerate(rows)]
    names_of = ["structure", "formula", "temperature", "outcome", "best", "mean", "gain", "cohesive", "cohesive_std",
                "acceptance", "surface", "order"]  # fmt: skip
    pictures = [(structure(atoms), name) for atoms, name in zip(images, names, strict=True)][:MOST_CURVES]
    by_run = [f for run, name in list(enumerate(names))[:MOST_CURVES] for f in _of_run(run, name, seen)]
    sections = [
        Section("Energies", [Figures([(_energies(names, images, seen), "")])]),
        Section("Runs", table_of(rows, names_of)),
        Section("Who lies where", [Figures(by_run)]),
        Section("Best structures", [Figures(pictures)]),
        Section("Settings", [Facts(settings, "all settings")]),
    ]
    cards = [Card("runs", str(len(rows))), Card("steps", str(settings["steps"]), "exchanges tried in each")]
    return render("Exchanges of atoms", str(settings["model"]), cards, sections)


def _energies(names: Sequence[str], images: Sequence[Atoms], seen: Seen) -> str:
    """By step, of the first runs."""
    energies = np.array(seen.energies)
    lines = [
        Line(name, np.arange(len(energies)), energies[:, k] / len(images[k]))
        for k, name in list(enumerate(names))[:MOST_CURVES]
    ]
    return panel("Energy", "step", "energy (eV/atom)", lines)


def _of_run(run: int, name: str, seen: Seen) -> list[tuple[str, str]]:
    """Shares by shell of the particle, and alpha of first to third neighbours."""
    here = np.flatnonzero(seen.shells[run].any(axis=0))
    labels = [symbol(int(seen.elements[k])) for k in here]
    counts = seen.shells[run][:, here]
    counts = counts[counts.any(axis=1)]
    rows = [f"shell {k}" for k in range(len(counts))]
    profile = shares("Shares (%)", "element", rows, labels, counts / counts.sum(axis=1, keepdims=True))
    alpha = alphas(seen, run)
    lines = [
        Line(f"{labels[a]}-{labels[b]}", [1, 2, 3], alpha[:, here[a], here[b]])
        for a in range(len(here)) for b in range(a + 1, len(here))
    ]  # fmt: skip
    order = panel("Warren-Cowley", "shell of neighbours", "alpha", lines)
    return [(profile, f"{name}; shell 0 is the surface."), (order, f"{name}; negative: they seek each other.")]
