"""The page of the API: operations are found and opened, recipes are shown."""

import re

import pytest
from playwright.sync_api import expect

pytestmark = [pytest.mark.web, pytest.mark.slow]


def test_an_operation_is_found_with_what_it_takes(site):
    tab = site.tab
    site.open("/")
    tab.get_by_role("link", name="REST API").click()
    tab.get_by_role("heading", name="Operations").wait_for()
    tab.get_by_label("Find an operation").fill("post client.submit")
    expect(tab.get_by_text(re.compile(r"^1 of \d{3}$"))).to_be_visible()
    line = tab.locator("summary", has_text="/api/jobs")
    expect(line).to_contain_text("token: submit")
    line.click()
    expect(tab.get_by_role("region", name="rutile.Client")).to_contain_text('client.submit("relax"')
    expect(tab.get_by_role("region", name="curl")).to_contain_text("-X POST")
    tab.get_by_text("What is sent: JobRequest").click()
    expect(tab.get_by_role("region", name="What is sent")).to_contain_text("wall_time?: number | null   # Longest time")
    assert site.barriers() == []
    tab.get_by_label("Find an operation").fill("get log/search")
    tab.locator("summary", has_text="/api/jobs/:number/log/search").click()
    expect(tab.get_by_role("row", name=re.compile("most query integer 100"))).to_be_visible()


def test_recipes_are_whole_programs(site):
    site.open("/api")
    site.tab.get_by_role("tab", name="Send data, train, fetch the model").click()
    program = site.tab.get_by_role("region", name="Send data, train, fetch the model").inner_text()
    compile(program, "recipe", "exec")
    assert "client.download_model" in program
