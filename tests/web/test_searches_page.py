"""A search in a browser: watched, paused, gone on with; its hull, its gallery, a family, a structure that is kept."""

import re

import pytest
from playwright.sync_api import expect

from rutile.testing.adaptive_plan import QUICK

pytestmark = pytest.mark.web


def test_a_search_is_watched_paused_and_gone_on_with(site):
    tab = site.tab
    settings = {"formula": "Cu-Au", "model": "emt", "relaxations": 4000, "first": 6, "structure": {"atoms": [2, 4]}}
    number = site.post("jobs", {"task": "search", "name": "gold watched", "settings": settings})["id"]
    site.open("/searches")
    tab.get_by_role("link", name="gold watched", exact=True).click()
    gallery = tab.locator("section", has=tab.get_by_role("heading", name="Lowest structures"))
    gallery.get_by_role("button").nth(5).wait_for(timeout=60_000)
    tab.get_by_role("img", name="Convex hull").wait_for()
    tab.get_by_role("button", name="Pause").click()
    tab.get_by_role("heading", name="gold watched CANCEL").wait_for()
    done = site.get(f"searches/{number}")["done"]

    gallery.get_by_text(
        re.compile(r"\b(fcc|P4/mmm|Fm-3m|L1_0|L1_2|Pm-3m|P[-\d]|C2/m|Cmmm|I4/mmm|R-3m)")
    ).first.wait_for()
    with tab.expect_download() as file:
        tab.get_by_role("link", name="extxyz").click()
    assert file.value.path().read_text().count("Lattice=") == 10
    gallery.get_by_role("button").first.click()
    lowest = site.get(f"searches/{number}")["found"][0]
    chosen = tab.get_by_role("region", name="Chosen structure")
    chosen.get_by_role("heading", name=f"{lowest['formula']} #{lowest['number']}").wait_for()
    chosen.locator(".scene canvas").wait_for(timeout=60_000)
    assert site.barriers() == []
    tab.get_by_role("button", name="Keep it").first.click()
    tab.wait_for_url(re.compile("/structures/"))
    assert site.get("structures")["items"][0]["frames"] == 10
    site.open(f"/searches/{number}")
    gallery.get_by_role("button").first.click()
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
    tab.get_by_role("heading", name="gold watched CANCEL").wait_for()


@pytest.mark.long
def test_a_search_of_three_elements_has_a_triangle(site):
    tab = site.tab
    settings = {"formula": "Cu-Au-Pt", "model": "emt", "relaxations": 40, "structure": {"atoms": [1, 4]}}
    number = site.done("search", **settings)
    site.open(f"/jobs/{number}")
    tab.get_by_role("link", name="What the search found").click()
    tab.wait_for_url(re.compile(rf"/searches/{number}$"))
    figure = tab.get_by_role("img", name="Convex hull: Au, Cu, Pt")
    figure.wait_for()
    assert figure.locator("line").count() >= 3
    table = tab.get_by_role("region", name="Above the hull (meV/atom)")
    assert [float(n) for n in table.locator("td:last-child").all_inner_texts()][:3] == [0.0] * 3
    point = figure.locator("circle").last
    point.click(force=True)
    tab.get_by_role("region", name="Chosen structure").wait_for()
    assert figure.locator("circle.chosen").count() == 1
    assert site.barriers() == []


def test_a_potential_that_a_search_learned_is_promoted_on_its_page(site):
    tab = site.tab
    number = site.kept("adapt", **QUICK)
    site.open(f"/searches/{number}")
    workers = tab.get_by_role("img", name="Workers that are busy, and what they saved")
    expect(workers).to_have_attribute("aria-label", re.compile("search, label, train, structures, labels$"))
    seen = site.get(f"searches/{number}")
    assert seen["saved"][-1]["structures"] == len(seen["found"])
    learned = tab.get_by_role("region", name="The potential that it learned")
    expect(learned).to_contain_text("energy RMSE")
    (model,) = site.get(f"models?job={number}")["items"]
    for stage in ("validated", "production"):
        with tab.expect_response(re.compile(rf"/api/models/{model['id']}$")):
            learned.get_by_label("Stage").select_option(stage)
        assert site.get(f"models/{model['id']}")["stage"] == stage
    assert site.barriers() == []
    learned.get_by_role("link", name=model["name"]).click()
    expect(tab.get_by_label("Stage")).to_have_value("production")


def test_a_job_that_is_no_search_says_so_and_leads_to_its_page(site):
    number = site.kept("starter", names=["silicon"])
    site.open(f"/searches/{number}")
    site.tab.get_by_text("This job is no search.").wait_for()
    assert site.tab.locator("main").get_by_role("button").count() == 0
    assert site.barriers() == []
    site.tab.locator("main").get_by_role("link", name=f"Job {number}").click()
    assert site.job() == number
    assert site.tab.get_by_role("link", name="What the search found").count() == 0
