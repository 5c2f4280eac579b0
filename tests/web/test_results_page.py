"""Results of a job in a browser: curves whose points show structures, differences to the job repeated, the graph."""

import io
import json
import re
import zipfile
from pathlib import Path

import pytest
from playwright.sync_api import expect

pytestmark = pytest.mark.web
CU = '1\nLattice="1.81 1.81 0 1.81 0 1.81 0 1.81 1.81" pbc="T T T"\nCu 0 0 0\n'


@pytest.mark.timeout(300)
def test_points_of_a_run_show_their_structures_and_the_run_leaves_as_a_crate(site):
    tab = site.tab
    structure = f"structure:{site.post('structures', {'name': 'fcc', 'text': CU})['id']}"
    number = site.done("md", structures=[structure], model="emt", time=0.1, every=50)
    site.open(f"/jobs/{number}")
    figure = tab.get_by_role("img", name="temperature: md/log.csv")
    figure.wait_for()
    dots = re.findall(r"M(\S+) (\S+)h0", figure.locator("path.dots").get_attribute("d"))
    figure.click(position={"x": float(dots[-1][0]), "y": float(dots[-1][1])})
    frames = len(dots) // 5
    tab.get_by_text(re.compile(rf"^Structure [2-9] of {frames + 1}")).wait_for()
    slider = tab.get_by_role("slider")
    slider.fill("0")
    tab.get_by_text(re.compile("^Structure 1 of")).wait_for()
    expect(figure.locator("circle").first).to_be_visible()
    assert site.barriers() == []
    site.open(f"/jobs/{number}?tab=provenance")
    graph = tab.get_by_role("region", name="Where it comes from, and what was made of it")
    expect(graph.get_by_role("link", name=structure)).to_be_visible()
    assert site.barriers() == []
    with tab.expect_download() as download:
        tab.get_by_role("link", name="All as RO-Crate").click()
    archive = zipfile.ZipFile(io.BytesIO(Path(download.value.path()).read_bytes()))
    assert json.loads(archive.read("ro-crate-metadata.json"))["@graph"]


def test_a_step_of_a_relaxation_shows_its_structure(site):
    tab = site.tab
    pushed = CU.replace("1\n", "2\n", 1).replace('"1.81 1.81 0 1.81 0 1.81 0 1.81 1.81"', '"3.6 0 0 0 3.6 0 0 0 3.6"')
    structure = site.post("structures", {"name": "pushed", "text": pushed + "Cu 1.5 1.9 2.1\n"})["id"]
    number = site.done("relax", structures=[f"structure:{structure}"], model="emt")
    steps = [one for one in site.get(f"jobs/{number}/figures") if one["x_name"] == "step"]
    (line,) = next(one for one in steps if one["title"].startswith("fmax"))["lines"]
    assert len(line["y"]) > 3
    site.open(f"/jobs/{number}")
    figure = tab.get_by_role("img", name=re.compile("^fmax: .*_path"))
    figure.wait_for()
    for step in (2, 1):
        dots = re.findall(r"M(\S+) (\S+)h0", figure.locator("path.dots").get_attribute("d"))
        assert len(dots) == len(line["y"])
        figure.click(position={"x": float(dots[step][0]), "y": float(dots[step][1])})
        tab.get_by_text(f"Structure {step + 1} of {len(dots)}").wait_for()
        shown = tab.locator("dt", has_text="Largest force").locator("xpath=following-sibling::dd[1]")
        expect(shown).to_have_text(re.compile(f"^{re.escape(str(line['y'][step])[:4])}"))


def test_a_run_that_is_over_is_drawn_once(site):
    tab = site.tab
    structure = f"structure:{site.post('structures', {'name': 'fcc', 'text': CU})['id']}"
    number = site.done("md", structures=[structure], model="emt", time=0.02, trajectory="none")
    live = ("step", "runs", "temperature_K", "potential_eV_atom", "pressure_GPa", "disagreement_eV_A")
    told = {"rows": 2, "index": [0, 1], "columns": {name: [1.0, 2.0] for name in live}}
    tab.route("**/metrics?*", lambda route: route.fulfill(json=told))
    site.open(f"/jobs/{number}")
    for column in ("temperature", "potential", "conserved", "pressure"):
        expect(tab.get_by_role("img", name=f"{column}: md/log.csv")).to_be_visible()
    expect(tab.get_by_role("img", name="disagreement_eV_A")).to_be_visible()  # of which no figure tells
    expect(tab.get_by_role("img", name=re.compile("Temperature K|Potential eV|Pressure GPa|Runs"))).to_have_count(0)
    tab.unroute_all()


def test_a_clone_says_what_it_asks_otherwise(site):
    tab = site.tab
    first = site.post("jobs", {"task": "doctor", "settings": {}, "name": "first", "cores": 64})["id"]
    wish = site.get(f"jobs/{first}/clone") | {"cores": 48, "settings": {"folder": "elsewhere"}}
    second = site.post("jobs", wish)["id"]
    site.open(f"/jobs/{second}?tab=inputs")
    tab.get_by_role("heading", name=f"Unlike job {first}, which it repeats").wait_for()
    expect(tab.get_by_role("row", name="cores 64 48")).to_be_visible()
    expect(tab.get_by_role("row", name="folder – elsewhere")).to_be_visible()
    assert site.barriers() == []
