"""Unix accounts of users: a cluster that asks for them runs the jobs of each user under their own."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rutile.core.errors import ExecutorError, SettingsError
from rutile.jobs.launch import source_folder, supervisor_words

LOWEST, NOBODY = 1000, 65534
"""Numbers below belong to root and to services; nobody's files are nobody's."""
GIVEN = ("PATH", "LANG", "SLURM_CONF")
"""What the commands of Slurm see of the server's environment when they run as another account."""
SECONDS = 60.0
"""A command as another account that takes longer has failed."""


@dataclass(frozen=True)
class Account:
    """An account of this machine."""

    name: str
    uid: int
    home: str


def account_named(name: str) -> Account:
    """An account under which jobs may run.

    Raises:
        SettingsError: there is none of this name, or it is that of root, a service or this server.
    """
    try:
        found = pwd.getpwnam(name)
    except KeyError:
        raise SettingsError(
            f"unix_account = {name}: this machine knows no such account; make it, or let the machine ask the directory "
            "of your institution for it"
        ) from None
    if found.pw_uid < LOWEST or found.pw_uid == NOBODY:
        raise SettingsError(
            f"unix_account = {name}: root or a service (its number {found.pw_uid} is not that of a person, {LOWEST} "
            "and up); give the account of the person"
        )
    if found.pw_uid == os.geteuid():
        raise SettingsError(f"unix_account = {name}: this server runs under it, so jobs may not; give another")
    return Account(found.pw_name, found.pw_uid, found.pw_dir)


class Become:
    """Running commands as an account, by sudo or runuser."""

    def __init__(self, words: Sequence[str]) -> None:
        """Commands that begin with these words, in which {account} stands for the name.

        Raises:
            ExecutorError: there is no such program here.
        """
        self.words = list(words)
        if not words or not any("{account}" in word for word in words):
            raise ExecutorError(f"clusters: become = {self.words}: {{account}} must be among the words")
        if shutil.which(words[0]) is None:
            raise ExecutorError(
                f"clusters: become = {self.words}: there is no program {words[0]!r} here; install it, or, where root "
                "runs this server, give become: [runuser, -u, '{account}', --]"
            )

    def before(self, account: Account) -> list[str]:
        """The words before a command that is to run as an account, in its own environment."""
        own = {"HOME": account.home, "USER": account.name, "LOGNAME": account.name}
        own |= {name: os.environ[name] for name in GIVEN if name in os.environ}
        words = [word.replace("{account}", account.name) for word in self.words]
        return [*words, "env", "-i", *(f"{name}={value}" for name, value in own.items())]

    def run(self, account: Account, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
        """Run a command as an account.

        Raises:
            ExecutorError: it cannot be run, or takes too long.
        """
        words = [*self.before(account), *command]
        try:
            return subprocess.run(
                words, capture_output=True, text=True, timeout=SECONDS, check=False, cwd="/",
                env={"PATH": os.environ.get("PATH", "")}, stdin=subprocess.DEVNULL,
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ExecutorError(f"{words[0]}: {error}") from None

    def check(self, account: Account, folder: Path) -> None:
        """See that jobs of an account can begin in a folder.

        Raises:
            ExecutorError: it cannot write there, or cannot run this Python or read this rutile.
        """
        python = supervisor_words(folder)[0]
        for right, path in (("-w", str(folder)), ("-x", python), ("-r", f"{source_folder()}/rutile")):
            done = self.run(account, ["test", right, path])
            if done.returncode:
                said = done.stderr.strip().splitlines()
                raise ExecutorError(
                    f"the account {account.name} cannot {RIGHTS[right]} {path}"
                    + (f" ({said[-1]})" if said else ": every folder above must let it pass (chmod o+x)")
                )


RIGHTS = {"-w": "write", "-x": "run", "-r": "read"}
"""What `test` asks for, in words."""
