"""Jobs in a sandbox: they read the machine, write their own folder, and see nothing else that users have.

Bubblewrap (https://github.com/containers/bubblewrap) starts them where the disk cannot be written, the home of the
platform, that of its user and the folders for temporary files are empty but for the job's own folder and what it was
given to read, files of secrets are empty, and other processes are not there. The network is as it was: notebooks,
Slurm and loggers need it.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rutile.core.errors import SettingsError
from rutile.jobs.accounts import Account
from rutile.jobs.folder import Order
from rutile.jobs.home import Home
from rutile.jobs.launch import source_folder
from rutile.jobs.references import Input

PROGRAM = "bwrap"
NAMESPACES = ("--unshare-pid", "--unshare-ipc", "--unshare-uts", "--die-with-parent", "--cap-drop", "ALL")
TEMPORARY = ("/tmp", "/var/tmp")
NOTHING = "/dev/null"


@dataclass(frozen=True)
class Sandbox:
    """What jobs of a platform may see."""

    home: Home
    """Empty for them, but for what is theirs."""
    readable: Sequence[Path] = ()
    """Places in the home of the user, or among temporary files, that jobs may read: programs, pseudopotentials."""
    secrets: Sequence[Path] = ()
    """Files that are empty for them."""

    def check(self) -> None:
        """See that there is a sandbox on this machine.

        Raises:
            SettingsError: says what is missing.
        """
        if shutil.which(PROGRAM) is None:
            raise SettingsError("sandbox = true: there is no bubblewrap here; Debian: apt-get install bubblewrap")
        words = [PROGRAM, "--ro-bind", "/", "/", "--proc", "/proc", *NAMESPACES, "true"]
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
        if done.returncode:
            raise SettingsError(
                f"sandbox = true: bubblewrap does not work here ({done.stderr.strip()}); the kernel may not let users "
                "make namespaces"
            )
        for path in self.readable:
            if not path.exists():
                raise SettingsError(f"sandbox_readable = {path}: there is no such place")

    def around(self, order: Order, folder: Path, inputs: Iterable[Input], account: Account | None = None) -> Order:
        """The same order in the sandbox.

        Args:
            order: what the supervisor of the job is told.
            folder: of the job.
            inputs: what it reads.
            account: under which it runs, and whose home is empty for it, too; None: that of the server. Such a job has
                copies of its inputs, and may not read secrets of the server anyway.
        """
        homes = [Path.home()] if account is None else [Path.home(), Path(account.home)]
        needed = [] if account else [path for one in inputs for path in _needed(Path(one.source))]
        secrets = list[Path]() if account else self.secrets
        hidden = [*map(Path, TEMPORARY), *homes, self.home.folder]
        words = [PROGRAM, "--ro-bind", "/", "/", "--dev-bind", "/dev", "/dev", "--proc", "/proc", *NAMESPACES]
        for place in hidden:
            words += ["--tmpfs", str(place)] if place.is_dir() else []
        for path in [*_programs(), *self.readable, *needed]:
            words += ["--ro-bind", str(path), str(path)] if _lies_in(path, hidden) else []
        for path in secrets:
            words += ["--ro-bind", NOTHING, str(path)] if path.exists() and not _lies_in(path, hidden) else []
        words += ["--bind", str(folder), str(folder), "--chdir", str(folder / "files"), "--"]
        return replace(order, argv=[*words, *order.argv], enclosed=True)


def _programs() -> list[Path]:
    """Where Python and this rutile are."""
    places = [sys.prefix, sys.base_prefix, sysconfig.get_path("stdlib"), source_folder()]
    return [Path(place) for place in dict.fromkeys(places)]


def _needed(source: Path) -> Iterator[Path]:
    """A file that a job reads; of a folder, which it has copied, what links in it lead to."""
    if source.is_dir():
        links = (path for path in source.rglob("*") if path.is_symlink())
        yield from (target for path in links if (target := path.resolve()).is_file())
    else:
        yield source.resolve()


def _lies_in(path: Path, places: Iterable[Path]) -> bool:
    """Whether a path lies in one of these places."""
    return any(path.resolve().is_relative_to(place.resolve()) for place in places)
