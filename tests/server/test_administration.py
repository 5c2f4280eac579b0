"""Accounts, groups, quotas, what was used and done, numbers for Prometheus, backups."""

import os
import time
from pathlib import Path

import pytest
from platform_site import PASSWORD, ok

from rutile.core.errors import FileError
from rutile.jobs.home import Home
from rutile.jobs.tables import Job
from rutile.server.backup import restore, without_files
from rutile.server.platform import Platform

pytestmark = pytest.mark.databases


@pytest.mark.slow
def test_accounts_are_made_changed_and_closed(site, ada):
    new = ok(ada.post("/api/admin/users", json={"name": "zoe", "password": PASSWORD, "role": "user"}), 201)
    assert ada.post("/api/admin/users", json={"name": "zoe"}).status_code == 409
    zoe = site.page("zoe")
    token = ok(zoe.post("/api/account/tokens", json={"name": "x"}), 201)["token"]
    closed = ok(ada.patch(f"/api/admin/users/{new['id']}", json={"disabled": True}))
    assert closed["disabled"]
    assert zoe.get("/api/session").status_code == 401
    program = site.page()
    program.headers["Authorization"] = f"Bearer {token}"
    assert program.get("/api/jobs").status_code == 401
    me = next(u for u in ok(ada.get("/api/admin/users")) if u["name"] == "ada")
    for wish in ({"role": "user"}, {"disabled": True}, {"expires": 1.0}):
        assert ada.patch(f"/api/admin/users/{me['id']}", json=wish).status_code == 409


@pytest.mark.slow
def test_a_login_link_lets_somebody_in_who_forgot_the_password(site, ada):
    users = {u["name"]: u["id"] for u in ok(ada.get("/api/admin/users"))}
    link = ok(ada.post(f"/api/admin/users/{users['ben']}/link"))["link"]
    page = site.page()
    page.get(link)
    assert ok(page.get("/api/session"))["user"]["name"] == "ben"


@pytest.mark.slow
def test_a_course_gets_accounts_that_end_and_share_a_quota(site, ada):
    made = ok(ada.post("/api/admin/courses", json={"course": "md26", "accounts": 3, "core_hours": 0.0}), 201)
    assert [a["name"] for a in made] == ["md26-01", "md26-02", "md26-03"]
    page = site.page()
    answer = ok(page.post("/api/session", json={"name": "md26-02", "password": made[1]["password"]}))
    page.headers["X-CSRF-Token"] = answer["csrf"]
    assert 29 * 86400 < answer["user"]["expires"] - time.time() < 31 * 86400
    job = ok(page.post("/api/jobs", json={"task": "doctor"}), 201)
    assert job["state"] == "HELD"
    assert "group md26's quota" in job["reason"]
    group = next(g for g in ok(ada.get("/api/admin/groups")) if g["name"] == "md26")
    ok(ada.put(f"/api/admin/groups/{group['id']}", json={"core_hours": 10.0}))
    assert site.wait(page, job["id"])["state"] == "DONE"


def test_use_is_accounted_by_account(site, ada, ben):
    number = ok(ben.post("/api/jobs", json={"task": "doctor"}), 201)["id"]
    with site.platform.database.writing() as session:
        row = session.get_one(Job, number)
        row.core_seconds, row.gpu_seconds, row.bytes, row.state = 7200.0, 3600.0, 2_000_000_000, "FAIL"
    (use,) = ok(ada.get("/api/admin/use"))
    assert (use["user"], use["core_hours"], use["gpu_hours"], use["disk_gb"], use["failed"]) == ("ben", 2, 1, 2, 1)
    assert ok(ben.get("/api/account/use"))["core_hours"] == 2
    (later,) = ok(ada.get("/api/admin/use", params={"since": time.time() + 10}))
    assert (later["jobs"], later["core_hours"], later["disk_gb"]) == (0, 0, 2)  # space is taken now, whenever it was


def test_use_is_accounted_by_group(site, ada, ben, eve):
    group = ok(ada.post("/api/admin/groups", json={"name": "lab"}), 201)["name"]
    for user in ok(ada.get("/api/admin/users")):
        if user["name"] in ("ben", "eve"):
            ok(ada.patch(f"/api/admin/users/{user['id']}", json={"group": group}))
    numbers = [ok(page.post("/api/jobs", json={"task": "doctor"}), 201)["id"] for page in (ben, eve, ada)]
    with site.platform.database.writing() as session:
        for number in numbers:
            session.get_one(Job, number).core_seconds = 3600.0
    rows = {row["group"]: row for row in ok(ada.get("/api/admin/use", params={"by": "group"}))}
    assert {name: (row["user"], row["jobs"], row["core_hours"]) for name, row in rows.items()} == {
        "lab": ("", 2, 2.0), None: ("", 1, 1.0)
    }  # fmt: skip
    lines = ok(ada.get("/api/admin/audit", params={"user": "ada"}))
    moves = [(line["before"], line["after"]) for line in lines if line["action"] == "changed an account"]
    assert moves == [({"group": None}, {"group": "lab"})] * 2


