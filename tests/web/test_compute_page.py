"""The page Compute where there are GPUs and a cluster; what the server would say there is put in its place."""

import pytest
from playwright.sync_api import expect

pytestmark = [pytest.mark.web, pytest.mark.slow]
GPU = {"name": "NVIDIA H100", "load": 93, "memory": 61.2, "memory_there": 85.9, "owner": "ben", "job": 12}
NODE = {"queue": "big", "name": "gpu01", "state": "mixed", "partitions": ["gpu", "debug"], "cores": 96,
        "cores_used": 24, "memory": 1031.0, "memory_used": 256.0, "gpus": 4, "gpus_used": 3}  # fmt: skip


@pytest.fixture
def busy(site):
    """A server with two GPUs and a cluster of two nodes."""
    there = site.get("compute")
    there["queues"].append(there["queues"][0] | {"name": "big", "kind": "Slurm", "cores": None, "memory": None})
    loads = [None] * 10 + [10 * (k % 11) for k in range(50)]
    gpus = [GPU | {"index": 0, "history": loads}]
    gpus.append(GPU | {"index": 1, "job": None, "owner": None, "load": None, "history": [None] * 60})
    nodes = [NODE, NODE | {"name": "gpu02", "state": "drained"}]
    for path, told in (("compute", there), ("compute/gpus", gpus), ("compute/nodes", nodes)):
        site.tab.route(f"**/api/{path}", lambda route, _, told=told: route.fulfill(json=told))
    yield site
    site.tab.unroute_all()
    site.open("/")


def test_gpus_and_nodes_are_shown(busy):
    tab = busy.tab
    busy.open("/compute")
    busy.settled()
    expect(tab.locator("section", has=tab.get_by_role("heading", name="big Slurm"))).to_contain_text("0 / ∞")
    expect(tab.get_by_text("null")).to_have_count(0)
    gpus = tab.get_by_role("region", name="GPUs")
    expect(gpus.get_by_role("img", name="In the last hour from 0 to 100 %")).to_be_visible()
    cells = gpus.get_by_role("row").nth(1).locator(".cells span")
    expect(cells).to_have_count(60)
    idle, full = (cells.nth(k).evaluate("cell => getComputedStyle(cell).backgroundColor") for k in (10, 20))
    assert idle != full
    expect(gpus.get_by_role("link", name="12")).to_have_attribute("href", "#/jobs/12")
    expect(gpus.get_by_role("img", name="Not measured yet")).to_be_visible()
    nodes = tab.get_by_role("region", name="Nodes")
    expect(nodes.get_by_role("row", name="gpu01 big gpu, debug mixed 24 / 96 256 / 1031 3 / 4")).to_be_visible()
    expect(nodes.locator(".bad")).to_have_text("drained")
    assert busy.barriers() == []
    tab.emulate_media(color_scheme="dark")
    assert busy.barriers(["color-contrast"]) == []
    tab.emulate_media(color_scheme="light")


def test_without_gpus_nothing_is_said_of_them(site):
    site.open("/compute")
    site.settled()
    expect(site.tab.get_by_role("heading", name="This server")).to_be_visible()
    expect(site.tab.get_by_role("heading", name="GPUs")).to_have_count(len(site.get("compute/gpus")) and 1)
