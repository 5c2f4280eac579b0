"""Structures in a browser: what they are like, relaxed at once, changed by hand, and built from."""

import json
import re
from urllib.parse import unquote

import pytest
from playwright.sync_api import expect

pytestmark = pytest.mark.web
COPPER = '1\nLattice="0 1.9 1.9 1.9 0 1.9 1.9 1.9 0" Properties=species:S:1:pos:R:3 pbc="T T T"\nCu 0 0 0\n'


def test_a_structure_is_known_relaxed_and_changed(site):
    tab = site.tab
    number = site.post("structures", {"name": "wide copper", "text": COPPER})["id"]
    site.open(f"/structures/{number}")
    facts = tab.locator("section", has=tab.get_by_role("heading", name="What it is like"))
    facts.get_by_text("Fm-3m (225) fcc").wait_for()
    assert "7.692 g/cm³" in facts.inner_text()
    assert "2.687 Å" in facts.inner_text()
    assert site.barriers() == []

    relax = tab.get_by_role("region", name="Relax it now")
    relax.get_by_role("button", name="Choose a potential").click()
    tab.get_by_role("tab", name="Potentials that need no file").click()
    tab.get_by_role("button", name="emt").click()
    relax.get_by_role("button", name="Relax", exact=True).click()
    relax.get_by_role("button", name="Keep the result").click(timeout=90_000)
    tab.get_by_role("heading", name="wide copper, relaxed").wait_for()
    facts.get_by_text("Fm-3m (225) fcc").wait_for()
    frame = site.get(f"structures/{number + 1}/frames/0")
    edge = max(max(row) for row in frame["cell"])
    assert edge == pytest.approx(3.59 / 2, abs=0.02)  # EMT's copper

    tab.get_by_text("Change it by hand").click()
    tab.get_by_label("a", exact=True).fill("2")
    tab.get_by_label("Element of atom 0").fill("Au")
    assert site.barriers() == []
    tab.get_by_role("button", name="Keep as a new structure").click()
    tab.get_by_role("heading", name="wide copper, relaxed, changed").wait_for()
    made = site.get(f"structures/{number + 2}/frames/0")
    assert made["symbols"] == ["Au", "Au"]
    expected = [a + b for a, b in zip(made["positions"][0], frame["cell"][0], strict=True)]
    assert made["positions"][1] == pytest.approx(expected, abs=1e-6)
    assert made["cell"][0] == pytest.approx([2 * x for x in frame["cell"][0]], abs=1e-6)


def test_every_builder_is_one_click_away_and_its_form_is_right(site):
    tab = site.tab
    number = site.post("structures", {"name": "to build from", "text": COPPER})["id"]
    for path, least in (("/structures", 10), (f"/structures/{number}", 5)):
        site.open(path)
        links = tab.get_by_role("navigation", name="Build").get_by_role("link")
        links.nth(least - 1).wait_for()
        for link in links.all():
            settings = json.loads(unquote(re.search(r"settings=(.*)", link.get_attribute("href"))[1]).replace("+", " "))
            answer = site.post("tasks/build/check", {"settings": settings})
            assert answer["ok"], (link.inner_text(), answer["problems"])
    tab.get_by_role("link", name="Slab").click()
    tab.get_by_text("Ready to submit.").wait_for()
    expect(tab.get_by_label("Builder: kind")).to_have_value("slab")
    tab.get_by_role("button", name="Submit").click()
    job = site.job()
    assert site.get(f"jobs/{job}")["result"]["made"] >= 1
