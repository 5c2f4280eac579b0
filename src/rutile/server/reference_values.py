"""Properties that a model found beside those of a reference: another job, typed values, curves of a data set."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from rutile.core.settings import Result, Settings
from rutile.core.units import BOHR, GPA
from rutile.jobs.tables import Job
from rutile.server import forms
from rutile.server.volume_curves import VolumeCurve, reduced

PROPERTIES: dict[str, tuple[str, ...]] = {
    "eos": ("volume", "bulk_modulus", "bulk_derivative"),
    "elastic": (
        "bulk_modulus", "shear_modulus", "young_modulus", "poisson_ratio", "anisotropy", "debye_temperature",
    ),
    "phonons": ("lowest", "highest", "splitting", "zero_point", "free_energy", "entropy", "heat_capacity"),
}  # fmt: skip
"""Tasks whose results are compared, with columns of their results."""
CONSTANTS = tuple(f"C{i + 1}{j + 1}" for i in range(6) for j in range(i, 6))
"""Elastic constants in the order xx yy zz yz xz xy of the axes of the structure."""
ZERO = 0.5
"""Elastic constants (GPa) below this in model and reference alike are zero by symmetry, and left out."""
SMALL = 1e-4
"""Of a reference nearer to 0 than this (in the unit of the property) no part in % is told: it would be rounding."""
FACTORS: dict[str, dict[str, float]] = {
    "GPa": {"GPa": 1.0, "kbar": 0.1, "Mbar": 100.0, "eV/Å³": 1 / GPA},
    "Å³/atom": {"Å³/atom": 1.0, "bohr³/atom": BOHR**3},
    "THz": {"THz": 1.0, "1/cm": 0.0299792458, "meV": 0.2417989242},
    "eV/atom": {"eV/atom": 1.0, "meV/atom": 1e-3, "kJ/mol": 0.01036426965626},
    "k_B/atom": {"k_B/atom": 1.0, "J/mol/K": 1 / 8.314462618},
    "K": {"K": 1.0},
    "": {"": 1.0},
}
"""Units that values are given in, by the unit of the property."""
TYPED = "typed"
"""The reference that typed values are."""


class TypedValue(Settings):
    """A value that somebody knows from elsewhere: an experiment, a paper, another program."""

    structure: Annotated[str, Field(min_length=1, max_length=500)]
    """A structure as the result names it (inputs/diamond.extxyz#0), or a composition."""
    property: Annotated[str, Field(min_length=1, max_length=50)]
    """Such as bulk_modulus, volume, C11 or highest."""
    value: float = Field(allow_inf_nan=False)
    """In its unit."""
    unit: Annotated[str, Field(max_length=20)] = ""
    """Such as GPa; empty for a number without one."""
    source: Annotated[str, Field(min_length=1, max_length=500)]
    """Where it is from."""


class ComparedValue(Result):
    """One property of one structure."""

    structure: str
    """As the result of the model names it."""
    formula: str
    """Composition."""
    property: str
    """Which."""
    unit: str
    """Of both values; empty: dimensionless."""
    value: float
    """By the model."""
    reference: float
    """By the reference."""
    percent: float | None
    """Difference in % of the reference; null where that is 0, or nearly."""
    source: str
    """Where the reference is from."""


@dataclass(frozen=True)
class Known:
    """What a reference says of a structure."""

    values: Mapping[str, float]
    """Property -> value in the unit of the property."""
    sources: Mapping[str, str]
    """Property -> where it is from."""
    row: Mapping[str, Any] | None = None
    """Of another job: the row of its result."""
    curve: VolumeCurve | None = None
    """Of a data set: energy by volume."""


def units_of_properties(task: str) -> dict[str, str]:
    """Property -> unit of all that is compared of a task."""
    units = forms.result_units(task)
    known = {name: units.get(f"structures.{name}", "") for name in PROPERTIES[task]}
    return known | (dict.fromkeys(CONSTANTS, "GPa") if task == "elastic" else {})


def wrong_with(value: TypedValue) -> str:
    """What is wrong with a typed value; "" if nothing."""
    every: dict[str, str] = {}
    for task in PROPERTIES:
        every |= units_of_properties(task)
    if value.property not in every:
        return f"property = {value.property}: expected one of {', '.join(every)}"
    units = FACTORS[every[value.property]]
    if value.unit not in units:
        return (
            f"unit = {value.unit}: {value.property} has one of {', '.join(units) if units != {'': 1.0} else 'no unit'}"
        )
    return ""


def rows_of_result(told: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows of a result that are of a structure with a composition."""
    rows = told.get("structures")
    return [row for row in rows if _is_row(row)] if isinstance(rows, list) else []


def _is_row(row: Any) -> bool:
    if not (isinstance(row, dict) and isinstance(row.get("structure"), str) and isinstance(row.get("formula"), str)):
        return False
    try:
        return bool(reduced(row["formula"]))
    except (ValueError, KeyError):
        return False


def numbers_of(task: str, row: Mapping[str, Any]) -> dict[str, float]:
    """Property -> value of one row of a result."""
    found = {name: row.get(name) for name in PROPERTIES[task]}
    tensor = np.asarray(row.get("tensor") or np.zeros((0, 0)), float)
    if tensor.shape == (6, 6):
        found |= {f"C{i + 1}{j + 1}": float(tensor[i, j]) for i in range(6) for j in range(i, 6)}
    return {name: float(x) for name, x in found.items() if isinstance(x, int | float) and math.isfinite(x)}


def of_typed(values: list[TypedValue], task: str) -> Callable[[Mapping[str, Any]], Known | None]:
    """What typed values say: those of the structure itself go before those of its composition."""
    units = units_of_properties(task)

    def known(row: Mapping[str, Any]) -> Known | None:
        names = (reduced(row["formula"]), row["formula"], row["structure"])
        fits = [one for name in names for one in values if one.structure == name and one.property in units]
        found = {one.property: one.value * FACTORS[units[one.property]][one.unit] for one in fits}
        return Known(found, {one.property: one.source for one in fits}) if found else None

    return known


def of_job(own: Job, other: Job, rows: list[dict[str, Any]], mine: list[dict[str, Any]]) -> Callable[..., Known | None]:
    """What another job of the same task says: of the same structure, or of the only one of this composition."""
    same = {_identity(other, row): row for row in rows}
    alone = {one: row for one, row in _by_formula(rows).items() if one in _by_formula(mine)}

    def known(row: Mapping[str, Any]) -> Known | None:
        partner = same.get(_identity(own, row)) or alone.get(reduced(row["formula"]))
        if partner is None:
            return None
        values = numbers_of(own.task, partner)
        return Known(values, dict.fromkeys(values, f"job:{other.id}"), row=partner)

    return known


def of_curves(curves: Callable[[str], list[VolumeCurve]], source: str) -> Callable[[Mapping[str, Any]], Known | None]:
    """What a data set says: of the crystals of a composition the one whose volume is nearest to the model's."""

    def known(row: Mapping[str, Any]) -> Known | None:
        there = curves(reduced(row["formula"]))
        if not there or row.get("volume") is None:
            return None
        one = min(there, key=lambda curve: abs(curve.fit.volume - row["volume"]))
        values = {"volume": one.fit.volume, "bulk_modulus": one.fit.bulk / GPA, "bulk_derivative": one.fit.slope}
        return Known(values, dict.fromkeys(values, f"{source}, {len(one.frames)} structures"), curve=one)

    return known


def compared(task: str, row: Mapping[str, Any], known: Known) -> Iterator[ComparedValue]:
    """Values of one row beside those of the reference, of what both have."""
    units, values = units_of_properties(task), numbers_of(task, row)
    for name, unit in units.items():
        if name not in values or name not in known.values:
            continue
        value, reference = values[name], known.values[name]
        if name in CONSTANTS and max(abs(value), abs(reference)) < ZERO:
            continue
        yield ComparedValue(
            structure=row["structure"], formula=row["formula"], property=name, unit=unit, value=value,
            reference=reference, percent=100 * (value - reference) / abs(reference) if abs(reference) > SMALL else None,
            source=known.sources[name],
        )  # fmt: skip


def _identity(job: Job, row: Mapping[str, Any]) -> tuple[str, str]:
    """Content or reference of the file of a structure, and its number there."""
    name, _, number = str(row["structure"]).removeprefix("inputs/").rpartition("#")
    for one in job.inputs:
        if one["name"] == name:
            return one["sha256"] or one["reference"], number
    return name, number


def _by_formula(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Rows whose reduced composition no other row has."""
    names = [reduced(row["formula"]) for row in rows]
    return {name: row for name, row in zip(names, rows, strict=True) if names.count(name) == 1}
