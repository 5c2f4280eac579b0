"""Sharing in a browser: a link is made by mouse, opened by somebody without an account, and taken back."""

import re

import pytest
from playwright.sync_api import expect

pytestmark = pytest.mark.web


@pytest.fixture
def stranger(site, browser):
    """A browser that nobody has signed in with; what it complains about."""
    context = browser.new_context(viewport={"width": 1200, "height": 900})
    tab = context.new_page()
    tab.set_default_timeout(60_000)
    complaints = []
    tab.on("console", lambda said: said.type == "error" and complaints.append(said.text))
    yield tab, complaints
    context.close()


def shared(site, path):
    """Share what is on a page; the link."""
    site.open(path)
    site.tab.get_by_role("button", name="Share", exact=True).click()
    site.tab.get_by_role("button", name="Make a link").click()
    link = site.tab.get_by_role("region", name="Link").inner_text()
    assert site.barriers() == []
    site.tab.get_by_role("button", name="Close").click()
    return link


def test_a_structure_is_shown_by_a_link_until_it_is_taken_back(site, stranger):
    guest, complaints = stranger
    text = '1\nLattice="3.6 0 0 0 3.6 0 0 0 3.6" Properties=species:S:1:pos:R:3\nCu 0 0 0\n'
    number = site.post("structures", {"name": "shared copper", "text": text, "format": "extxyz"})["id"]
    link = shared(site, f"/structures/{number}")
    guest.goto(link)
    guest.get_by_role("heading", name="shared copper").wait_for()
    guest.locator(".scene[data-formula=Cu] canvas").wait_for(timeout=60_000)
    guest.get_by_text(re.compile("^Structure [0-9]+ of admin")).wait_for()
    expect(guest.get_by_role("button", name="Delete")).to_have_count(0)
    expect(guest.get_by_role("navigation")).to_have_count(0)
    guest.set_viewport_size({"width": 400, "height": 900})
    assert guest.evaluate("document.documentElement.scrollWidth") <= 400
    assert complaints == []

    site.open("/account")
    site.tab.get_by_role("button", name="Take back shared copper").click()
    site.tab.get_by_role("button", name="Take back shared copper").wait_for(state="detached")
    assert site.barriers() == []
    guest.reload()
    guest.get_by_text("this link has ended, was taken back, or never was").wait_for()


def test_a_job_is_shown_with_its_files_and_nothing_else(site, stranger):
    guest, complaints = stranger
    crystals = {"elements": ["Cu"], "prototypes": ["fcc"]}
    number = site.done("build", builder={"name": "bulk", "count": 2, "crystals": crystals}, out="cu.extxyz")
    guest.goto(shared(site, f"/jobs/{number}"))
    guest.get_by_role("heading", name="made before").wait_for()
    guest.get_by_role("tab", name="Files").click()
    guest.get_by_role("button", name="cu.extxyz").click()
    guest.locator(".scene canvas").wait_for(timeout=60_000)
    for name in ("Log", "Performance", "Inputs", "Overview"):
        guest.get_by_role("tab", name=name).click()
        guest.get_by_role("tabpanel", name=name).wait_for()
    assert complaints == []
    another = site.post("structures", {"name": "another", "text": "1\npbc=F\nCu 0 0 0\n"})["id"]
    guest.goto(site.post("shares", {"kind": "structure", "number": another})["link"])
    guest.get_by_role("heading", name="another").wait_for()
    guest.goto(f"{site.address}/#/jobs/{number}")
    guest.get_by_role("button", name="Sign in").wait_for()


def test_a_kept_thing_is_shown_to_everybody_here_and_hidden_again_by_its_owner(site, browser):
    text = '1\nLattice="3.6 0 0 0 3.6 0 0 0 3.6" Properties=species:S:1:pos:R:3\nCu 0 0 0\n'
    number = site.post("structures", {"name": "our copper", "text": text, "format": "extxyz"})["id"]
    with site.somebody_else(browser, "mate") as mate:
        site.open(f"/structures/{number}")
        site.tab.get_by_role("button", name="Share", exact=True).click()
        who = site.tab.get_by_label("Who may see it")
        expect(who).to_have_value("private")
        expect(who.get_by_role("option", name=re.compile("^my group"))).to_be_disabled()  # there is none
        who.select_option("public")
        site.tab.get_by_role("status").get_by_text("Saved.").wait_for()
        mate.open(f"/structures/{number}")
        mate.tab.get_by_role("heading", name="our copper").wait_for()
        expect(mate.tab.get_by_role("button", name="Share", exact=True)).to_have_count(0)
        who.select_option("private")
        expect(who).to_have_value("private")
        site.tab.get_by_role("button", name="Close").click()
        mate.tab.reload()
        mate.tab.get_by_text("no such structure, or you may not see it").wait_for()
