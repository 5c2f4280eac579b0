"""`rutile learn`: explore, choose, label, retrain and check, until a committee knows what it meets."""

from __future__ import annotations

import csv
import io
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pydantic import Field, model_validator

from rutile.active.plan import (
    CommitteeSettings,
    InitialSettings,
    Retraining,
    StopSettings,
    SystemSettings,
    WarmRetraining,
)
from rutile.active.settings import ChoiceSettings
from rutile.core.errors import FileError, RutileError
from rutile.core.executors.settings import ExecutorSettings, ThreadsSettings
from rutile.core.files import UNFINISHED, folder_for_results, remove_folder, write_atomically
from rutile.core.lock import alone_in
from rutile.core.reporting import PartReporter, Reporter
from rutile.core.settings import Result, Settings
from rutile.core.units import EVPerAngstrom
from rutile.label.settings import EngineSettings
from rutile.potentials.settings.stored import MODEL_FILE
from rutile.tasks.task import Task

if TYPE_CHECKING:
    from rutile.active.loop import State
    from rutile.tasks.learn_steps import Steps

LOG_FILE, TABLE_FILE, REPORT_FILE = "log.txt", "table.csv", "report.html"
SHOWN = ("round", "explored", "accurate", "candidates", "failed", "chosen", "wrong", "labels", "new_force_rmse",
         "valid_force_rmse", "test_force_rmse")  # fmt: skip
"""Columns of the table on the terminal."""


class LearnSettings(Settings):
    """A plan of active learning."""

    initial: InitialSettings
    """The data to begin with."""
    systems: list[SystemSettings] = Field(min_length=1)
    """What is explored in each round."""
    engine: EngineSettings
    """What computes the labels."""
    committee: CommitteeSettings = CommitteeSettings()
    """The committee and its training."""
    choose: ChoiceSettings = ChoiceSettings(budget=20)
    """Which of what was met is labelled; `budget` holds for each round."""
    retrain: Retraining = WarmRetraining()
    """How each round trains; `name` chooses: warm, anew."""
    stop: StopSettings = StopSettings()
    """When the loop ends."""
    test: list[Path] = []
    """Files with labelled structures that are never trained on: errors on them are measured in each round."""
    self_check: bool = True
    """See first, on a small structure, that the engine's forces and stress are derivatives of its energy."""
    isolated_atoms: bool = True
    """Label an isolated atom of each element, too."""
    cache: Path | None = None
    """Folder in which every label is kept as it is done; several loops may share it. Default: `labels` in `out`."""
    workers: int = Field(default=1, ge=1)
    """Structures that are labelled, and runs that explore, at the same time: threads, processes or jobs."""
    executor: ExecutorSettings = ThreadsSettings()
    """Who does that: threads of this process, `local` processes (better where exploration takes long), or `slurm` jobs
    (`out` must be in a folder that they see)."""
    seed: int = Field(default=0, ge=0)
    """Same seed and plan, same loop."""
    out: Path = Path("learn")
    """Folder of the loop: table.csv, report.html, model.rutile (the newest), a folder for each round, state.json. The
    same command goes on where it was stopped."""

    @model_validator(mode="after")
    def _different_labels(self) -> Self:
        labels = [system.label for system in self.systems]
        for label in labels:
            if labels.count(label) > 1:
                raise ValueError(f"two systems are named {label}: give them different labels")
        return self


