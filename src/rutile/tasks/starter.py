"""`rutile starter`: the sets of labelled structures that come with rutile, listed and copied."""

from __future__ import annotations

from pathlib import Path

from rutile.core.errors import FileError
from rutile.core.files import folder_for_results, write_atomically
from rutile.core.reporting import Reporter
from rutile.core.settings import Result, Settings
from rutile.tasks.task import Task


class StarterSettings(Settings):
    """Which sets to copy, and where to."""

    names: list[str] = []
    """Sets to copy; without a name all are listed and nothing is written."""
    out: Path = Path()
    """Folder for the copies: frames (.extxyz), how they were made (.json), and the plan of `rutile generate` (.yaml)
    where there is one."""


class StarterSet(Result):
    """One set."""

    name: str
    """To ask for it."""
    what: str
    """In one line."""
    frames: int
    """Labelled structures, with isolated atoms."""
    calc_mode: str
    """Name of the reference method."""
    licence: str
    """Terms of use."""


class StarterResult(Result):
    """The sets, and what was written."""

    sets: list[StarterSet]
    """Those asked for, or all."""
    files: list[Path]
    """What was written."""


def run(settings: StarterSettings, reporter: Reporter) -> StarterResult:
    """List the sets of labelled structures that come with rutile, or copy some of them."""
    from rutile import starter

    found = []
    for name in settings.names or starter.SETS:
        about = starter.provenance(name)
        facts = {key: about[key] for key in ("what", "frames", "calc_mode", "licence")}
        found.append(StarterSet(name=name, **facts))
    written = [p for name in settings.names for p in copied(name, settings.out)]
    for p in written:
        reporter.info(f"written: {p}")
    return StarterResult(sets=found, files=written)


def copied(name: str, folder: Path) -> list[Path]:
    """Copy the files of a set; files that are the same already stay.

    Raises:
        FileError: a file of that name and other content is there, or it cannot be written.
    """
    from rutile import starter

    frames, plan = starter.path(name), starter.plan(name)
    pairs = [(p, folder / p.name) for p in (frames, frames.with_suffix(".json"), plan) if p is not None]
    for source, target in pairs:
        if target.exists() and (not target.is_file() or target.read_bytes() != source.read_bytes()):
            raise FileError(f"{target} is there with other content: move it away, or give another folder (out=...)")
    with folder_for_results(folder):
        for source, target in pairs:
            write_atomically(target, source.read_bytes())
    return [target for _, target in pairs]


TASK = Task(
    "starter",
    StarterSettings,
    StarterResult,
    run,
    positional="names",
    examples=("rutile starter", "rutile starter tio2 tio2_rpbe out=data"),
)
