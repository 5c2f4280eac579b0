"""Jobs in a sandbox: what they see, what they cannot, and that they end as others do."""

import json
import os
import shutil
import signal
import stat
from dataclasses import asdict

import psutil
import pytest
from test_reconciler import Shop

from rutile.core.errors import SettingsError
from rutile.jobs import folder as kept
from rutile.jobs import launch
from rutile.jobs.home import Home
from rutile.jobs.places import open_places
from rutile.jobs.reconciler import Reconciler
from rutile.jobs.references import Input
from rutile.jobs.sandbox import Sandbox
from rutile.jobs.slots import Capacity
from rutile.jobs.tables import Job

pytestmark = pytest.mark.slow
LOOK = """
import json, os, pathlib, sys
def tried(what):
    try:
        return what()
    except OSError as error:
        return type(error).__name__
given = json.loads(pathlib.Path("../job.json").read_text())
places = json.loads(os.environ["LOOK"])
found = {name: tried(lambda: pathlib.Path(place).read_text()) for name, place in places.items()}
found["disk"] = tried(lambda: pathlib.Path("/usr/mine").write_text("x"))
found["processes"] = sum(name.isdigit() for name in os.listdir("/proc"))
found["home"] = os.listdir(os.path.expanduser("~"))
found["jobs"] = os.listdir(places["jobs"])
pathlib.Path("seen.json").write_text(json.dumps(found))
"""


@pytest.fixture
def boxed(tmp_path, monkeypatch, database_url):
    """A queue whose jobs run in a sandbox."""
    if shutil.which("bwrap") is None:
        pytest.skip("bubblewrap is not here (Debian: apt-get install bubblewrap)")
    monkeypatch.setattr(launch, "words_of", lambda task: [launch.sys.executable, "-c", task])

    class Boxed(Shop):
        secret = tmp_path / "secret"

        def fresh(self):
            capacity, box = Capacity(self.cores, 16.0, 2), Sandbox(self.home, [], [self.secret])
            box.check()
            return Reconciler(self.database, self.home, open_places(self.home, []), capacity, sandbox=box)

    Boxed.secret.write_text("password")
    boxed = Boxed(tmp_path / "home", database_url)
    yield boxed
    boxed.database.close()


def left_behind(folder):
    """Processes of a job."""
    return [p for p in psutil.process_iter(["cmdline"]) if str(folder) in " ".join(p.info["cmdline"] or [])]


def test_a_job_sees_its_own_and_nothing_else(boxed, tmp_path, monkeypatch):
    mine, other = boxed.home.folder / "uploads" / "mine", boxed.home.folder / "uploads" / "other"
    mine.write_text("given")
    other.write_text("not given")
    places = {"other": other, "database": boxed.home.folder / "platform.db", "secret": boxed.secret,
              "linked": "inputs/given", "copied": "inputs/folder/linked", "jobs": boxed.home.jobs}  # fmt: skip
    folder = tmp_path / "home" / "uploads" / "folder"
    folder.mkdir()
    (folder / "linked").symlink_to(mine)
    monkeypatch.setenv("ASE_LOOK", "")
    monkeypatch.setattr(launch, "KEPT", (*launch.KEPT, "LOOK"))
    monkeypatch.setenv("LOOK", json.dumps({name: str(place) for name, place in places.items()}))
    number = boxed.add(LOOK)
    with boxed.database.writing() as session:
        session.get_one(Job, number).inputs = [
            asdict(Input("a", "upload:mine", "given", str(mine))),
            asdict(Input("b", "job:7", "folder", str(folder))),
        ]
    boxed.home.job(77).mkdir(parents=True)
    done = boxed.until(number, "DONE", "FAIL")
    assert done.state == "DONE", (boxed.home.job(number) / kept.LOG).read_text()
    seen = json.loads((boxed.home.job(number) / kept.FILES / "seen.json").read_text())
    assert seen["linked"] == seen["copied"] == "given"
    assert seen["other"] == seen["database"] == "FileNotFoundError"
    assert seen["secret"] in ("", "FileNotFoundError")
    assert seen["disk"] == "OSError"  # read-only
    assert seen["processes"] <= 3
    assert "job" not in str(seen["home"])
    assert seen["jobs"] == [str(number)]


def test_a_job_that_is_cancelled_writes_what_it_must(boxed):
    number = boxed.add(
        "import pathlib, signal, sys, time\n"
        "def end(*_):\n    pathlib.Path('checkpoint').write_text('kept')\n    sys.exit(1)\n"
        "signal.signal(signal.SIGTERM, end)\npathlib.Path('ready').touch()\ntime.sleep(600)"
    )
    boxed.until(number, "RUNNING")
    files = boxed.home.job(number) / kept.FILES
    boxed.until_there(files / "ready")
    with boxed.database.writing() as session:
        job = session.get_one(Job, number)
        job.cancelled = True
    kept.ask_to_stop(boxed.home.job(number))
    assert boxed.until(number, "CANCEL", "FAIL", "DONE").state == "CANCEL"
    assert (files / "checkpoint").read_text() == "kept"
    assert left_behind(boxed.home.job(number)) == []


def test_exit_codes_and_limits_are_those_of_the_program(boxed):
    assert boxed.until(boxed.add("import sys; sys.exit(7)"), "FAIL").exit_code == 7
    late = boxed.until(boxed.add("import time; time.sleep(600)", wall_time=2.0), "FAIL")
    assert "wall time" in late.reason


def test_nothing_is_left_of_a_job_whose_supervisor_was_killed(boxed):
    number = boxed.add("import subprocess, time; subprocess.Popen(['sleep', '600'], start_new_session=True); "
                       "open('ready', 'w'); time.sleep(600)")  # fmt: skip
    boxed.until(number, "RUNNING")
    folder = boxed.home.job(number)
    boxed.until_there(folder / kept.FILES / "ready")
    (box,) = [p for p in left_behind(folder) if p.name() == "bwrap" and p.parent().name() != "bwrap"]
    inside = box.children(recursive=True)
    assert any(p.name() == "sleep" for p in inside)
    os.kill(json.loads((folder / kept.BEGAN).read_text())["pid"], signal.SIGKILL)
    _, alive = psutil.wait_procs([box, *inside], timeout=20)
    assert alive == []
    assert boxed.until(number, "FAIL", seconds=60).state == "FAIL"


def test_a_machine_without_a_sandbox_is_told_of(tmp_path, monkeypatch):
    box = Sandbox(Home.open(tmp_path / "home"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SettingsError, match="there is no bubblewrap here"):
        box.check()
    program = tmp_path / "bwrap"
    program.write_text("#!/bin/sh\necho 'No permissions to create new namespace' >&2\nexit 1\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    with pytest.raises(SettingsError, match=r"does not work here \(No permissions"):
        box.check()
    program.write_text("#!/bin/sh\nexit 0\n")
    with pytest.raises(SettingsError, match="there is no such place"):
        Sandbox(box.home, [tmp_path / "pseudo"]).check()
