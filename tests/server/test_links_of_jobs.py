"""A job may put anything into its folder: the server follows no link out of it, and waits for no pipe."""

import os

import pytest
from platform_site import ok

from rutile.core.errors import SettingsError
from rutile.jobs import folder as kept
from rutile.jobs.disk import bytes_in
from rutile.jobs.folder import Status, read_status, write_status
from rutile.jobs.permissions import ACCESS, is_shared, rights_of
from rutile.jobs.registry import model_of
from rutile.jobs.safe_files import copy_inside, identity
from rutile.jobs.sources import inputs_of, readable
from rutile.jobs.tables import Job, User

KEPT = (kept.LOG, kept.METRICS, kept.PERF, kept.PROGRESS, kept.STATUS, kept.RESULT, kept.MADE_WITH, kept.STOP)
SECRET = '{"word": "open sesame", "loss": 42.125}\n'
ROUTES = (
    "", "/log", "/log/search?text=sesame", "/log/download", "/metrics", "/performance", "/files", "/figures",
    "/failure", "/zip", "/crate", "/events",
)  # fmt: skip


@pytest.fixture
def secret(tmp_path):
    path = tmp_path / "secret"
    path.write_text(SECRET)
    return path


def ended_job(site, ben, state="FAIL"):
    """A job that has ended, and its folder."""
    number = ok(ben.post("/api/jobs", json={"task": "doctor"}), 201)["id"]
    with site.platform.database.writing() as session:
        job = session.get_one(Job, number)
        job.state, job.reason, job.started, job.ended = state, "exit code 1", 1.0, 2.0
    folder = site.platform.home.job(number)
    (folder / kept.FILES).mkdir(parents=True)
    return number, folder


def link(path, secret):
    path.symlink_to(secret)


def pipe(path, secret):
    del secret
    os.mkfifo(path)


@pytest.mark.slow
@pytest.mark.parametrize("trap", [link, pipe])
def test_what_a_job_puts_in_place_of_what_the_server_reads_is_not_there(site, ben, secret, trap):
    number, folder = ended_job(site, ben)
    for name in KEPT:
        trap(folder / name, secret)
    for name in ("table.csv", "cu.extxyz", "weights.csv"):
        trap(folder / kept.FILES / name, secret)
    for route in ROUTES:
        answer = ben.get(f"/api/jobs/{number}{route}")
        assert answer.status_code == 200, (route, answer.text)
        assert "open sesame" not in answer.text, route
        assert "42.125" not in answer.text, route
    for pattern in ("files/{}/download", "files/{}/preview", "files/{}/frames/0"):
        url = f"/api/jobs/{number}/{pattern.format(identity('cu.extxyz'))}"
        assert ben.get(url).status_code == 404, url
    assert read_status(folder) is None
    kept.ask_to_stop(folder)
    assert secret.read_text() == SECRET


def test_a_folder_of_files_that_is_a_link_is_empty(site, ben, secret):
    number, folder = ended_job(site, ben)
    (folder / kept.FILES).rmdir()
    (folder / kept.FILES).symlink_to(secret.parent)
    assert ok(ben.get(f"/api/jobs/{number}/files")) == []
    assert ben.get(f"/api/jobs/{number}/files/{identity('secret')}/download").status_code == 404
    assert bytes_in(folder / kept.FILES) == 0
    assert ben.delete(f"/api/jobs/{number}").status_code == 204
    assert secret.exists()


def given(site, ben, path):
    """What settings of ben that name this mean."""
    with site.platform.database.reading() as session:
        user = session.get_one(User, ok(ben.get("/api/session"))["user"]["id"])
        return inputs_of(session, site.platform.home, user, {"data": path})


@pytest.mark.slow
def test_what_an_account_wrote_is_read_from_a_copy_without_links(site, ben, secret):
    number, folder = ended_job(site, ben, "DONE")
    run = folder / kept.FILES / "run"
    (run / "deep").mkdir(parents=True)
    (run / "deep" / "good").write_text("good")
    (run / "link").symlink_to(secret)
    os.mkfifo(run / "pipe")
    os.setxattr(folder, ACCESS, rights_of({12345}, 7))
    assert is_shared(folder)
    for reference, name in ((f"job:{number}/run", "deep/good"), (f"job:{number}", "run/deep/good")):
        (one,) = given(site, ben, reference)
        copy = site.platform.home.cache / one.source
        assert copy.is_relative_to(site.platform.home.cache)
        assert (copy / name).read_text() == "good"
        assert not any(path.is_symlink() or path.is_fifo() or path.name == "pipe" for path in copy.rglob("*"))
    assert given(site, ben, f"job:{number}/run")[0].source == given(site, ben, f"job:{number}/run")[0].source
    (run / "deep" / "good").write_text("better")
    (one,) = given(site, ben, f"job:{number}/run")
    assert (site.platform.home.cache / one.source / "deep/good").read_text() == "better"
    for name in ("run/link", "run/pipe", "run/none", "run/link/x"):
        with pytest.raises(SettingsError, match="has no"):
            given(site, ben, f"job:{number}/{name}")


def test_a_model_that_leads_out_of_the_folder_of_an_account_is_none(site, ben, secret):
    number, folder = ended_job(site, ben, "DONE")
    (folder / kept.FILES / "model.rutile").symlink_to(secret)
    kept.write_json(folder / kept.RESULT, {"model": "model.rutile"})
    os.setxattr(folder, ACCESS, rights_of({12345}, 7))
    with site.platform.database.reading() as session:
        job = session.get_one(Job, number)
        job.task = "train"
        assert model_of(site.platform.home, job) is None
        (folder / kept.FILES / "model.rutile").unlink()
        (folder / kept.FILES / "model.rutile").write_text("x")
        assert model_of(site.platform.home, job) == readable(site.platform.home, job, "model.rutile")
        session.rollback()


def test_a_copy_takes_no_link_on_the_way(tmp_path, secret):
    root = tmp_path / "root"
    root.mkdir()
    (root / "way").symlink_to(secret.parent)
    with pytest.raises(OSError):  # noqa: PT011 - which one depends on the system
        copy_inside(root, "way/secret", tmp_path / "copy")
    with pytest.raises(OSError):  # noqa: PT011
        copy_inside(tmp_path / "root" / "way", "secret", tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


@pytest.mark.parametrize("wrong", [
    {"state": "FINE"}, {"started": "long ago"}, {"cpu_seconds": float("nan")}, {"exit_code": 2**80}, {"reason": 7},
    {"peak_memory": -1.0}, {"extra": []}, {"pid": "one"}, {"ended": float("inf")}, {"reason": "a\0b"},
])  # fmt: skip
def test_a_status_that_no_supervisor_writes_is_none(tmp_path, wrong):
    good = Status("DONE", 1, 1.0, "node", 1.0, 2.0, 3.0, 0)
    write_status(tmp_path, good)
    assert read_status(tmp_path) == good
    write_status(tmp_path, Status(**{**good.__dict__, **wrong}))
    assert read_status(tmp_path) is None
