"""The Unix account of a user in a browser, on a server whose cluster asks for one."""

import re

import pytest
from page_site import serving, signed_in
from playwright.sync_api import expect

pytestmark = [pytest.mark.web, pytest.mark.slow]
CLUSTERS = "clusters=[{name: cluster, unix_accounts: true, become: [env, 'AS={account}']}]"


@pytest.fixture
def with_cluster(tmp_path, browser, monkeypatch):
    """A server with a cluster of programs that do nothing."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("sbatch", "squeue", "scancel", "sinfo"):
        (programs / name).write_text("#!/bin/sh\n")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(programs), prepend=":")
    with serving(tmp_path, CLUSTERS) as told, signed_in(told, browser) as page:
        yield page


def test_an_account_of_nobody_is_refused_where_it_is_typed(with_cluster):
    site, tab = with_cluster, with_cluster.tab
    site.post("admin/users", {"name": "zoe"})
    site.open("/admin?tab=users")
    tab.get_by_role("row", name=re.compile("^zoe")).get_by_role("button", name="Change").click()
    field = tab.get_by_label("Unix account on clusters")
    field.fill("no-such-person")
    assert site.barriers() == []
    tab.get_by_role("button", name="Save").click()
    told = "unix_account = no-such-person: this machine knows no such account"
    tab.get_by_role("dialog", name="Account zoe").get_by_text(told).wait_for()
    refused = site.get("admin/users")
    assert [one["unix_account"] for one in refused] == [None, None]
    site.complaints.clear()  # of the answer 422


def test_a_queue_that_asks_for_an_account_says_so_in_the_form(with_cluster):
    site, tab = with_cluster, with_cluster.tab
    site.open("/new/doctor")
    tab.get_by_label(re.compile("^Queue")).select_option("cluster")
    warning = tab.get_by_text("its jobs run under the Unix accounts of users, and admin has none").first
    expect(warning).to_be_visible(timeout=60_000)
