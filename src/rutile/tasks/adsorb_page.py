"""The page about adsorption: pictures of the best structures, energies by site, all minima."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rutile.tasks.property import DONE, table_of
from rutile.tasks.property_figures import MOST_CURVES, Line, panel
from rutile.train.figures import structure
from rutile.train.report import Card, Facts, Figures, Section, Text, render

if TYPE_CHECKING:
    from ase import Atoms

    from rutile.tasks.adsorb import AdsorbRow


def page(rows: Sequence[AdsorbRow], images: Sequence[Atoms], tried: int, settings: Mapping[str, Any]) -> str:
    """The whole page.

    Args:
        rows: of the table.
        images: their structures.
        tried: number of starts.
        settings: of the task, as JSON values.
    """
    best: dict[tuple[str, str], int] = {}
    for k, row in enumerate(rows):
        if row.outcome == DONE:
            best.setdefault((row.slab, row.adsorbates), k)
    names = ["slab", "adsorbates", "energy", "energy_std", "interaction", "state", "site", "found", "coverage",
             "distance", "moved", "outcome", "starts"]  # fmt: skip
    references = dict.fromkeys(f"{row.adsorbates}: {row.reference}" for row in rows)
    sections = [
        Section("Best structures", [Figures(_pictures(rows, images, list(best.values())))]),
        Section("Energies", [Figures(_energies(rows))]),
        Section("Minima", [
            Text(f"Energies count from the relaxed slab and: {'; '.join(references)}. Negative: bound."),
            *table_of(rows, names),
        ]),
        Section("Settings", [Facts(settings, "all settings")]),
    ]  # fmt: skip
    cards = [
        Card("slabs", str(len({row.slab for row in rows}))),
        Card("starts", str(tried), "structures relaxed"),
        Card("minima", str(len(rows)), "that differ"),
    ]
    return render("Adsorption", str(settings["model"]), cards, sections)


def _pictures(rows: Sequence[AdsorbRow], images: Sequence[Atoms], best: Sequence[int]) -> list[tuple[str, str]]:
    """The best of each slab and set of adsorbates, from the side and from above."""
    out = []
    for k in best[:MOST_CURVES]:
        row, bed = rows[k], images[k].copy()
        bed.set_cell([*bed.cell[:2], [0, 0, 0]])  # without the vacuum
        bed.positions[:, 2] -= bed.positions[:, 2].min()
        for rotation, view in (("-85x,8y", "side"), ("0x", "from above")):
            text = f"{row.adsorbates} on {row.slab}, {row.site}: {row.energy:.3f} eV ({view})"
            out.append((structure(bed, rotation), text))
    return out


def _energies(rows: Sequence[AdsorbRow]) -> list[tuple[str, str]]:
    """Energies of all minima of each slab, one column for each set of adsorbates."""
    out = []
    for slab in list(dict.fromkeys(row.slab for row in rows))[:MOST_CURVES]:
        mine = [row for row in rows if row.slab == slab and row.outcome == DONE]
        sets = list(dict.fromkeys(row.adsorbates for row in mine))
        lines = [
            Line(name, [float(k) for row in mine if row.adsorbates == name],
                 [row.energy for row in mine if row.adsorbates == name], points=True)
            for k, name in enumerate(sets)
        ]  # fmt: skip
        out.append((panel(slab, "", "energy of adsorption (eV)", lines, names=sets), ""))
    return out
