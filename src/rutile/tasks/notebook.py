"""`rutile notebook`: JupyterLab in a folder, with a notebook to begin with."""

from __future__ import annotations

import importlib.util
import json
import os
import secrets
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from rutile.core.connection import CERTIFICATE, DOOR, KEY, connection_file, write_private
from rutile.core.errors import ExecutorError, MissingPackageError
from rutile.core.executors.catalogue import told_to_end
from rutile.core.files import folder_for_results, write_atomically
from rutile.core.reporting import Reporter
from rutile.core.settings import Result, Settings
from rutile.core.units import Minute, Second
from rutile.tasks.notebook_start import start_notebook
from rutile.tasks.task import Task

START = "start.ipynb"
NEWS = "@jupyterlab/apputils-extension/notification.jupyterlab-settings"
"""Where JupyterLab keeps whether it asks for news."""
LOOK = 2.0
"""Seconds between two looks at what is done in it."""
BEGINS = 90.0
"""Seconds in which JupyterLab must be there."""
ENDS = 15.0
"""Seconds that it has to end its kernels."""
Why = Literal["idle", "shut down", "interrupted"]


class NotebookSettings(Settings):
    """What the notebook begins with, and how it is reached."""

    structures: list[Path] = []
    """Files of structures that the first cells read."""
    model: Path | None = None
    """Potential that they compute with; by default EMT."""
    data: list[Path] = []
    """Files of labelled structures that they read."""
    job: int | None = Field(default=None, ge=1)
    """Number of a job of the platform that they look at."""
    idle: Minute = Field(default=60.0, gt=0, le=10_000)
    """The notebook ends when nothing has been computed or saved in it for so long."""
    address: str = Field(default="127.0.0.1", pattern=r"^[0-9A-Za-z.:-]+$", max_length=255)
    """Address to listen at. At 127.0.0.1 only this machine reaches it; what passes elsewhere is encrypted only within a
    platform that has a certificate."""
    port: int = Field(default=0, ge=0, le=65535)
    """Port; 0: any that is free."""
    out: Path = Path()
    """Folder to work in."""
    browser: bool = True
    """Open it in a browser; not within the platform, whose page has a button."""


class NotebookResult(Result):
    """What is left when it has ended."""

    why: Why
    """idle: nothing was done for a while; shut down: from its menu; interrupted: Ctrl-C."""
    seconds: Second
    """How long it was there."""
    notebooks: list[Path]
    """Notebooks in the folder."""


def run(settings: NotebookSettings, reporter: Reporter) -> NotebookResult:
    """Open JupyterLab in a folder, with a notebook that has `client = rutile.Client()` and first cells ready.

    It listens on a port of its own with a token of its own, and ends from its menu (File, Shut Down), by Ctrl-C, or
    when nothing has been done for a while. As a job of the platform it is signed in as its owner. Needs the extra
    `notebook`: pip install 'rutile[notebook]'.
    """
    if not installed():
        raise MissingPackageError("rutile notebook needs the package jupyterlab: pip install 'rutile[notebook]'")
    connection = connection_file()
    began = time.time()
    with folder_for_results(settings.out):
        _write_start(settings, connection is not None, reporter)
    with _place(connection) as place, told_to_end():
        lab = Lab(settings, place, connection is not None)
        why: Why = "interrupted"
        with suppress(KeyboardInterrupt), lab:
            reporter.info(lab.told())
            why = lab.attended()
    found = sorted(settings.out.glob("*.ipynb"))
    return NotebookResult(why=why, seconds=time.time() - began, notebooks=found)


def installed() -> bool:
    """Whether JupyterLab is there."""
    return importlib.util.find_spec("jupyterlab") is not None


def _write_start(settings: NotebookSettings, signed_in: bool, reporter: Reporter) -> None:
    """Write the notebook to begin with; one that is there stays."""
    path = settings.out / START
    if path.exists():
        reporter.info(f"{path} is there and stays as it is")
        return
    text = start_notebook(settings.structures, settings.model, settings.data, settings.job, signed_in)
    write_atomically(path, text.encode())


@contextmanager
def _place(connection: Path | None) -> Iterator[Path]:
    """A folder that nobody else can read: beside a job of the platform, or for as long as we are here."""
    if connection is None:
        with tempfile.TemporaryDirectory(prefix="rutile-notebook-") as folder:
            yield Path(folder)
        return
    place = connection.with_name("jupyter")
    place.mkdir(mode=0o700, exist_ok=True)
    yield place


