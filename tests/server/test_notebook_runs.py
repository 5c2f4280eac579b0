"""A real JupyterLab as a job of a real server: its first cells run, it is signed in, and it ends with its job."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from urllib.parse import parse_qs, urlsplit

import pytest
from certificates import self_signed
from test_serve import SOURCE, served, token_of

import rutile
from rutile.core.client import Refused
from rutile.core.connection import CERTIFICATE, CONNECTION, DOOR, KEY, trust_in
from rutile.core.errors import FileError
from rutile.jobs.folder import FILES, LOG, ask_to_stop, read_status

websocket = pytest.importorskip("websocket")
pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(find_spec("jupyterlab") is None, reason="needs JupyterLab: pip install 'rutile[notebook]'"),
]
SALT = "salt\n1.0\n4 0 0\n0 4 0\n0 0 4\nNa Cl\n1 1\nDirect\n0 0 0\n0.5 0.5 0.5\n"


OPEN = []
"""Sockets to kernels."""


@pytest.fixture(autouse=True)
def sockets():
    yield
    while OPEN:
        OPEN.pop().close()


class Kernel:
    """A kernel behind the door of a notebook, as JupyterLab uses it."""

    def __init__(self, link, certificate=None):
        parts = urlsplit(link)
        self.secure, self.trust = parts.scheme == "https", trust_in(certificate)
        self.base, self.token = parts.netloc.replace("localhost", "127.0.0.1"), parse_qs(parts.query)["token"][0]
        self.number = self.ask("kernels", {"name": "python3"})["id"]
        self.socket = websocket.create_connection(
            f"ws{'s' if self.secure else ''}://{self.base}/api/kernels/{self.number}/channels", timeout=60,
            header=[f"Authorization: token {self.token}"], sslopt={"context": self.trust},
        )  # fmt: skip
        OPEN.append(self.socket)

    def ask(self, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        asked = urllib.request.Request(f"http{'s' if self.secure else ''}://{self.base}/api/{path}", data,
                                       {"Authorization": f"token {self.token}"})  # fmt: skip
        with urllib.request.urlopen(asked, timeout=30, context=self.trust) as answer:
            return json.loads(answer.read())

    def run(self, code):
        """What a cell prints and returns; an error of the cell is one here."""
        header = {"msg_id": os.urandom(8).hex(), "msg_type": "execute_request", "session": "test", "username": "",
                  "version": "5.3", "date": ""}  # fmt: skip
        content = {"code": code, "silent": False, "store_history": False, "user_expressions": {}, "allow_stdin": False}
        message = {"header": header, "parent_header": {}, "metadata": {}, "content": content, "channel": "shell"}
        self.socket.send(json.dumps(message))
        said = ""
        while True:
            found = json.loads(self.socket.recv())
            if found["parent_header"].get("msg_id") != header["msg_id"]:
                continue
            kind, content = found["msg_type"], found["content"]
            if kind == "error":
                raise AssertionError("\n".join(content["traceback"]))
            said += content.get("text", "") if kind == "stream" else ""
            said += content["data"].get("text/plain", "") if kind == "execute_result" else ""
            if kind == "status" and content["execution_state"] == "idle":
                return said


@contextmanager
def platform(tmp_path):
    """A server that may be killed and begun again; the one at work is ended."""
    processes = []

    def begin(*words):
        process, address, link = served(tmp_path / "home", tmp_path / f"log{len(processes)}", "notebooks=users", *words)
        processes.append(process)
        return process, address, link

    try:
        yield begin
    finally:
        for process in processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        for job in (tmp_path / "home" / "jobs").glob("*/"):  # what a test that failed has left
            ask_to_stop(job)


def ready(client, number, seconds=120):
    """The link of a notebook, once it can be opened."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        view = client.notebook(number)
        if view["ready"]:
            return view["link"]
        job = client.job(number)
        assert job["state"] not in ("DONE", "FAIL", "CANCEL"), (job["reason"], client.log(number))
        time.sleep(0.2)
    raise AssertionError(client.log(number))


def is_open(link):
    with socket.socket() as probe:
        probe.settimeout(2)
        return probe.connect_ex(("127.0.0.1", urlsplit(link).port)) == 0


def gone(what, seconds=30):
    end = time.monotonic() + seconds
    while what() and time.monotonic() < end:
        time.sleep(0.2)
    return not what()


