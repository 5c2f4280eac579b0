"""Freeing space in a browser: choose, see what it frees, remove, and find it written down."""

import re

import pytest

pytestmark = pytest.mark.web


def test_a_job_is_removed_after_one_has_seen_what_that_frees(site):
    tab = site.tab
    number = site.done("doctor")
    site.open("/admin?tab=storage")
    tab.get_by_label(f"Select job:{number}", exact=True).check()
    assert site.barriers() == []
    tab.get_by_role("button", name="Remove 1 …").click()
    dialog = tab.get_by_role("dialog", name="Remove for good?")
    dialog.get_by_text("This frees").wait_for()
    dialog.get_by_text(f"job:{number}").wait_for()
    assert site.barriers() == []
    assert site.get(f"jobs/{number}")["state"] == "DONE"
    dialog.get_by_role("button", name="Remove 1").click()
    tab.get_by_text("Freed").wait_for()
    tab.get_by_label(f"Select job:{number}", exact=True).wait_for(state="detached")
    site.open("/account")
    tab.get_by_role("combobox", name="What").last.select_option("Uploads")
    tab.get_by_text("Nothing of this kind.").or_(tab.get_by_label(re.compile("^Select upload:")).first).first.wait_for()
    done = [(line["action"], line["thing"]) for line in site.get("admin/audit?action=freed")]
    assert done[0] == ("freed space", f"job:{number}")
