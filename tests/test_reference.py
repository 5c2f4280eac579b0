"""The reference is fresh and complete: every setting has a meaning, every quantity a unit."""

import re
from pathlib import Path
from typing import get_args

import pytest

from rutile.cli.reference import all_settings, nested, pages
from rutile.core.describe import entries, full_annotation, is_model, strip
from rutile.tasks.catalogue import all_tasks
from rutile.tasks.property import PropertyResult

FOLDER = Path(__file__).parent.parent / "docs" / "reference"
QUANTITY = re.compile(
    r"(^|_)(cutoff|radius|distance|length|width|fmax|temperature|pressure|timestep|time|memory|skin|energy|force|stress)$"
)
"""Names of settings that are quantities with a dimension when their type is a number."""


def test_pages_are_fresh():
    found = {p.name: p.read_text(encoding="utf-8") for p in FOLDER.glob("*.md")}
    fresh = pages()
    stale = sorted(n for n in found.keys() | fresh.keys() if found.get(n) != fresh.get(n))
    assert not stale, f"run `make docs`: {stale}"


@pytest.mark.parametrize("cls", all_settings(), ids=lambda c: c.__name__)
def test_every_setting_says_what_it_is(cls):
    assert (cls.__doc__ or "").strip()
    for entry in entries(cls):
        assert len(entry.meaning) > 5, f"{cls.__name__}.{entry.key} has no docstring"


@pytest.mark.parametrize("cls", all_settings(), ids=lambda c: c.__name__)
def test_every_quantity_has_a_unit(cls):
    for name, field in cls.model_fields.items():
        entry = next(e for e in entries(cls) if e.key == name)
        kind = strip(full_annotation(field))
        number = kind is float or float in map(strip, get_args(kind))
        if number and not is_model(kind) and QUANTITY.search(name):
            told = any(word in entry.meaning.lower() for word in ("dimensionless", "prefactor", "'s length unit"))
            assert entry.unit or told, f"{cls.__name__}.{name} has no unit"


def floats_inside(kind):
    kind = strip(kind)
    return kind is float or any(map(floats_inside, get_args(kind)))


@pytest.mark.parametrize("task", [t for t in all_tasks() if issubclass(t.result, PropertyResult)], ids=lambda t: t.name)
def test_every_number_of_a_property_has_a_unit_or_says_that_it_has_none(task):
    for cls in (task.result, *nested(task.result)):
        for entry, field in zip(entries(cls), cls.model_fields.values(), strict=True):
            if floats_inside(full_annotation(field)):
                assert entry.unit or "dimensionless" in entry.meaning or "`unit`" in entry.meaning, (
                    f"{cls.__name__}.{entry.key} has no unit"
                )
