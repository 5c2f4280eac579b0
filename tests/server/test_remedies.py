"""Failures are told with their cause and with jobs that can be submitted as they are."""

import time

import pytest
from platform_site import ok

from rutile.jobs.folder import FILES, LOG
from rutile.jobs.tables import Job, User
from rutile.server.remedies import RULES, Failed, rule_of


def failed_job(site, reason, log="", task="relax", state="FAIL", **changes):
    """A job that failed for a reason; its number."""
    with site.platform.database.writing() as session:
        user = session.query(User).filter_by(name="ben").one()
        row = {"name": "a", "settings": {}, "key": "k", "created": time.time()} | changes
        job = Job(owner_id=user.id, task=task, state=state, reason=reason, **row)
        session.add(job)
        session.flush()
        number = job.id
    folder = site.platform.home.job(number)
    (folder / FILES).mkdir(parents=True)
    (folder / LOG).write_text(log)
    return number


@pytest.mark.parametrize(
    ("reason", "log", "rule"),
    [
        ("used 4.40 GB, more than its 4 GB: ask for more", "", "memory"),
        ("exit code 1: x", "RuntimeError: [enforce fail] Cannot allocate memory", "memory"),
        ("longer than its wall time of 60 s", "relax: error: no such file", "time"),
        ("rutile train: error: loss is not finite in epoch 3, step 40, for a.extxyz 7; lower it", "", "nan"),
        ("error: cu.cif holds Cu, which the potential was not trained on (trained on: O, Ti)", "", "element"),
        ("OSError: [Errno 28] No space left on device", "", "disk"),
        ("lost: the machine was restarted, or its supervisor was killed; rerun it", "", "lost"),
        ("ended by signal 9", "", "lost"),
        ("relax: error: missing.extxyz: no such file", "", "missing"),
        ("exit code 1: KeyError: 'x'", "Traceback (most recent call last):\n  File ...\nKeyError: 'x'", "bug"),
        ("fmax = -1: must be larger than 0", "", "input"),
    ],
)  # fmt: skip
def test_what_was_said_tells_the_cause(tmp_path, reason, log, rule):
    (tmp_path / LOG).write_text(log)
    assert rule_of(Failed(Job(id=1, task="relax", settings={}, inputs=[], reason=reason), tmp_path)).name == rule


def test_every_rule_has_a_name_of_its_own():
    assert len({rule.name for rule in RULES}) == len(RULES)


def test_too_little_memory_is_doubled_and_the_job_can_be_submitted(site, ben):
    number = failed_job(site, "used 4.4 GB, more than its 4 GB: ask for more", memory=4.0, peak_memory=4.4, cores=2,
                        task="doctor")  # fmt: skip
    told = ok(ben.get(f"/api/jobs/{number}/failure"))
    assert (told["rule"], told["line"]) == ("memory", "used 4.4 GB, more than its 4 GB: ask for more")
    (remedy,) = told["remedies"]
    assert (remedy["name"], remedy["shown"], remedy["edit"]) == ("memory", "8 GB", False)
    again = ok(ben.post("/api/jobs", json=remedy["job"]), 201)
    assert (again["memory"], again["cores"], again["cloned_from"]) == (8.0, 2, number)


def test_a_training_that_ran_away_is_repeated_with_a_third_of_its_rate(site, ben):
    settings = {"data": ["a.extxyz"], "optimizer": {"name": "adam", "learning_rate": 0.03}}
    number = failed_job(site, "loss is not finite in epoch 1", task="train", settings=settings)
    (remedy,) = ok(ben.get(f"/api/jobs/{number}/failure"))["remedies"]
    assert remedy["job"]["settings"]["optimizer"] == {"name": "adam", "learning_rate": 0.01}
    number = failed_job(site, "loss is not finite in epoch 1", task="train", settings={"data": ["a.extxyz"]})
    (remedy,) = ok(ben.get(f"/api/jobs/{number}/failure"))["remedies"]
    assert remedy["job"]["settings"]["optimizer"]["learning_rate"] == 0.001, "of the default, 0.003"


