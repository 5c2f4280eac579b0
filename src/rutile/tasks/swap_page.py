"""The page about Monte Carlo exchanges: energies by step, shares by shell, order of neighbours, best structures."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from rutile.core.elements import symbol
from rutile.tasks.property import table_of
from rutile.tasks.property_figures import MOST_CURVES, Line, panel
from rutile.tasks.swap import alphas
from rutile.train.figures import shares, structure
from rutile.train.report import Card, Facts, Figures, Section, Table, render

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
    profiles = [_profile(run, name, seen) for run, name in list(enumerate(names))[:MOST_CURVES]]
    sections = [
        Section("Energies", [Figures([(_energies(names, images, seen), "")])]),
        Section("Runs", table_of(rows, names_of)),
        Section("Who lies where", [Figures(profiles), _order(names, seen)]),
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


def _profile(run: int, name: str, seen: Seen) -> tuple[str, str]:
    """Shares of the elements by shell of the particle."""
    here = np.flatnonzero(seen.shells[run].any(axis=0))
    counts = seen.shells[run][:, here]
    counts = counts[counts.any(axis=1)]
    rows, labels = [f"shell {k}" for k in range(len(counts))], [symbol(int(seen.elements[k])) for k in here]
    drawn = shares("Shares (%)", "element", rows, labels, counts / counts.sum(axis=1, keepdims=True))
    return drawn, f"{name}; shell 0 is the surface."


def _order(names: Sequence[str], seen: Seen) -> Table:
    """Warren and Cowley's parameters of unlike pairs, of the first runs."""
    rows = []
    for run, name in list(enumerate(names))[:MOST_CURVES]:
        alpha = alphas(seen, run)
        here = np.flatnonzero(seen.shells[run].any(axis=0))
        for a, b in itertools.combinations(here.tolist(), 2):
            pair = f"{symbol(int(seen.elements[a]))}-{symbol(int(seen.elements[b]))}"
            rows.append([name, pair, *(float(x) if np.isfinite(x) else None for x in alpha[:, a, b])])
    head = ("run", "pair", "α of first", "second", "third neighbours")
    text = (
        "Warren and Cowley's α: 0 as in a random mixture, negative: they seek each other. Click on a heading to sort."
    )
    return Table(head, rows, text, sortable=True)
