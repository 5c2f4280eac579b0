"""`rutile hull`: phase diagrams at zero temperature."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rutile.core.elements import number, symbol
from rutile.core.errors import SettingsError
from rutile.core.files import folder_for_results
from rutile.core.reporting import Reporter, SilentReporter
from rutile.core.settings import Result
from rutile.core.units import EVPerAtom
from rutile.simulate.settings import HullSettings
from rutile.tasks.property import (
    GivenProperty,
    PropertyResult,
    begin,
    computed,
    outcomes,
    part,
    settled_crystals,
    table_of,
    write_result,
)
from rutile.tasks.task import Task

if TYPE_CHECKING:
    from rutile.potentials.potential import Potential
    from rutile.tasks.property import Work


class HullTaskSettings(HullSettings, GivenProperty):
    """Phases, and how to relax them."""

    out: Path = Path("hull")
    """Folder for table.csv, relaxed.extxyz, report.html and result.json."""


class HullRow(Result):
    """One phase."""

    structure: str
    """File and 0-based frame number."""
    formula: str
    """Composition."""
    outcome: str
    """done, or what went wrong with the relaxation; failed phases are not on the hull."""
    energy: EVPerAtom
    """At the minimum."""
    formation: EVPerAtom | None = None
    """Energy of formation from the lowest phases of the elements."""
    formation_std: EVPerAtom | None = None
    """Standard deviation of a committee."""
    above_hull: EVPerAtom | None = None
    """Energy above the convex hull; 0: stable."""
    above_hull_std: EVPerAtom | None = None
    """Standard deviation of a committee, each member with its own hull."""
    decays_into: str
    """Phases with their parts of the atoms; empty for stable ones."""


class HullTaskResult(PropertyResult):
    """Phases, in the order given."""

    phases: list[HullRow]
    """One row for each structure."""
    stable: int
    """Phases on the hull."""
    relaxed: Path
    """The phases at their minima, extended XYZ."""


def run(settings: HullTaskSettings, reporter: Reporter) -> HullTaskResult:
    """Phase diagram at zero temperature: energies of formation and above the convex hull of relaxed structures.

    Raises:
        SettingsError: an element has no structure of its own and no reference energy.
    """
    from rutile.structures.io import write_frames
    from rutile.tasks.hull_figures import STABLE

    work = begin(settings, reporter)
    with folder_for_results(settings.out):
        rows, images = computed(lambda p, r: _rows(work, p, settings, r), work, settings, reporter)
        result = HullTaskResult(
            phases=rows,
            stable=sum(row.above_hull is not None and row.above_hull < STABLE for row in rows),
            relaxed=settings.out / "relaxed.extxyz",
        )
        write_frames(result.relaxed, images)
        result = write_result(settings.out, result, rows, _page(rows, work, settings))
    return result


def _rows(
    work: Work, potential: Potential, settings: HullTaskSettings, reporter: Reporter
) -> tuple[list[HullRow], list[Any]]:
    """The rows by one potential, and the relaxed structures."""
    from rutile.simulate.forces import evaluate_many
    from rutile.simulate.hull import convex_hull

    how = part(settings, HullSettings)
    start, why = settled_crystals(work, potential, how, "a phase diagram", reporter)
    texts = outcomes([why], work, reporter)
    energy = (evaluate_many(start, potential, how.atoms_at_once, SilentReporter()).energy / start.counts).numpy()
    elements = sorted(set(start.numbers.tolist()))
    parts = np.array([[float((one.numbers == z).double().mean()) for z in elements] for one in start.split()])
    good = [k for k, text in enumerate(why) if not text.startswith("failed")]
    extra = [(elements.index(number(name)), e) for name, e in settings.references.items() if number(name) in elements]
    every = np.vstack([parts[good], *(np.eye(len(elements))[[k]] for k, _ in extra)])
    missing = [symbol(z) for k, z in enumerate(elements) if not (np.abs(every[:, k] - 1) < 1e-9).any()]
    if missing:
        raise SettingsError(
            f"no structure of pure {', '.join(missing)} among those given: add one, or give its energy, such as "
            f"references={{{missing[0]}: -3.5}} (eV/atom)"
        )
    found = convex_hull(every, np.concatenate([energy[good], [e for _, e in extra]]))
    names = [f"{work.names()[k][1]} ({work.names()[k][0].rsplit('/', 1)[-1]})" for k in good]
    names += [f"{symbol(elements[k])} (reference)" for k, _ in extra]
    at = {k: n for n, k in enumerate(good)}
    rows = []
    for k, ((source, name), text) in enumerate(zip(work.names(), texts, strict=True)):
        known: dict[str, Any] = {"decays_into": ""}
        if k in at:
            n = at[k]
            known = {"formation": float(found.formation[n]), "above_hull": float(found.above[n]), "decays_into": ""}
            if found.above[n] > 0:
                known["decays_into"] = " + ".join(f"{w:.3g} {names[m]}" for m, w in found.decay[n].items())
        rows.append(HullRow(structure=source, formula=name, outcome=text, energy=float(energy[k]), **known))
    images = start.to_ase()
    for image, row in zip(images, rows, strict=True):
        image.info.update(source=row.structure, above_hull=row.above_hull)
    return rows, images


def _page(rows: Sequence[HullRow], work: Work, settings: HullTaskSettings) -> str:
    """The report."""
    from rutile.tasks.hull_figures import STABLE, hull_figure
    from rutile.train.report import Block, Card, Facts, Figures, Section, render

    names = ["structure", "formula", "outcome", "formation", "formation_std", "above_hull", "above_hull_std",
             "decays_into"]  # fmt: skip
    elements = sorted(set(work.structures.numbers.tolist()))
    parts = np.array([[float((one.numbers == z).double().mean()) for z in elements] for one in work.structures.split()])
    points = [(x, r.formation, r.above_hull) for x, r in zip(parts, rows, strict=True) if r.formation is not None]
    points += [
        (end, 0.0, 0.0)  # given as a reference only
        for end in np.eye(len(elements))
        if not any(above == 0 and np.array_equal(x, end) for x, _, above in points)
    ]
    blocks: list[Block] = []
    figure = hull_figure(
        "Phase diagram", [symbol(z) for z in elements], *(np.array(x, dtype=float) for x in zip(*points, strict=True))
    )
    if figure is not None:
        blocks.append(Figures([(figure, "")]))
    sections = [
        Section("Phases", [*blocks, *table_of(rows, names)]),
        Section("Settings", [Facts(settings.model_dump(mode="json"), "all settings")]),
    ]
    stable = sum(row.above_hull is not None and row.above_hull < STABLE for row in rows)
    cards = [Card("phases", str(len(rows))), Card("stable", str(stable))]
    return render("Phase diagram", str(settings.model), cards, sections)


TASK = Task(
    "hull",
    HullTaskSettings,
    HullTaskResult,
    run,
    positional="structures",
    examples=(
        "rutile hull phases.extxyz model=run",
        "rutile hull oxides.extxyz model=committee.rutile 'references={O: -4.9}' relax=false",
    ),
)
