"""Rights in the folder of a job that runs under a Unix account: POSIX ACLs, of this account and of the server alone.

The server gives the folder of such a job to the account when it is complete, and reads what the account writes there.
From then on nothing in it is to be trusted: files are opened by `safe_files`, and what opens files by their names is
given a copy that is the server's own.
"""

from __future__ import annotations

import hashlib
import os
import stat
import struct
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from rutile.core.errors import SettingsError
from rutile.jobs.home import Home
from rutile.jobs.safe_files import copy_inside, everything

ACCESS, DEFAULT = "system.posix_acl_access", "system.posix_acl_default"
"""Extended attributes of Linux that hold the rights of a file, and those of what is made in a folder (acl(5))."""
VERSION = 2
OWNER, NAMED, GROUP, MASK, OTHER = 1, 2, 4, 16, 32
NOBODY = 0xFFFFFFFF
READ, ALL, NOTHING = 6, 7, 0


def rights_of(uids: set[int], right: int) -> bytes:
    """An access control list: owner, and named users with a right; nobody else has any.

    Args:
        uids: the named users.
        right: bits 4 read, 2 write, 1 execute.
    """
    users = [(OWNER, right, NOBODY), *((NAMED, right, uid) for uid in sorted(uids))]
    others = [(GROUP, NOTHING, NOBODY), (MASK, right, NOBODY), (OTHER, NOTHING, NOBODY)]
    return struct.pack("<I", VERSION) + b"".join(struct.pack("<HHI", *entry) for entry in (*users, *others))


def share(folder: Path, uid: int) -> None:
    """Give a complete folder, with all in it, to an account, too; the folder itself last, so before nothing of it is.

    Args:
        folder: of a job; holds no links.
        uid: number of the account.

    Raises:
        OSError: the disk keeps no ACLs.
    """
    both = rights_of({uid, os.geteuid()}, ALL)
    for place, _, names in os.walk(folder, topdown=False):
        for name in names:
            os.setxattr(os.path.join(place, name), ACCESS, rights_of({uid}, READ), follow_symlinks=False)  # noqa: PTH118
        os.setxattr(place, DEFAULT, both, follow_symlinks=False)
        os.setxattr(place, ACCESS, both, follow_symlinks=False)


def share_file(path: Path, uid: int) -> None:
    """Let an account read and write a file that the server has just made.

    Raises:
        OSError: the disk keeps no ACLs.
    """
    os.setxattr(path, ACCESS, rights_of({uid}, READ), follow_symlinks=False)


def is_shared(folder: Path) -> bool:
    """Whether the folder of a job was given to an account; only its owner, the server, can change that."""
    try:
        return bool(os.getxattr(folder, ACCESS))
    except (OSError, AttributeError):  # there are no such rights, or not on this system
        return False


def open_up(folder: Path) -> None:
    """Let the server read and remove what a program wrote for itself alone; run by the account, for its own files."""
    if folder.is_symlink():
        return
    for place, names, files in os.walk(folder):
        for path in (Path(place, name) for name in (*names, *files)):
            with suppress(OSError):
                mode = path.lstat().st_mode
                if stat.S_ISDIR(mode) or stat.S_ISREG(mode):
                    path.chmod(stat.S_IMODE(mode) | (0o770 if stat.S_ISDIR(mode) else 0o660))


def let_pass(home: Home) -> None:
    """Let accounts pass through the home of the platform to folders that are theirs; all else is for the server alone.

    To be called when the database is there.

    Raises:
        SettingsError: the disk keeps no ACLs.
    """
    home.lock.touch()
    for path in _private(home):
        path.chmod(stat.S_IMODE(path.lstat().st_mode) & stat.S_IRWXU)
    for path in (home.folder, home.jobs):
        path.chmod(0o711)
    with tempfile.TemporaryDirectory(dir=home.cache) as folder:
        try:
            os.setxattr(folder, DEFAULT, rights_of({os.geteuid()}, ALL))
        except OSError as error:
            raise SettingsError(
                f"unix_accounts = true: the disk of {home.folder} keeps no POSIX ACLs ({error.strerror}), by which "
                "folders are shared with the accounts of their users; take another home=..., or mount it with them"
            ) from None


def _private(home: Home) -> Iterator[Path]:
    """What others may do nothing with: all but the folder of jobs, and of these those that were given to nobody."""
    yield from (path for path in home.folder.iterdir() if path != home.jobs and not path.is_symlink())
    yield from (path for path in home.jobs.iterdir() if path.lstat().st_mode & stat.S_IRWXO and not path.is_symlink())


def own_copy(home: Home, root: Path, path: str) -> Path:
    """A copy of what an account's job wrote that the account cannot change; made once, anew where that has changed.

    Args:
        home: of the platform.
        root: folder in which a job works.
        path: of a file or folder within it; "": all of it.

    Raises:
        OSError: there is none, or it cannot be read.
    """
    place, inside = (root, path) if path else (root.parent, root.name)
    told = "\n".join([str(place), inside, *_state(place, inside)])
    folder = home.cache / f"copy-{hashlib.sha256(told.encode(errors='surrogateescape')).hexdigest()[:32]}"
    name = inside.rsplit("/", 1)[-1]
    if not folder.exists():
        with tempfile.TemporaryDirectory(dir=home.cache) as unfinished:
            copy_inside(place, inside, Path(unfinished) / name)
            with suppress(OSError):  # another thread was faster
                Path(unfinished).rename(folder)
    return folder / name


def _state(root: Path, path: str) -> Iterator[str]:
    """What tells a file, or all that lies in a folder, from what it was before."""
    top = root / path
    for name, info in [("", top.lstat()), *everything(top)]:
        yield f"{name} {info.st_ino} {info.st_size} {info.st_mtime_ns}"