@pytest.mark.parametrize("boxed", [False, True])
def test_a_notebook_is_signed_in_outlives_the_server_and_ends_when_it_is_cancelled(tmp_path, boxed):
    if boxed and shutil.which("bwrap") is None:
        pytest.skip("bubblewrap is not here (Debian: apt-get install bubblewrap)")
    settings = ["sandbox=true"] if boxed else []
    with platform(tmp_path) as begin:
        process, address, link = begin(*settings)
        admin = rutile.Client(address, token_of(address, link))
        hidden = admin.submit("doctor", {}, name="the administrator's")
        admin.wait(hidden, 60)
        ben = rutile.Client(address, of_somebody_else(tmp_path, "ben"))
        crystal = tmp_path / "nacl.vasp"
        crystal.write_text(SALT)
        reference = ben.upload(crystal)
        mine = ben.submit("inspect", {"files": [reference]}, name="salt")
        assert ben.wait(mine, 60)["state"] == "DONE"
        number = ben.submit("notebook", {"structures": [reference], "job": mine}, memory=4.0)
        link = ready(ben, number)
        kernel = Kernel(link)
        folder = tmp_path / "home" / "jobs" / str(number)
        start = json.loads((folder / FILES / "start.ipynb").read_text())
        said = [kernel.run(cell["source"]) for cell in start["cells"] if cell["cell_type"] == "code"]
        assert "salt" in "".join(said)
        assert "ClNa" in "".join(said)
        assert kernel.run("print(sorted(row['id'] for row in client.jobs()))").strip() == f"[{mine}, {number}]"
        refused = f"try:\n    client.job({hidden})\nexcept Exception as error:\n    print(error.status)"
        assert kernel.run(refused).strip() == "404"
        sees = kernel.run(f"import os; print(os.path.exists({str(tmp_path / 'home' / 'platform.db')!r}))").strip()
        assert sees == str(not boxed)
        inside = kernel.run("print(client.token)").strip()
        log = (folder / LOG).read_text()
        assert inside not in log
        assert kernel.token not in log
        words = subprocess.run(["ps", "axww", "-o", "args"], capture_output=True, text=True, check=True).stdout
        assert inside not in words
        assert kernel.token not in words

        before = (folder / CONNECTION).read_text()
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        begin(*settings)  # at another port
        assert gone(lambda: (folder / CONNECTION).read_text() == before)
        assert "salt" in kernel.run("print(rutile.Client().job(job['id'])['name'])")  # elsewhere, with the same token
        ben = rutile.Client(json.loads((folder / CONNECTION).read_text())["address"], ben.token)
        ben.cancel(number)
        job = ben.wait(number, 60)
        assert (job["state"], job["reason"]) == ("CANCEL", "cancelled")
        assert not is_open(link)
        with pytest.raises(Refused) as caught:
            rutile.Client(ben.address, inside).jobs()
        assert caught.value.status == 401
        assert gone(lambda: [name for name in (CONNECTION, DOOR) if (folder / name).exists()])


def is_there(pid):
    return subprocess.run(["ps", "-p", pid], capture_output=True, check=False).returncode == 0


def of_somebody_else(tmp_path, name):
    """A token of a new account of the server."""
    code = (
        "import sys, time; from rutile.jobs.database import open_database; from rutile.jobs.home import Home\n"
        "from rutile.jobs.tables import ApiToken, User; from rutile.server.secrets import TOKEN, kept_of, new_secret\n"
        "home = Home.open(__import__('pathlib').Path(sys.argv[1])).folder\n"
        "database = open_database(f'sqlite:///{home}/platform.db', home)\n"
        "with database.writing() as session:\n"
        "    user = User(name=sys.argv[2], created=time.time()); session.add(user); session.flush()\n"
        "    secret = TOKEN + new_secret()\n"
        "    session.add(ApiToken(secret=kept_of(secret), user_id=user.id, name='x', scopes=['read', 'submit'],\n"
        "                         created=time.time()))\n"
        "print(secret)"
    )
    return subprocess.run([sys.executable, "-c", code, str(tmp_path / "home"), name], check=True, text=True,
                          capture_output=True, env={**os.environ, "PYTHONPATH": SOURCE}).stdout.strip()  # fmt: skip


@pytest.mark.parametrize("end", ["idle", "menu"])
def test_a_notebook_that_ends_by_itself_is_done(tmp_path, end):
    with platform(tmp_path) as begin:
        _, address, link = begin()
        client = rutile.Client(address, token_of(address, link))
        settings = {"idle": 0.05 if end == "idle" else 60.0}
        number = client.submit("notebook", settings, memory=4.0)
        kernel = Kernel(ready(client, number))
        assert kernel.run("1 + 1") == "2"
        orphan = kernel.run("import os; print(os.getpid())").strip()
        if end == "menu":
            with suppress(OSError, ValueError):  # it may be gone before it answers
                kernel.ask("shutdown", {})
        job = client.wait(number, 60)
        assert (job["state"], job["result"]["why"]) == ("DONE", "idle" if end == "idle" else "shut down"), job["reason"]
        assert job["result"]["notebooks"] == ["start.ipynb"]
        assert gone(lambda: is_there(orphan), 5)
        with pytest.raises(Refused):
            rutile.Client(address, kernel.token).jobs()