class RoundRow(Result):
    """One round; what it had no reason to do is null."""

    round: int
    """Number; 0: the data to begin with."""
    explored: int | None = None
    """Structures that exploration met."""
    accurate: int | None = None
    """Of these the members agree."""
    candidates: int | None = None
    """About these they disagree: the data lack them."""
    failed: int | None = None
    """About these they disagree beyond the failed level."""
    impossible: int | None = None
    """These cannot be: atoms too close, a force beyond reason."""
    share: float | None = None
    """Candidates as a part of those that are possible."""
    failed_share: float | None = None
    """Failed ones as a part of those that are possible."""
    low: float | None = None
    """Trust level below which the members agree (eV/Å)."""
    high: float | None = None
    """Trust level of failed ones (eV/Å)."""
    chosen: int | None = None
    """Structures chosen to be labelled."""
    checked: int | None = None
    """Structures about which the members agree that were labelled to see whether they are right."""
    wrong: int | None = None
    """Of these the force error, as root mean square of the vectors, is above `low`."""
    labelled: int = 0
    """Labels that the engine made."""
    label_failures: int = 0
    """Structures of which it made none."""
    labels: int = 0
    """Labels and failures of all rounds so far."""
    frames: int | None = None
    """Frames that are trained on from now on."""
    new_energy_rmse: float | None = None
    """Error of the committee on the new frames before they were learned (eV/atom)."""
    new_force_rmse: float | None = None
    """The same of force components (eV/Å)."""
    valid_energy_rmse: float | None = None
    """Error after the round on frames for validation (eV/atom)."""
    valid_force_rmse: float | None = None
    """The same of force components (eV/Å)."""
    test_energy_rmse: float | None = None
    """Error after the round on the test files (eV/atom)."""
    test_force_rmse: float | None = None
    """The same of force components (eV/Å)."""
    force_scale: float | None = None
    """Calibration: error of forces as a multiple of the spread of the members."""
    force_coverage: float | None = None
    """Calibration: part of the forces that lay within their error bars."""
    seconds: float = 0.0
    """Time of the round (s)."""


class LearnResult(Result):
    """What the loop came to."""

    ended: str
    """Why it ended: a criterion of `stop`, or that it is paused."""
    rounds: int
    """Rounds after the first training."""
    labels: int
    """Labels that the engine made, and failures."""
    share: float | None
    """Candidates as a part of what the last exploration met."""
    force_rmse: EVPerAngstrom | None
    """Newest error of force components: on the test files, else on frames for validation."""
    model: Path | None
    """The newest committee."""
    table: Path
    """One row for each round, as CSV."""
    report: Path
    """Page about all rounds."""


def run(settings: LearnSettings, reporter: Reporter) -> LearnResult:
    """Learn actively: a committee explores, chooses what it does not know, has it labelled and learns it.

    Raises:
        MissingPackageError: the engine is not installed.
        SettingsError: the plan cannot work, or changes what must stay.
        FileError: another process is at work in the folder, or a file cannot be read or written.
    """
    from rutile.active.loop import STATE_FILE

    with folder_for_results(settings.out), alone_in(settings.out, reporter):
        began = (settings.out / STATE_FILE).exists()
        if not began and any(p.is_dir() and p.name.startswith("round-") for p in settings.out.iterdir()):
            raise FileError(f"{settings.out} holds rounds but no {STATE_FILE}: restore it, or choose another out=")
        _tidy(settings.out)
        return _learn(settings, reporter)


def _tidy(folder: Path) -> None:
    """Remove what a killed loop left half-written; what builders go on with stays."""
    for path in sorted(folder.rglob(".*")):
        if (
            path.is_dir()
            and (path.name.startswith(".frames-") or ".extxyz." in path.name)
            and path.suffix != UNFINISHED
        ):
            shutil.rmtree(path, ignore_errors=True)
        elif path.is_file() and path.suffix == UNFINISHED:
            path.unlink(missing_ok=True)


def _learn(settings: LearnSettings, reporter: Reporter) -> LearnResult:
    """The rounds, in a folder that is ours alone."""
    from rutile.active.loop import END, PAUSE_FILE, State, read_state, require_kept, why_end, write_state
    from rutile.tasks.learn_plan import kept, plan_of
    from rutile.tasks.learn_steps import Steps

    must_stay = kept(settings)
    state = read_state(settings.out)
    if state is None:
        state = State(must_stay)
        state.begin(plan_of(settings))
    else:
        require_kept(state.kept, must_stay, settings.out)
        reporter.info(f"going on in {settings.out}: round {state.round}, {state.step}")
        _adopt(state, plan_of(settings), settings.out, reporter)
    inside = PartReporter(reporter, settings.out / LOG_FILE)
    while True:
        if state.step == END:
            ended = why_end(state.rows, settings.stop, state.seconds, changed=state.plan != plan_of(settings))
            if ended:
                break
            state.begin(plan_of(settings))
        write_state(settings.out, state)
        if (settings.out / PAUSE_FILE).exists():
            ended = (
                f"paused in round {state.round} before {state.step}: remove {settings.out / PAUSE_FILE} and run again"
            )
            break
        _step(Steps(settings, state, inside), reporter)
    return _result(settings, state, ended, reporter)


