"""A form says what its job is likely to wait and to cost; the account what it takes of a quota and of a queue."""

import time

import pytest
from playwright.sync_api import expect

pytestmark = pytest.mark.web


def test_a_form_says_what_its_job_waits_for_and_costs(site, browser):
    job = site.post("jobs", {"task": "doctor", "memory": 2})
    while site.get(f"jobs/{job['id']}")["state"] not in ("DONE", "FAIL"):
        time.sleep(0.2)
    with site.somebody_else(browser, "estimated") as other:
        (user,) = [u for u in site.get("admin/users") if u["name"] == "estimated"]
        wish = {"core_hours": 40, "cores_percent": 50}
        answer = site.tab.request.patch(
            f"{site.address}/api/admin/users/{user['id']}", data=wish,
            headers={"X-CSRF-Token": site.get("session")["csrf"]},
        )  # fmt: skip
        assert answer.ok, answer.text()
        other.open("/new/doctor")
        tab = other.tab
        tab.get_by_text("Expected wait: none").wait_for()
        tab.get_by_text("(40 left of the quota)").wait_for()
        assert other.barriers() == []
        tab.get_by_label("Cores", exact=True).fill("2")
        tab.get_by_text("your share of queue local is 1 (50 % of 2 cores)").wait_for()
        expect(tab.get_by_text("Expected wait")).to_have_count(0)
        other.open("/account")
        tab.get_by_text("Your jobs may hold 50 % of the cores and GPUs of a queue at the same time.").wait_for()
        assert not other.complaints
