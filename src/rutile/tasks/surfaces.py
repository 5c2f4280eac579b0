"""`rutile surfaces`: surface energies by Miller index, and Wulff shapes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from rutile.core.elements import unit_formula
from rutile.core.errors import GeometryError
from rutile.core.files import folder_for_results
from rutile.core.reporting import Reporter
from rutile.core.settings import Result
from rutile.core.units import JOULE_PER_M2, Angstrom2, JoulePerSquareMetre
from rutile.simulate.settings import SurfaceSettings
from rutile.tasks.property import (
    GivenProperty,
    PropertyResult,
    begin,
    computed,
    part,
    rows_of_crystals,
    settled_crystals,
    table_of,
    write_result,
    write_structures,
)
from rutile.tasks.task import Task

if TYPE_CHECKING:
    from ase import Atoms

    from rutile.potentials.potential import Potential
    from rutile.simulate.surfaces import Surface, Wulff
    from rutile.tasks.property import Work


class SurfaceTaskSettings(SurfaceSettings, GivenProperty):
    """Crystals, and which of their surfaces."""

    out: Path = Path("surfaces")
    """Folder for table.csv, slabs.extxyz (relaxed), report.html and result.json."""


class SurfaceRow(Result):
    """One termination of one crystal."""

    structure: str
    """File and 0-based frame number of the crystal."""
    formula: str
    """Composition of the crystal."""
    miller: str
    """Index, of the conventional cell."""
    termination: int
    """Number of the lowest plane of atoms within the repeated unit."""
    outcome: str
    """done, or what went wrong with the relaxation."""
    energy: JoulePerSquareMetre
    """Surface energy, relaxed, the mean of both sides."""
    energy_std: JoulePerSquareMetre | None = None
    """Standard deviation of a committee."""
    unrelaxed: JoulePerSquareMetre
    """As cut."""
    share: float | None = None
    """Part of the Wulff shape's surface; of the lowest termination of each index (dimensionless)."""
    symmetric: bool = Field(repr=False)
    """Whether both sides are alike; otherwise the energy is a mean of two different surfaces."""
    atoms: int = Field(repr=False)
    """Of the slab."""
    area: Angstrom2 = Field(repr=False)
    """Of one side."""


class SurfaceTaskResult(PropertyResult):
    """Surfaces, crystal by crystal."""

    surfaces: list[SurfaceRow]
    """One row for each termination."""
    mean_energy: list[JoulePerSquareMetre | None]
    """Mean over the Wulff shape of each crystal."""
    slabs: Path
    """Relaxed slabs, extended XYZ."""


def run(settings: SurfaceTaskSettings, reporter: Reporter) -> SurfaceTaskResult:
    """Surface energies of crystals by Miller index, all terminations of their composition, and Wulff shapes.

    The slabs of all crystals are relaxed together.

    Raises:
        SettingsError: an index has no slab of the crystal's composition.
    """
    work = begin(settings, reporter)
    with folder_for_results(settings.out):
        rows, (crystals, found) = computed(lambda p, r: _rows(work, p, settings, r), work, settings, reporter)
        shapes = [_shape(k, crystal, found, work, reporter) for k, crystal in enumerate(crystals)]
        rows = _with_shares(rows, found, shapes)
        result = SurfaceTaskResult(
            surfaces=rows,
            mean_energy=[None if shape is None else shape.energy * JOULE_PER_M2 for shape in shapes],
            slabs=settings.out / "slabs.extxyz",
        )
        about = [{"source": r.structure, "miller": r.miller, "termination": r.termination} for r in rows]
        write_structures(result.slabs, [one.relaxed for one in found], about)
        result = write_result(settings.out, result, rows, _page(rows, crystals, shapes, work, settings))
    return result


