"""Which optimizer suits? Each with the same data, first weights and passes, at the learning rate that suits it best.

    for each optimizer: rates in half decades around the usual one, a part of the passes, one seed
                        the best of them and its neighbours, all passes, the same seed
                        the best of these, all passes, the other seeds

More rates are tried while the best one is outermost, and the next best is taken where a seed diverges at the best one.

The budget is counted in gradient evaluations: a pass is one gradient of every training structure. An epoch of batches
is a pass; a step of L-BFGS takes as many passes as its line searches need, and one that would go beyond the budget does
not count. Every finished run is kept in `runs.json`; a run that was cut off goes on from its checkpoint.
"""

from __future__ import annotations

import copy
import json
import math
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from torch import Tensor

from rutile.core.errors import FileError, SettingsError, TrainingError
from rutile.core.files import write_atomically
from rutile.core.reporting import Reporter, SilentReporter
from rutile.core.settings import Result
from rutile.data.frames import Labelled
from rutile.train import settings as s
from rutile.train.checkpoint import CHECKPOINT_FILE, read_checkpoint
from rutile.train.contestants import CONTESTANTS, Contestant, rate_of
from rutile.train.examples import Examples, Predict
from rutile.train.fit import fit
from rutile.train.job import Job
from rutile.train.loggers import flat
from rutile.train.settings import TrainSettings

RUNS_FILE, NOW, PASSES_FILE = "runs.json", "now", "passes.json"
"""The finished runs; folder of the run that is being made, and in it the passes that its steps took."""
WIDEST = 6
"""Rates that are added at most where the best one is outermost."""
VALIDATIONS = 5
"""L-BFGS is validated so often at least, where its budget allows: its steps take no more iterations than that."""


class Stopped(Exception):
    """A signal asked to stop; the text is its name."""


class Run(Result):
    """One training."""

    optimizer: str
    """Which."""
    half_decades: int
    """Its learning rate is 10^(half_decades/2)."""
    seed: int
    """Of first weights and order."""
    passes: int
    """The budget: gradients of every training structure."""
    at: list[float]
    """Passes at each validation."""
    losses: list[float]
    """Validation losses."""
    energy_rmse: float | None = None
    """At the best validation (eV/atom)."""
    force_rmse: float | None = None
    """At the best validation (eV/Å)."""
    steps: int = 0
    """Optimizer steps."""
    seconds: float = 0.0
    """Time in the training loop."""
    cpu_seconds: float = 0.0
    """Processor time of all threads."""
    problem: str = ""
    """Why it broke off: a loss or gradient that was not finite; empty where it did not."""

    @property
    def best(self) -> float:
        """Lowest validation loss; infinite where the run diverged."""
        return min(self.losses, default=math.inf) if not self.problem else math.inf

    @property
    def learning_rate(self) -> float:
        """At the start."""
        return rate_of(self.half_decades)

    def reached(self, target: float) -> float | None:
        """Passes until the validation loss is first at or below a target."""
        return next((x for x, y in zip(self.at, self.losses, strict=True) if y <= target), None)


@dataclass(frozen=True)
class Plan:
    """How much is tried."""

    passes: int
    """Of each run."""
    screening: int
    """Of the first look at each rate."""
    rates: int
    """Tried first, around the usual one."""
    seeds: Sequence[int]
    """Of the best rate; the first one also tunes."""


@dataclass(frozen=True)
class Outcome:
    """What is known of an optimizer."""

    name: str
    """Which."""
    tried: list[Run]
    """Every run of it."""
    final: list[Run]
    """Those at the chosen rate with all passes, one for each seed; none where every rate diverged."""

    @property
    def loss(self) -> float:
        """Median over the seeds of the lowest validation loss."""
        return median(run.best for run in self.final) if self.final else math.inf

    def reached(self, target: float) -> float | None:
        """Median over the seeds of the passes to a target; None: not reached by half of them."""
        at = [run.reached(target) for run in self.final]
        middle = median(math.inf if x is None else x for x in at) if at else math.inf
        return None if math.isinf(middle) else middle


