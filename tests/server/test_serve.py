"""`rutile serve` as a process: its link, its client, and being killed."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from http.cookiejar import CookieJar
from pathlib import Path

import pytest

import rutile
from rutile.core.client import Refused
from rutile.core.connection import trust_in
from rutile.core.errors import FileError

SOURCE = str(Path(rutile.__file__).parents[1])


def served(home, log, *words):
    with log.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "rutile", "serve", f"home={home}", "port=0", "cores=2", *words], stderr=file,
            stdout=file, env={**os.environ, "PYTHONPATH": SOURCE}, start_new_session=True,
        )  # fmt: skip
    end = time.monotonic() + 60
    while time.monotonic() < end and process.poll() is None:
        found = re.search(r"(https?://[\d.:]+)/login/(\S+)", log.read_text())
        if found:
            return process, found[1], found[0]
        time.sleep(0.1)
    raise AssertionError(log.read_text())


def token_of(address, link, certificate=None):
    secure = urllib.request.HTTPSHandler(context=trust_in(certificate))
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()), secure)
    opener.open(link)
    csrf = json.loads(opener.open(f"{address}/api/session").read())["csrf"]
    body = json.dumps({"name": "test", "scopes": ["read", "submit"]}).encode()
    wish = urllib.request.Request(
        f"{address}/api/account/tokens", body, {"X-CSRF-Token": csrf, "Content-Type": "application/json"}
    )
    return json.loads(opener.open(wish).read())["token"]


@pytest.mark.slow
def test_a_client_works_through_a_server_that_is_killed_in_between(tmp_path):
    process, address, link = served(tmp_path / "home", tmp_path / "log")
    try:
        token = token_of(address, link)
        client = rutile.Client(address, token)
        crystal = tmp_path / "nacl.vasp"
        crystal.write_text("salt\n1.0\n4 0 0\n0 4 0\n0 0 4\nNa Cl\n1 1\nDirect\n0 0 0\n0.5 0.5 0.5\n")
        reference = client.upload(crystal)
        number = client.submit("inspect", {"files": [reference]}, name="salt", cores=1)
        with pytest.raises(Refused, match="fmax"):
            client.submit("relax", {"structures": [reference], "model": "emt", "fmax": -1})
        end = time.monotonic() + 60
        while client.job(number)["state"] == "QUEUED" and time.monotonic() < end:
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        with pytest.raises(FileError, match="no answer"):
            client.job(number)
        process, address, _ = served(tmp_path / "home", tmp_path / "log")
        client = rutile.Client(address, token)
        done = client.wait(number, seconds=120)
        assert done["state"] == "DONE", done["reason"]
        assert client.jobs(search="salt")[0]["id"] == number
        assert "nacl.vasp" in client.log(number)
        with pytest.raises(FileError, match="has no file"):
            client.download(number, "nothing", tmp_path / "x")
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.mark.slow
def test_ctrl_c_ends_the_server_in_order(tmp_path):
    process, _, _ = served(tmp_path / "home", tmp_path / "log")
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) in (0, 130)
    assert "Traceback" not in (tmp_path / "log").read_text()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["host=0.0.0.0"], "unencrypted"),
        (["database=sqlite:////nowhere/x.db"], "cannot be opened"),
        (["clusters=[{}]"], "no program 'sbatch'"),
        (["port=99999"], "port = 99999"),
        (["certificate=/nowhere", "key=/nowhere"], "certificate = /nowhere: no such file"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(tmp_path, words, line):
    done = subprocess.run(
        [sys.executable, "-m", "rutile", "serve", f"home={tmp_path}", *words], capture_output=True, text=True,
        timeout=60, check=False, env={**os.environ, "PYTHONPATH": SOURCE, "PATH": "/nowhere"},
    )  # fmt: skip
    assert done.returncode == 2
    assert line in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.slow
def test_help_imports_no_web_and_no_database():
    code = (
        "import sys; from rutile.cli.main import main\n"
        "assert main([]) == 0 and main(['serve', '--help']) == 0\n"
        "heavy = {'fastapi', 'sqlalchemy', 'uvicorn', 'alembic', 'psutil'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL, timeout=120)
