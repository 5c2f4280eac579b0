"""What a form says of a job before it is submitted: wait, cost, what is left of a quota. Two cores, 16 GB."""

import time

import pytest
from platform_site import ok

from rutile.jobs.tables import Group, Job, User

pytestmark = pytest.mark.databases


def checked(page, **wish):
    return ok(page.post("/api/tasks/doctor/check", json=wish))["estimate"]


def add(site, number, state="DONE", waited=0.0, took=1800.0, cores=1, owner="eve", created=None, **values):
    """A job that waited and took so long (s)."""
    created = time.time() - 3600 if created is None else created
    started = None if state == "QUEUED" else created + waited
    ended = created + waited + took if state == "DONE" else None
    with site.platform.database.writing() as session:
        who = session.query(User).filter_by(name=owner).one()
        session.add(Job(id=number, name="j", task="doctor", settings={}, key="k", owner_id=who.id, state=state,
                        cores=cores, memory=1.0, created=created, started=started, ended=ended, **values))  # fmt: skip


def test_where_nothing_is_known_nothing_is_claimed(ben):
    assert checked(ben) == {
        "wait": 0.0, "core_hours": None, "gpu_hours": None, "core_hours_left": None, "gpu_hours_left": None,
    }  # fmt: skip


def test_a_job_costs_its_cores_times_the_usual_time_and_a_quota_says_what_is_left(site, ben):
    for number, took in ((1, 600.0), (2, 1800.0), (3, 7200.0)):
        add(site, number, took=took)
    with site.platform.database.writing() as session:
        user = session.query(User).filter_by(name="ben").one()
        user.core_hours, user.group = 10.0, Group(name="lab", core_hours=4.0, gpu_hours=7.0)
    found = checked(ben, cores=2, gpus=3)
    assert (found["core_hours"], found["gpu_hours"]) == (1.0, 1.5)
    assert (found["core_hours_left"], found["gpu_hours_left"]) == (4.0, 7.0)


def test_a_job_that_the_queue_would_choose_now_waits_for_nothing(site, ben):
    for number in range(1, 4):
        add(site, number, waited=600.0)
    add(site, 10, "RUNNING")
    assert checked(ben, cores=1)["wait"] == 0
    assert checked(ben, cores=2)["wait"] == 600
    assert checked(ben, cores=1, memory=15.5)["wait"] == 600
    assert checked(ben, cores=3)["wait"] is None
    assert checked(ben, queue="nowhere")["wait"] is None


def test_older_jobs_that_wait_come_first_and_held_ones_do_not_count(site, ben):
    add(site, 10, "RUNNING")
    add(site, 11, "HELD")
    assert checked(ben)["wait"] == 0
    add(site, 12, "QUEUED", created=time.time())
    assert checked(ben)["wait"] is None  # the free core is the older job's, and nobody has had to wait so far
    assert checked(ben, priority=40)["wait"] is None
    with site.platform.database.writing() as session:
        session.get_one(Job, 12).priority = 10
    assert checked(ben)["wait"] == 0


def test_jobs_as_large_as_this_one_say_most(site, ben):
    add(site, 10, "RUNNING", cores=2)
    for number in range(1, 6):
        add(site, number, waited=60.0 * number)
        add(site, number + 20, waited=6000.0, cores=2)
    add(site, 30, waited=1.0)  # began at once
    assert checked(ben, cores=2)["wait"] == 6000
    assert checked(ben, cores=1)["wait"] == pytest.approx((300 + 6000) / 2)


def test_the_home_page_has_the_same_rule(site, ben):
    (queue,) = ok(ben.get("/api/compute"))["queues"]
    assert queue["expected"] == 0
    add(site, 1, waited=100.0)
    add(site, 10, "RUNNING", cores=2)
    (queue,) = ok(ben.get("/api/compute"))["queues"]
    assert queue["expected"] == checked(ben)["wait"] == 100


def test_a_share_that_is_in_use_has_to_be_waited_for(site, ben):
    add(site, 1, waited=100.0)
    with site.platform.database.writing() as session:
        session.query(User).filter_by(name="ben").one().cores_percent = 50.0
    add(site, 10, "RUNNING", owner="ben")
    assert checked(ben)["wait"] == 100
