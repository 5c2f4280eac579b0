"""A search for good settings: Optuna proposes, `fit` trains, what falls behind is ended early.

The state is an SQLite file in the folder of the search, so that a search that was killed goes on and several processes
can share it. A process claims a trial by a lock that the system releases when it dies; a trial that nobody holds any
more goes on from its checkpoint. The proposals depend on the seed, the number of the trial and the trials before alone,
so that one process makes the same search whether it was interrupted or not.
"""

from __future__ import annotations

import copy
import fcntl
import json
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import optuna
import yaml
from optuna.trial import FrozenTrial, Trial, TrialState

from rutile.core.errors import FileError, RutileError, SettingsError, TrainingError
from rutile.core.files import write_atomically
from rutile.core.lock import LOCK_FILE, alone_in
from rutile.core.reporting import Reporter, SilentReporter
from rutile.core.seeds import integer
from rutile.potentials.model import Model, ModelInfo
from rutile.potentials.parts.lora import merge_low_rank
from rutile.potentials.settings.stored import MODEL_FILE
from rutile.train.checkpoint import CHECKPOINT_FILE
from rutile.train.fit import FitResult, fit
from rutile.train.job import Job, prepare
from rutile.train.log import METRICS_FILE
from rutile.train.loggers import flat
from rutile.train.settings import JobSettings, TrainSettings
from rutile.train.space import Dimension, with_values

T = TypeVar("T")
STUDY_FILE, BEST_FILE, SETTINGS_FILE, TURN_FILE = "study.db", "best.yaml", "settings.yaml", ".turn"
"""State of the search, settings of the best trial, settings of each; the file whose lock is held to choose and keep."""
PRUNED, STOPPED = "pruned", "SIG"
WARM = 10
"""A trial is not ended in the first tenth of its epochs."""
PATIENT = 5
"""Trials that are never ended early: the others are compared with them."""
PROBLEM = "problem"
"""Attribute of a trial: why it failed."""
GOALS = {
    "loss": "valid_loss",
    "energy": "valid_energy_rmse",
    "force": "valid_force_rmse",
    "virial": "valid_virial_rmse",
}
"""What trials are compared by -> column of metrics.csv."""


class Stopped(Exception):
    """A signal asked to stop; the text is its name."""


