"""`rutile elastic`: elastic tensors, stability, and moduli of polycrystals."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from rutile.core.files import folder_for_results
from rutile.core.reporting import Reporter
from rutile.core.settings import Result
from rutile.core.units import GPA, GigaPascal, Kelvin, KilometrePerSecond
from rutile.simulate.settings import ElasticSettings
from rutile.tasks.property import (
    DONE,
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
    from torch import Tensor

    from rutile.potentials.potential import Potential
    from rutile.structures.structures import Structures
    from rutile.tasks.property import Work

STRESSED = 0.5
"""Stress (GPa) of the unstrained cell above which the user is told that the constants are of a stressed crystal."""


class ElasticTaskSettings(ElasticSettings, GivenProperty):
    """Crystals, and how to strain them."""

    out: Path = Path("elastic")
    """Folder for table.csv, report.html and result.json."""


class ElasticRow(Result):
    """Elastic properties of one crystal."""

    structure: str
    """File and 0-based frame number."""
    formula: str
    """Composition."""
    outcome: str
    """done, or what went wrong."""
    tensor: list[list[GigaPascal]] = Field(repr=False)
    """C in the order xx yy zz yz xz xy of the axes of the structure, 6 rows of 6."""
    tensor_std: list[list[GigaPascal]] | None = Field(default=None, repr=False)
    """Standard deviation of a committee."""
    stable: bool
    """Whether all eigenvalues of C are positive (Born)."""
    stable_members: int | None = None
    """Members of a committee that find it stable."""
    lowest_eigenvalue: GigaPascal = Field(repr=False)
    """Of C in Mandel's form."""
    asymmetry: GigaPascal = Field(repr=False)
    """Largest difference of C and what came from the stresses before averaging: the numerical error."""
    stress: GigaPascal = Field(repr=False)
    """Largest component of the stress of the unstrained cell."""
    bulk_modulus: GigaPascal | None = None
    """Hill's mean of Voigt's and Reuss's; of stable crystals, as all below."""
    bulk_modulus_std: GigaPascal | None = None
    """Standard deviation of a committee."""
    shear_modulus: GigaPascal | None = None
    """Hill's mean."""
    shear_modulus_std: GigaPascal | None = None
    """Standard deviation of a committee."""
    young_modulus: GigaPascal | None = None
    """Of a polycrystal."""
    poisson_ratio: float | None = None
    """Of a polycrystal (dimensionless)."""
    bulk_voigt: GigaPascal | None = Field(default=None, repr=False)
    """Upper bound."""
    bulk_reuss: GigaPascal | None = Field(default=None, repr=False)
    """Lower bound."""
    shear_voigt: GigaPascal | None = Field(default=None, repr=False)
    """Upper bound."""
    shear_reuss: GigaPascal | None = Field(default=None, repr=False)
    """Lower bound."""
    anisotropy: float | None = None
    """Universal index; 0: isotropic (dimensionless)."""
    sound_along: KilometrePerSecond | None = Field(default=None, repr=False)
    """Speed of longitudinal sound."""
    sound_across: KilometrePerSecond | None = Field(default=None, repr=False)
    """Speed of transverse sound."""
    debye_temperature: Kelvin | None = None
    """From the speeds of sound."""


class ElasticTaskResult(PropertyResult):
    """Elastic properties, in the order given."""

    structures: list[ElasticRow]
    """One row for each structure."""


def run(settings: ElasticTaskSettings, reporter: Reporter) -> ElasticTaskResult:
    """Elastic tensors of crystals with relaxed atoms, Born stability, and moduli of polycrystals.

    All strained cells of all structures are worked on together.
    """
    work = begin(settings, reporter)
    with folder_for_results(settings.out):
        every: list[list[ElasticRow]] = []

        def of(potential: Potential, told: Reporter) -> tuple[list[ElasticRow], None]:
            every.append(_rows(work, potential, settings, told))
            return every[-1], None

        rows, _ = computed(of, work, settings, reporter)
        rows = _with_votes(rows, every[1:], reporter)
        result = ElasticTaskResult(structures=rows)
        result = write_result(settings.out, result, rows, _page(rows, settings))
    return result


def _with_votes(
    rows: Sequence[ElasticRow], members: Sequence[Sequence[ElasticRow]], reporter: Reporter
) -> list[ElasticRow]:
    """The rows with how many members of a committee find each crystal stable; the user is told where they disagree."""
    if not members:
        return list(rows)
    out = []
    for row, theirs in zip(rows, zip(*members, strict=True), strict=True):
        votes = sum(one.stable for one in theirs)
        out.append(row.model_copy(update={"stable_members": votes}))
        if votes not in (0, len(theirs)) or bool(votes) != row.stable:
            reporter.warn(
                f"{row.structure} ({row.formula}): the members of the committee disagree about its stability: "
                f"{votes} of {len(theirs)} find it stable, their mean {'too' if row.stable else 'does not'}; moduli "
                "without a spread are not those of all members; label strained cells of it, or trust none of them"
            )
    return out


