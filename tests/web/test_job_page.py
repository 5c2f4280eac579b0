"""The page of one job: what stands in its head, why it waits, its curves while it runs, its log that is followed."""

import re
import time

import pytest
from playwright.sync_api import expect

pytestmark = pytest.mark.web


def test_the_head_says_what_a_job_cost_read_and_made(site):
    tab = site.tab
    labelled = site.done("starter", names=["silicon"], name="data of the head")
    made = site.post("datasets", {"name": "silicon of the head", "file": f"job:{labelled}/silicon.extxyz"})["id"]
    site.open(f"/jobs/{labelled}")
    expect(tab.locator("p.facts")).to_contain_text(re.compile(r"Core hours \d"))
    expect(tab.locator("p.facts")).not_to_contain_text("GPU hours")
    links = tab.locator("p.links")
    expect(links).to_have_text(re.compile(r"^\s*Made\s+Data set\s+silicon of the head\s*$"))
    expect(links.get_by_role("link")).to_have_attribute("href", f"#/datasets/{made}")
    while site.get(f"datasets/{made}")["versions"][-1]["state"] == "reading":
        time.sleep(0.1)
    kept = site.post(
        "structures", {"name": "crystal of the head", "file": f"job:{labelled}/silicon.extxyz", "frame": 0}
    )
    tab.reload()
    expect(links.get_by_role("link", name="crystal of the head")).to_have_attribute(
        "href", f"#/structures/{kept['id']}"
    )
    site.open(f"/structures/{kept['id']}")
    expect(tab.get_by_role("link", name=f"job:{labelled}")).to_have_attribute("href", f"#/jobs/{labelled}")
    read = site.done("inspect", files=[f"dataset:{made}"])
    site.open(f"/jobs/{read}")
    expect(links).to_have_text(re.compile(r"^\s*Reads\s+Data set\s+silicon of the head\s*$"))
    assert site.barriers() == []


@pytest.fixture
def running(site):
    """A run of molecular dynamics that is at work, with a table and live curves."""
    cell = 'Lattice="3.6 0 0 0 3.6 0 0 0 3.6" Properties=species:S:1:pos:R:3 pbc="T T T"'
    text = f"4\n{cell}\nCu 0 0 0\nCu 0 1.8 1.8\nCu 1.8 0 1.8\nCu 1.8 1.8 0\n"
    structure = site.post("structures", {"name": "copper at work", "text": text, "format": "extxyz"})["id"]
    settings = {"structures": [f"structure:{structure}"], "model": "emt", "time": 1000.0, "every": 10}
    number = site.post("jobs", {"task": "md", "name": "at work", "settings": settings})["id"]
    while not (site.get(f"jobs/{number}/figures") and site.get(f"jobs/{number}/metrics")["rows"] > 2):
        assert site.get(f"jobs/{number}")["state"] in ("QUEUED", "STARTING", "RUNNING")
        time.sleep(0.3)
    yield number
    site.post("jobs/actions", {"action": "cancel", "ids": [number]})
    site.state(number, "CANCEL")


def test_each_quantity_of_a_run_is_drawn_once_while_it_runs_and_after(site, running):
    tab = site.tab
    site.open(f"/jobs/{running}")
    temperature = tab.get_by_role("img", name=re.compile("^temperature", re.IGNORECASE))
    tab.get_by_role("button", name="Show the structures").wait_for()
    expect(temperature).to_have_count(1)
    tab.get_by_role("button", name="Cancel").click()
    site.job("CANCEL")
    tab.get_by_role("img", name=re.compile("^temperature: ")).wait_for()
    expect(temperature).to_have_count(1)


def test_the_log_is_followed_until_one_scrolls_up(site, running):
    tab = site.tab
    site.open(f"/jobs/{running}?tab=log")
    log, follow = tab.get_by_role("log"), tab.get_by_role("checkbox", name="Follow")
    expect(follow).to_be_checked()
    log.evaluate("(box) => (box.style.maxHeight = '4rem')")
    below = "(box) => box.scrollHeight - box.scrollTop - box.clientHeight"
    lines = log.inner_text().count("\n")
    tab.wait_for_function("([box, n]) => box.innerText.split('\\n').length > n + 2", arg=[log.element_handle(), lines])
    tab.wait_for_function(f"(box) => ({below})(box) < 5", arg=log.element_handle())
    log.hover()
    tab.mouse.wheel(0, -2000)
    expect(follow).not_to_be_checked()
    assert log.evaluate(below) > 5


def test_who_asked_for_much_more_than_was_used_is_given_a_hint(site, running):
    while (site.get(f"jobs/{running}")["ran"] or 0) < 11:
        time.sleep(0.3)
    site.post("jobs/actions", {"action": "cancel", "ids": [running]})
    site.state(running, "CANCEL")
    site.open(f"/jobs/{running}?tab=performance")
    hint = site.tab.get_by_text(re.compile(r"Hint: used 0\.\d of 4 GB: ask for 1$"))
    hint.wait_for()
    assert site.barriers() == []
