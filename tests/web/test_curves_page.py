"""Curves of a training: the schedule among them, and a band where means of many rows are drawn."""

import re

import pytest
from playwright.sync_api import expect

pytestmark = [pytest.mark.web, pytest.mark.slow]


def test_the_schedule_of_a_training_is_drawn_beside_its_errors(site):
    data = site.kept("starter", names=["silicon"])
    number = site.done("train", data=[f"job:{data}/silicon.extxyz"], epochs=3, write_report=False)
    site.open(f"/jobs/{number}")
    curves = site.tab.get_by_role("img")
    expect(curves.and_(site.tab.get_by_label("Force rmse (eV/Å): train, valid"))).to_be_visible()
    expect(curves.and_(site.tab.get_by_label("Learning rate"))).to_be_visible()
    prefactors = curves.and_(site.tab.get_by_label("Prefactor: energy, force"))
    expect(prefactors).to_be_visible()
    expect(prefactors).to_have_attribute("data-bands", "0")
    site.open("/")
    small = site.tab.get_by_role("img", name=f"Valid loss {number}", exact=True)
    expect(small).to_be_visible()
    line = small.locator("path").get_attribute("d")
    heights = [float(point.split()[1]) for point in re.split("[ML]", line) if point]
    losses = site.get(f"jobs/{number}/metrics")["columns"]["valid_loss"]
    assert len(heights) == len(losses) == 3
    order = sorted(range(3), key=losses.__getitem__)
    assert sorted(range(3), key=lambda k: -heights[k]) == order, "the lowest value is drawn lowest"


def test_many_rows_are_drawn_with_a_band(site):
    number = site.kept("starter", names=["silicon"])
    epochs = [float(k) for k in range(500)]
    half = {"epoch": epochs, "train_loss": epochs, "valid_loss": epochs}
    told = {"rows": 5000, "index": list(range(500)), "columns": half, "low": half, "high": half}
    site.tab.route("**/metrics?*", lambda route: route.fulfill(json=told))
    site.open(f"/jobs/{number}")
    expect(site.tab.get_by_text("5000 rows: lines are means")).to_be_visible()
    expect(site.tab.get_by_role("img", name="Loss: train, valid")).to_have_attribute("data-bands", "2")
    expect(site.tab.locator(".u-legend .u-series:visible")).to_have_count(3)
    site.tab.unroute_all()
