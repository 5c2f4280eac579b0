"""Careless use of the page: two clicks where one was meant, forms sent as they are, wide tables on a small screen."""

import re
import time
from contextlib import ExitStack
from urllib.parse import quote

import pytest
from page_site import serving, signed_in
from playwright.sync_api import expect

pytestmark = [pytest.mark.web, pytest.mark.slow]


def form(site, task, settings):
    """A form that is filled in."""
    site.open(f"/new/{task}?settings={quote(settings)}")
    site.tab.get_by_role("button", name="Submit").wait_for()


def until(true, seconds=30):
    """Wait for something that is asked again and again."""
    for _ in range(10 * seconds):
        if true():
            return
        time.sleep(0.1)
    raise AssertionError(f"not within {seconds} s")


def test_a_double_click_makes_one_job(site):
    form(site, "doctor", "{}")
    site.tab.get_by_text("Ready to submit.").wait_for()
    before = site.get("jobs")["total"]
    site.tab.get_by_role("button", name="Submit").dblclick()
    site.job()
    assert site.get("jobs")["total"] == before + 1


def test_a_form_with_mistakes_is_sent_twice_and_says_each_mistake_once(site):
    form(site, "md", '{"model": "emt", "ensemble": {"name": "nvt"}}')
    said = site.tab.locator("[data-key=ensemble] .bad")
    for _ in range(2):
        site.tab.get_by_role("button", name="Submit").click()
        site.tab.get_by_role("alert").get_by_text("known are nve").wait_for()
        said.wait_for()
        assert said.count() == 1
    site.complaints = [one for one in site.complaints if "422" not in one]  # the answer that was asked for


def test_an_empty_form_says_what_is_needed_and_no_more(site):
    site.open("/new/relax")
    needed = site.tab.get_by_role("listitem").filter(has_text="is needed")
    expect(needed).to_have_text(["Model is needed", "Structures is needed"])
    site.tab.get_by_role("button", name="Submit").click()
    expect(site.tab.get_by_role("alert")).to_have_text("Model is needed; Structures is needed")
    expect(site.tab.locator("[data-key=model] .bad")).to_have_text("Model is needed")
    assert "please give it" not in site.tab.locator("main").inner_text()
    assert site.barriers() == []
    site.complaints = [one for one in site.complaints if "422" not in one]  # the answer that was asked for


@pytest.mark.timeout(300)
def test_what_was_built_is_seen_and_kept_where_its_job_ends(site):
    crystals = {"elements": ["Ti", "O"], "prototypes": ["rutile"]}
    number = site.done("build", builder={"name": "bulk", "crystals": crystals, "rattle": [0, 0], "count": 1})
    site.open(f"/jobs/{number}")
    site.tab.get_by_text("Ti2O4").first.wait_for()
    site.tab.get_by_role("button", name="Keep among the structures").dblclick()
    site.tab.get_by_role("heading", name=re.compile("^made before: built.extxyz")).wait_for()
    assert "/structures/" in site.tab.url
    mine = [one for one in site.get("structures")["items"] if one["name"].startswith("made before: built")]
    assert [one["formula"] for one in mine] == ["Ti2O4"]


def test_a_wide_table_has_a_shade_where_there_is_more_and_scrolls_by_keyboard(site):
    tab = site.tab
    whole = tab.viewport_size
    tab.set_viewport_size({"width": 400, "height": 800})
    try:
        site.open("/models")
        site.settled()
        site.open("/structures")
        table = tab.get_by_role("region", name="Find")
        table.wait_for()
        room, all_ = table.evaluate("(e) => [e.clientWidth, e.scrollWidth]")
        assert all_ > room
        assert "gradient" in table.evaluate("(e) => getComputedStyle(e).backgroundImage")
        table.focus()
        tab.keyboard.press("ArrowRight")
        until(lambda: table.evaluate("(e) => e.scrollLeft") > 0)
        assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
    finally:
        tab.set_viewport_size(whole)


def test_a_form_is_as_it_was_after_the_back_button_a_reload_and_another_sign_in(site, browser):
    with site.somebody_else(browser, "forgetful") as mine:
        tab = mine.tab
        form(mine, "md", "{}")
        tab.get_by_label("Time", exact=True).fill("3.25")
        tab.get_by_label("Name of the job").fill("my run")
        left = "(({settings, place} = {}) => settings?.time === 3.25 && place.name === 'my run')(history.state?.form)"
        until(lambda: tab.evaluate(left))

        def as_it_was():
            expect(tab.get_by_label("Time", exact=True)).to_have_value("3.25")
            expect(tab.get_by_label("Name of the job")).to_have_value("my run")

        mine.open("/jobs")
        tab.get_by_role("heading", name="Jobs", exact=True).wait_for()
        tab.go_back()
        as_it_was()
        tab.reload()
        as_it_was()
        other = tab.context.new_page()
        other.goto(f"{mine.address}/#/account")
        other.get_by_role("button", name="Sign out", exact=True).click()
        other.get_by_label("Password").wait_for()
        tab.get_by_role("button", name="Submit").click()
        tab.get_by_text("You were signed out").wait_for()
        number = next(one["id"] for one in site.get("admin/users") if one["name"] == "forgetful")
        other.goto(site.post(f"admin/users/{number}/link", {})["link"])
        other.get_by_role("heading", name="What would you like to do?").wait_for()
        tab.evaluate("dispatchEvent(new Event('focus'))")  # as when the tab is looked at again
        as_it_was()
        mine.open("/new/relax")
        tab.get_by_role("heading", name="relax", exact=True, level=1).wait_for()
        mine.open("/new/md")  # a form that is opened anew
        expect(tab.get_by_label("Time", exact=True)).to_have_value("10")
        expect(tab.get_by_label("Name of the job")).to_have_value("")


def test_a_server_that_is_away_is_told_of_and_its_return_is_noticed(tmp_path, browser):
    with ExitStack() as left:
        with serving(tmp_path) as told:
            page = left.enter_context(signed_in(told, browser))
            page.open("/jobs")
            page.settled()
        page.open("/searches")  # of which nothing is here yet
        away = page.tab.get_by_text("The server does not answer.")
        expect(away).to_be_visible(timeout=30_000)
        expect(page.tab.get_by_text("This page could not be loaded")).to_be_visible()
        with serving(tmp_path, f"port={told[0].rpartition(':')[2]}"):
            expect(page.tab.get_by_role("heading", name="Searches")).to_be_visible(timeout=30_000)
            expect(away).to_have_count(0)


def test_an_address_with_other_settings_is_another_form(site):
    tab = site.tab
    jobs = [site.done("doctor", name=f"cloned {k}") for k in range(2)]
    form(site, "md", '{"model": "emt"}')
    model = tab.locator("[data-key=model]").get_by_role("textbox")
    expect(model).to_have_value("emt")
    tab.evaluate("""() => (location.hash = '/new/md?settings={"model":"lennard_jones"}')""")
    expect(model).to_have_value("lennard_jones")
    tab.evaluate("() => (location.hash = '/new/md')")
    expect(model).to_have_value("")
    tab.go_back()
    expect(model).to_have_value("lennard_jones")
    name = tab.get_by_label("Name of the job")
    for number in jobs:
        tab.evaluate(f"() => (location.hash = '/new/doctor?clone={number}')")
        expect(name).to_have_value(f"cloned {jobs.index(number)}")
