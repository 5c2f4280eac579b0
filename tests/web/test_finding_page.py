"""The box that finds everything, and the one that says why a job failed, in a browser."""

import re

import pytest
from playwright.sync_api import expect

pytestmark = pytest.mark.web


def test_the_slash_leads_to_a_box_that_finds_by_keyboard(site):
    site.post("structures", {"name": "needle in hay", "text": "1\n\nCu 0 0 0\n"})
    site.open("/compute")
    tab = site.tab
    tab.locator("main h1").wait_for()
    tab.keyboard.press("/")
    tab.keyboard.type("needle")
    box = tab.get_by_role("combobox", name="Find anything")
    expect(box).to_be_focused()
    hits = tab.get_by_role("listbox", name="What was found").get_by_role("option")
    expect(hits).to_have_count(1, timeout=30_000)
    expect(hits.first).to_have_text(re.compile("Structure.*needle in hay"))
    assert box.get_attribute("aria-activedescendant") == hits.first.get_attribute("id")
    assert site.barriers() == []
    tab.keyboard.press("Enter")
    tab.get_by_role("heading", name="needle in hay").wait_for()
    tab.keyboard.press("/")
    tab.keyboard.type("potential")
    tab.get_by_role("option").nth(1).wait_for()
    first = box.get_attribute("aria-activedescendant")
    tab.keyboard.press("ArrowDown")
    assert box.get_attribute("aria-activedescendant") != first
    tab.keyboard.press("Escape")
    expect(tab.get_by_role("option").first).to_be_hidden()
    site.open("/jobs")
    tab.get_by_label("Find", exact=True).press("/")
    expect(tab.get_by_label("Find", exact=True)).to_have_value("/")
    tab.get_by_label("Find", exact=True).fill("")


def test_a_failure_says_its_cause_and_is_mended_by_a_click(site):
    site.open("/")
    wish = {"task": "doctor", "settings": {}, "name": "small", "memory": 0.001, "tags": ["mended"]}
    number = site.post("jobs", wish)["id"]
    site.open(f"/jobs/{number}")
    tab = site.tab
    site.job("FAIL")
    box = tab.get_by_role("region", name="Why it failed")
    box.get_by_text("It needed more memory than it had asked for.").wait_for()
    assert "more than its 0.001 GB" in box.inner_text()
    assert site.barriers() == []
    box.get_by_role("button", name="Run again with 2 GB").click()
    tab.wait_for_url(re.compile(rf"/jobs/(?!{number}$)\d+$"))
    assert site.job() > number
