"""A notebook in a browser: opened from a structure by mouse, its first cell runs, and it ends with its job."""

import pytest
from page_site import serving, signed_in
from playwright.sync_api import expect

pytestmark = [pytest.mark.web, pytest.mark.slow]
COPPER = '1\nLattice="3.6 0 0 0 3.6 0 0 0 3.6" Properties=species:S:1:pos:R:3\nCu 0 0 0\n'


@pytest.fixture
def site(tmp_path, browser):
    pytest.importorskip("jupyterlab", reason="needs JupyterLab: pip install 'rutile[notebook]'")
    with serving(tmp_path, "notebooks=users") as told, signed_in(told, browser) as page:
        yield page


@pytest.mark.long
def test_a_structure_is_opened_in_a_notebook(site):
    number = site.post("structures", {"name": "copper", "text": COPPER, "format": "extxyz"})["id"]
    site.open(f"/structures/{number}")
    site.tab.get_by_role("button", name="Open in a notebook").click()
    site.tab.get_by_role("heading", name="Notebook of copper").wait_for()
    door = site.tab.get_by_role("link", name="Open notebook")
    door.wait_for(timeout=120_000)
    assert door.get_attribute("rel") == "noopener noreferrer"
    assert site.barriers() == []
    site.tab.set_viewport_size({"width": 400, "height": 900})
    assert site.tab.evaluate("document.documentElement.scrollWidth") <= 400
    site.tab.set_viewport_size({"width": 1400, "height": 900})
    asked = []
    with site.tab.context.expect_page() as opened:
        door.click()
    lab = opened.value
    lab.on("request", lambda request: asked.append(request))
    lab.set_default_timeout(120_000)
    lab.locator(".jp-CodeCell").first.wait_for()
    lab.get_by_role("button", name="Python 3 (ipykernel) | Idle").wait_for()
    assert lab.evaluate("window.opener") is None
    assert lab.evaluate("document.referrer") == ""
    lab.get_by_role("menuitem", name="Run", exact=True).click()
    lab.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    written = lab.locator(".jp-OutputArea-output")
    expect(written.filter(has_text="Notebook of copper")).to_be_visible(timeout=120_000)
    expect(written.filter(has_text="eV/Å")).to_be_visible(timeout=120_000)
    assert asked
    assert not [r.url for r in asked if "rutile_session" in r.all_headers().get("cookie", "")]
    assert not [r.url for r in asked if "token=" in r.headers.get("referer", "")]
    assert not [r.url for r in asked if not r.url.startswith(("http://localhost", "ws://localhost", "data:", "blob:"))]
    lab.close()
    site.tab.get_by_role("button", name="Cancel", exact=True).click()
    site.job("CANCEL")
    expect(door).to_have_count(0)


def test_where_notebooks_are_not_allowed_the_form_says_so(tmp_path, browser):
    with serving(tmp_path) as told, signed_in(told, browser) as page:
        number = page.post("structures", {"name": "copper", "text": COPPER, "format": "extxyz"})["id"]
        page.open(f"/structures/{number}")
        page.tab.get_by_role("heading", name="copper").wait_for()
        expect(page.tab.get_by_role("button", name="Open in a notebook")).to_have_count(0)
        page.open("/new/notebook")
        page.tab.get_by_role("button", name="Submit").click()
        page.tab.get_by_text("this server runs no notebooks").first.wait_for()
