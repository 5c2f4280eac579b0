"""Lists of stored things in a browser: sorted by their heads, walked through by keys, saved whole."""

import csv
import json
from pathlib import Path

import pytest
from playwright.sync_api import expect

pytestmark = pytest.mark.web
ATOM = "1\n\n{} 0 0 0\n"


def test_a_list_is_sorted_walked_through_and_saved(site):
    tab = site.tab
    for name, element in (("=tall list", "Ne"), ("Second, tall list", "He"), ("a tall list", "Ar")):
        site.post("structures", {"name": name, "text": ATOM.format(element)})
    site.open("/structures?search=tall+list")
    names = tab.locator("tbody a[data-open]")
    expect(names).to_have_text(["a tall list", "Second, tall list", "=tall list"])
    tab.get_by_role("button", name="Formula").click()
    expect(names).to_have_text(["a tall list", "Second, tall list", "=tall list"])
    tab.get_by_role("button", name="Formula").click()
    expect(names).to_have_text(["=tall list", "Second, tall list", "a tall list"])
    assert "sort=-formula" in tab.url
    assert tab.locator("th[aria-sort=descending]").inner_text() == "Formula ▼"
    assert site.barriers() == []

    names.first.focus()
    tab.keyboard.press("ArrowDown")
    expect(names.nth(1)).to_be_focused()
    tab.keyboard.press("End")
    expect(names.nth(2)).to_be_focused()
    tab.keyboard.press("ArrowDown")
    expect(names.nth(2)).to_be_focused()
    tab.keyboard.press("Home")
    expect(names.nth(0)).to_be_focused()

    saved = {}
    for kind in ("CSV", "JSON"):
        with tab.expect_download() as download:
            tab.get_by_role("button", name=f"All as {kind}").click()
        assert download.value.suggested_filename == f"structures.{kind.lower()}"
        saved[kind] = Path(download.value.path()).read_text(encoding="utf-8")
    rows = list(csv.DictReader(saved["CSV"].splitlines()))
    assert [row["name"] for row in rows] == ["'=tall list", "Second, tall list", "a tall list"]
    assert json.loads(rows[0]["elements"]) == ["Ne"]
    assert [one["name"] for one in json.loads(saved["JSON"])] == ["=tall list", "Second, tall list", "a tall list"]
    tab.keyboard.press("Enter")
