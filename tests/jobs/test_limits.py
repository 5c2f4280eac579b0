"""Shares of a queue: what one account, or a group, may hold at the same time; the others go on."""

import pytest
import sqlalchemy as sql

from rutile.core.errors import SettingsError
from rutile.jobs import queue
from rutile.jobs.database import open_database
from rutile.jobs.limits import Limits, Whole
from rutile.jobs.queue import Wish
from rutile.jobs.slots import Capacity, choose, send
from rutile.jobs.tables import Group, Job, User

NOW = 10_000.0
MACHINE = Capacity(16, 64.0, 4)
WHOLES = {"local": Whole(16, 4), "far": Whole(None, None)}


def owner(number, percent=None, group=None, jobs=None):
    return User(id=number, name=f"user{number}", cores_percent=percent, group=group, running_jobs=jobs,
                group_id=group.id if group else None)  # fmt: skip


def job(number, who, cores=1, gpus=0):
    return Job(id=number, owner_id=who.id, owner=who, cores=cores, gpus=gpus, memory=1.0, created=0.0, gpu_ids=[])


def chosen(waiting, working, limits):
    choices, reasons = choose(waiting, working, MACHINE, NOW, limits.held("local", working))
    return [choice.job.id for choice in choices], reasons


def test_jobs_beyond_the_share_of_their_owner_wait_and_are_overtaken():
    ben, eve = owner(1, 50.0), owner(2)
    working = [job(1, ben, 8)]
    started, reasons = chosen([job(2, ben), job(3, ben, 9), job(4, eve, 8)], working, Limits(None, WHOLES))
    assert started == [4]
    assert reasons == {
        2: "waits for its owner's share: 50 % of 16 cores, 8 in use",
        3: "asks for 9 cores, more than its owner's share: 50 % of 16 cores",
    }


def test_jobs_that_start_in_one_round_count_for_each_other():
    ben = owner(1, 25.0)
    assert chosen([job(k, ben, 2) for k in range(1, 5)], [], Limits(None, WHOLES))[0] == [1, 2]


def test_gpus_have_the_same_share():
    ben = owner(1, 50.0)
    started, reasons = chosen([job(k, ben, 1, gpus=1) for k in (1, 2, 3)], [], Limits(None, WHOLES))
    assert started == [1, 2]
    assert reasons[3] == "waits for its owner's share: 50 % of 4 GPUs, 2 in use"


def test_one_core_and_one_gpu_are_always_left():
    assert chosen([job(1, owner(1, 1.0), 1, gpus=1)], [], Limits(None, WHOLES))[0] == [1]


def test_a_default_holds_for_accounts_without_a_share_of_their_own():
    limits = Limits(25.0, WHOLES)
    assert chosen([job(1, owner(1), 8)], [], limits)[0] == []
    assert chosen([job(1, owner(1, 100.0), 8)], [], limits)[0] == [1]


def test_members_of_a_group_share_what_it_may_hold():
    lab = Group(id=7, name="lab", cores_percent=50.0)
    ben, eve = owner(1, group=lab), owner(2, group=lab)
    started, reasons = chosen([job(2, eve, 4), job(3, eve, 2)], [job(1, ben, 4)], Limits(None, WHOLES))
    assert started == [2]
    assert reasons[3] == "waits for the share of group lab: 50 % of 16 cores, 8 in use"


def test_a_cluster_gets_no_more_jobs_than_the_share_where_its_cores_are_known():
    ben = owner(1, 50.0, jobs=3)
    waiting = [job(k, ben, 4) for k in range(1, 6)]
    for place, sent in (("local", [1, 2]), ("far", [1, 2, 3])):
        choices, reasons = send(waiting, Limits(None, WHOLES).held(place, []))
        assert [choice.job.id for choice in choices] == sent
        assert len(reasons) == 5 - len(sent)
    assert reasons[5] == "waits: 3 jobs of user1 are at work, which is the limit"


@pytest.mark.parametrize(("cores", "gpus", "message"), [
    (9, 0, r"^cores = 9: your share of queue local is 8 \(50 % of 16 cores\); ask for 8 at most, or an administrator"),
    (1, 3, r"^gpus = 3: your share of queue local is 2 \(50 % of 4 GPUs\)"),
])  # fmt: skip
def test_what_could_never_start_is_refused(cores, gpus, message):
    limits = Limits(None, WHOLES)
    with pytest.raises(SettingsError, match=message):
        limits.refuse(owner(1, 50.0), "local", cores, gpus)
    limits.refuse(owner(1, 50.0), "far", cores, gpus)
    limits.refuse(owner(1, 50.0), "local", 8, 2)


@pytest.mark.databases
def test_who_has_many_jobs_waiting_keeps_nobody_elses_from_sight(database_url, tmp_path):
    database = open_database(database_url, tmp_path)
    with database.writing() as session:
        users = [User(name=name, created=0.0) for name in ("ben", "eve")]
        session.add_all(users)
        session.flush()
        for who, count in zip(users, (30, 1), strict=True):
            for _ in range(count):
                queue.submit(session, who, "doctor", {}, "key", [], Wish(priority=50))
        last = queue.submit(session, users[0], "doctor", {}, "key", [], Wish(priority=50))
        last.priority = 90
    with database.reading() as session:
        found = queue.next_waiting(session, "local", each=3)
        assert [one.owner.name for one in found] == ["ben"] * 3 + ["eve"]
        assert found[0].id == session.scalar(sql.select(sql.func.max(Job.id)))
        assert queue.next_waiting(session, "far") == []
    database.close()
