"""`rutile tune`: a search for good settings of a training, through Optuna."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from rutile.core.errors import MissingPackageError, TrainingError
from rutile.core.files import folder_for_results, write_atomically
from rutile.core.reporting import Reporter
from rutile.core.settings import Result
from rutile.tasks.task import Task
from rutile.train.settings import JobSettings

if TYPE_CHECKING:
    from rutile.train.search_page import Known

SHOWN = 10
"""Trials of the printed table; the page has all."""


class TuneSettings(JobSettings):
    """What to train on what, and which settings to vary."""

    space: dict[str, Any] = {}
    """Settings that vary: space.optimizer.learning_rate=log:1e-3:1e-1 (evenly in the logarithm),
    space.reweight.gamma=0:1 (evenly), space.potential.channels=16,32,48 (one of these). Default: learning rate and
    first weight of energies from a tenth to ten times what would hold otherwise, and size of batches."""
    trials: int = Field(default=30, ge=1)
    """Trainings in all; more may be added to a finished search."""
    goal: Literal["loss", "energy", "force", "virial"] = "loss"
    """What is made small on the validation structures: the loss, or the RMSE of a quantity."""
    pruner: Literal["median", "hyperband", "none"] = "median"
    """Which trials end early. median: those behind the median of the others at the same epoch, from the sixth on.
    hyperband: all but the best third, again and again. none: no trial."""
    out: Path = Path("tuned")
    """Folder of the search: best.yaml for `rutile train`, model.rutile, report.html, curves of the trials. The same
    command goes on where it was stopped; several at a time share the work."""

    @classmethod
    def suited(cls, data: Any) -> Any:
        """What is given: what suits the potential is added for each trial, whose potential may be another."""
        return data


class ParameterRow(Result):
    """A setting that varied."""

    setting: str
    """Dotted name."""
    best: float | int | bool | str | None
    """Its value in the best trial."""
    importance: float | None = None
    """Part of the differences between good and bad trials that goes with it; null: too few trials to say."""


class TrialRow(Result):
    """A trial."""

    trial: int
    """Its number."""
    state: str
    """complete, pruned (ended early), diverged, failed or running."""
    value: float | None
    """What was made small; of one that ended early where it stood then."""
    epochs: int
    """Complete epochs."""
    values: dict[str, float | int | bool | str | None]
    """Settings that varied."""


class TuneResult(Result):
    """What was found."""

    value: float
    """Loss or RMSE of the best trial (goal)."""
    trial: int
    """Its number."""
    trials: dict[str, int]
    """How many of each state."""
    settings: list[ParameterRow]
    """What varied."""
    best_trials: list[TrialRow]
    """The first ten."""
    best: Path
    """Settings of the best trial: rutile train best.yaml"""
    model: Path
    """Potential of the best trial."""
    report: Path
    """HTML page with all trials."""


def run(settings: TuneSettings, reporter: Reporter) -> TuneResult:
    """Search for good settings of a training; trials that fall behind end early.

    Raises:
        MissingPackageError: Optuna is not installed.
        FileError: a data file is missing.
        TrainingError: no trial came to its end.
    """
    import torch

    from rutile.train.loggers import installed
    from rutile.train.space import read_space

    if not installed("optuna"):
        raise MissingPackageError("rutile tune needs the package optuna: pip install 'rutile[tune]'")
    own = set(TuneSettings.model_fields) - set(JobSettings.model_fields)
    given = settings.model_dump(mode="json", exclude_unset=True, exclude=own)
    dimensions = read_space(settings.space, given, settings.goal)
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    from rutile.data.reading import files_of
    from rutile.train.search import Search

    files_of([*settings.data, *settings.split.valid_files, *settings.split.test_files], settings.read)
    search = Search(given, dimensions, settings.trials, settings.pruner, settings.goal, settings.out)
    with folder_for_results(settings.out):
        _work(search, reporter)
        return _finish(search, reporter)


def _work(search: Any, reporter: Reporter) -> None:
    """Make the trials; leaves by an exit where a signal asks for it."""
    from rutile.train.search import Stopped, Worker
    from rutile.train.signals import remember_signals

    try:
        with remember_signals() as stop:
            Worker(search, reporter, stop).work()
    except Stopped as stopped:
        reporter.info(f"stopped by {stopped}; run the same command again to go on from {search.folder}")
        if str(stopped) == "SIGINT":
            raise KeyboardInterrupt from None
        raise SystemExit(143) from None


def _finish(search: Any, reporter: Reporter) -> TuneResult:
    """Write the page, and say what was found."""
    from rutile.potentials.settings.stored import MODEL_FILE
    from rutile.train import search_page
    from rutile.train.search import BEST_FILE

    known = search_page.known(search)
    done = [k for k in known if k.state == "complete"]
    if not done:
        why = next((f"; trial {k.number}: {k.problem}" for k in known if k.problem), "")
        raise TrainingError(f"none of {len(known)} trials came to its end{why}")
    ranked = search_page.ranked(known)
    best = ranked[0]
    importance = search_page.importance(search)
    report = search.folder / "report.html"
    write_atomically(report, search_page.page(search, known, importance).encode())
    reporter.info(f"report: {report.resolve()}")
    return TuneResult(
        value=best.value if best.value is not None else float("nan"),
        trial=best.number,
        trials={state: sum(k.state == state for k in known) for state in dict.fromkeys(k.state for k in known)},
        settings=[
            ParameterRow(setting=key, best=value, importance=importance.get(key)) for key, value in best.values.items()
        ],
        best_trials=[_row(k) for k in ranked[:SHOWN]],
        best=search.folder / BEST_FILE,
        model=search.folder / MODEL_FILE,
        report=report,
    )


def _row(k: Known) -> TrialRow:
    return TrialRow(trial=k.number, state=k.state, value=k.value, epochs=k.epochs, values=k.values)


TASK = Task(
    "tune",
    TuneSettings,
    TuneResult,
    run,
    positional="data",
    examples=(
        "rutile tune frames.extxyz",
        "rutile tune frames.extxyz architecture=anatase trials=30 space.optimizer.learning_rate=log:1e-3:1e-1 "
        "space.potential.channels=16,32,48",
        "rutile tune frames.extxyz 'space.potential.hidden=[[15],[15,15],[30,30]]' goal=force pruner=hyperband",
    ),
)
