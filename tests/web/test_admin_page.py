"""Administration in a browser: accounts, a course, limits, an announcement, and what of it is written down."""

import re

import pytest
from playwright.sync_api import expect

pytestmark = pytest.mark.web


def tab_of(site, name):
    """Open a tab of the page, which everybody can read."""
    site.tab.get_by_role("tab", name=name, exact=True).click()
    site.tab.get_by_role("tabpanel", name=name).wait_for()
    site.tab.get_by_text("One moment").first.wait_for(state="detached")
    assert site.barriers() == [], name


def test_a_course_is_set_up_announced_and_written_down(site):
    tab = site.tab
    site.open("/admin")
    tab.get_by_role("heading", name="Administration").wait_for()

    tab_of(site, "Courses")
    tab.get_by_label("Name of the course").fill("crystals")
    tab.get_by_label("Accounts", exact=True).fill("3")
    tab.get_by_label("Core hours").fill("12.5")
    tab.get_by_label("Share of each account (%)").fill("25")
    tab.get_by_role("button", name="Make the accounts").click()
    expect(tab.get_by_role("region", name="Accounts of the course").locator("tbody tr")).to_have_count(3)

    tab_of(site, "Groups")
    expect(tab.get_by_role("spinbutton", name="Core hours crystals")).to_have_value("12.5")
    tab.get_by_role("spinbutton", name="Disk (GB) crystals").fill("2")
    tab.get_by_role("spinbutton", name="Disk (GB) crystals").press("Enter")
    tab.get_by_text("3 members").wait_for()

    tab_of(site, "Accounts")
    row = tab.get_by_role("row", name=re.compile("^crystals-02"))
    row.get_by_role("button", name="Change").click()
    tab.get_by_label("Role").last.select_option("viewer")
    tab.get_by_label("GPU hours").fill("3")
    expect(tab.get_by_label("Share of a queue (%)")).to_have_value("25")
    tab.get_by_label("Share of a queue (%)").fill("50")
    tab.get_by_role("button", name="Save").click()
    row.get_by_text("GPU hours 3, Share of a queue (%) 50").wait_for()
    row.get_by_role("button", name="Close").click()
    row.get_by_text("viewer (closed)").wait_for()

    tab_of(site, "Announcements")
    tab.get_by_label("What everybody should know").fill("The cluster rests on Friday.")
    tab.get_by_role("button", name="Announce").click()
    tab.get_by_role("complementary", name="Announcements").get_by_text("The cluster rests on Friday.").wait_for()
    tab.get_by_role("button", name="Delete The cluster").click()
    tab.get_by_role("complementary", name="Announcements").wait_for(state="detached")

    tab_of(site, "Backup")
    tab.get_by_role("button", name="Make a backup").click()
    tab.get_by_text(re.compile("rutile serve home=.* restore=")).wait_for()
    tab_of(site, "Use")
    tab_of(site, "What was done")
    for action in ("made a course", "changed a group", "changed an account", "announced", "made a backup"):
        tab.get_by_role("cell", name=action, exact=True).first.wait_for()
    (group,) = [g for g in site.get("admin/groups") if g["name"] == "crystals"]
    assert (group["core_hours"], group["disk_gb"]) == (12.5, 2.0)


def test_how_the_platform_does_is_told(site):
    site.post("admin/backup", {})
    site.open("/admin?tab=health")
    panel = site.tab.get_by_role("tabpanel", name="Health")
    panel.get_by_text("at work", exact=True).wait_for()
    panel.get_by_text("SQLite").wait_for()
    assert "none yet" not in panel.inner_text()
    assert site.barriers() == []
