"""The 3-D view: it draws when something moves, and only then."""

import re

import pytest
from playwright.sync_api import expect

pytestmark = pytest.mark.web
CELL = """4
Lattice="3.6 0 0 0 3.6 0 0 0 3.6" Properties=species:S:1:pos:R:3 pbc="T T T"
Cu 0 0 0
O 0 1.8 1.8
Cu 1.8 0 1.8
O 1.8 1.8 0
"""
COUNT = """() => {
  window.drawn = 0
  for (const name of ['drawElements', 'drawArrays', 'drawElementsInstanced', 'drawArraysInstanced']) {
    const draw = WebGL2RenderingContext.prototype[name]
    WebGL2RenderingContext.prototype[name] = function (...all) { window.drawn += 1; return draw.apply(this, all) }
  }
}"""


def rests(tab, seconds=2, tries=20):
    """Whether no drawing was made for so long, before that was tried so often."""
    for _ in range(tries):
        before = tab.evaluate("window.drawn")
        tab.wait_for_timeout(1000 * seconds)
        if before and tab.evaluate("window.drawn") == before:
            return True
    return False


def test_a_structure_at_rest_is_not_drawn_again_and_again(site):
    number = site.post("structures", {"name": "at rest", "format": "extxyz", "text": CELL})["id"]
    site.open("/structures")
    site.tab.reload()
    site.tab.evaluate(COUNT)
    site.open(f"/structures/{number}")
    canvas = site.tab.locator("canvas").first
    canvas.wait_for()
    assert rests(site.tab)
    box = canvas.bounding_box()
    before = site.tab.evaluate("window.drawn")
    site.tab.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    site.tab.mouse.down()
    site.tab.mouse.move(box["x"] + box["width"] / 2 + 80, box["y"] + box["height"] / 2 + 30, steps=4)
    site.tab.mouse.up()
    site.tab.wait_for_function("before => window.drawn > before", arg=before)
    assert rests(site.tab)


OBLIQUE = """3
Lattice="4 0 0 3 4 0 0 0 9" Properties=species:S:1:pos:R:3 pbc="T T F"
H 0.1 0.1 0.2
He 6.8 3.9 0.2
Li 0.1 0.1 8.9
"""
"""The shortest way from the first to the second leads through two sides, by -0.3 and -0.2 Å; along z it never ends."""


def opened(site, name, cell):
    number = site.post("structures", {"name": name, "format": "extxyz", "text": cell})["id"]
    site.open(f"/structures/{number}")
    site.tab.locator(".scene canvas").first.wait_for()
    return site.tab.get_by_role("form", name="Distance")


def told(form, *numbers):
    for place, number in enumerate(numbers):
        form.get_by_label(f"atom {place + 1}").fill(str(number))
    return form.get_by_role("status")


def test_distances_and_angles_are_those_of_the_nearest_images(site):
    form = opened(site, "measured", CELL)
    expect(told(form, 0, 1)).to_have_text("Cu 0 – O 1: 2.5456 Å")
    expect(told(form, 1, 0, 2)).to_have_text("O 1 – Cu 0: 2.5456 Å; Cu 0 – Cu 2: 2.5456 Å; O 1 – Cu 0 – Cu 2: 60.00°")
    expect(site.tab.locator(".measure-label").filter(has_text="Å")).to_have_count(3)
    expect(told(form, 1, 9)).to_have_text("Atoms have the numbers 0 to 3.")
    form.get_by_role("button", name="Forget").click()
    expect(told(form, 3, 3)).to_have_text("O 3 – O 3: 3.6000 Å")  # to its own image
    assert site.barriers() == []
    form = opened(site, "oblique", OBLIQUE)
    expect(told(form, 0, 1)).to_have_text(f"H 0 – He 1: {(0.3**2 + 0.2**2) ** 0.5:.4f} Å")
    expect(told(form, 0, 2)).to_have_text("H 0 – Li 2: 8.7000 Å")


def test_a_click_on_an_atom_chooses_it(site):
    cell = '2\nLattice="6 0 0 0 6 0 0 0 6" pbc="T T T" Properties=species:S:1:pos:R:3\nCs 3 3 3\nCl 3 3 5\n'
    form = opened(site, "clicked", cell)
    canvas = site.tab.locator(".scene canvas").first
    expect(site.tab.locator(".element-legend")).to_have_text(re.compile(r"\bCs\b"))
    assert site.tab.locator(".element-legend sub").filter(visible=True).count() == 0
    box = canvas.bounding_box()
    middle = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    site.tab.mouse.move(*middle)
    expect(canvas).to_have_css("cursor", "pointer")
    site.tab.get_by_role("tooltip").get_by_text("Cs").first.wait_for()  # beside the mouse, and not in its way
    site.tab.mouse.click(*middle)
    first = form.get_by_label("atom 1")
    expect(first).to_have_value("0")
    form.get_by_label("atom 2").fill("1")
    expect(form.get_by_role("status")).to_have_text("Cs 0 – Cl 1: 2.0000 Å")
    site.tab.mouse.click(*middle)  # given back
    expect(first).to_have_value("1")
