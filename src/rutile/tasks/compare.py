"""`rutile compare`: training runs side by side, showing only what differs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field

from rutile.core.files import folder_for_results, write_atomically
from rutile.core.reporting import Reporter
from rutile.core.settings import Result, Settings
from rutile.core.units import Second
from rutile.tasks.task import Task


class CompareSettings(Settings):
    """Which runs."""

    runs: list[Path] = Field(min_length=1)
    """Folders of training runs, finished or not."""
    out: Path = Path("comparison")
    """Folder for report.html."""


class RunRow(Result):
    """One run."""

    run: str
    """Its folder, as short as it is still clear."""
    state: str
    """finished, unfinished (it still runs, or was stopped), or begun (no epoch has ended)."""
    epochs: int
    """Complete epochs."""
    best_epoch: int | None = None
    """Epoch of the best validation, counted from 1."""
    seconds: Second | None = None
    """Time in the training loop, all members of a committee."""
    epoch_seconds: Second | None = None
    """Median time of an epoch without validation."""
    atoms_per_second: int | None = None
    """Median pace of training."""
    parameters: int | None = None
    """Trainable numbers, all members."""


class SettingRow(Result):
    """A setting that is not equal in all runs."""

    setting: str
    """Dotted name."""
    values: dict[str, str]
    """Value in each run."""


class ErrorRow(Result):
    """One error of all runs."""

    structures: str
    """test, valid, train or replay."""
    quantity: str
    """energy (per atom), force (components), stress (components)."""
    kind: str
    """rmse or mae."""
    unit: str
    """Of the errors."""
    values: dict[str, float | None]
    """Error of each run; null: not known."""
    best: str
    """Run with the smallest; empty where only one is known."""


class CompareResult(Result):
    """What differs."""

    runs: list[RunRow]
    """State, epochs, time, size."""
    settings: list[SettingRow]
    """Settings that differ; all others are equal."""
    errors: list[ErrorRow]
    """Errors with the best; of runs that are not finished those of the best validation so far."""
    same_structures: bool
    """Whether the settings say that errors were measured on the same structures."""
    report: Path
    """HTML page with the same tables and the learning curves of all runs."""


def run(settings: CompareSettings, reporter: Reporter) -> CompareResult:
    """Lay training runs side by side: the settings that differ, errors, time, size and learning curves."""
    from rutile.train import runs_page
    from rutile.train.report import render
    from rutile.train.runs import comparable, differing, read_runs

    runs = read_runs(settings.runs, reporter)
    different = differing(runs)
    same = comparable(runs)
    note = "" if same else (
        "the runs differ in data, split or the seed that divides the data: their errors are of different structures "
        "(rutile evaluate measures models on the same)"
    )  # fmt: skip
    if note:
        reporter.warn(note)
    report = settings.out / "report.html"
    page = render(
        "Comparison of runs",
        ", ".join(r.name for r in runs),
        [],
        [
            runs_page.runs_section(runs),
            runs_page.settings_section(runs, different),
            runs_page.errors_section(runs, note[:1].upper() + note[1:] + "." if note else ""),
            runs_page.overlay_section(runs),
        ],
    )
    with folder_for_results(settings.out):
        write_atomically(report, page.encode())
    reporter.info(f"report: {report.resolve()}")
    errors = [
        ErrorRow(structures=part, quantity=quantity, kind=kind, unit=unit, best=runs_page.best_of(found),
                 values={r.name: found.get(r.name) for r in runs})
        for part, quantity, kind, unit, found in runs_page.error_rows(runs)
    ]  # fmt: skip
    return CompareResult(
        runs=[
            RunRow(
                run=r.name, state=r.state, epochs=r.epochs, best_epoch=int(r.best["epoch"]) + 1 if r.best else None,
                seconds=r.seconds or None, epoch_seconds=_rounded(r.median("train_seconds"), 3),
                atoms_per_second=_rounded(r.median("atoms_per_second")), parameters=r.parameters,
            )
            for r in runs
        ],
        settings=[SettingRow(setting=name, values=dict(values)) for name, values in different.items()],
        errors=errors,
        same_structures=same,
        report=report,
    )  # fmt: skip


def _rounded(value: float | None, digits: int | None = None) -> Any:
    return None if value is None else round(value, digits)


TASK = Task(
    "compare",
    CompareSettings,
    CompareResult,
    run,
    positional="runs",
    examples=("rutile compare run run2", "rutile compare runs/* out=all", "rutile compare a b --json"),
)
