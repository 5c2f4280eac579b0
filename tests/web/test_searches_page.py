"""A search in a browser: watched, paused, gone on with; its hull, its gallery, a family, a structure that is kept."""

import re

import pytest
from playwright.sync_api import expect

pytestmark = pytest.mark.web


def test_a_search_is_watched_paused_and_gone_on_with(site):
    tab = site.tab
    settings = {"formula": "Cu-Au", "model": "emt", "relaxations": 4000, "first": 6, "structure": {"atoms": [2, 4]}}
    number = site.post("jobs", {"task": "search", "name": "gold", "settings": settings})["id"]
    site.open("/searches")
    tab.get_by_role("link", name="gold", exact=True).click()
    gallery = tab.locator("section", has=tab.get_by_role("heading", name="Lowest structures"))
    gallery.get_by_role("button").nth(5).wait_for(timeout=60_000)
    tab.get_by_role("img", name="Convex hull").wait_for()
    tab.get_by_role("button", name="Pause").click()
    tab.get_by_role("heading", name="gold CANCEL").wait_for()
    done = site.get(f"searches/{number}")["done"]

    gallery.get_by_role("button").first.click()
    lowest = site.get(f"searches/{number}")["found"][0]
    chosen = tab.get_by_role("region", name="Chosen structure")
    chosen.get_by_role("heading", name=f"{lowest['formula']} #{lowest['number']}").wait_for()
    chosen.locator(".scene canvas").wait_for(timeout=60_000)
    assert site.barriers() == []
    chosen.get_by_role("button", name="Keep it").click()
    tab.get_by_role("heading", name=f"{lowest['formula']} #{lowest['number']} (job {number})").wait_for()
    kept = site.get("structures")["items"][0]
    assert kept["formula"] == lowest["formula"]

    site.open(f"/searches/{number}")
    tab.get_by_role("button", name="Go on").click()
    tab.wait_for_url(re.compile(rf"/searches/(?!{number}$)\d+$"))
    relaxed = tab.locator("dd").nth(1)
    expect(relaxed).not_to_have_text("0", timeout=60_000)
    assert int(relaxed.inner_text()) >= done
    tab.get_by_role("button", name="Pause").click()
    tab.get_by_role("heading", name="gold CANCEL").wait_for()