@dataclass(frozen=True)
class Search:
    """What is searched for, and how."""

    given: dict[str, Any]
    """Settings of all trials, as JSON values for `JobSettings`."""
    dimensions: list[Dimension]
    """What varies."""
    trials: int
    """In all."""
    pruner: str
    """median, hyperband or none."""
    goal: str
    """loss, energy, force or virial."""
    folder: Path
    """Of the search; must exist."""

    @property
    def base(self) -> JobSettings:
        """Settings where nothing varies."""
        return with_values(self.given, {})

    def open(self) -> optuna.Study:
        """The study in the folder, or a new one.

        Raises:
            SettingsError: the folder holds a search with other settings.
            FileError: its file cannot be read.
        """
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        path = self.folder / STUDY_FILE
        try:
            with turn(self.folder):  # two processes that begin together would both make the tables
                study = optuna.create_study(
                    storage=f"sqlite:///{path.resolve()}",
                    study_name="search",
                    load_if_exists=True,
                    pruner=self._pruner(),
                )
            old = study.user_attrs.get("identity")
        except Exception as error:
            first = str(error).strip().split("\n")[0]
            raise FileError(f"{path}: cannot read the search: {first}; remove it, or choose another out=") from None
        new = self._identity()
        if old is None:
            study.set_user_attr("identity", new)
        elif different := _different(old, new):
            raise SettingsError(
                f"{self.folder} holds another search: {different}. Restore these settings, or choose another out="
            )
        return study

    def _identity(self) -> dict[str, Any]:
        free = {"threads", "cache_memory", "cache_disk", "checkpoint_seconds", "tensorboard", "wandb", "mlflow"}
        space = {d.key: [d.low, d.high, d.log] if not d.choices else list(d.choices) for d in self.dimensions}
        how = {"pruner": self.pruner, "goal": self.goal, "space": space}
        whole: dict[str, Any] = json.loads(json.dumps(how | self.base.model_dump(mode="json", exclude=free)))
        return whole

    def _pruner(self) -> optuna.pruners.BasePruner:
        epochs = self.base.epochs
        if self.pruner == "median":
            return optuna.pruners.MedianPruner(n_startup_trials=PATIENT, n_warmup_steps=epochs // WARM)
        if self.pruner == "hyperband":
            return optuna.pruners.HyperbandPruner(min_resource=max(1, epochs // 27), max_resource=epochs)
        return optuna.pruners.NopPruner()


class Worker:
    """One process of a search.

    Args:
        search: what and how.
        reporter: sees a row for each trial.
        stop: asked after each step; a string ends the work with a checkpoint.
    """

    def __init__(self, search: Search, reporter: Reporter, stop: Callable[[], str | None]) -> None:
        self.search, self.reporter, self.stop = search, reporter, stop
        self.study = search.open()
        self._prepared: tuple[dict[str, Any], Job] | None = None

    def work(self) -> None:
        """Make trials until there are enough.

        Raises:
            Stopped: a signal asked for it.
            FileError: something cannot be written.
        """
        done = sum(t.state.is_finished() for t in self.study.get_trials(deepcopy=False))
        with ExitStack() as held:
            self._own = self._own_folder(held)
            for _ in self.reporter.track(self._all(), "trials", self.search.trials - done):
                pass

    def _all(self) -> Iterator[int]:
        """Make trials; yields the number of each."""
        while True:
            if reason := self.stop():
                raise Stopped(reason)
            with ExitStack() as held:
                trial = self._claim(held)
                if trial is None:
                    return
                self._one(trial)
            yield trial.number

    def _claim(self, held: ExitStack) -> Trial | None:
        """A trial that nobody works on, or a new one; None: there are enough."""
        with turn(self.search.folder):
            trials = self.study.get_trials(deepcopy=False)
            for old in trials:
                if old.state == TrialState.RUNNING and self._hold_unfinished(old.number, held):
                    self._propose(old.number)
                    return Trial(self.study, old._trial_id)
            if len(trials) >= self.search.trials:
                return None
            self._propose(len(trials))
            trial = self.study.ask()
            self._hold(self.folder_of(trial.number), held)
            return trial

    def _hold_unfinished(self, number: int, held: ExitStack) -> bool:
        """Take the lock of a trial that no process works on and that is still to be ended."""
        with ExitStack() as tried:
            if not self._hold(self.folder_of(number), tried):
                return False
            if self.study.get_trials(deepcopy=False)[number].state != TrialState.RUNNING:
                return False  # its process ended it between the look at its state and the lock
            held.push(tried.pop_all())
        return True

    def _hold(self, folder: Path, held: ExitStack) -> bool:
        """Take the lock of a folder, if no other process has it."""
        folder.mkdir(exist_ok=True)
        try:
            held.enter_context(alone_in(folder, self.reporter))
        except FileError:
            return False
        return True

    def _propose(self, number: int) -> None:
        """Let the proposals for a trial depend on the seed and its number."""
        seed = integer(self.search.base.seed, "trial", number) % 2**32
        self.study.sampler = optuna.samplers.TPESampler(seed=seed, multivariate=True)

    def folder_of(self, number: int) -> Path:
        """Of one trial."""
        return self.search.folder / f"trial-{number:04d}"

    def _one(self, trial: Trial) -> None:
        """Train one trial and tell how it went."""
        began = time.monotonic()
        values = {d.key: _suggest(trial, d) for d in self.search.dimensions}
        state, value, done = TrialState.FAIL, None, None
        try:
            settings = with_values(self.search.given | {"tensorboard": False}, values)
            done, job, potential = self._train(trial, settings)
            if done.stopped.startswith(STOPPED):
                raise Stopped(done.stopped)
            if done.stopped == PRUNED:
                state = TrialState.PRUNED
            else:
                value = self._value(done, settings)
                self._keep_if_best(trial.number, value, settings, job, potential, done)
                state = TrialState.COMPLETE
        except FileError:
            raise
        except TrainingError as error:  # diverged: told as ended early, so that the proposals keep away from it
            state = TrialState.PRUNED
            trial.set_user_attr(PROBLEM, str(error))
        except (RutileError, RuntimeError, MemoryError) as error:
            trial.set_user_attr(PROBLEM, str(error).strip().split("\n")[0] or type(error).__name__)
        trial.set_user_attr("seconds", round(time.monotonic() - began, 3) if done is None else done.seconds)
        trial.set_user_attr("epochs", 0 if done is None else done.epochs)
        self._clean(trial.number)
        self.study.tell(trial.number, value if state == TrialState.COMPLETE else None, state)
        self._report(trial.number, values)

    def _train(self, trial: Trial, settings: JobSettings) -> tuple[FitResult, Job, Any]:
        """Train, or go on with, one trial."""
        folder = self.folder_of(trial.number)
        write_atomically(folder / SETTINGS_FILE, yaml_text(settings).encode())
        job = self._job(settings)
        potential = copy.deepcopy(job.potentials[0])
        for side in job.examples.values():
            side.potential = potential
        train = job.examples["train"]
        watch = _Watch(trial, GOALS[self.search.goal])
        done = fit(
            potential,
            train,
            job.examples.get("valid", train),
            TrainSettings(**{name: getattr(settings, name) for name in TrainSettings.model_fields}),
            folder,
            watch,
            resume=(folder / CHECKPOINT_FILE).exists(),
            identity={"data": job.store.hash},
            stop=lambda: self.stop() or (PRUNED if watch.behind else None),
        )
        return done, job, potential

    def _job(self, settings: JobSettings) -> Job:
        """Data and first potential; those of the trial before where nothing of it has changed."""
        own = set(JobSettings.model_fields) - set(TrainSettings.model_fields)
        wanted = settings.model_dump(mode="json", include=own)
        wanted |= {"precision": settings.precision, "force_limit": settings.force_limit}
        wanted |= {name: getattr(settings.loss, name).active for name in ("energy", "force", "virial")}
        if self._prepared is None or self._prepared[0] != wanted:
            reporter = self.reporter if self._prepared is None else SilentReporter()
            self._prepared = None  # what is not needed any more goes before the new comes
            self._prepared = wanted, prepare(settings, [settings.seed], self._own, reporter)
        return self._prepared[1]

    def _own_folder(self, held: ExitStack) -> Path:
        """A folder for prepared data that no other process uses; it goes at the end."""
        for k in range(1000):
            folder = self.search.folder / f"worker-{k}"
            if self._hold(folder, held):
                held.callback(shutil.rmtree, folder, ignore_errors=True)
                return folder
        raise FileError(f"{self.search.folder}: more than 1000 processes share this search")

    def _value(self, done: FitResult, settings: JobSettings) -> float:
        """What a trial is compared by: at the epoch whose weights are kept."""
        column = GOALS[self.search.goal]
        rows = [row for row in done.history if column in row]
        if not rows:
            raise SettingsError(f"goal={self.search.goal}: the validation structures have no such labels")
        row = min(rows, key=lambda row: row["valid_loss"]) if settings.keep == "best" else rows[-1]
        return float(row[column])

    def _keep_if_best(
        self, number: int, value: float, settings: JobSettings, job: Job, potential: Any, done: FitResult
    ) -> None:
        """Write model and settings of the best trial so far."""
        with turn(self.search.folder):
            known = self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
            if any(t.value is not None and t.value <= value for t in known):
                return
            row = min(done.history, key=lambda row: float(row.get("valid_loss", float("inf"))))
            metrics: dict[str, Any] = {
                f"{q}_rmse": row[f"valid_{q}_rmse"] for q in ("energy", "force") if f"valid_{q}_rmse" in row
            }
            merge_low_rank(potential)
            potential.requires_grad_()
            for m, mode in enumerate(potential.modes):
                potential.set_reference_energies(job.references[mode], m)
            info = ModelInfo(
                elements=potential.elements,
                calc_modes=potential.modes,
                training_data=job.store.hash,
                metrics={"valid": metrics},
                notes=(f"trial {number} of a search of settings",),
            )
            Model([potential.double()], info, surroundings=job.surroundings()).save(self.search.folder / MODEL_FILE)
            write_atomically(self.search.folder / BEST_FILE, yaml_text(settings).encode())

    def _clean(self, number: int) -> None:
        """Keep only the settings and the curve of a trial."""
        for path in self.folder_of(number).iterdir():
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            elif path.name not in (METRICS_FILE, SETTINGS_FILE, LOCK_FILE):
                path.unlink()

    def _report(self, number: int, values: dict[str, Any]) -> None:
        """Tell how a trial went."""
        trial = self.study.get_trials(deepcopy=False)[number]
        if PROBLEM in trial.user_attrs:
            self.reporter.warn(f"trial {number}: {trial.user_attrs[PROBLEM]}")
        row: dict[str, float | int | str] = {"trial": number}
        for key, v in values.items():
            row[key.rsplit(".", 1)[-1]] = v if isinstance(v, int | float | str) else json.dumps(v)
        row[f"best {self.search.goal}"] = "" if trial.value is None else trial.value
        self.reporter.metrics(row | {"state": state_of(trial)})


class _Watch:
    """Reporter of one trial: tells Optuna each validation, and remembers when the trial is behind."""

    def __init__(self, trial: Trial, column: str) -> None:
        self._trial, self._column, self.behind = trial, column, False
        self._told = set(trial.study.get_trials(deepcopy=False)[trial.number].intermediate_values)

    def info(self, text: str) -> None:
        """Not shown."""

    def warn(self, text: str) -> None:
        """Not shown."""

    def track(self, items: Iterable[T], label: str, total: int | None = None) -> Iterator[T]:
        """Yield the items."""
        del label, total
        yield from items

    def metrics(self, row: dict[str, float | int | str]) -> None:
        """A validated epoch."""
        if self._column not in row:
            return
        step = int(row["epoch"]) + 1
        if step not in self._told:  # told before the process was killed
            self._trial.report(float(row[self._column]), step)
        self.behind = bool(self._trial.should_prune())


@contextmanager
def turn(folder: Path) -> Iterator[None]:
    """Wait until no other process chooses a trial or keeps a model; file systems without locks do not wait."""
    with (folder / TURN_FILE).open("a") as file:
        with suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def state_of(trial: FrozenTrial) -> str:
    """complete, pruned, diverged, failed or running."""
    if trial.state == TrialState.PRUNED:
        return "diverged" if PROBLEM in trial.user_attrs else "pruned"
    return {TrialState.COMPLETE: "complete", TrialState.FAIL: "failed"}.get(trial.state, "running")


def yaml_text(settings: JobSettings) -> str:
    """For `rutile train`; where metrics go is left to it."""
    kept = settings.model_dump(mode="json", exclude={"tensorboard"})
    return str(yaml.safe_dump(kept, sort_keys=False, allow_unicode=True))


def _suggest(trial: Trial, d: Dimension) -> Any:
    """The value of one setting in a trial."""
    if d.choices:
        label = trial.suggest_categorical(d.key, d.labels)
        return d.choices[d.labels.index(label)]
    if d.whole:
        return trial.suggest_int(d.key, int(d.low), int(d.high), log=d.log)
    return trial.suggest_float(d.key, d.low, d.high, log=d.log)


def _different(old: dict[str, Any], new: dict[str, Any]) -> str:
    """Which settings differ, in words."""
    a, b = flat(old), flat(new)
    return "; ".join(f"{k} was {a.get(k)!r}, now {b.get(k)!r}" for k in sorted(a | b) if a.get(k) != b.get(k))
