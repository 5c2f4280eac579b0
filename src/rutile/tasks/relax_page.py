"""The page about relaxed structures: energies, steps, space groups before and after, and what failed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from rutile.train.report import Card, Facts, Figures, Section, Table, Text, render

if TYPE_CHECKING:
    from rutile.tasks.relax import RelaxedRow
    from rutile.tasks.relax_paths import PathRow

MOST_ROWS = 200
"""Structures in the table of the page; the CSV has all."""
MOST_FORMULAS = 6
"""Compositions with a colour of their own, the most frequent ones."""
LABEL = 24
"""Letters of a structure's name in a legend, the last ones."""


def page(rows: Sequence[RelaxedRow], path: Sequence[PathRow], atoms: Sequence[int], settings: Mapping[str, Any]) -> str:
    """The whole page.

    Args:
        rows: of all structures.
        path: of the first of them, at every step.
        atoms: numbers of their atoms.
        settings: of the task, as JSON values.
    """
    kinds = Counter(_kind(row) for row in rows)
    cards = [
        Card("converged", str(kinds["converged"]), f"of {len(rows)} structures"),
        Card("out of steps", str(kinds["not converged"])),
        Card("failed", str(kinds["failed"])),
        Card("steps", f"{sum(row.steps for row in rows) / len(rows):.0f}", "mean"),
        Card("atoms", str(sum(atoms)), f"{min(atoms)} to {max(atoms)} each"),
    ]
    sections = [
        Section("Energies", [Figures(_figures(rows))]),
        *_ways_down(path),
        *_space_groups(rows),
        *_unfinished(rows),
        Section("Structures", [_table(rows)]),
        Section("Settings", [Facts(settings, "all settings that were given")]),
    ]
    return render("Relaxed structures", str(settings.get("out", "")), cards, sections)


def _kind(row: RelaxedRow) -> str:
    """converged, not converged or failed."""
    return next(kind for kind in ("converged", "not converged", "failed") if row.outcome.startswith(kind))


def _figures(rows: Sequence[RelaxedRow]) -> list[tuple[str, str]]:
    """Steps, gains, and energies over volumes, by composition."""
    from rutile.tasks.property_figures import Line, panel
    from rutile.train.figures import distributions

    frequent = [name for name, _ in Counter(row.formula for row in rows).most_common(MOST_FORMULAS)]
    groups = {name: [r for r in rows if r.formula == name] for name in frequent}
    if rest := [r for r in rows if r.formula not in frequent]:
        groups["others"] = rest
    found = [
        (distributions("Steps", "steps", {name: [float(r.steps) for r in g] for name, g in groups.items()}), ""),
    ]
    gains = {name: [r.gain for r in g if r.gain is not None] for name, g in groups.items()}
    if any(gains.values()):
        found.append((distributions("Energy gained", "eV/atom", gains), ""))
    lines = []
    for name, group in groups.items():
        at = [(r.volume, r.energy) for r in group if r.volume is not None and r.energy is not None]
        if at:
            lines.append(Line(name, [v for v, _ in at], [e for _, e in at], points=True))
    if lines:
        found.append((panel("At the end", "volume (Å³/atom)", "energy (eV/atom)", lines), ""))
    return found


def _ways_down(path: Sequence[PathRow]) -> list[Section]:
    """Energies and largest forces at every step, by structure."""
    from rutile.tasks.property_figures import MOST_CURVES, Line, panel

    ways: dict[str, list[PathRow]] = {}
    for row in path:
        ways.setdefault(PurePath(row.structure).name[-LABEL:], []).append(row)
    some = {name: way for name, way in ways.items() if len(way) > 1}
    drawn = list(some.items())[:MOST_CURVES]
    if not drawn:
        return []
    energies = [Line(name, [r.step for r in way], [r.energy - way[-1].energy for r in way]) for name, way in drawn]
    forces = [Line(name, [r.step for r in way], [r.fmax for r in way]) for name, way in drawn]
    pulled = any(r.fmax > 0 for _, way in drawn for r in way)
    figures = [
        (panel("Energy above the end", "step", "energy (eV/atom)", energies, beside=True), ""),
        (panel("Largest force", "step", "force (eV/Å)", forces, log=pulled, beside=True), ""),
    ]
    return [Section("The way down", [Figures(figures)])]


def _space_groups(rows: Sequence[RelaxedRow]) -> list[Section]:
    """How often which group became which."""
    pairs = Counter((r.spacegroup_before, r.spacegroup) for r in rows if r.spacegroup or r.spacegroup_before)
    if not pairs:
        return []
    table = Table(
        ("space group before", "after", "structures"),
        [(a or "–", b or "–", n) for (a, b), n in pairs.most_common(40)],
        "Atoms within 0.05 Å of symmetric places count as being there. The 40 most frequent.",
    )
    return [Section("Space groups", [table])]


def _unfinished(rows: Sequence[RelaxedRow]) -> list[Section]:
    """What did not converge, and why."""
    left = [r for r in rows if _kind(r) != "converged"]
    if not left:
        return []
    text = f"{len(left)} of {len(rows)} structures did not converge; they are where they were last sound."
    table = Table(("structure", "formula", "outcome", "largest force (eV/Å)"),
                  [(r.structure, r.formula, r.outcome, r.fmax) for r in left[:MOST_ROWS]])  # fmt: skip
    return [Section("Not converged", [Text(text), table])]


def _table(rows: Sequence[RelaxedRow]) -> Table:
    """One line for each structure, lowest energy first."""
    order = sorted(rows, key=lambda r: float("inf") if r.energy is None else r.energy)
    columns = ("structure", "formula", "energy (eV/atom)", "gain (eV/atom)", "steps", "volume (Å³/atom)", "space group")
    return Table(
        columns,
        [(r.structure, r.formula, r.energy, r.gain, r.steps, r.volume, r.spacegroup) for r in order[:MOST_ROWS]],
        f"Lowest energy first, {min(len(rows), MOST_ROWS)} of {len(rows)}; all are in the CSV file.",
    )