def test_a_notebook_is_ended_at_its_wall_time_with_all_that_it_started(tmp_path):
    with platform(tmp_path) as begin:
        _, address, link = begin()
        client = rutile.Client(address, token_of(address, link))
        number = client.submit("notebook", {}, memory=4.0, wall_time=25.0)
        kernel = Kernel(ready(client, number))
        sleeper = "import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', 'import time, signal; "
        sleeper += "signal.signal(15, signal.SIG_IGN); time.sleep(300)'], start_new_session=True).pid)"
        pid = kernel.run(sleeper).strip()
        job = client.wait(number, 90)
        assert job["state"] == "FAIL"
        assert job["reason"].startswith("longer than its wall time")
        assert gone(lambda: is_there(pid), 5)
        assert read_status(tmp_path / "home" / "jobs" / str(number)).state == "FAIL"


def test_a_notebook_that_others_reach_has_the_tls_of_the_server(tmp_path, monkeypatch):
    certificate, key = self_signed(tmp_path)
    with platform(tmp_path) as begin:
        _, address, link = begin(f"certificate={certificate}", f"key={key}")
        assert address.startswith("https:")
        with pytest.raises(FileError, match="CERTIFICATE_VERIFY_FAILED"):
            rutile.Client(address, "rtl_x").jobs()
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        client = rutile.Client(address, token_of(address, link, certificate))
        number = client.submit("notebook", {"address": "0.0.0.0"}, memory=4.0)
        link = ready(client, number)
        assert link.startswith("https:")
        folder = tmp_path / "home" / "jobs" / str(number)
        assert [(folder / name).stat().st_mode & 0o777 for name in (CERTIFICATE, KEY)] == [0o600, 0o600]
        kernel = Kernel(f"https://127.0.0.1:{urlsplit(link).port}/?{urlsplit(link).query}", certificate)
        assert kernel.run(f"import rutile; print(rutile.Client().job({number})['task'])").strip() == "notebook"
        assert "BEGIN" not in kernel.run("import os; print(os.environ)")
        assert "SSL_CERT_FILE" not in kernel.run("print(os.environ)")
        client.cancel(number)
        assert client.wait(number, 60)["state"] == "CANCEL"
        assert gone(lambda: [name for name in (CERTIFICATE, KEY) if (folder / name).exists()])


def test_on_a_laptop_it_tells_its_link_and_ctrl_c_ends_it(tmp_path):
    log = tmp_path / "log"
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RUTILE_")} | {"PYTHONPATH": SOURCE}
    words = [sys.executable, "-m", "rutile", "notebook", "browser=false", f"out={tmp_path / 'work'}"]
    with log.open("w") as file:
        process = subprocess.Popen(words, stdout=file, stderr=file, env=environment, start_new_session=True)
    try:
        assert gone(lambda: "Ctrl-C ends it" not in log.read_text() and process.poll() is None, 60)
        link = next(word for word in log.read_text().replace("\n", "").split() if word.startswith("http")).rstrip(";")
        kernel = Kernel(link)
        start = json.loads((tmp_path / "work" / "start.ipynb").read_text())
        said = "".join(kernel.run(cell["source"]) for cell in start["cells"] if cell["cell_type"] == "code")
        assert "Cu4" in said
        assert "eV/Å" in said
    finally:
        os.killpg(process.pid, signal.SIGINT)
        process.wait(40)
    assert process.returncode == 0, log.read_text()
    assert "Traceback" not in log.read_text()
    assert not is_open(link)


def in_slurm():
    return subprocess.run(["squeue", "--noheader", "--format=%i"], check=True, capture_output=True, text=True).stdout


@pytest.mark.slurm
def test_a_notebook_of_a_cluster_is_signed_in_and_reached_through_a_tunnel(slurm, tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_CONF", str(slurm / "slurm.conf"))
    with platform(tmp_path) as begin:
        _, address, link = begin("clusters=[{name: slurm, memory: false}]")
        admin = rutile.Client(address, token_of(address, link))
        number = admin.submit("notebook", {}, queue="slurm", memory=4.0)
        kernel = Kernel(ready(admin, number))
        assert in_slurm().count("\n") == 1
        assert kernel.run(f"import rutile; print(rutile.Client().job({number})['queue'])").strip() == "slurm"
        port = urlsplit(admin.notebook(number)["link"]).port
        assert admin.notebook(number)["tunnel"] == f"ssh -N -L {port}:127.0.0.1:{port} {socket.gethostname()}"
        admin.cancel(number)
        assert admin.wait(number, 90)["state"] == "CANCEL"
        assert not is_open(f"http://127.0.0.1:{port}")
        assert gone(lambda: in_slurm() != "")