class Contest:
    """Trains, or looks up what is trained already.

    Args:
        job: data, and one potential for each seed.
        settings: of all runs but for optimizer, passes and seed.
        plan: how much.
        folder: of the comparison; must exist.
        identity: what must be equal for the comparison to go on, as nested JSON values.
        reporter: sees a row for each run.
        stop: asked after each step; a string ends the work with a checkpoint.

    Raises:
        SettingsError: the folder holds a comparison with other settings.
        FileError: its runs cannot be read.
    """

    def __init__(
        self,
        job: Job,
        settings: TrainSettings,
        plan: Plan,
        folder: Path,
        identity: dict[str, Any],
        reporter: Reporter,
        stop: Callable[[], str | None],
    ) -> None:
        self.job, self.settings, self.plan = job, settings, plan
        self.folder, self.path, self.identity = folder, folder / RUNS_FILE, identity
        self.reporter, self.stop = reporter, stop
        self.runs = self._read()

    def hold(self, names: Sequence[str]) -> list[Outcome]:
        """Tune and compare; the best first.

        Raises:
            Stopped: a signal asked for it.
        """
        found = [
            self._tune(CONTESTANTS[name]) for name in self.reporter.track(names, "comparing optimizers", len(names))
        ]
        shutil.rmtree(self.folder / NOW, ignore_errors=True)
        return sorted(found, key=lambda o: o.loss)

    def _tune(self, who: Contestant) -> Outcome:
        """The best rate of one optimizer, and its runs."""
        plan, seed = self.plan, self.plan.seeds[0]
        low = who.usual - plan.rates // 2
        looks = {k: self._run(who, k, seed, plan.screening) for k in range(low, low + plan.rates)}
        self._climb(who, looks, plan.screening)
        whole: dict[int, Run] = {}
        start = _lowest(looks)
        if looks[start].best < math.inf:
            whole[start] = self._run(who, start, seed, plan.passes)
            self._climb(who, whole, plan.passes)
        final = self._with_all_seeds(who, whole)
        tried = [run for run in self.runs if run.optimizer == who.name and run.passes in (plan.screening, plan.passes)]
        return Outcome(who.name, [run for run in tried if run.seed in plan.seeds], final)

    def _with_all_seeds(self, who: Contestant, whole: dict[int, Run]) -> list[Run]:
        """Runs of the best rate at which no seed diverges; none where there is no such rate.

        Args:
            who: the optimizer.
            whole: runs of the first seed with all passes by rate.
        """
        for rate in sorted(whole, key=lambda k: (whole[k].best, k)):
            final = [whole[rate]]
            for seed in self.plan.seeds[1:]:
                if math.isfinite(final[-1].best):
                    final.append(self._run(who, rate, seed, self.plan.passes))
            if math.isfinite(final[-1].best):
                return final
        return []

    def _climb(self, who: Contestant, known: dict[int, Run], passes: int) -> None:
        """Try the neighbours of the best rate, until it has worse ones on both sides; lower ones where all diverged."""
        for _ in range(WIDEST):
            best = _lowest(known)
            beside = (best - 1, best + 1) if known[best].best < math.inf else (min(known) - 1,)
            missing = [k for k in beside if k not in known]
            if not missing:
                break
            known[missing[0]] = self._run(who, missing[0], self.plan.seeds[0], passes)

    def _run(self, who: Contestant, half_decades: int, seed: int, passes: int) -> Run:
        """One training, if it is not known yet."""
        known = next((r for r in self.runs if key(r) == (who.name, half_decades, seed, passes)), None)
        if known is not None:
            return known
        if reason := self.stop():
            raise Stopped(reason)
        run = self._train(who, half_decades, seed, passes)
        self.runs.append(run)
        self._write()
        self.reporter.metrics({"optimizer": who.name, "rate": run.learning_rate, "passes": passes, "seed": seed,
                               "loss": run.best, "seconds": round(run.seconds, 1)})  # fmt: skip
        return run

    def _train(self, who: Contestant, half_decades: int, seed: int, passes: int) -> Run:
        """Train, or go on with the training that was cut off."""
        folder = self.folder / NOW / f"{who.name}-{half_decades}-{seed}-{passes}"
        resume = (folder / CHECKPOINT_FILE).exists()
        if not resume:
            shutil.rmtree(self.folder / NOW, ignore_errors=True)
            folder.mkdir(parents=True)
        potential = copy.deepcopy(self.job.potentials[list(self.plan.seeds).index(seed)])
        for side in self.job.examples.values():
            side.potential = potential
        train = self.job.examples["train"]
        settings = self._settings(who, half_decades, seed, passes)
        counted = isinstance(settings.optimizer, s.Lbfgs)
        budget = _Budget(train, passes, folder / PASSES_FILE if counted else None, self.stop)
        if resume:
            budget.go_on(int(read_checkpoint(folder / CHECKPOINT_FILE)["step"]))
        run: dict[str, Any] = {"optimizer": who.name, "half_decades": half_decades, "seed": seed, "passes": passes}
        began = time.process_time()
        try:
            done = fit(
                potential, budget.examples, self.job.examples.get("valid", train), settings, folder, SilentReporter(),
                resume=resume, identity=self.identity, stop=budget.stop,
            )  # fmt: skip
        except TrainingError as error:
            return Run(**run, at=[], losses=[], problem=str(error), cpu_seconds=time.process_time() - began)
        if done.stopped.startswith("SIG"):
            raise Stopped(done.stopped)
        rows = [row for row in done.history if "valid_loss" in row]
        best: dict[str, Any] = dict(min(rows, key=lambda row: row["valid_loss"], default={}))
        return Run(
            **run,
            at=[budget.passes_at(int(row["step"]), int(row["epoch"])) for row in rows],
            losses=[float(row["valid_loss"]) for row in rows],
            energy_rmse=best.get("valid_energy_rmse"),
            force_rmse=best.get("valid_force_rmse"),
            steps=done.steps,
            seconds=done.seconds,
            cpu_seconds=time.process_time() - began,
        )

    def _settings(self, who: Contestant, half_decades: int, seed: int, passes: int) -> TrainSettings:
        """Of one run. The rate of L-BFGS, the first trial step of its line searches, does not fall."""
        optimizer = who.at(half_decades)
        changed: dict[str, Any] = {"epochs": passes, "seed": seed, "tensorboard": False}
        if isinstance(optimizer, s.Lbfgs):
            few = min(optimizer.iterations, max(1, passes // VALIDATIONS))
            optimizer = optimizer.model_copy(update={"iterations": few})
            changed |= {"schedule": s.Constant(), "warmup": 0}
        return self.settings.model_copy(update=changed | {"optimizer": optimizer})

    def _read(self) -> list[Run]:
        """The finished runs."""
        if not self.path.exists():
            return []
        try:
            kept = json.loads(self.path.read_text(encoding="utf-8"))
            runs, old = [Run.model_validate(run) for run in kept["runs"]], flat(kept["identity"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            raise FileError(f"{self.path}: cannot read the finished runs; remove it, or choose another out=") from None
        new = flat(json.loads(json.dumps(self.identity)))
        if different := [f"{k} was {old.get(k)!r}, now {new.get(k)!r}" for k in old | new if old.get(k) != new.get(k)]:
            raise SettingsError(
                f"{self.folder} holds another comparison: {'; '.join(different)}. Restore these settings, or choose "
                "another out="
            )
        return runs

    def _write(self) -> None:
        kept = {"identity": self.identity, "runs": [run.model_dump(mode="json") for run in self.runs]}
        write_atomically(self.path, json.dumps(kept).encode())


def _lowest(runs: dict[int, Run]) -> int:
    """The rate with the lowest loss; of equal ones the lowest."""
    return min(runs, key=lambda k: (runs[k].best, k))


def key(run: Run) -> tuple[str, int, int, int]:
    """What makes two runs the same one."""
    return run.optimizer, run.half_decades, run.seed, run.passes


class _Budget:
    """Counts the gradients of a run whose steps take several of them; ends it where they are more than it may take.

    Args:
        examples: of the training.
        passes: it may take.
        path: file that keeps the passes after each step, so that a run can go on; None: every epoch is one pass.
        stop: the other reason to end.
    """

    def __init__(self, examples: Examples, passes: int, path: Path | None, stop: Callable[[], str | None]) -> None:
        self.examples = _Counted(examples)
        self._most, self._path, self._stop = passes, path, stop
        self._after: list[float] = []
        self._before = 0.0

    def go_on(self, steps: int) -> None:
        """After so many steps of an earlier part."""
        if self._path is not None and self._path.exists():
            self._after = json.loads(self._path.read_text(encoding="utf-8"))[:steps]
        self._before = self._after[-1] if self._after else 0.0

    def stop(self) -> str | None:
        """Why to end after this step, if so."""
        if self._path is not None:
            self._after.append(self._before + self.examples.seen / len(self.examples))
            write_atomically(self._path, json.dumps(self._after).encode())
            if self._after[-1] > self._most:
                return "passes"
        return self._stop()

    def passes_at(self, step: int, epoch: int) -> float:
        """Passes after a step, the last one of an epoch that is counted from 0."""
        return float(epoch + 1) if self._path is None else self._after[step - 1]


class _Counted:
    """Examples that count how many structures were asked for."""

    def __init__(self, examples: Examples) -> None:
        self._examples, self.seen = examples, 0
        self.weights: Tensor = examples.weights
        self.sizes: np.ndarray = examples.sizes
        self.modes: np.ndarray = examples.modes

    def __len__(self) -> int:
        return len(self._examples)

    @property
    def costs(self) -> np.ndarray:
        """Neighbour pairs of each structure."""
        return self._examples.costs

    def batch(self, ids: np.ndarray) -> tuple[Labelled, Predict]:
        """Labels of some structures, and the function that predicts them."""
        self.seen += len(ids)
        return self._examples.batch(ids)

    def source(self, i: int) -> str:
        """Where structure i came from."""
        return self._examples.source(i)

    def keep(self) -> None:
        """What was computed on the way."""
        self._examples.keep()