def test_what_a_quota_of_the_group_leaves_is_said_to_its_members(site, ada, ben):
    made = ok(ada.post("/api/admin/groups", json={"name": "lab", "core_hours": 5.0}), 201)
    assert made["core_hours"] == 5.0
    (account,) = [user for user in ok(ada.get("/api/admin/users")) if user["name"] == "ben"]
    assert ok(ben.get("/api/account/use"))["left"] == {}
    ok(ada.patch(f"/api/admin/users/{account['id']}", json={"group": "lab"}))
    number = ok(ben.post("/api/jobs", json={"task": "doctor"}), 201)["id"]
    with site.platform.database.writing() as session:
        session.get_one(Job, number).core_seconds = 2 * 3600.0
    use = ok(ben.get("/api/account/use"))
    assert (use["core_hours_limit"], use["left"]) == (None, {"core_hours": 3.0})
    ok(ada.patch(f"/api/admin/users/{account['id']}", json={"core_hours": 2.5}))
    assert ok(ben.get("/api/account/use"))["left"] == {"core_hours": 0.5}


@pytest.mark.slow
def test_what_was_done_is_written_down(site, ada, ben):
    number = ok(ben.post("/api/jobs", json={"task": "doctor"}), 201)["id"]
    ok(ben.patch(f"/api/jobs/{number}", json={"privacy": "public"}))
    lines = ok(ada.get("/api/admin/audit", params={"user": "ben"}))
    changed = next(line for line in lines if line["action"] == "changed")
    assert (changed["thing"], changed["before"], changed["after"]) == (
        f"job {number}", {"privacy": "private"}, {"privacy": "public"},
    )  # fmt: skip
    assert "signed in" in [line["action"] for line in lines]


def test_announcements_reach_everybody_until_they_end(ada, ben):
    ok(ada.post("/api/admin/announcements", json={"text": "old", "until": time.time() - 1}), 201)
    made = ok(ada.post("/api/admin/announcements", json={"text": "maintenance on Friday"}), 201)
    assert [a["text"] for a in ok(ben.get("/api/announcements"))] == ["maintenance on Friday"]
    assert ada.delete(f"/api/admin/announcements/{made['id']}").status_code == 204
    assert ok(ben.get("/api/announcements")) == []


def test_prometheus_reads_numbers_with_an_administrators_token(site, ada, ben):
    assert ben.get("/metrics").status_code == 403
    ok(ben.post("/api/jobs", json={"task": "doctor"}), 201)
    text = ada.get("/metrics").text
    assert 'rutile_jobs{queue="local",state="QUEUED"} 1.0' in text
    assert 'rutile_cores{queue="local"} 2.0' in text
    assert site.page().get("/metrics").status_code == 401
    for scopes, code in ((["read"], 200), (["submit", "admin"], 403)):
        token = ok(ada.post("/api/account/tokens", json={"name": "p", "scopes": scopes}), 201)["token"]
        asked = site.page().get("/metrics", headers={"Authorization": f"Bearer {token}"})
        assert asked.status_code == code, scopes


@pytest.mark.slow
def test_a_backup_can_be_put_back(site, ada, ben, tmp_path):
    if not site.platform.database.lite:
        answer = ada.post("/api/admin/backup")
        assert (answer.status_code, "pg_dump" in answer.text) == (422, True)
        return
    ok(ben.post("/api/jobs", json={"task": "doctor", "name": "before"}), 201)
    ok(ben.post("/api/structures", json={"name": "copper", "text": "1\n\nCu 0 0 0\n"}), 201)
    made = ok(ada.post("/api/admin/backup"), 201)
    backup = made["file"]
    assert made["command"] == f"rutile serve home={tmp_path / 'home'} restore={backup}"
    ok(ben.post("/api/jobs", json={"task": "doctor", "name": "after"}), 201)
    assert Path(backup).stat().st_mode & 0o077 == 0
    site.platform.close()
    with pytest.raises(FileError, match="not a backup"):
        restore(Home(tmp_path / "home"), Path(__file__))
    with pytest.raises(FileError, match=r"gone\.db: no such file"):
        restore(Home(tmp_path / "home"), tmp_path / "gone.db")
    aside = restore(Home(tmp_path / "home"), Path(backup))
    assert aside.exists()
    again = Platform.open(site.platform.settings)
    with again.database.reading() as session:
        assert [j.name for j in session.query(Job)] == ["before"]
    assert without_files(again.database, again.home) == ""
    fresh = Home.open(tmp_path / "fresh")
    assert restore(fresh, Path(backup)) is None
    assert without_files(again.database, fresh) == "1 of 1 structures"
    again.close()


