"""The log of a job in a browser: errors are marked, and lines that tell of errors are shown alone."""

import pytest
from playwright.sync_api import expect

pytestmark = [pytest.mark.web, pytest.mark.slow]


def test_errors_are_marked_and_shown_alone(site):
    silicon = site.post("structures", {"name": "dimer", "text": "2\n\nSi 0 0 0\nSi 0 0 2.3\n"})["id"]
    settings = {"model": "emt", "structures": [f"structure:{silicon}"]}
    number = site.post("jobs", {"task": "elastic", "name": "of a dimer", "settings": settings})["id"]
    site.state(number, "FAIL")
    site.open(f"/jobs/{number}?tab=log")
    log = site.tab.get_by_role("log", name="Log")
    errors = log.locator(".bad", has_text="error:")
    expect(errors).to_have_count(1)
    told = errors.inner_text().strip()
    site.tab.get_by_label("Lines").select_option("errors")
    expect(site.tab.get_by_text("1 line", exact=True)).to_be_visible()
    expect(log).to_contain_text(told)
    assert site.barriers() == []
    search = site.tab.get_by_label("Search the log")
    search.fill("nothing of this kind")
    search.press("Enter")
    expect(log).to_have_text("No line tells of this.")
    search.fill(told[:20].upper())
    search.press("Enter")
    expect(log).to_contain_text(told)


def test_a_log_without_errors_shows_none(site):
    number = site.kept("starter", names=["silicon"])
    site.open(f"/jobs/{number}?tab=log")
    log = site.tab.get_by_role("log", name="Log")
    expect(log).to_contain_text("silicon")
    site.tab.get_by_label("Lines").select_option("warnings and errors")
    expect(log).to_have_text("No line tells of this.")