class Lab:
    """A JupyterLab at work; as a context it is there when it answers, and gone at the end.

    Args:
        settings: of the task.
        place: folder for its configuration, readable by nobody else.
        platform: whether the platform started it: it then tells the server its token, and nobody else.
    """

    def __init__(self, settings: NotebookSettings, place: Path, platform: bool) -> None:
        self.settings, self.place, self.platform = settings, place, platform
        self.token = secrets.token_hex(24)
        self.port = 0
        self.process: subprocess.Popen[bytes] | None = None
        self.done = time.time()
        """When something was last done in it."""

    def __enter__(self) -> Lab:
        """Start it, and wait until it answers.

        Raises:
            ExecutorError: it did not start.
        """
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """End it with its kernels."""
        self._door.unlink(missing_ok=True)
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(ENDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    @property
    def _door(self) -> Path:
        return self.place.with_name(DOOR) if self.platform else self.place / DOOR

    @property
    def link(self) -> str:
        """Opens it, with its token."""
        return f"{self._base}/lab/tree/{START}?token={self.token}"

    @property
    def _base(self) -> str:
        address = self.settings.address
        host = "127.0.0.1" if address in ("0.0.0.0", "::") else f"[{address}]" if ":" in address else address
        return f"{'https' if self._secure else 'http'}://{host}:{self.port}"

    @property
    def _secure(self) -> bool:
        """Whether the platform left a key for TLS."""
        return self.platform and self.place.with_name(KEY).exists()

    def told(self) -> str:
        """What the user should know; a log, which others may see, has no token."""
        if self.platform:
            return f"JupyterLab listens at {self._base}; the page of the job opens it"
        return f"JupyterLab is at {self.link}; Ctrl-C ends it"

    def attended(self) -> Why:
        """Wait until it ends, or nothing has been done for a while."""
        assert self.process is not None
        while self.process.poll() is None:
            time.sleep(LOOK)
            self.done = max(self.done, self._last_done())
            if time.time() - self.done > 60 * self.settings.idle:
                return "idle"
        if self.process.returncode not in (0, -2, 130):
            raise ExecutorError(f"JupyterLab ended with exit code {self.process.returncode}: the lines above say why")
        return "shut down" if self.process.returncode == 0 else "interrupted"

    def _start(self) -> None:
        runtime = self.place / "runtime"
        write_private(self.place / "config.json", self._configuration())
        if self.platform:
            news = self.place / "lab" / NEWS
            news.parent.mkdir(parents=True, exist_ok=True)
            news.write_text(json.dumps({"fetchNews": "false"}), encoding="utf-8")
        words = [sys.executable, "-m", "jupyterlab", f"--config={self.place / 'config.json'}"]
        self.process = subprocess.Popen(words, env=self._environment(runtime), stdin=subprocess.DEVNULL)
        end = time.monotonic() + BEGINS
        while not self._answers(runtime):
            if self.process.poll() is not None or time.monotonic() > end:
                raise ExecutorError("JupyterLab did not start: the lines above say why; is its port taken?")
            time.sleep(0.1)
        door = {"port": self.port, "token": self.token, "address": self.settings.address, "host": socket.gethostname()}
        write_private(self._door, door | {"secure": self._secure})

    def _configuration(self) -> dict[str, Any]:
        """Everything that JupyterLab is told; nothing secret is in its words."""
        asked = self.settings
        tls = {"certfile": str(self.place.with_name(CERTIFICATE)), "keyfile": str(self.place.with_name(KEY))}
        return {
            "Application": {"log_level": 30},
            "ServerApp": {
                "ip": asked.address, "port": asked.port, "port_retries": 0, "allow_root": True,
                "root_dir": str(asked.out.absolute()), "open_browser": asked.browser and not self.platform,
                "tornado_settings": {"headers": {"Referrer-Policy": "no-referrer"}}, **(tls if self._secure else {}),
            },
            "IdentityProvider": {"token": self.token},
            "LabApp": {
                "default_url": f"/lab/tree/{START}", "news_url": None, "extension_manager": "readonly",
                "check_for_updates_class": "jupyterlab.NeverCheckForUpdate",
            },
        }  # fmt: skip

    def _environment(self, runtime: Path) -> dict[str, str]:
        """Of JupyterLab: what it notes about itself is private, and within the platform nobody shares settings."""
        places = {"JUPYTER_RUNTIME_DIR": runtime}
        if self.platform:
            places |= {"JUPYTER_CONFIG_DIR": self.place / "settings", "JUPYTER_DATA_DIR": self.place / "data",
                       "IPYTHONDIR": self.place / "ipython", "JUPYTERLAB_SETTINGS_DIR": self.place / "lab",
                       "JUPYTERLAB_WORKSPACES_DIR": self.place / "workspaces"}  # fmt: skip
        return os.environ | {name: str(path) for name, path in places.items()}

    def _answers(self, runtime: Path) -> bool:
        """Whether it is there; its port is then known."""
        for path in runtime.glob("jpserver-*.json"):
            with suppress(OSError, ValueError, KeyError):
                self.port = int(json.loads(path.read_text(encoding="utf-8"))["port"])
                return self._asked("status") is not None
        return False

    def _asked(self, what: str) -> Any:
        """What its API answers; None where it does not."""
        url = f"{self._base}/api/{what}?no_track_activity=1"
        request = urllib.request.Request(url, headers={"Authorization": f"token {self.token}"})
        try:
            with urllib.request.urlopen(request, timeout=10, context=_itself()) as answer:
                return json.loads(answer.read())
        except (OSError, ValueError):
            return None

    def _last_done(self) -> float:
        """When a kernel or terminal last said something, or a notebook was saved; now, where one is at work (s)."""
        kernels, terminals = self._asked("kernels"), self._asked("terminals")
        if any(one.get("execution_state") == "busy" for one in kernels or []):
            return time.time()
        times = [_seconds(one.get("last_activity", "")) for one in [*(kernels or []), *(terminals or [])]]
        with suppress(OSError):
            times += [path.stat().st_mtime for path in self.settings.out.glob("*.ipynb")]
        return max(times, default=0.0)


def _itself() -> ssl.SSLContext:
    """To ask a JupyterLab that was just started, by a number of this machine that no certificate names."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def _seconds(moment: str) -> float:
    """A time as Jupyter writes it, since 1970."""
    try:
        return datetime.fromisoformat(moment).timestamp()
    except ValueError:
        return 0.0


TASK = Task(
    "notebook",
    NotebookSettings,
    NotebookResult,
    run,
    positional="structures",
    examples=(
        "rutile notebook",
        "rutile notebook relaxed.extxyz model=run/model.rutile",
        "rutile notebook port=8890 browser=false idle=240",
    ),
)
