"""Data sets in a browser."""

import re

import pytest
from playwright.sync_api import expect

pytestmark = pytest.mark.web


def test_a_page_appears_also_where_the_server_takes_long_to_answer(site):
    file = f"job:{site.kept('starter', names=['silicon'])}/silicon.extxyz"
    number = site.post("datasets", {"name": "silicon", "file": file})["id"]
    network = site.tab.context.new_cdp_session(site.tab)
    network.send("Network.enable")
    slow = {"offline": False, "latency": 1500, "downloadThroughput": -1, "uploadThroughput": -1}
    network.send("Network.emulateNetworkConditions", slow)
    try:
        site.open(f"/datasets/{number}")
        expect(site.tab.get_by_role("heading", name="69 of 69 structures")).to_be_visible(timeout=30_000)
    finally:
        network.send("Network.emulateNetworkConditions", slow | {"latency": 0})


def test_what_is_odd_is_looked_at_and_a_set_is_divided_for_training(site):
    tab = site.tab
    file = f"job:{site.kept('starter', names=['silicon'])}/silicon.extxyz"
    number = site.post("datasets", {"name": "twice", "file": file})["id"]
    site.open(f"/datasets/{number}")
    tab.get_by_role("heading", name="69 of 69 structures").wait_for()
    tab.get_by_role("button", name="are isolated atoms").click()
    tab.get_by_role("heading", name="1 of 69 structures").wait_for()
    tab.get_by_role("button", name="All structures").click()
    kind = tab.get_by_role("combobox", name=re.compile("^Kind"))
    kind.select_option("liquid") if kind.get_by_role("option", name="liquid").count() else kind.select_option(index=1)
    expect(tab.get_by_role("heading", name="69 of 69 structures")).to_have_count(0)
    tab.get_by_role("combobox", name=re.compile("^Histogram of")).select_option("Smallest distance")
    tab.get_by_text("Å", exact=True).wait_for()
    assert site.barriers() == []

    tab.get_by_role("button", name="Train on this selection").click()
    tab.get_by_role("heading", name="train", exact=True).wait_for(timeout=90_000)
    tab.wait_for_url(re.compile(rf"dataset%3A{number + 1}%22"))
    tab.get_by_text("Ready to submit.").wait_for()

    site.open(f"/datasets/{number}")
    tab.get_by_label("Seed").fill("4")
    tab.get_by_role("button", name="Divide", exact=True).click()
    tab.get_by_role("link", name="Train on these").click(timeout=120_000)
    words = tab.get_by_role("region", name="Command line")
    words.get_by_text("split.valid_files").wait_for()
    parts = [site.get(f"datasets/{number + k}")["name"] for k in (2, 3, 4)]
    assert parts == ["twice, train", "twice, validation", "twice, test"]


def test_a_version_is_added_and_compared(site):
    tab = site.tab
    data = site.kept("starter", names=["silicon"])
    number = site.post("datasets", {"name": "in versions", "file": f"job:{data}/silicon.extxyz"})["id"]
    site.open(f"/datasets/{number}")
    tab.get_by_role("heading", name="69 of 69 structures").wait_for()
    tab.get_by_text("Change what is said about it").click()
    tab.get_by_label("Licence").fill("CC0")
    tab.get_by_label("Licence").press("Tab")
    tab.get_by_role("definition").get_by_text("CC0").wait_for()
    part = site.post(f"datasets/{number}/selection", {"name": "some", "column": "atoms", "low": 3})["id"]
    expect(tab.get_by_role("heading", name="Versions compared")).to_have_count(0)
    while site.get(f"datasets/{part}")["versions"][0]["state"] == "reading":
        tab.wait_for_timeout(200)
    tab.get_by_text("Add a version").first.click()
    tab.get_by_label("or what a job wrote").fill(f"dataset:{part}")
    tab.get_by_role("button", name="Add a version").click()
    tab.get_by_role("heading", name="Versions compared").wait_for()
    tab.get_by_text(re.compile(r"^Came: 0")).wait_for()
    left = site.get(f"datasets/{part}")["versions"][0]["frames"]
    tab.get_by_text(f"The same in both: {left}").wait_for()
    tab.get_by_text(re.compile(rf"^Went: {69 - left}")).get_by_role("button").first.click()
    tab.get_by_text(re.compile(r"Structure \d+ of 69")).wait_for()
    assert site.barriers() == []


def test_public_data_is_found_by_elements_and_its_licence_goes_with_the_files(site):
    tab = site.tab
    site.open("/datasets")
    tab.get_by_text("Public data", exact=True).click()
    public = tab.get_by_role("region", name="Public data")
    public.get_by_role("cell", name=re.compile("^MPtrj")).wait_for()
    expect(public.get_by_role("cell", name=re.compile("^Water"))).to_have_count(1)
    assert site.barriers() == []
    tab.get_by_label("Elements that must be in it").fill("Ti, O")
    expect(public.get_by_role("cell", name=re.compile("^Water"))).to_have_count(0)
    expect(public.get_by_role("link", name="Copy it tio2", exact=True)).to_be_visible()
    public.get_by_role("button", name="send them TiO2").click()
    expect(tab.get_by_role("textbox", name="Name", exact=True)).to_have_value("TiO2")
    expect(tab.get_by_role("textbox", name="Licence")).to_have_value("MIT (with aenet-PyTorch)")
    expect(tab.get_by_role("textbox", name="Source")).to_have_value(
        re.compile("^https://github.com/atomisticnet.*doi:10.1016")
    )
    data = site.kept("starter", names=["silicon"])
    tab.get_by_label("or what a job wrote").fill(f"job:{data}/silicon.extxyz")
    tab.get_by_role("button", name="Add", exact=True).click()
    tab.get_by_role("definition").get_by_text("MIT (with aenet-PyTorch)").wait_for()
