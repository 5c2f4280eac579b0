"""`rutile starter`: the sets of labelled structures that come with rutile, listed and copied; public ones, listed."""

from __future__ import annotations

from pathlib import Path

from rutile.core.elements import number
from rutile.core.errors import FileError
from rutile.core.files import folder_for_results, write_atomically
from rutile.core.reporting import Reporter
from rutile.core.settings import Result, Settings
from rutile.tasks.task import Task


class StarterSettings(Settings):
    """Which sets to copy, and where to."""

    names: list[str] = []
    """Sets to copy; without a name all are listed and nothing is written."""
    elements: list[str] = []
    """List only sets that hold all these elements, such as [Ti, O]."""
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


class PublicSetRow(Result):
    """A set that others have made public."""

    name: str
    """As people call it."""
    what: str
    """In one line."""
    frames: str
    """Labelled structures."""
    licence: str
    """Terms of use, as its authors state them: look there before you use it."""
    files: str
    """Where they are."""
    command: str
    """What rutile does with the files, in the folder into which they were unpacked."""


class StarterResult(Result):
    """The sets, and what was written."""

    sets: list[StarterSet]
    """Those asked for, or all."""
    public: list[PublicSetRow] = []
    """What others have made public, where nothing is copied."""
    files: list[Path]
    """What was written."""


def run(settings: StarterSettings, reporter: Reporter) -> StarterResult:
    """List the sets of labelled structures that come with rutile and public ones, or copy some of those that come."""
    from rutile import starter
    from rutile.starter.public_sets import that_hold

    for symbol in settings.elements:
        number(symbol)
    found = []
    for name in settings.names or starter.SETS:
        about = starter.provenance(name)
        if settings.names or not settings.elements or set(settings.elements) <= set(starter.elements(name)):
            facts = {key: about[key] for key in ("what", "frames", "calc_mode", "licence")}
            found.append(StarterSet(name=name, **facts))
    written = [p for name in settings.names for p in copied(name, settings.out)]
    for p in written:
        reporter.info(f"written: {p}")
    public = [] if settings.names else that_hold(settings.elements)
    rows = [PublicSetRow(**{key: getattr(one, key) for key in PublicSetRow.model_fields}) for one in public]
    return StarterResult(sets=found, public=rows, files=written)


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
    examples=("rutile starter", "rutile starter elements=[Ti,O]", "rutile starter tio2 tio2_rpbe out=data"),
)
