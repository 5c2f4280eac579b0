"""`rutile compare-optimizers`: the optimizers on the same data with the same budget, each at its own learning rate."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from pydantic import Field

from rutile.core.errors import SettingsError, TrainingError
from rutile.core.files import folder_for_results, write_atomically
from rutile.core.lock import alone_in
from rutile.core.reporting import Reporter
from rutile.core.settings import Result, merged
from rutile.core.units import EVPerAngstrom, Second
from rutile.tasks.task import Task
from rutile.train.contestants import OptimizerName
from rutile.train.settings import JobSettings, TrainSettings

if TYPE_CHECKING:
    from rutile.train.contest import Outcome

ORDER: tuple[OptimizerName, ...] = get_args(OptimizerName)
STAYS = {"start": 1.0, "limit": 1.0}
DEFAULTS: dict[str, Any] = {"epochs": 100, "ema": None, "loss": {"energy": STAYS, "force": STAYS}}
"""What suits a comparison unless others are given: the bare optimizers, and a loss whose weights stay."""
REPORT_FILE = "report.html"


class CompareOptimizersSettings(JobSettings):
    """What to train on what, with which optimizers. `epochs` is the budget of each run in passes over the data."""

    optimizers: list[OptimizerName] = Field(default=list(ORDER), min_length=1)
    """Which; sgd_momentum is sgd with a momentum of 0.9."""
    repeats: int = Field(default=3, ge=1)
    """Seeds of first weights and order with which the best learning rate of each is trained; the first one tunes."""
    rates: int = Field(default=5, ge=3)
    """Learning rates that are tried first, in half decades around the usual one; more where the best is outermost."""
    screening: float = Field(default=0.25, gt=0, le=1)
    """Part of the budget that the first look at each learning rate takes; the best and its neighbours get all of it."""
    target: float | None = Field(default=None, gt=0)
    """Validation loss for which the passes until it is reached are told. Default: 1.5 times that of the best."""
    out: Path = Path("optimizers")
    """Folder for report.html and the finished runs. The same command goes on where it was stopped."""

    @classmethod
    def suited(cls, data: Any) -> Any:
        """What suits a comparison and the potential, where nothing else is given."""
        if not isinstance(data, dict):
            return data
        if "optimizer" in data:
            raise SettingsError("optimizer: here all are compared; choose them by optimizers=[adam,lbfgs,...]")
        suits = super().suited(merged(DEFAULTS, data))
        return {key: value for key, value in suits.items() if key != "optimizer"}


class OptimizerRow(Result):
    """One optimizer at its best learning rate; medians over the seeds."""

    optimizer: str
    """Which."""
    rate: float | None = None
    """The best learning rate; null: all of them diverged."""
    loss: float | None = None
    """Lowest validation loss."""
    worst: float | None = None
    """The same of the worst seed; infinite where it diverged."""
    final: float | None = None
    """Validation loss at the end."""
    force_rmse: EVPerAngstrom | None = None
    """At the lowest loss."""
    to_target: float | None = None
    """Passes over the data until the target loss is reached; null: not reached."""
    seconds: Second | None = None
    """Time of a training."""
    runs: int
    """Trainings of this optimizer in all."""
    diverged: int
    """Those of them that became infinite."""


class CompareOptimizersResult(Result):
    """Which is best."""

    optimizers: list[OptimizerRow]
    """Best first."""
    best: str
    """The first of them."""
    target: float
    """Loss whose passes are told."""
    report: Path
    """HTML page with the table and the curves."""


def run(settings: CompareOptimizersSettings, reporter: Reporter) -> CompareOptimizersResult:
    """Compare optimizers with equal data, first weights and passes, the learning rate tuned for each.

    Raises:
        TrainingError: every training diverged.
    """
    import torch

    for name in ("energy", "force", "virial"):
        weight = getattr(settings.loss, name)
        if weight.active and weight.start != weight.limit:
            raise SettingsError(
                f"loss.{name}: start {weight.start:g} and limit {weight.limit:g} differ; a comparison needs a loss "
                f"that stays: loss.{name}.start={weight.limit:g}"
            )
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    with folder_for_results(settings.out), alone_in(settings.out, reporter):
        return _compare(settings, reporter)


def _compare(settings: CompareOptimizersSettings, reporter: Reporter) -> CompareOptimizersResult:
    """The work of `run`, in a folder that exists."""
    from rutile.core.seeds import integer
    from rutile.train import contest_page
    from rutile.train.contest import Contest, Plan, Stopped
    from rutile.train.job import prepare
    from rutile.train.signals import remember_signals

    seeds = [settings.seed if m == 0 else integer(settings.seed, "member", m) % 2**31 for m in range(settings.repeats)]
    job = prepare(settings, seeds, settings.out, reporter)
    screening = max(1, round(settings.screening * settings.epochs))
    plan = Plan(settings.epochs, screening, settings.rates, seeds)
    fields = {name: getattr(settings, name) for name in TrainSettings.model_fields}
    try:
        with remember_signals() as stop:
            contest = Contest(
                job, TrainSettings(**fields), plan, settings.out, _identity(settings, job.store.hash), reporter, stop
            )
            outcomes = contest.hold(list(dict.fromkeys(settings.optimizers)))
    except Stopped as stopped:
        reporter.info(f"stopped by {stopped}; run the same command again to go on from {settings.out}")
        if str(stopped) == "SIGINT":
            raise KeyboardInterrupt from None
        raise SystemExit(143) from None
    if not outcomes[0].final:
        raise TrainingError(
            f"every training diverged, for example: {outcomes[0].tried[0].problem}. Look at the data, or set clip_norm"
        )
    target = settings.target or float(f"{1.5 * outcomes[0].loss:.3g}")
    rows = [_row(outcome, target) for outcome in outcomes]
    report = settings.out / REPORT_FILE
    page = contest_page.page(outcomes, plan, target, settings.model_dump(mode="json", exclude={"optimizer"}))
    write_atomically(report, page.encode())
    reporter.info(f"report: {report.resolve()}")
    return CompareOptimizersResult(optimizers=rows, best=rows[0].optimizer, target=target, report=report)


def _identity(settings: CompareOptimizersSettings, data: str) -> dict[str, Any]:
    """What every run shares; other optimizers, seeds and rates may be added to a finished comparison."""
    free = {"out", "data", "optimizer", "optimizers", "repeats", "rates", "screening", "target"}
    free |= {"epochs", "threads", "cache_memory", "cache_disk", "checkpoint_seconds", "tensorboard", "wandb", "mlflow"}
    return {"data": data, "settings": settings.model_dump(mode="json", exclude=free)}


def _row(outcome: Outcome, target: float) -> OptimizerRow:
    """Medians over the seeds."""
    from statistics import median

    runs, diverged = len(outcome.tried), sum(bool(run.problem) for run in outcome.tried)
    good = [run for run in outcome.final if not run.problem]
    if not good:
        return OptimizerRow(optimizer=outcome.name, runs=runs, diverged=diverged)
    forces = [run.force_rmse for run in good if run.force_rmse is not None]
    return OptimizerRow(
        optimizer=outcome.name,
        rate=good[0].learning_rate,
        loss=_short(outcome.loss),
        worst=_short(max(run.best for run in outcome.final)),
        final=_short(median(run.losses[-1] for run in good)),
        force_rmse=_short(median(forces)) if forces else None,
        to_target=outcome.reached(target),
        seconds=round(median(run.seconds for run in good), 1),
        runs=runs,
        diverged=diverged,
    )


def _short(value: float) -> float:
    """Four digits."""
    return float(f"{value:.4g}")


TASK = Task(
    "compare-optimizers",
    CompareOptimizersSettings,
    CompareOptimizersResult,
    run,
    positional="data",
    examples=(
        "rutile compare-optimizers frames.extxyz",
        "rutile compare-optimizers frames.extxyz optimizers=[adam,lbfgs,muon] epochs=200 repeats=5",
        "rutile compare-optimizers frames.extxyz architecture=anatase loss.energy.start=100 loss.energy.limit=100",
    ),
)