def _rows(
    work: Work, potential: Potential, settings: SurfaceTaskSettings, reporter: Reporter
) -> tuple[list[SurfaceRow], tuple[list[Atoms], list[Surface]]]:
    """The rows by one potential; the conventional cells, and what the rows come from."""
    from rutile.simulate.surfaces import surface_energies

    how = part(settings, SurfaceSettings)
    start, why = settled_crystals(work, potential, how, "a surface energy", reporter)
    crystals, found = surface_energies(start, potential, how, reporter)
    rows = rows_of_crystals(found, why, work, _row, lambda r: f"{r.miller} termination {r.termination}", reporter)
    return rows, (crystals, found)


def _row(one: Surface, about: dict[str, Any]) -> SurfaceRow:
    """One line of the table."""
    return SurfaceRow(
        miller=_text(one.slab.miller),
        termination=one.slab.first,
        energy=one.energy * JOULE_PER_M2,
        unrelaxed=one.cut * JOULE_PER_M2,
        symmetric=one.slab.symmetric,
        atoms=one.relaxed.n_atoms,
        area=one.area,
        **about,
    )


def _text(miller: Sequence[int]) -> str:
    """Such as (1 -1 0)."""
    return f"({' '.join(map(str, miller))})"


def _shape(k: int, crystal: Atoms, found: Sequence[Surface], work: Work, reporter: Reporter) -> Wulff | None:
    """The Wulff shape of one crystal from the lowest termination of each index; None if there is none."""
    from rutile.simulate.surfaces import wulff

    lowest: dict[tuple[int, int, int], float] = {}
    for one in found:
        if one.crystal == k and not one.failure:
            lowest[one.slab.miller] = min(one.energy, lowest.get(one.slab.miller, one.energy))
    try:
        return wulff(crystal, lowest) if lowest else None
    except GeometryError as error:
        reporter.warn(f"{work.names()[k][0]}: no Wulff shape: {error}")
        return None


def _with_shares(
    rows: Sequence[SurfaceRow], found: Sequence[Surface], shapes: Sequence[Wulff | None]
) -> list[SurfaceRow]:
    """The rows with the part of the shape's surface that each index has."""
    best: dict[tuple[int, tuple[int, int, int]], int] = {}
    for n, one in enumerate(found):
        key = (one.crystal, one.slab.miller)
        if not one.failure and (key not in best or one.energy < found[best[key]].energy):
            best[key] = n
    out = list(rows)
    for (k, miller), n in best.items():
        shape = shapes[k]
        if shape is not None:
            out[n] = rows[n].model_copy(update={"share": shape.share[miller]})
    return out


def _page(
    rows: Sequence[SurfaceRow],
    crystals: Sequence[Atoms],
    shapes: Sequence[Wulff | None],
    work: Work,
    settings: SurfaceTaskSettings,
) -> str:
    """The report."""
    from rutile.tasks.property_figures import MOST_CURVES, wulff_shape
    from rutile.train.report import Card, Facts, Figures, Section, render

    names = ["structure", "formula", "miller", "termination", "outcome", "energy", "energy_std", "unrelaxed", "share",
             "symmetric"]  # fmt: skip
    pictures = [
        (wulff_shape(unit_formula(crystal.numbers), shape, {_text(m): m for m in shape.share}),
         f"{source}; mean {shape.energy * JOULE_PER_M2:.3f} J/m².")
        for crystal, shape, (source, _) in zip(crystals, shapes, work.names(), strict=True)
        if shape is not None
    ][:MOST_CURVES]  # fmt: skip
    sections = [
        Section("Wulff shapes", [Figures(pictures)]),
        Section("Surface energies", table_of(rows, names)),
        Section("Settings", [Facts(settings.model_dump(mode="json"), "all settings")]),
    ]
    cards = [Card("crystals", str(len(crystals))), Card("surfaces", str(len(rows)))]
    return render("Surfaces", str(settings.model), cards, sections)


TASK = Task(
    "surfaces",
    SurfaceTaskSettings,
    SurfaceTaskResult,
    run,
    positional="structures",
    examples=(
        "rutile surfaces copper.cif model=run max_index=2",
        "rutile surfaces rutile.cif model=model.rutile miller=[[1,1,0],[1,0,0],[1,0,1]] thickness=20",
    ),
)