def test_only_what_was_kept_is_gone_on_with(site, ben, eve):
    number = failed_job(site, "longer than its wall time of 60 s", task="md", wall_time=60.0,
                        settings={"structures": ["a.cif"], "model": "emt"})  # fmt: skip
    names = [r["name"] for r in ok(ben.get(f"/api/jobs/{number}/failure"))["remedies"]]
    assert names == ["time"]
    kept = site.platform.home.job(number) / FILES / "md"
    kept.mkdir()
    (kept / "checkpoint").write_text("x")
    on, anew = ok(ben.get(f"/api/jobs/{number}/failure"))["remedies"]
    assert (on["name"], on["job"]["settings"]["out"], on["job"]["wall_time"]) == ("go_on", f"job:{number}/md", 120.0)
    assert (anew["name"], anew["shown"], anew["job"]["settings"].get("out")) == ("time", "120 s", None)
    assert eve.get(f"/api/jobs/{number}/failure").status_code == 404
    stopped = failed_job(site, "cancelled", task="md", state="CANCEL")
    assert ok(ben.get(f"/api/jobs/{stopped}/failure"))["remedies"] == []
    (site.platform.home.job(stopped) / FILES / "md").mkdir()
    (site.platform.home.job(stopped) / FILES / "md" / "checkpoint").write_text("x")
    told = ok(ben.get(f"/api/jobs/{stopped}/failure"))
    assert (told["rule"], [r["name"] for r in told["remedies"]]) == ("", ["go_on"])


@pytest.mark.parametrize(("reason", "offered"), [
    ("fmax = -1: must be larger than 0", ["edit"]),
    ("error: cu.cif holds Cu, which the potential was not trained on (trained on: O, Ti)", ["edit"]),
    ("relax: error: missing.extxyz: no such file", ["edit"]),
    ("energy is not finite in step 3", ["edit"]),
    ("lost: the machine was restarted, or its supervisor was killed; rerun it", ["go_on", "again"]),
    ("used 4.4 GB, more than its 4 GB: ask for more", ["memory", "go_on"]),
])  # fmt: skip
def test_going_on_is_offered_only_where_it_can_help(site, ben, reason, offered):
    """Where settings or input are wrong, what goes on would fail as before."""
    number = failed_job(site, reason, task="md", settings={"structures": ["a.cif"], "model": "emt"})
    folder = site.platform.home.job(number) / FILES / "md"
    folder.mkdir()
    (folder / "checkpoint").write_text("x")
    assert [r["name"] for r in ok(ben.get(f"/api/jobs/{number}/failure"))["remedies"]] == offered


def test_nobody_repeats_what_he_may_not_see(site, ben, eve):
    number = failed_job(site, "lost: x")
    wish = {"task": "doctor", "settings": {}, "cloned_from": number}
    assert eve.post("/api/jobs", json=wish).status_code == 404
    assert ok(ben.post("/api/jobs", json=wish), 201)["cloned_from"] == number


@pytest.mark.slow
def test_a_training_that_was_stopped_goes_on_from_its_checkpoint(site, ben):
    data = ok(ben.post("/api/jobs", json={"task": "starter", "settings": {"names": ["silicon"]}}), 201)["id"]
    assert site.wait(ben, data)["state"] == "DONE"
    settings = {"data": [f"job:{data}/silicon.extxyz"], "epochs": 100_000, "write_report": False}
    first = ok(ben.post("/api/jobs", json={"task": "train", "settings": settings}), 201)["id"]
    for _ in range(600):
        site.platform.reconciler.round()
        if ok(ben.get(f"/api/jobs/{first}/metrics"))["rows"] >= 3:
            break
        time.sleep(0.1)
    ben.post(f"/api/jobs/{first}/cancel")
    site.wait(ben, first)
    (remedy,) = ok(ben.get(f"/api/jobs/{first}/failure"))["remedies"]
    assert remedy["name"] == "go_on"
    done = ok(ben.get(f"/api/jobs/{first}/metrics"))["columns"]["epoch"][-1]
    second = ok(ben.post("/api/jobs", json=remedy["job"]), 201)["id"]
    for _ in range(600):
        site.platform.reconciler.round()
        rows = ok(ben.get(f"/api/jobs/{second}/metrics"))
        if rows["rows"]:
            break
        time.sleep(0.1)
    ben.post(f"/api/jobs/{second}/cancel")
    site.wait(ben, second)
    assert rows["columns"]["epoch"][0] >= done
