"""Templates in a browser: kept from a form, found again in three places, used, renamed, shared, deleted."""

import re

import pytest
from playwright.sync_api import expect

pytestmark = pytest.mark.web


def test_settings_are_kept_under_a_name_and_fill_the_form_again(site):
    tab = site.tab
    site.open('/new/starter?settings={"names":["silicon"]}')
    tab.get_by_text("Ready to submit.").wait_for()
    tab.locator("summary", has_text=re.compile("^Templates$")).click()
    tab.get_by_label("Save as template").fill("only silicon")
    assert site.barriers() == []
    tab.get_by_role("button", name="Save", exact=True).click()
    tab.get_by_text("Kept: only silicon").wait_for()
    mine = tab.get_by_role("list", name="Templates").get_by_role("listitem").filter(has_text="only silicon")
    expect(mine).to_contain_text("admin, used by 0 jobs")
    (kept,) = site.get("templates?search=only+silicon")["items"]

    site.open("/new")
    tab.get_by_role("link", name="only silicon").click()
    tab.wait_for_url(re.compile(rf"/new/starter\?template={kept['id']}$"))
    tab.get_by_text("Ready to submit.").wait_for()
    tab.get_by_role("region", name="Command line").get_by_text("silicon").wait_for()
    tab.get_by_role("button", name="Submit").click()
    job = site.job()
    assert site.get(f"jobs/{job}")["settings"] == {"names": ["silicon"]}

    site.open("/")
    hot = tab.get_by_role("heading", name="Templates").locator("xpath=following-sibling::ul[1]")
    expect(hot.get_by_role("listitem").filter(has_text="only silicon")).to_contain_text("by 1 job")
    tab.get_by_role("combobox", name="Find anything").fill("only sil")
    tab.get_by_role("option", name=re.compile("^Template .*only silicon starter")).click()
    tab.wait_for_url(re.compile(rf"template={kept['id']}$"))

    site.open("/new")
    tab.get_by_role("button", name="Change: only silicon").click()
    dialog = tab.get_by_role("dialog", name="Template only silicon")
    dialog.get_by_label("Who may see it").select_option("public")
    dialog.get_by_text("Saved.").wait_for()
    assert site.barriers() == []
    dialog.get_by_label("Name").fill("silicon alone")
    dialog.get_by_role("button", name="Save").click()
    tab.get_by_role("link", name="silicon alone").wait_for()
    changed = site.get(f"templates/{kept['id']}")
    assert (changed["name"], changed["privacy"], changed["jobs"]) == ("silicon alone", "public", 1)
    tab.once("dialog", lambda question: question.accept())
    tab.get_by_role("button", name="Delete: silicon alone").click()
    expect(tab.get_by_role("link", name="silicon alone")).to_have_count(0)
    assert site.get("templates?search=silicon+alone")["total"] == 0
