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
    read = site.done("inspect", files=[f"dataset:{made}"])
    site.open(f"/jobs/{read}")
    expect(links).to_have_text(re.compile(r"^\s*Reads\s+Data set\s+silicon of the head\s*$"))
    assert site.barriers() == []
