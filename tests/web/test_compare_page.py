"""Comparing jobs, and the home page, in a browser."""

import re

import pytest
from playwright.sync_api import expect

pytestmark = [pytest.mark.web, pytest.mark.long]


@pytest.mark.timeout(300)
def test_trainings_are_compared_by_curves_and_best_values(site):
    tab = site.tab
    data = site.kept("starter", names=["silicon"])
    file = f"job:{data}/silicon.extxyz"
    numbers = [site.done("train", data=[file], epochs=3, write_report=False, seed=seed) for seed in (1, 2)]
    site.open(f"/compare?ids={numbers[0]}&ids={numbers[1]}")
    tab.get_by_role("img", name=re.compile(f"Job {numbers[0]}, Job {numbers[1]}")).wait_for()
    best = tab.get_by_role("region", name="Best values")
    row = best.get_by_role("row", name=re.compile("valid.*loss")).first
    expect(row.locator(".lowest")).to_have_count(1)
    differs = tab.get_by_role("region", name="What differs")
    expect(differs.get_by_text("settings.seed")).to_be_visible()
    expect(differs.get_by_text("settings.epochs")).to_have_count(0)
    assert site.barriers() == []
    tab.get_by_label("Only what differs").uncheck()
    expect(differs.get_by_text("settings.epochs")).to_be_visible()
    tab.wait_for_url(re.compile("same=true"))

    site.open("/")
    tab.get_by_role("heading", name="Used most this month").wait_for()
    tab.get_by_role("link", name="train", exact=True).last.wait_for()
    expect(tab.get_by_role("img", name=re.compile(rf" {numbers[1]}$"))).to_be_visible()
    tab.get_by_text("expected wait").first.wait_for()
    assert site.barriers() == []
