"""Jobs under Unix accounts of users: who has which, who is refused, and what their jobs are given."""

import os
import pwd
import stat
from types import SimpleNamespace

import pytest
from platform_site import make_site, ok, opened

from rutile.core.errors import ExecutorError, SettingsError
from rutile.core.executors.queue import SlurmQueue
from rutile.jobs import folder as kept
from rutile.jobs.accounts import Account, Become, account_named
from rutile.jobs.folder import read_json
from rutile.jobs.permissions import ACCESS, DEFAULT, is_shared, rights_of
from rutile.jobs.references import Input
from rutile.jobs.sandbox import Sandbox
from rutile.jobs.settings import SlurmPlace
from rutile.jobs.tables import Job

PEOPLE = {"chem1": 4001, "chem2": 4002}
CLUSTER = SlurmPlace(name="slurm", unix_accounts=True, become=["env", "AS={account}"])
WISH = {"task": "doctor", "queue": "slurm"}


@pytest.fixture
def people(monkeypatch):
    """A machine with two people, besides the accounts that it has."""
    known = pwd.getpwnam

    def named(name):
        if name in PEOPLE:
            return SimpleNamespace(pw_name=name, pw_uid=PEOPLE[name], pw_dir=f"/people/{name}")
        return known(name)

    monkeypatch.setattr("rutile.jobs.accounts.pwd.getpwnam", named)


@pytest.fixture
def cluster(tmp_path, people, monkeypatch):
    """A platform with a cluster that asks for accounts; `sent` holds what Slurm is sent: script, words before."""
    monkeypatch.setattr("shutil.which", lambda name: f"/bin/{name}")
    monkeypatch.setattr(Become, "check", lambda self, account, folder: None)
    sent = []
    monkeypatch.setattr(SlurmQueue, "submit", lambda self, script, before=(): sent.append((script, before)) or "77")
    site = make_site(tmp_path / "home", clusters=[CLUSTER])
    site.sent = sent
    yield site
    site.platform.close()


def user_named(ada, name):
    return next(one for one in ok(ada.get("/api/admin/users")) if one["name"] == name)


def give(ada, name, account, code=200):
    return ok(ada.patch(f"/api/admin/users/{user_named(ada, name)['id']}", json={"unix_account": account}), code)


@pytest.mark.slow
@pytest.mark.databases
def test_administrators_say_under_which_account_jobs_of_a_user_run(people, site, ada, ben):
    assert give(ada, "ben", "chem1")["unix_account"] == "chem1"
    give(ada, "ben", "chem1")  # it is theirs
    assert "jobs of ben run under it; two users cannot share one" in give(ada, "eve", "chem1", 409)["detail"]
    new = {"name": "zoe", "unix_account": "chem1"}
    assert ada.post("/api/admin/users", json=new).status_code == 409
    assert ok(ada.post("/api/admin/users", json=new | {"unix_account": "chem2"}), 201)["unix_account"] == "chem2"
    assert ben.patch(f"/api/admin/users/{user_named(ada, 'ben')['id']}", json={"unix_account": None}).status_code == 403
    line = next(one for one in ok(ada.get("/api/admin/audit")) if one["thing"] == "user ben")
    assert line["after"] == {"unix_account": "chem1"}
    assert give(ada, "ben", None)["unix_account"] is None
    assert give(ada, "eve", "chem1")["unix_account"] == "chem1"


@pytest.mark.parametrize(("name", "told"), [
    ("root", r"unix_account = root: root or a service \(its number 0 is not that of a person, 1000 and up\)"),
    ("nobody", "root or a service"), ("no-such-person", "this machine knows no such account; make it"),
])  # fmt: skip
def test_accounts_of_nobody_are_refused(ada, name, told):
    with pytest.raises(SettingsError, match=told):
        account_named(name)
    assert give(ada, "ben", name, 422)["detail"].startswith(f"unix_account = {name}: ")


