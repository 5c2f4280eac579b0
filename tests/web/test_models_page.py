"""The registry in a browser: from the list to errors of single structures, a trial and the next stage."""

import re

import pytest
from playwright.sync_api import expect

pytestmark = [pytest.mark.web, pytest.mark.long]


def test_a_model_is_found_judged_tried_and_promoted(site):
    tab = site.tab
    data = site.kept("starter", names=["silicon"])
    file = f"job:{data}/silicon.extxyz"
    site.done("train", name="judged", data=[file], epochs=2, write_report=False)
    model = site.get("models")["items"][0]["id"]
    site.done("evaluate", data=[file], model=f"model:{model}")
    site.post("structures", {"name": "two of silicon", "text": "2\n\nSi 0 0 0\nSi 0 0 2.3\n"})

    site.open("/models")
    tab.get_by_text("Elements that it must know").click()
    tab.get_by_role("button", name="Rn", exact=True).click()
    tab.get_by_text("No models yet").wait_for()
    tab.get_by_role("button", name="Rn", exact=True).click()
    tab.get_by_role("button", name="Si", exact=True).click()
    tab.get_by_role("link", name="judged", exact=True).wait_for()
    assert site.barriers() == []
    row = tab.get_by_role("row").filter(has=tab.get_by_role("link", name="judged", exact=True))
    cells = dict(zip(tab.locator("thead th").all_inner_texts(), row.locator("td").all_inner_texts(), strict=True))
    assert (cells["Version"], cells["Cutoff (Å)"]) == ("1", "6")
    assert cells["Force RMSE (meV/Å)"].endswith("on valid"), "it was trained on the file that it was evaluated on"
    assert re.search(r"^\d\S*\s+\S.*, \d+ threads?$", cells["Speed (atoms/s)"])
    tab.get_by_role("button", name="Speed (atoms/s)").click()
    tab.wait_for_url(re.compile("sort=speed"))
    tab.get_by_role("button", name="Speed (atoms/s) ▲").click()
    tab.wait_for_url(re.compile("sort=-speed"))
    tab.get_by_role("link", name="judged", exact=True).click()

    tab.get_by_role("img", name="Energy: predicted against reference").wait_for()
    expect(tab.locator("dt", has_text="Cutoff").locator("xpath=following-sibling::dd[1]")).to_have_text("6 Å")
    learning = tab.get_by_role("region", name="Learning curves")
    expect(learning.get_by_label("Force rmse (eV/Å): train, valid")).to_be_visible()
    worst = tab.get_by_role("region", name="Worst structures").locator("tbody tr")
    expect(worst).to_have_count(20)
    for figure in ("Energy", "Forces", "Stress"):
        figure = tab.get_by_role("img", name=f"{figure}: predicted against reference")
        x, y = re.match(r"M(\S+) (\S+)h0", figure.locator("path.dots").get_attribute("d")).groups()
        figure.click(position={"x": float(x), "y": float(y)})
        tab.get_by_text(re.compile(r"Structure \d+ of 69")).wait_for()
    by_force = worst.first.inner_text()
    tab.get_by_role("combobox", name=re.compile("^by")).select_option("stress")
    expect(worst.first).not_to_have_text(by_force)
    numbers = [float(n) for n in worst.locator("td:last-child").all_inner_texts()]
    assert numbers == sorted(numbers, reverse=True)
    tab.get_by_text("Errors by element, kind of structure and calc mode").click()
    assert tab.get_by_role("region", name="Kind of structure").locator("tbody tr").count() >= 4
    number = worst.first.get_by_role("button").inner_text()
    worst.first.get_by_role("button").click()
    tab.get_by_text(f"Structure {int(number) + 1} of 69").wait_for()
    tab.locator(".scene canvas").wait_for(timeout=60_000)
    assert site.barriers() == []

    tab.get_by_role("button", name="Choose a structure").click()
    tab.get_by_role("tab", name="Structures").click()
    tab.get_by_role("button", name="two of silicon").click()
    tab.get_by_role("button", name="Energy and forces").click()
    tab.get_by_role("status").get_by_text("DONE").wait_for(timeout=90_000)
    tab.get_by_text("Largest force").first.wait_for()

    tab.get_by_role("tab", name="Python (LAMMPS)").click()
    lammps = tab.get_by_role("region", name="Python (LAMMPS)")
    program = re.compile(r'elements = \["Si"\]\n.*attach\(lmp, "judged\.rutile", elements\)', re.DOTALL)
    lammps.get_by_text(program).wait_for()
    tab.get_by_role("tab", name="Model card").click()
    tab.get_by_role("region", name="Model card").get_by_text(re.compile(r"Architecture: behler")).wait_for()
    crystal = '2\nLattice="0 2.73 2.73 2.73 0 2.73 2.73 2.73 0" pbc="T T T"\nSi 0 0 0\nSi 1.365 1.365 1.365\n'
    kept = site.post("structures", {"name": "diamond", "text": crystal})["id"]
    curve = site.done("eos", structures=[f"structure:{kept}"], model=f"model:{model}")
    tab.reload()
    tab.get_by_text("eos: made before").click()
    tab.get_by_role("link", name=f"Job {curve}", exact=True).wait_for()
    result = tab.get_by_role("region", name="Structures", exact=True)
    result.get_by_role("cell", name="Si2", exact=True).wait_for()
    beside = tab.get_by_role("region", name="Beside a reference")
    beside.get_by_text("Values typed in (0)").click()
    beside.get_by_label("Property").select_option("bulk_modulus")
    beside.get_by_label("Value", exact=True).fill("500")
    beside.get_by_label("Unit").select_option("kbar")
    beside.get_by_label("Source").fill("a test")
    beside.get_by_role("button", name="Add", exact=True).click()
    row = beside.get_by_role("row", name=re.compile(r"Bulk modulus \(GPa\)"))
    cells = row.get_by_role("cell")
    expect(cells.nth(3)).to_have_text("50")
    assert float(cells.nth(4).inner_text()) == pytest.approx(2 * float(cells.nth(2).inner_text()) - 100, abs=0.1)
    other = site.done("eos", structures=[f"structure:{kept}"], model=f"model:{model}", points=9)
    tab.reload()
    tab.locator("details", has_text=f"Job {curve}").locator("summary").first.click()
    beside = tab.get_by_role("region", name="Beside a reference")
    expect(beside.get_by_label("Compare with")).to_have_value("typed")
    beside.get_by_label("Compare with").select_option(f"job:{other}")
    expect(
        beside.get_by_role("img", name="energy above its lowest (meV/atom): Si2, inputs/diamond.extxyz#0")
    ).to_be_visible()
    assert site.barriers() == []
    errors = tab.get_by_role("region", name="Errors on named sets")
    assert "atoms per second (atoms/s)" in errors.locator("thead").inner_text().lower()
    tab.get_by_label("Stage").select_option("production")
    tab.get_by_role("region", name="Errors on named sets").get_by_text(file).wait_for()
    expect(tab.get_by_role("button", name="Delete")).to_be_disabled()
    assert site.get(f"models/{model}")["stage"] == "production"
