"""The guided examples: each leads to the next, whose form is filled with what the earlier ones made."""

import re

import pytest
from playwright.sync_api import expect

pytestmark = pytest.mark.web


@pytest.mark.long
def test_a_step_that_is_done_leads_to_the_next(site, browser):
    with site.somebody_else(browser, "beginner") as page:
        tab = page.tab
        expect(tab.get_by_role("listitem").filter(has_text="Relax them")).to_contain_text("Do step 2 first")
        tab.get_by_role("link", name="Start: Take labelled silicon").click()
        tab.get_by_role("button", name="Submit").click()
        page.job()
        number = re.search(r"/jobs/(\d+)", tab.url)[1]
        tab.get_by_role("link", name="2. Train a potential").click()
        data = tab.locator('[data-key="data"]')
        expect(data).to_contain_text(f"job:{number}/silicon.extxyz")
        expect(data.locator("code").last).to_have_text(re.compile("^rutile convert"))  # what is code stands as code
        assert page.barriers() == []
        tab.get_by_role("link", name="Home").click()
        expect(tab.get_by_role("link", name="Start: Train a potential")).to_be_visible()
        last = tab.get_by_role("listitem").filter(has_text="Relax them")
        expect(last).to_contain_text("Do step 2 first")
        assert page.complaints == []


def test_boxes_of_a_row_stand_on_one_line(site):
    site.open("/new/train")
    tab = site.tab
    inputs = [tab.get_by_role("combobox", name="Queue")]
    inputs += [tab.get_by_role("spinbutton", name=name) for name in ("Cores", "Memory (GB)")]
    boxes = [one.bounding_box() for one in inputs]
    assert len({round(box["y"]) for box in boxes}) == 1
    assert len({round(box["height"]) for box in boxes}) == 1
