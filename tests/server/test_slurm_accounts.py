"""A cluster whose jobs run under the Unix accounts of users: a private Slurm, two accounts, the platform as root."""

import os
import pwd
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from platform_site import make_site, ok

from rutile.jobs import folder as kept
from rutile.jobs import launch, reconciler, sandbox
from rutile.jobs.permissions import is_shared
from rutile.jobs.safe_files import identity
from rutile.jobs.settings import SlurmPlace

pytestmark = pytest.mark.slurm
NAMES = {"ben": "rutile-test-1", "eve": "rutile-test-2"}
AS = ["runuser", "-u", "{account}", "--"]
PROGRAM = """
import os
open("who", "w").write(f"{os.getuid()} {os.environ['HOME']} {os.environ.get('PGPASSWORD')}")
os.mkdir("deep", 0o700)
os.close(os.open("deep/private", os.O_CREAT | os.O_WRONLY, 0o600))
open("cu.extxyz", "w").write("1\\nLattice=\\"4 0 0 0 4 0 0 0 4\\"\\nCu 0 0 0\\n")
print("read:", os.path.exists("inputs") and open("inputs/" + os.listdir("inputs")[0]).read())
"""
REACHED = """
import os, sys
for path in sys.stdin.read().split(chr(0)):
    if os.access(path, os.R_OK) or os.access(path, os.W_OK):
        print(path)
"""


@pytest.fixture(scope="module")
def accounts(slurm):
    """Two accounts of this machine, of one run at a time, as Slurm is; they are gone afterwards."""
    del slurm
    missing = [program for program in ("useradd", "userdel", "runuser") if shutil.which(program) is None]
    if missing or os.geteuid() != 0:
        pytest.skip(f"makes Unix accounts: as root only, with {', '.join(missing) or 'useradd, userdel, runuser'}")
    made = ["--no-create-home", "--home-dir", "/nonexistent", "--shell", "/usr/sbin/nologin", "--no-user-group"]
    for name in NAMES.values():
        subprocess.run(["userdel", name], check=False, capture_output=True)  # of a run that was killed
        subprocess.run(["useradd", *made, name], check=True)
    yield {user: pwd.getpwnam(name).pw_uid for user, name in NAMES.items()}
    for name in NAMES.values():
        subprocess.run(["userdel", name], check=True)


def as_account(user, *words, text=None):
    command = [word.format(account=NAMES[user]) for word in AS]
    return subprocess.run([*command, *words], input=text, capture_output=True, text=True, check=False, cwd="/")