def _rows(work: Work, potential: Potential, settings: ElasticTaskSettings, reporter: Reporter) -> list[ElasticRow]:
    """The rows by one potential."""
    from rutile.simulate.elastic import elastic_tensor

    how = part(settings, ElasticSettings)
    start, why = settled_crystals(work, potential, how, "an elastic tensor", reporter)
    found = elastic_tensor(start, potential, how, reporter)
    texts = outcomes([why, found.failure], work, reporter)
    rows = []
    for k, ((source, name), text, one) in enumerate(zip(work.names(), texts, start.split(), strict=True)):
        row = ElasticRow(
            structure=source,
            formula=name,
            outcome=text,
            asymmetry=float((found.raw[k] - found.tensor[k]).abs().max()) / GPA,
            stress=float(found.stress[k].abs().max()) / GPA,
            **_moduli(found.tensor[k], one),
        )
        rows.append(row)
        if row.stress > STRESSED:
            reporter.warn(f"{source} ({name}): under a stress of {row.stress:.2g} GPa; relax it for the constants of "
                          "the free crystal")  # fmt: skip
        if not row.stable and text == DONE:
            reporter.warn(f"{source} ({name}): not stable: C has the eigenvalue {row.lowest_eigenvalue:.3g} GPa")
    return rows


def _moduli(tensor: Tensor, structure: Structures) -> dict[str, Any]:
    """What follows from C."""
    from rutile.simulate.elastic import polycrystal, sound, stability

    lowest = float(stability(tensor)[0])
    known: dict[str, Any] = {
        "tensor": [[float(x) / GPA for x in row] for row in tensor],
        "stable": lowest > 0,
        "lowest_eigenvalue": lowest / GPA,
    }
    if lowest <= 0:
        return known
    mean = polycrystal(tensor)
    along, across, debye = sound(mean, structure)
    return known | {
        "bulk_modulus": mean.bulk / GPA,
        "shear_modulus": mean.shear / GPA,
        "young_modulus": mean.young / GPA,
        "poisson_ratio": mean.poisson,
        "bulk_voigt": mean.bulk_voigt / GPA,
        "bulk_reuss": mean.bulk_reuss / GPA,
        "shear_voigt": mean.shear_voigt / GPA,
        "shear_reuss": mean.shear_reuss / GPA,
        "anisotropy": mean.anisotropy,
        "sound_along": along,
        "sound_across": across,
        "debye_temperature": debye,
    }


def _page(rows: Sequence[ElasticRow], settings: ElasticTaskSettings) -> str:
    """The report."""
    from rutile.tasks.property_figures import MOST_CURVES
    from rutile.train.report import Block, Card, Facts, Figures, Section, Table, render

    names = ["structure", "formula", "outcome", "stable", "stable_members", "bulk_modulus", "bulk_modulus_std",
             "shear_modulus", "shear_modulus_std", "young_modulus", "poisson_ratio", "anisotropy",
             "debye_temperature"]  # fmt: skip
    axes = ("xx", "yy", "zz", "yz", "xz", "xy")
    drawn = [(_stiffness(row), row.structure) for row in rows if row.stable][:MOST_CURVES]
    tensors: list[Block] = [
        Table(
            ("GPa", *axes),
            [[axis, *(round(x, 3) + 0.0 for x in line)] for axis, line in zip(axes, row.tensor, strict=True)],
            f"{row.formula}, {row.structure}; error of the differences {row.asymmetry:.2g} GPa.",
        )
        for row in rows
    ]
    sections = [
        Section("Polycrystals", table_of(rows, names, "Means of Voigt's and Reuss's bounds (Hill).")),
        Section("Tensors", [*([Figures(drawn)] if drawn else []), *tensors]),
        Section("Settings", [Facts(settings.model_dump(mode="json"), "all settings")]),
    ]
    stable = sum(row.stable for row in rows)
    cards = [Card("structures", str(len(rows))), Card("stable", str(stable), f"of {len(rows)}")]
    return render("Elastic constants", str(settings.model), cards, sections)


def _stiffness(row: ElasticRow) -> str:
    """Young's modulus of one stable crystal around its three axes; what symmetry makes equal is one line."""
    import torch

    from rutile.simulate.elastic import young_along
    from rutile.tasks.property_figures import Line, panel

    angle = torch.linspace(0, torch.pi, 181, dtype=torch.float64)
    tensor = torch.tensor(row.tensor, dtype=torch.float64)
    lines: list[Line] = []
    for first, second in ((0, 1), (1, 2), (2, 0)):
        directions = torch.zeros(len(angle), 3, dtype=torch.float64)
        directions[:, first], directions[:, second] = angle.cos(), angle.sin()
        label = f"{'xyz'[first]} to {'xyz'[second]}"
        modulus = young_along(tensor, directions).numpy()
        same = next((k for k, line in enumerate(lines) if np.allclose(line.y, modulus, rtol=1e-3)), None)
        if same is None:
            lines.append(Line(label, torch.rad2deg(angle).numpy(), modulus))
        else:
            lines[same] = dataclasses.replace(lines[same], label=f"{lines[same].label}, {label}")
    return panel(f"{row.formula}, pulled one way", "angle (°)", "Young's modulus (GPa)", lines)


TASK = Task(
    "elastic",
    ElasticTaskSettings,
    ElasticTaskResult,
    run,
    positional="structures",
    examples=(
        "rutile elastic rutile.cif model=run",
        "rutile elastic polymorphs.extxyz model=committee.rutile strain=0.005",
    ),
)
