"""Lists of stored things in a browser: sorted by their heads, walked through by keys, saved whole, begun by a click."""

import csv
import json
import re
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


@pytest.fixture
def one_of_each(site):
    """Something in every list."""
    data = f"job:{site.kept('starter', names=['silicon'])}/silicon.extxyz"
    site.post("structures", {"name": "of every kind", "text": ATOM.format("Ne")})
    site.post("datasets", {"name": "of every kind", "file": data})
    site.done("train", name="of every kind", data=[data], epochs=1, write_report=False)
    waits = {"formula": "Cu", "model": "emt"}
    site.post("jobs", {"task": "search", "settings": waits, "name": "of every kind", "cores": 64})
    return site


def test_columns_of_every_list_are_chosen_and_remembered(one_of_each):
    tab = one_of_each.tab
    hidden = {"structures": "Elements", "datasets": "Source", "models": "Precision", "searches": "Queue"}
    for page, title in hidden.items():
        one_of_each.open(f"/{page}?search=of+every+kind")
        tab.get_by_role("link", name="of every kind", exact=True).wait_for()
        heads, chooser = tab.locator("thead th"), tab.get_by_text("Columns", exact=True)
        before = heads.all_inner_texts()
        assert title not in before
        chooser.press("Enter")
        box = tab.get_by_role("group", name="Columns")
        expect(box.get_by_label("Name", exact=True)).to_be_disabled()
        box.get_by_label("Name", exact=True).locator("xpath=ancestor::li").get_by_role("button").last.press("Enter")
        box.get_by_label(title, exact=True).check()
        assert one_of_each.barriers() == []
        chosen = heads.all_inner_texts()
        assert title in chosen[-1]
        tab.reload()
        tab.get_by_role("link", name="of every kind", exact=True).wait_for()
        assert heads.all_inner_texts() == chosen != [*before, title]
        chooser.press("Enter")
        tab.get_by_role("button", name="As at first").press("Enter")
        assert heads.all_inner_texts() == before


def test_an_empty_list_is_begun_by_one_click(site, browser):
    words = {
        "structures": ("Put in rutile TiO2", r"/structures/\d+$"),
        "datasets": ("Put in labelled silicon", r"/datasets/\d+$"),
        "models": ("Train a small potential for silicon", r"/jobs/\d+$"),
        "searches": ("Search for crystals of copper", r"/searches/\d+$"),
    }
    with site.somebody_else(browser, "fresh") as page:
        for kind, (button, leads_to) in words.items():
            page.open(f"/{kind}?search=nothing+like+it")
            page.tab.get_by_text(re.compile("^No .* yet")).wait_for()
            expect(page.tab.get_by_role("button", name=button)).to_have_count(0)
            page.open(f"/{kind}")
            page.tab.get_by_role("button", name=button).wait_for()
            assert page.barriers() == []
            page.tab.get_by_role("button", name=button).click()
            page.tab.wait_for_url(re.compile(leads_to), timeout=90_000)
            page.tab.locator("main h1").wait_for()
            number = int(page.tab.url.rsplit("/", 1)[1])
            if kind == "structures":
                page.tab.get_by_text("P4_2/mnm (136) rutile").wait_for()
                assert page.get(f"structures/{number}")["formula"] == "Ti2O4"
            elif kind == "datasets":
                page.tab.get_by_role("heading", name="silicon").first.wait_for()
            else:  # that such a training ends well is seen in the story of the guided examples
                assert page.get(f"jobs/{number}")["state"] in ("QUEUED", "STARTING", "RUNNING", "DONE")
                page.post(f"jobs/{number}/cancel", {})
        assert page.complaints == []