@pytest.fixture(scope="module")
def place():
    """A folder that accounts can pass through: those of pytest are for its user alone."""
    folder = Path(tempfile.mkdtemp(prefix="rutile-accounts-"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def python(accounts, place):
    """A Python that accounts can run: ours, or a copy of it where that lies in somebody's home."""
    if as_account("ben", sys.executable, "-c", "pass").returncode == 0:
        return sys.executable
    base, folder = Path(sys.base_prefix), place / "python"
    library = f"python3.{sys.version_info.minor}"
    left_out = shutil.ignore_patterns("site-packages", "test", "idlelib", "ensurepip", "config-*")
    shutil.copytree(base / "lib" / library, folder / "lib" / library, ignore=left_out)
    for file in [*base.glob("lib/libpython*"), base / "bin" / library]:
        (folder / "bin").mkdir(exist_ok=True)
        shutil.copy(file, folder / ("bin" if file.parent.name == "bin" else "lib") / file.name)
    packages = next(path for path in sys.path if path.endswith("site-packages"))
    script = folder / "python"
    script.write_text(
        f"#!/bin/sh\nexport LD_LIBRARY_PATH={folder}/lib PYTHONHOME={folder} PYTHONPATH=$PYTHONPATH:{packages}\n"
        f'exec {folder}/bin/{library} "$@"\n'
    )
    script.chmod(0o755)
    tried = as_account(
        "ben", "env", f"PYTHONPATH={launch.source_folder()}", script, "-c", "import rutile.jobs.supervisor"
    )
    if tried.returncode:
        pytest.skip(f"accounts cannot run this Python, nor a copy of it: {tried.stderr.strip()[-300:]}")
    return str(script)


@pytest.fixture
def cluster(slurm, accounts, place, python, monkeypatch):
    """A platform whose cluster asks for accounts; jobs run `cluster.program`."""
    monkeypatch.setenv("SLURM_CONF", str(slurm / "slurm.conf"))
    monkeypatch.setenv("PGPASSWORD", "of the server")
    monkeypatch.setattr(sys, "executable", python)
    monkeypatch.setattr(reconciler, "SLURM_EVERY", 0.5)
    home = Path(tempfile.mkdtemp(dir=place)) / "home"
    home.parent.chmod(0o711)
    site = make_site(home, clusters=[SlurmPlace(name="slurm", memory=False, unix_accounts=True, become=AS)])
    site.program = PROGRAM
    monkeypatch.setattr(launch, "words_of", lambda task: [python, "-c", site.program])
    ada = site.page("ada")
    for user in ok(ada.get("/api/admin/users")):
        if user["name"] in NAMES:
            ok(ada.patch(f"/api/admin/users/{user['id']}", json={"unix_account": NAMES[user["name"]]}))
    site.numbers = accounts
    yield site
    site.platform.close()
    end = time.monotonic() + 60
    while listed() and time.monotonic() < end:
        time.sleep(0.2)


def listed():
    words = ["squeue", "--noheader", "--format=%i %U"]
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout.splitlines()


def accounted_to(name, seconds=60):
    """Whom Slurm accounts jobs to, once that one is among them: its database comes later."""
    words = ["sacct", "--noheader", "--allusers", "--allocations", "--format=User%20"]
    end = time.monotonic() + seconds
    while True:
        names = subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()
        if name in names or time.monotonic() > end:
            return names
        time.sleep(0.5)


def submitted(page, code=201, **wish):
    return ok(page.post("/api/jobs", json={"task": "doctor", "queue": "slurm"} | wish), code)["id"]


def test_jobs_run_under_the_accounts_of_their_users_and_keep_apart(cluster):
    ben, eve = cluster.page("ben"), cluster.page("eve")
    first = submitted(ben, privacy="public")
    done = cluster.wait(ben, first, seconds=120)
    folder = cluster.platform.home.job(first)
    assert done["state"] == "DONE", (done, [p.read_text() for p in folder.glob("*.txt")])
    assert ben.get(f"/api/jobs/{first}/files/{identity('who')}/download").text == (
        f"{cluster.numbers['ben']} /nonexistent None"
    )
    assert (folder / kept.FILES / "who").stat().st_uid == cluster.numbers["ben"]
    assert NAMES["ben"] in accounted_to(NAMES["ben"])
    assert done["bytes"] > 0
    assert {"deep/private", "cu.extxyz"} <= {f["path"] for f in ok(ben.get(f"/api/jobs/{first}/files"))}
    assert len(ok(ben.get(f"/api/jobs/{first}/files/{identity('cu.extxyz')}/frames/0"))["symbols"]) == 1

    settings = {"structures": [f"job:{first}/cu.extxyz"], "model": "emt"}
    second = submitted(eve, task="relax", settings=settings)
    assert cluster.wait(eve, second, seconds=120)["state"] == "DONE"
    assert "read: 1\nLattice" in ok(eve.get(f"/api/jobs/{second}/log"))["text"]
    assert (cluster.platform.home.job(second) / kept.FILES / "who").stat().st_uid == cluster.numbers["eve"]

    home = cluster.platform.home.folder
    ok(cluster.page("ada").post("/api/admin/backup"), 201)
    every = [str(path) for path in (home, *home.rglob("*"))]
    assert len(every) > 20
    for user, number in (("ben", first), ("eve", second)):
        own = str(cluster.platform.home.job(number))
        reached = as_account(user, sys.executable, "-c", REACHED, text="\0".join(every)).stdout.split("\n")[:-1]
        assert own in reached
        assert [path for path in reached if not Path(path).is_relative_to(own)] == []
    for page, number in ((ben, first), (eve, second)):
        assert page.delete(f"/api/jobs/{number}").status_code == 204
        assert not cluster.platform.home.job(number).exists()


def test_jobs_under_accounts_are_cancelled_at_work_and_while_they_wait_in_slurm(cluster):
    ben = cluster.page("ben")
    cluster.program = "import time; time.sleep(300)"
    work = submitted(ben, cores=2)
    cluster.wait(ben, work, ["RUNNING"], seconds=120)
    wait = submitted(ben, cores=2)
    end = time.monotonic() + 60
    while not ok(ben.get(f"/api/jobs/{wait}"))["reason"].startswith("waits in Slurm"):
        assert time.monotonic() < end
        cluster.platform.reconciler.round()
        time.sleep(0.1)
    assert [line.split()[1] for line in listed()] == [str(cluster.numbers["ben"])] * 2
    for number in (wait, work):
        ok(ben.post(f"/api/jobs/{number}/cancel"))
        assert cluster.wait(ben, number, seconds=60)["state"] == "CANCEL"


def test_what_an_account_does_to_its_folder_harms_nobody(cluster):
    """While the job runs it takes everything away that the server reads, and puts links to secrets there."""
    ben = cluster.page("ben")
    database = cluster.platform.home.folder / "platform.db"
    cluster.program = f"""
import os, time
for name in {[kept.LOG, kept.METRICS, kept.RESULT, kept.PROGRESS]!r}:
    if os.path.lexists("../" + name):
        os.unlink("../" + name)
    os.symlink({str(database)!r}, "../" + name)
os.rename("../files", "../other")
os.symlink({str(database.parent)!r}, "../files")
open("ready", "w")
"""
    number = submitted(ben)
    done = cluster.wait(ben, number, seconds=120)
    assert done["state"] == "DONE", done["reason"]
    folder = cluster.platform.home.job(number)
    assert (folder / kept.FILES).is_symlink()
    assert is_shared(folder)
    assert ok(ben.get(f"/api/jobs/{number}/files")) == []
    assert ok(ben.get(f"/api/jobs/{number}/log"))["text"] == ""
    assert ben.get(f"/api/jobs/{number}/files/{identity('platform.db')}/download").status_code == 404
    assert ben.delete(f"/api/jobs/{number}").status_code == 204
    assert database.exists()


def test_a_job_under_an_account_runs_in_a_sandbox_too(cluster, place, monkeypatch):
    if shutil.which("bwrap") is None:
        pytest.skip("bubblewrap is not here (Debian: apt-get install bubblewrap)")
    programs = [place / "python"] if (place / "python").exists() else [Path(sys.prefix), Path(sys.base_prefix)]
    packages = next(Path(path) for path in sys.path if path.endswith("site-packages"))
    monkeypatch.setattr(sandbox, "_programs", lambda: [*programs, packages, Path(launch.source_folder())])
    home = cluster.platform.home
    cluster.platform.reconciler.sandbox = sandbox.Sandbox(home)
    cluster.program = f"import os; print(os.getuid(), os.listdir({str(home.folder)!r}), os.listdir({str(home.jobs)!r}))"
    ben = cluster.page("ben")
    number = submitted(ben)
    done = cluster.wait(ben, number, seconds=120)
    assert done["state"] == "DONE", done["reason"]
    told = f"{cluster.numbers['ben']} ['jobs'] ['{number}']\n"
    assert ok(ben.get(f"/api/jobs/{number}/log"))["text"] == told
    assert home.job(number).stat().st_uid == os.geteuid()
