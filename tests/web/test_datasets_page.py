"""Data sets in a browser."""

import pytest

pytestmark = pytest.mark.web


def test_a_page_appears_also_where_the_server_takes_long_to_answer(site):
    file = f"job:{site.done('starter', names=['silicon'])}/silicon.extxyz"
    number = site.post("datasets", {"name": "silicon", "file": file})["id"]
    network = site.tab.context.new_cdp_session(site.tab)
    network.send("Network.enable")
    slow = {"offline": False, "latency": 1500, "downloadThroughput": -1, "uploadThroughput": -1}
    network.send("Network.emulateNetworkConditions", slow)
    try:
        site.open(f"/datasets/{number}")
        site.tab.get_by_role("heading", name="69 of 69 structures").wait_for()
    finally:
        network.send("Network.emulateNetworkConditions", slow | {"latency": 0})