def test_the_account_of_the_server_is_refused(people, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 4001)
    with pytest.raises(SettingsError, match="this server runs under it"):
        account_named("chem1")
    assert account_named("chem2") == Account("chem2", 4002, "/people/chem2")


@pytest.mark.parametrize("name", ["-u", "--", "a b", "a;b", "", "a=b", "../x"])
def test_names_that_a_command_would_take_for_something_else_are_refused(ada, name):
    (problem,) = give(ada, "ben", name, 422)["problems"]
    assert problem["key"].endswith("unix_account")
    assert user_named(ada, "ben")["unix_account"] is None


def test_words_before_a_command_say_the_account_and_nothing_of_the_server(monkeypatch):
    monkeypatch.setenv("SLURM_CONF", "/etc/slurm.conf")
    monkeypatch.setenv("PATH", "/bin:/usr/bin")
    monkeypatch.setenv("LANG", "C.UTF-8")
    monkeypatch.setenv("PGPASSWORD", "secret")
    words = Become(["env", "-u", "{account}", "--"]).before(Account("chem1", 4001, "/people/chem1"))
    assert words == ["env", "-u", "chem1", "--", "env", "-i", "HOME=/people/chem1", "USER=chem1", "LOGNAME=chem1",
                     "PATH=/bin:/usr/bin", "LANG=C.UTF-8", "SLURM_CONF=/etc/slurm.conf"]  # fmt: skip


@pytest.mark.parametrize(("words", "told"), [
    (["no-such-sudo", "-u", "{account}"], "there is no program 'no-such-sudo' here; install it, or, where root"),
    (["env", "-u"], "{account} must be among the words"), ([], "{account} must be among the words"),
])  # fmt: skip
def test_a_way_to_become_somebody_that_is_none_is_refused(words, told):
    with pytest.raises(ExecutorError) as error:
        Become(words)
    assert told in str(error.value)


def test_an_account_that_cannot_reach_a_folder_is_told_what_helps(tmp_path):
    become = Become(["env", "AS={account}"])
    account = Account("chem1", 4001, "/people/chem1")
    become.check(account, tmp_path)
    with pytest.raises(
        ExecutorError, match=r"the account chem1 cannot write .*none: every folder above must let it pass"
    ):
        become.check(account, tmp_path / "none")


@pytest.mark.slow
def test_a_user_without_an_account_is_refused_with_what_helps(cluster):
    ada, ben = cluster.page("ada"), cluster.page("ben")
    told = "queue = slurm: its jobs run under the Unix accounts of users, and ben has none: ask an administrator"
    assert ben.post("/api/jobs", json=WISH).json()["detail"].startswith(told)
    (problem,) = ok(ben.post("/api/tasks/doctor/check", json={"settings": {}, "queue": "slurm"}))["problems"]
    assert told.removeprefix("queue = slurm: ") in problem["message"]
    assert ok(ben.post("/api/jobs", json={"task": "doctor"}), 201)["queue"] == "local"
    give(ada, "ben", "chem1")
    number = ok(ben.post("/api/jobs", json=WISH), 201)["id"]
    give(ada, "ben", None)
    cluster.platform.reconciler._start("slurm", cluster.platform.places["slurm"])
    job = ok(ben.get(f"/api/jobs/{number}"))
    assert (job["state"], cluster.sent) == ("FAIL", [])
    assert job["reason"].startswith(f"cannot be started: {told}")
    assert ben.post(f"/api/jobs/{number}/rerun").status_code == 422


