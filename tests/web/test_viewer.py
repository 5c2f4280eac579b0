"""The 3-D view: it draws when something moves, and only then."""

import pytest

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
