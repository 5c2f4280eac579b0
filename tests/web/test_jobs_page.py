"""The list of jobs in a browser: columns, keyboard, days, files, and a telephone."""

import csv
import re
import zipfile
from pathlib import Path

import pytest
from playwright.sync_api import expect

pytestmark = pytest.mark.web


def heads(site):
    return [text.strip(" ▲▼") for text in site.tab.locator("thead th").all_inner_texts()]


@pytest.fixture
def listed(site):
    """Three jobs that wait for more cores than there are, and the list of them."""
    for name in ("alpha", "beta", "gamma"):
        wish = {"task": "doctor", "settings": {"folder": f"for-{name}"}, "name": name, "tags": ["listed"], "cores": 64}
        if not site.get(f"jobs?tag=listed&search=for-{name}")["total"]:
            site.post("jobs", wish)
    site.open("/jobs?tag=listed&sort=name")
    site.tab.get_by_role("link", name="alpha", exact=True).wait_for()
    return site


def test_columns_are_chosen_ordered_and_remembered(listed):
    tab = listed.tab
    assert "Owner" not in heads(listed)
    tab.get_by_text("Columns", exact=True).click()
    box = tab.get_by_role("group", name="Columns")
    box.get_by_label("Owner", exact=True).check()
    box.get_by_label("Efficiency", exact=True).uncheck()
    for _ in range(len(heads(listed))):
        mover = box.get_by_role("button", name="Move Owner to the left")
        if mover.is_disabled():
            break
        mover.press("Enter")
    assert listed.barriers() == []
    assert heads(listed)[1] == "Owner"
    tab.reload()
    tab.get_by_role("link", name="alpha", exact=True).wait_for()
    assert heads(listed)[1] == "Owner"
    assert "Efficiency" not in heads(listed)
    tab.get_by_text("Columns", exact=True).click()
    tab.get_by_role("button", name="As at first").click()
    assert heads(listed)[1] == "ID"
    assert "Efficiency" in heads(listed)


def test_arrow_keys_walk_and_the_space_bar_selects(listed):
    tab = listed.tab
    tab.get_by_role("link", name="alpha", exact=True).focus()
    tab.keyboard.press("ArrowDown")
    tab.keyboard.press("Space")
    tab.keyboard.press("End")
    tab.keyboard.press("Space")
    tab.get_by_text("2 selected").wait_for()
    assert tab.locator("[data-open]:focus").inner_text() == "gamma"
    tab.keyboard.press("Home")
    tab.keyboard.press("Enter")
    tab.get_by_role("heading", name=re.compile("alpha")).wait_for()


def test_days_narrow_the_list_and_all_of_it_leaves_as_a_file(listed):
    tab = listed.tab
    tab.get_by_label("From", exact=True).fill("2001-02-03")
    tab.wait_for_url(re.compile(r"since=98\d+"))
    tab.get_by_label("to", exact=True).fill("2001-02-03")
    tab.get_by_text("No job fits this filter.").wait_for()
    tab.get_by_label("to", exact=True).fill("")
    tab.get_by_label("Find", exact=True).fill("for-beta")
    expect(tab.locator("tbody tr")).to_have_count(1)
    with tab.expect_download() as download:
        tab.get_by_role("link", name="All as CSV").click()
    rows = list(csv.DictReader(Path(download.value.path()).read_text(encoding="utf-8").splitlines()))
    assert [row["name"] for row in rows] == ["beta"]


def test_on_a_telephone_jobs_are_cards(listed):
    tab = listed.tab
    tab.set_viewport_size({"width": 400, "height": 900})
    try:
        cards = tab.get_by_role("list", name="Jobs").get_by_role("listitem")
        expect(cards).to_have_count(3)
        assert tab.evaluate("document.documentElement.scrollWidth") <= 400
        assert tab.locator("table").count() == 0
        assert cards.first.bounding_box()["y"] < 600
        find, filters = tab.get_by_label("Find", exact=True), tab.get_by_text("Filters", exact=True)
        expect(find).to_be_hidden()
        filters.focus()
        tab.keyboard.press("Enter")
        expect(find).to_be_visible()
        assert listed.barriers() == []
        filters.press("Enter")
        expect(find).to_be_hidden()
        cards.first.get_by_text("Actions").click()
        expect(cards.first.get_by_role("link", name="Clone and edit")).to_be_visible()
        assert listed.barriers() == []
    finally:
        tab.set_viewport_size({"width": 1400, "height": 900})
    expect(tab.get_by_label("Find", exact=True)).to_be_visible()


def test_what_jobs_wrote_is_downloaded_from_the_list(listed):
    tab = listed.tab
    numbers = [listed.done("starter", name="to take home", names=[name]) for name in ("silicon", "silicon")]
    expect(tab.get_by_role("link", name=re.compile("^Download"))).to_have_count(0)  # they have not begun
    listed.open("/jobs?search=to take home")
    tab.get_by_role("link", name="to take home", exact=True).nth(1).wait_for()
    with tab.expect_download() as one:
        tab.get_by_role("link", name=f"Download {numbers[0]}", exact=True).click()
    folders = {name.split("/")[0] for name in zipfile.ZipFile(one.value.path()).namelist()}
    assert [folder.rpartition("-")[2] for folder in folders] == [str(numbers[0])]
    for number in numbers:
        tab.get_by_label(f"Select job {number}", exact=True).check()
    with tab.expect_download() as both:
        tab.get_by_role("group", name="Actions").get_by_role("link", name="Download").click()
    folders = {name.split("/")[0] for name in zipfile.ZipFile(both.value.path()).namelist()}
    assert {int(folder.rpartition("-")[2]) for folder in folders} == set(numbers)


def test_a_form_says_that_a_job_would_wait_for_ever(site):
    site.open("/new/doctor")
    warning = site.tab.get_by_text("local has 2 cores and 16 GB: a job that asks for more waits for ever.")
    cores, memory = (site.tab.get_by_label(name, exact=True) for name in ("Cores", "Memory (GB)"))
    cores.fill("64")
    warning.wait_for()
    assert site.barriers() == []
    cores.fill("2")
    warning.wait_for(state="detached")
    memory.fill("100")
    warning.wait_for()
    memory.fill("4")
    warning.wait_for(state="detached")


def test_a_job_gets_another_name_and_tags_on_its_page(site):
    number = site.done("starter", names=["silicon"])
    site.open(f"/jobs/{number}")
    site.tab.get_by_role("button", name="Name and tags").click()
    dialog = site.tab.get_by_role("dialog", name="Name and tags")
    dialog.get_by_label("Name").fill("silicon of Tuesday")
    dialog.get_by_label("Tags").fill("silicon, first try")
    assert site.barriers() == []
    dialog.get_by_role("button", name="Save").click()
    site.tab.get_by_role("heading", name="silicon of Tuesday").wait_for()
    site.tab.get_by_role("link", name="first try").click()
    site.tab.get_by_role("link", name="silicon of Tuesday").wait_for()
    assert site.get(f"jobs/{number}")["tags"] == ["silicon", "first try"]