@pytest.mark.slow
def test_a_job_gets_a_folder_of_its_own_with_copies_of_what_it_reads(cluster):
    give(cluster.page("ada"), "ben", "chem1")
    ben, home = cluster.page("ben"), cluster.platform.home
    upload = ok(ben.post("/api/uploads", json={"name": "cu.extxyz", "size": 4}), 201)["id"]
    ok(ben.put(f"/api/uploads/{upload}", params={"offset": 0}, content=b"some"))
    settings = {"structures": [f"upload:{upload}"], "model": "emt"}
    number = ok(ben.post("/api/jobs", json=WISH | {"task": "relax", "settings": settings}), 201)["id"]
    cluster.platform.reconciler._start("slurm", cluster.platform.places["slurm"])
    ((script, before),) = cluster.sent
    assert before[:2] == ["env", "AS=chem1"]
    assert f"--chdir={home.job(number)}" in script
    folder = home.job(number)
    copy = folder / kept.FILES / kept.INPUTS / "cu.extxyz"
    assert (copy.read_bytes(), copy.is_symlink()) == (b"some", False)
    assert is_shared(folder)
    for path in (folder, folder / kept.FILES, copy.parent):
        assert os.getxattr(path, DEFAULT) == os.getxattr(path, ACCESS) == rights_of({4001, os.geteuid()}, 7)
        assert not path.stat().st_mode & 0o007
    assert os.getxattr(copy, ACCESS) == rights_of({4001}, 6)
    order = read_json(folder / kept.JOB)
    assert (order["shared"], order["environment"]["HOME"]) == (True, "/people/chem1")
    assert "TMPDIR" not in order["environment"]
    with cluster.platform.database.reading() as session:
        job = session.get_one(Job, number)
        assert (job.unix_account, job.native_id) == ("chem1", "77")
    ok(ben.patch(f"/api/jobs/{number}", json={"privacy": "public"}))
    seen = [ok(page.get(f"/api/jobs/{number}")) for page in (ben, cluster.page("eve"))]
    assert [(one["unix_account"], one["native_id"]) for one in seen] == [("chem1", "77"), (None, "77")]
    (copy.parent.parent / "mine").write_text("of the account")
    cluster.platform.reconciler._launch(cluster.platform.places["slurm"], job)  # once more: nothing is made anew
    assert len(cluster.sent) == 2
    assert (copy.parent.parent / "mine").exists()


@pytest.mark.slow
def test_a_home_lets_accounts_pass_and_shows_them_nothing(tmp_path, cluster):
    cluster.platform.close()
    home = cluster.platform.home
    (home.jobs / "12").mkdir(mode=0o755)
    (home.folder / "notes.txt").write_text("x")
    again = opened(home.folder, clusters=[CLUSTER])
    again.platform.close()
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (home.folder, *home.folder.iterdir())}
    assert (modes.pop("home"), modes.pop("jobs")) == (0o711, 0o711)
    assert {name for name, mode in modes.items() if mode & 0o077} == set()
    assert {"platform.db", "reconciler.lock", "notes.txt", "cache"} <= set(modes)
    assert stat.S_IMODE((home.jobs / "12").stat().st_mode) == 0o700


def test_secrets_that_others_may_read_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: f"/bin/{name}")
    secret = tmp_path / "mail"
    secret.write_text("password")
    secret.chmod(0o644)
    mail = {"host": "h", "sender": "a@b", "password_file": secret}
    with pytest.raises(SettingsError, match=r"mail is open to others: chmod 600"):
        opened(tmp_path / "home", clusters=[CLUSTER], mail=mail)


def test_a_sandbox_of_an_account_hides_its_home_and_needs_no_way_to_inputs(tmp_path):
    (tmp_path / "person").mkdir()
    (tmp_path / "secret").touch()
    from rutile.jobs.folder import Order
    from rutile.jobs.home import Home

    sandbox = Sandbox(Home.open(tmp_path / "home"), secrets=[tmp_path / "secret"])
    inputs = [Input("data", "upload:1", "x", str(tmp_path / "home" / "uploads" / "1"))]
    folder, order = tmp_path / "home" / "jobs" / "1", Order(["true"], {})
    plain = sandbox.around(order, folder, inputs).argv
    argv = sandbox.around(order, folder, inputs, Account("chem1", 4001, str(tmp_path / "person"))).argv
    assert inputs[0].source in plain
    assert inputs[0].source not in argv
    assert argv[argv.index(str(tmp_path / "person")) - 1] == "--tmpfs"
