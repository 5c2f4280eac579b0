"""Tables of results at any width: whole numbers, units in the headings, and what was left out."""

import io
import re

import pytest
from rich.console import Console

from rutile.cli.tables import columns_of, fitted

NAMES = ("structure", "formula", "outcome", "bulk_modulus", "bulk_modulus_std", "energy", "site", "debye_temperature")
UNITS = {"bulk_modulus": "GPa", "bulk_modulus_std": "GPa", "energy": "eV/atom", "debye_temperature": "K"}


def rows(count):
    return [
        {
            "structure": f"folder/of/a/long/name/metals.extxyz#{k}", "formula": "Cu31Al",
            "outcome": "not relaxed after 2000 steps", "bulk_modulus": 134.37 + k, "bulk_modulus_std": 0.25,
            "energy": -0.000132614 * (k + 1), "site": (0.25, 0.5, 0.75), "debye_temperature": 367.84,
        }
        for k in range(count)
    ]  # fmt: skip


def drawn(count, width):
    table, told = fitted(columns_of(NAMES, rows(count), UNITS), width, 1, "all are in eos/table.csv")
    console = Console(file=io.StringIO(), width=width, soft_wrap=True)
    console.print(table)
    return console.file.getvalue(), told


@pytest.mark.parametrize("width", [50, 80, 120, 200])
@pytest.mark.parametrize("count", [1, 3, 9])
def test_numbers_are_whole_and_no_line_is_too_long(count, width):
    text, told = drawn(count, width)
    assert max(map(len, text.rstrip("\n").split("\n"))) <= width
    numbers = {f"{row['bulk_modulus']:.5g}" for row in rows(count)}
    if "bulk modulus" not in told:
        assert numbers <= set(re.findall(r"[-0-9.e]+", text))
        assert text.count("± 0.25") == count
        assert "(GPa)" in text
    for name, value in (("energy", "-0.00013261"), ("debye temperature", "367.84")):
        assert (name in told) != (value in text)


def test_columns_that_do_not_fit_are_named_and_are_the_last_ones():
    _, told = drawn(9, 60)
    assert told.startswith("left out for want of width: ")
    assert "debye temperature (all are in eos/table.csv)" in told
    assert "bulk modulus" not in told


def test_few_rows_are_stacked_rather_than_cut():
    text, told = drawn(2, 60)
    assert not told
    assert re.search(r"debye temperature \(K\) +367.84 +367.84", text)


def test_the_folder_that_all_files_share_is_left_out():
    assert columns_of(["structure"], rows(2), {})[0].cells == ["metals.extxyz#0", "metals.extxyz#1"]
    mixed = [{"structure": "a/x.cif#0"}, {"structure": "b/x.cif#0"}]
    assert columns_of(["structure"], mixed, {})[0].cells == ["a/x.cif#0", "b/x.cif#0"]


def test_words_with_strokes_that_are_no_files_stay_whole():
    row = {"outcome": "failed: a force of 210 eV/Å", "guest": "C/C=C/C"}
    assert [c.cells for c in columns_of(list(row), [row], {})] == [[row["outcome"]], [row["guest"]]]
