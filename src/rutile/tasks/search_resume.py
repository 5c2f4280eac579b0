"""`rutile search resume`: go on with a search, by the settings that its folder keeps."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from rutile.core.config import build
from rutile.core.executors.settings import ExecutorSettings
from rutile.core.reporting import Reporter
from rutile.core.settings import Settings
from rutile.core.units import EVPerAtom
from rutile.tasks import search
from rutile.tasks.search import SearchSettings, SearchTaskResult
from rutile.tasks.search_start import kept_settings
from rutile.tasks.task import Task


class ResumeSettings(Settings):
    """Which search goes on, and how long and where; what is not given stays as it was."""

    folder: Path
    """Of the search."""
    relaxations: int | None = Field(default=None, ge=1)
    """Structures that are made and relaxed in all, those of before included."""
    unchanged: int | None = Field(default=None, ge=1)
    """Stop early when the lowest energy has not changed for so many relaxations."""
    target: EVPerAtom | None = None
    """Stop when an energy as low as this is found."""
    batch: int | None = Field(default=None, ge=1)
    """Structures that a worker relaxes together."""
    workers: int | None = Field(default=None, ge=1)
    """Batches at the same time."""
    executor: ExecutorSettings | None = None
    """Where: here (threads), in processes here (local), in jobs of a cluster (slurm)."""
    device: str | None = None
    """cpu, cuda, cuda:1, or auto: a GPU if there is one."""
    keep: int | None = Field(default=None, ge=1)
    """Different structures in the table at most."""
    window: EVPerAtom | None = Field(default=None, gt=0)
    """How far above the lowest one they may be."""


def run(settings: ResumeSettings, reporter: Reporter) -> SearchTaskResult:
    """Go on with a search by the settings that its folder keeps.

    Raises:
        FileError: the folder holds no search.
        SettingsError: the settings that are kept are not those of this version.
    """
    given = settings.model_dump(exclude={"folder"}, exclude_none=True)
    known = kept_settings(settings.folder) | given | {"out": settings.folder}
    return search.run(build(SearchSettings, known, {}), reporter)


TASK = Task(
    "search resume",
    ResumeSettings,
    SearchTaskResult,
    run,
    positional="folder",
    examples=("rutile search resume search relaxations=2000", "rutile search resume search workers=8 executor=slurm"),
)
