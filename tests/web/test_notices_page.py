"""The bell in a browser, and choosing what is sent."""

import re

import pytest
from playwright.sync_api import expect

pytestmark = pytest.mark.web


def test_the_bell_tells_of_a_job_until_it_is_read(site):
    tab = site.tab
    number = site.done("doctor")
    site.open("/compute")
    tab.reload()
    bell = tab.get_by_role("button", name=re.compile("^Notices: [1-9]"))
    bell.click()
    tab.get_by_role("link", name=f"Job {number} (made before) is done").wait_for()
    assert site.barriers() == []
    tab.get_by_role("button", name="All read").click()
    tab.get_by_role("button", name="All read").and_(tab.locator(":disabled")).wait_for()
    tab.get_by_role("link", name=f"Job {number} (made before) is done").click()
    tab.wait_for_url(re.compile(f"/jobs/{number}$"))
    tab.get_by_role("button", name="Notices: 0 not read").wait_for()


def test_what_is_sent_is_chosen_on_the_account_page(site):
    tab = site.tab
    site.open("/account")
    expect(tab.get_by_label("By mail to")).to_be_disabled()
    tab.get_by_label("By webhook to").fill("http://127.0.0.1:9/")
    tab.get_by_label("A job failed: webhook").check()
    tab.get_by_role("button", name="Save").click()
    tab.get_by_text("is in a private network").wait_for()
    site.complaints.clear()  # the browser tells of every answer that is a refusal
    tab.get_by_label("By webhook to").fill("http://93.184.215.14/hooks")
    tab.get_by_role("button", name="Save").click()
    tab.get_by_text("Saved.").wait_for()
    assert site.barriers() == []
    kept = site.get("account/notices/choices")
    assert (kept["webhook"], kept["webhook_kinds"]) == ("http://93.184.215.14/hooks", ["failed"])
    tab.get_by_text(kept["secret"]).wait_for()
    tab.get_by_label("By webhook to").fill("")
    tab.get_by_label("A job failed: webhook").uncheck()
    tab.get_by_role("button", name="Save").click()
    tab.get_by_text(kept["secret"]).wait_for(state="detached")
