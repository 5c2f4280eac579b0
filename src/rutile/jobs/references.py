"""References in settings: what a job reads is named by what it is, never by a place on the server's disk.

    job:12/run            a file or folder that job 12 wrote
    dataset:3, dataset:3@2   the newest version of a data set, or its second
    model:5               a potential of the registry
    structure:7           a stored structure
    upload:3f9a...        an uploaded file

All other text in settings must be a name inside the job's own folder.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from rutile.core.errors import FileError, SettingsError
from rutile.jobs import folder as kept
from rutile.jobs.safe_files import copy_inside

REFERENCE = re.compile(r"(job|dataset|model|structure|upload):(\w+)(?:@(\d+))?(?:/(.+))?")
COMMANDS = ("command", "python", "prologue", "directives")
"""Settings that are run as programs or lines of shell; only where the server allows it."""
Tree = Any


@dataclass(frozen=True)
class Input:
    """One thing that a job reads."""

    setting: str
    """Dotted key of the setting that named it."""
    reference: str
    name: str
    """In the folder `inputs` of the job."""
    source: str
    """Path on this machine."""
    sha256: str = ""
    """Of the content, where it is known."""


def leaves(tree: Tree, key: str = "") -> Iterator[tuple[str, Any]]:
    """Every value that is no group and no list, with its dotted key."""
    if isinstance(tree, dict):
        for name, inner in tree.items():
            yield from leaves(inner, f"{key}.{name}" if key else str(name))
    elif isinstance(tree, list):
        for inner in tree:
            yield from leaves(inner, key)
    else:
        yield key, tree


def replaced(tree: Tree, change: Callable[[str], str]) -> Tree:
    """The same settings with every text changed by a function."""
    if isinstance(tree, dict):
        return {name: replaced(inner, change) for name, inner in tree.items()}
    if isinstance(tree, list):
        return [replaced(inner, change) for inner in tree]
    return change(tree) if isinstance(tree, str) else tree


def references_in(tree: Tree) -> list[tuple[str, str]]:
    """References of settings: (dotted key, reference), each reference once."""
    found: dict[str, str] = {}
    for key, value in leaves(tree):
        if isinstance(value, str) and REFERENCE.fullmatch(value):
            found.setdefault(value, key)
    return [(key, reference) for reference, key in found.items()]


def refuse_places(tree: Tree, commands: bool) -> None:
    """See that settings name nothing on the server, and run nothing.

    Args:
        tree: the settings as given.
        commands: whether programs and lines of shell may be named.

    Raises:
        SettingsError: one line for each that does.
    """
    problems = []
    for key, value in leaves(tree):
        if not isinstance(value, str) or REFERENCE.fullmatch(value):
            continue
        if key.rsplit(".", 1)[-1] in COMMANDS and value and not commands:
            problems.append(f"{key} = {value!r}: this server runs no programs of its users; leave it out")
        elif names_a_place(value):
            problems.append(
                f"{key} = {value!r}: no place on the server can be named; upload the file, or name what a job wrote "
                "(job:12/relaxed.extxyz)"
            )
    if problems:
        raise SettingsError("\n".join(problems))


def names_a_place(text: str) -> bool:
    """Whether a text leads out of the folder of a job, or into its inputs."""
    parts = PurePosixPath(text.strip()).parts
    return bool(parts) and (
        parts[0].startswith(("/", "~")) or ".." in parts or parts[0] == kept.INPUTS or "\0" in text or "://" in text
    )


def job_of(reference: str) -> int | None:
    """The number of the job that wrote what a reference means; None: it means something else.

    >>> job_of("job:12/relaxed.extxyz")
    12
    """
    match = REFERENCE.fullmatch(reference)
    return int(match[2]) if match and match[1] == "job" else None


def names_for(inputs: list[Input]) -> dict[str, str]:
    """Reference -> the path by which the task knows it."""
    return {one.reference: f"{kept.INPUTS}/{one.name}" for one in inputs}


def unlike(name: str, taken: set[str]) -> str:
    """A name that is not taken, with the same ending.

    >>> unlike("a.cif", {"a.cif"})
    'a-2.cif'
    """
    path, number, out = PurePosixPath(name), 2, name
    while out in taken:
        out, number = f"{path.stem}-{number}{path.suffix}", number + 1
    taken.add(out)
    return out


def bring(folder: Path, inputs: list[Input], copied: bool = False) -> None:
    """Put the inputs into the folder of a job: files are linked, folders copied (what goes on in them writes there).

    Args:
        folder: of the job.
        inputs: what it reads.
        copied: whether files are copied, too: the job may not read where they lie.

    Raises:
        FileError: something is not there any more.
        OSError: no room, or no right to write.
    """
    place = folder / kept.FILES / kept.INPUTS
    for one in inputs:
        place.mkdir(parents=True, exist_ok=True, mode=0o700)
        source, target = Path(one.source), place / one.name
        if target.is_symlink() or target.exists():
            continue
        if not source.exists():
            raise FileError(f"{one.setting} = {one.reference}: it is not there any more; clone the job, choose another")
        if copied:
            copy_inside(source.parent, source.name, target)
        elif source.is_dir():
            shutil.copytree(source, target, symlinks=True)
        else:
            target.symlink_to(source)