def _adopt(state: State, plan: dict[str, Any], folder: Path, reporter: Reporter) -> None:
    """A plan that was changed in the middle of a round: it holds at once only where the round could not go on."""
    from rutile.active.loop import END, round_name

    if state.step == END or state.plan == plan:
        return
    if not state.failed:
        reporter.info(f"changes of the plan hold from round {state.round + 1} on: round {state.round} ends as it began")
        return
    reporter.info(f"changes of the plan hold from this step on: round {state.round}, {state.step}")
    begun = {"explore": "explored", "train": "model"}.get(state.step)
    if begun and (folder / round_name(state.round) / begun).exists():
        remove_folder(folder / round_name(state.round) / begun)
    state.plan, state.failed = plan, False


def _step(steps: Steps, reporter: Reporter) -> None:
    """One step of a round, and the files for people."""
    from rutile.active.loop import END, write_state

    settings, state = steps.settings, steps.state
    began, name = time.monotonic(), state.step
    steps.reporter.part = f"round {state.round}, {name}"
    try:
        over = steps.do(name)
    except RutileError:
        state.failed = True
        write_state(settings.out, state)
        raise
    except (KeyboardInterrupt, SystemExit):
        reporter.info(f"stopped in round {state.round}, {name}: the same command goes on from there")
        raise
    took = time.monotonic() - began
    state.seconds += took
    state.row["seconds"] = round(state.row.get("seconds", 0.0) + took, 2)
    state.advance(over=over)
    write_atomically(settings.out / TABLE_FILE, _csv(rows(state)).encode())
    if state.step == END:
        row = rows(state)[-1].model_dump()
        reporter.metrics({name.replace("_", " "): "" if row[name] is None else row[name] for name in SHOWN})
        _report(settings, state, "")


def rows(state: State) -> list[RoundRow]:
    """The table."""
    return [RoundRow(**row) for row in state.rows]


def _csv(table: list[RoundRow]) -> str:
    """The rows as CSV."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(RoundRow.model_fields), lineterminator="\n")
    writer.writeheader()
    writer.writerows(row.model_dump() for row in table)
    return text.getvalue()


def _report(settings: LearnSettings, state: State, ended: str) -> None:
    """Write the page about all rounds."""
    from rutile.active.loop_page import page

    table = [row.model_dump() for row in rows(state)]
    given: dict[str, Any] = settings.model_dump(mode="json", exclude_unset=True)
    write_atomically(settings.out / REPORT_FILE, page(table, state.details, ended, settings.out, given).encode())


def _result(settings: LearnSettings, state: State, ended: str, reporter: Reporter) -> LearnResult:
    """The summary."""
    from rutile.active.loop import labels_made, write_state

    write_state(settings.out, state)
    write_atomically(settings.out / TABLE_FILE, _csv(rows(state)).encode())
    _report(settings, state, ended)

    def last(*names: str) -> float | None:
        """The newest value that is known, of the first name that has one."""
        return next((v for name in names for r in reversed(rows(state)) if (v := getattr(r, name)) is not None), None)

    return LearnResult(
        ended=ended,
        rounds=state.round,
        labels=labels_made(state.rows),
        share=last("share"),
        force_rmse=last("test_force_rmse", "valid_force_rmse"),
        model=settings.out / MODEL_FILE if state.model else None,
        table=settings.out / TABLE_FILE,
        report=settings.out / REPORT_FILE,
    )


TASK = Task(
    "learn",
    LearnSettings,
    LearnResult,
    run,
    examples=(
        "rutile learn plans/tio2_rigid_ion.yaml",
        "rutile learn plan.yaml stop.rounds=20 choose.budget=50",
        "rutile learn plans/disordered.yaml out=disordered",
    ),
    elsewhere={
        "steps": "generate",
        "engine": "label",
        "potential": "train",
        "executor": "label",
        "optimizer": "train",
        "schedule": "train",
        "loss": "train",
        "reweight": "train",
        "read": "train",
        "references": "train",
    },
)