def test_a_share_of_the_cores_is_set_said_and_refused(site, ada, ben):
    """Two cores: 50 % is one."""
    number = next(u["id"] for u in ok(ada.get("/api/admin/users")) if u["name"] == "ben")
    assert ok(ada.patch(f"/api/admin/users/{number}", json={"cores_percent": 50}))["cores_percent"] == 50
    assert ada.patch(f"/api/admin/users/{number}", json={"cores_percent": 0}).status_code == 422
    assert ok(ben.get("/api/account/use"))["cores_percent"] == 50
    answer = ben.post("/api/jobs", json={"task": "doctor", "cores": 2})
    assert answer.status_code == 422
    assert "cores = 2: your share of queue local is 1 (50 % of 2 cores)" in answer.text
    checked = ok(ben.post("/api/tasks/doctor/check", json={"cores": 2}))
    assert (checked["ok"], [p["key"] for p in checked["problems"]]) == (False, ["cores"])
    number = ok(ben.post("/api/jobs", json={"task": "doctor"}), 201)["id"]
    waits = ok(ben.post("/api/jobs", json={"task": "doctor", "name": "second"}), 201)["id"]
    with site.platform.database.writing() as session:
        session.get_one(Job, number).state = "RUNNING"
    site.platform.reconciler._start("local", site.platform.places["local"])
    job = ok(ben.get(f"/api/jobs/{waits}"))
    assert (job["state"], job["reason"]) == ("QUEUED", "waits for its owner's share: 50 % of 2 cores, 1 in use")
    line = next(a for a in ok(ada.get("/api/admin/audit")) if a["action"] == "changed an account")
    assert (line["before"], line["after"]) == ({"cores_percent": None}, {"cores_percent": 50})


def test_a_job_is_not_repeated_beyond_the_share(site, ada, ben):
    number = ok(ben.post("/api/jobs", json={"task": "doctor", "cores": 2}), 201)["id"]
    group = ok(ada.post("/api/admin/groups", json={"name": "lab", "cores_percent": 50}), 201)
    user = next(u["id"] for u in ok(ada.get("/api/admin/users")) if u["name"] == "ben")
    ok(ada.patch(f"/api/admin/users/{user}", json={"group": "lab"}))
    answer = ben.post(f"/api/jobs/{number}/rerun")
    assert answer.status_code == 422
    assert "the share of group lab of queue local is 1" in answer.text
    assert ok(ada.put(f"/api/admin/groups/{group['id']}", json={"cores_percent": None}))["cores_percent"] is None
    ok(ben.post(f"/api/jobs/{number}/rerun"), 201)


@pytest.mark.slow
def test_each_account_of_a_course_gets_a_share(ada):
    ok(
        ada.post("/api/admin/courses", json={"course": "md27", "accounts": 1, "each_percent": 10, "cores_percent": 60}),
        201,
    )
    user = next(u for u in ok(ada.get("/api/admin/users")) if u["name"] == "md27-01")
    group = next(g for g in ok(ada.get("/api/admin/groups")) if g["name"] == "md27")
    assert (user["cores_percent"], group["cores_percent"]) == (10, 60)


@pytest.mark.slow
def test_an_account_past_its_end_is_told_so_by_its_password_alone(site, ada):
    user = next(u["id"] for u in ok(ada.get("/api/admin/users")) if u["name"] == "ben")
    ok(ada.patch(f"/api/admin/users/{user}", json={"expires": time.time() - 1}))
    for password, told in ((PASSWORD, "this account has ended or is closed"), ("wrong", "name or password is wrong")):
        answer = site.page().post("/api/session", json={"name": "ben", "password": password})
        assert answer.status_code == 401
        assert told in answer.text


def test_health_says_what_works(site, ada, ben):
    assert ben.get("/api/admin/health").status_code == 403
    site.platform.reconciler.seen = None
    told = ok(ada.get("/api/admin/health"))
    assert (told["queue"], told["queue_seen"], told["backup"]) == (False, None, None)
    assert 0 < told["disk_free"] <= told["disk"]
    assert (told["working"], told["waiting"]) == (0, 0)
    small = told["database_size"]
    if site.platform.database.lite:
        assert small > 1e-4  # twenty tables, wherever SQLite has written them so far
        for k in range(20):
            ok(ada.post("/api/admin/announcements", json={"text": f"{k} " * 200}), 201)
        assert ok(ada.get("/api/admin/health"))["database_size"] > small
    else:
        assert small is None
    site.platform.reconciler.seen = time.time()
    copy = site.platform.home.folder / "backups" / "platform-20260101-000000.db"
    copy.parent.mkdir()
    copy.write_text("")
    os.utime(copy, (1000, 1000))
    told = ok(ada.get("/api/admin/health"))
    assert told["queue"]
    assert told["backup"] == 1000
    site.platform.reconciler.seen = time.time() - 3600
    assert not ok(ada.get("/api/admin/health"))["queue"]
