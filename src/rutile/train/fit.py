"""THE training loop: one for every potential.

for each epoch: for each batch: predict, loss of each structure, weights, backward, step, average
                validate, remember the best, adapt the learning rate, write metrics
at any step:    checkpoint, stop when asked, go on later bit for bit
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rutile.core.errors import FileError, SettingsError, TrainingError
from rutile.core.files import write_atomically
from rutile.core.reporting import Reporter
from rutile.core.seeds import integer
from rutile.data.batches import BatchSampler, alike
from rutile.potentials.parts.dense import require_products
from rutile.train.checkpoint import CHECKPOINT_FILE, read_checkpoint, write_checkpoint
from rutile.train.compiled import compiled_training
from rutile.train.early import Best
from rutile.train.examples import DTYPES, Examples
from rutile.train.gradient import Gradient, named
from rutile.train.identity import WATCHING, require_same, said
from rutile.train.loader import AHEAD, Loader
from rutile.train.log import MetricsLog
from rutile.train.loggers import Row
from rutile.train.loss import RunningErrors, errors, prefactors, structure_losses
from rutile.train.optimizers import WeightAverage, make_optimizer
from rutile.train.parallel import Alone, Said, or_problem, team
from rutile.train.reweight import Reweighter, Uniform, as_table, make_reweighter
from rutile.train.schedule import make_schedule
from rutile.train.settings import WEIGHTS_FILE, TrainSettings

TIMINGS = frozenset(
    {"train_seconds", "valid_seconds", "seconds", "structures_per_second", "atoms_per_second", "loader_wait"}
)
"""Columns of metrics.csv that differ from run to run; all others are equal where settings and data are."""
CHUNK = 64
"""Structures that full-batch optimizers look at together; changes memory, not results."""


@dataclass(frozen=True)
class FitResult:
    """What a training came to; the potential holds the weights that `keep` asks for."""

    stopped: str
    """Why it ended: "epochs", "patience", "time", or the name of a signal."""
    epochs: int
    """Complete epochs."""
    steps: int
    """Optimizer steps."""
    seconds: float
    """Time of the loop, earlier parts of a resumed run included."""
    best_epoch: int
    """Epoch of the best validation."""
    best_score: float
    """Its validation loss with the limit prefactors."""
    history: list[Row]
    """Rows of metrics.csv."""


def fit(
    potential: torch.nn.Module,
    train: Examples,
    valid: Examples,
    settings: TrainSettings,
    folder: Path,
    reporter: Reporter,
    *,
    resume: bool = False,
    identity: dict[str, Any] | None = None,
    reweighter: Reweighter | None = None,
    stop: Callable[[], str | None] | None = None,
) -> FitResult:
    """Train until the epochs, the patience or the time are over, or `stop` says so.

    Args:
        potential: is changed in place and ends with the weights that `settings.keep` names (averaged ones with `ema`).
        train: structures to learn from.
        valid: structures that choose the best weights; if empty, the training structures do.
        settings: how.
        folder: of the run, must exist; gets checkpoint and metrics.
        reporter: sees one row for each epoch.
        resume: go on from the folder's checkpoint.
        identity: what else must be equal for a run to go on (data, architecture), as JSON values.
        reweighter: weights of structures from their losses; default: as the settings ask.
        stop: asked after each step; a string ends the run there, with a checkpoint.

    Raises:
        TrainingError: a loss or gradient is not finite (names structures; the last checkpoint stays), or no data.
        SettingsError: `resume` with other settings than the checkpoint's, or the potential has no parameters.
        FileError: the folder cannot be written or read.
    """
    if len(train) == 0:
        raise TrainingError("no structures to train on: the split or force_limit left none")
    if not any(p.requires_grad for p in potential.parameters()):
        name = getattr(potential, "name", type(potential).__name__)
        raise SettingsError(f"the potential {name!r} has nothing to train: make it a term of a sum with one that has")
    ranks = team()
    device = ranks.place(settings.device)
    require_products(potential, settings.matmul, device)
    potential.to(dtype=DTYPES[settings.precision], device=device)
    reweighter = reweighter or make_reweighter(settings.reweight, len(train))
    ranks.begin(potential)
    with ranks.together():
        run = _Run(potential, train, valid, settings, folder, reporter, identity or {}, reweighter, ranks)
        if resume:
            run.restore()
        elif run.path.exists():
            raise FileError(f"{run.path} exists: resume that run, or choose another output folder")
    with compiled_training(potential, train, settings, reporter):
        return run.go(stop or (lambda: None))


class _Run:
    """State of one training."""

    def __init__(
        self,
        potential: torch.nn.Module,
        train: Examples,
        valid: Examples,
        settings: TrainSettings,
        folder: Path,
        reporter: Reporter,
        identity: dict[str, Any],
        reweighter: Reweighter,
        ranks: Alone,
    ) -> None:
        self.team = ranks
        self.potential, self.train, self.settings, self.reporter = potential, train, settings, reporter
        self.valid = valid if len(valid) else train
        self.folder, self.path = folder, folder / CHECKPOINT_FILE
        self.identity = identity | {"train": said(settings)}
        self.reweighter = reweighter
        self.optimizer = make_optimizer(settings.optimizer, potential.parameters())
        self.parameters = self.optimizer.parameters
        self.average = WeightAverage(self.parameters, settings.ema) if settings.ema else None
        self.device = self.parameters[0].device
        self.best = Best(settings.patience)
        self.sampler = self._sampler(train, integer(settings.seed, "batches"))
        self.checks = self._sampler(self.valid, 0).in_order()
        self.per_epoch = 1 if self.optimizer.full_batch else len(self.sampler.epoch(0))
        self.loader = Loader(train, ahead=0 if self.optimizer.full_batch else AHEAD)
        self.schedule = make_schedule(settings.schedule, settings.epochs * self.per_epoch, settings.warmup)
        self.epoch = self.position = self.step = 0
        self.pieces = 1
        self.seconds = 0.0
        self.gradient = Gradient(potential, self.parameters, train, settings, self.loader, self.reweighter, self._blame)
        self.history: list[Row] = []

    def _sampler(self, examples: Examples, seed: int) -> BatchSampler:
        s = self.settings
        if s.batch_edges:
            return BatchSampler(examples.costs, edges=s.batch_edges, seed=seed)
        return BatchSampler(examples.sizes, per_batch=CHUNK if self.optimizer.full_batch else s.batch_size, seed=seed)

    def go(self, stop: Callable[[], str | None]) -> FitResult:
        """Run to the end; see `fit`."""
        try:
            with self._log() as self.log:
                reason = self._go(stop)
        except FileError as error:
            kept = f"; {self.path} is kept: then the same command goes on from there" if self.path.exists() else ""
            raise FileError(f"{error}{kept}") from None
        self._keep()
        table = as_table(self.reweighter, self.train.source) if self.team.first else None
        if table is not None:
            write_atomically(self.folder / WEIGHTS_FILE, table)
        return FitResult(
            reason, self.epoch, self.step, self.seconds, self.best.epoch, self.best.score, list(self.history)
        )

    def _log(self) -> AbstractContextManager[MetricsLog | None]:
        if not self.team.first:
            return nullcontext()
        return MetricsLog(self.folder, self.history, self.settings, self.reporter, self._config())

    def _go(self, stop: Callable[[], str | None]) -> str:
        """The loop; why it ended."""
        began = saved = time.monotonic()
        self.zero = began - self.seconds
        self.save()
        reason = self._finished()
        while reason is None:
            steps = self._steps()[self.position :]
            end = self.position + len(steps)
            with closing(self.loader.steps(self._mine(whole) for whole in steps)) as ready:
                label = f"epoch {self.epoch + 1} of {self.settings.epochs}"
                tracked = self.reporter.track(or_problem(ready), label, len(steps))
                for whole, group in zip(steps, tracked, strict=True):
                    self._step(whole, group)
                    now = time.monotonic()
                    self.seconds = now - self.zero
                    due = now - saved >= self.settings.checkpoint_seconds
                    said = Said(stop() or self._time_over(now - began), due, self.pieces * self.gradient.pieces)
                    reason, due, pieces = self.team.agree(said)
                    if reason is not None or due:
                        self.save()
                        saved = now
                    if reason is not None or self._needs_smaller(pieces):
                        break
            if reason is None and self.position == end:
                self._end_epoch()
                reason = self._finished()
        self.save()
        self.train.keep()
        return reason

    def _needs_smaller(self, pieces: int) -> bool:
        """Whether memory was short in this step, in any process; what follows is then computed in more parts."""
        if pieces == self.pieces:
            return False
        self.reporter.warn(
            f"step {self.step}: memory is short; batches are computed in {self.settings.accumulate * pieces} parts "
            "from now on (accumulate=...), with the same result"
        )
        self.pieces = pieces
        return True

    def _finished(self) -> str | None:
        if self.epoch >= self.settings.epochs:
            return "epochs"
        return "patience" if self.best.exhausted else None

    def _time_over(self, seconds: float) -> str | None:
        limit = self.settings.max_seconds
        return "time" if limit is not None and seconds >= limit else None

    def _steps(self) -> list[list[np.ndarray]]:
        """Batches of each step of this epoch; several only for a full-batch optimizer."""
        if self.optimizer.full_batch:
            return [self.sampler.in_order()]
        return [[ids] for ids in self.sampler.epoch(self.epoch)]

    def _mine(self, whole: list[np.ndarray]) -> list[np.ndarray]:
        """What this process computes of the batches of a step, in parts."""
        shares = (self.team.share(ids, lambda: self.train.costs) for ids in whole)
        return [part for ids in shares if len(ids) for part in self._parts(ids)]

    def _parts(self, ids: np.ndarray) -> list[np.ndarray]:
        """One batch, in as many parts as asked for; structures of few and of many neighbours apart where cheaper."""
        accumulate = 1 if self.optimizer.full_batch else self.settings.accumulate
        parts = np.array_split(ids, min(accumulate * self.pieces, len(ids)))
        if self.optimizer.full_batch:
            return parts
        if self.settings.batch_edges is None or not getattr(self.potential, "pads_neighbours", False):
            return parts
        return [part[some] for part in parts for some in alike(self.train.sizes[part], self.train.costs[part])]

    def _total_weight(self, group: list[np.ndarray]) -> float:
        """What the weights of a step's structures are divided by: their sum, or with a budget of edges its mean.

        Such a budget puts one large structure or many small ones into a step; divided by the mean, all count alike.
        """
        if self.settings.batch_edges is not None and not self.optimizer.full_batch:
            return float(self.train.weights.sum()) / self.per_epoch
        return float(sum(self.train.weights[torch.from_numpy(ids)].sum() for ids in group))

    def _step(self, whole: list[np.ndarray], group: list[np.ndarray] | Exception) -> None:
        """One optimizer step: all its batches, and this process's parts of them or why there are none."""
        factor = self.schedule.factor(self.step)
        self.optimizer.set_factor(factor)
        p = prefactors(self.settings.loss, factor)
        total = self._total_weight(whole)
        everything = np.concatenate(whole)
        calls, self.gradient.pieces = 0, 1

        def closure() -> float:
            nonlocal calls
            calls += 1
            loss, problem = 0.0, None
            try:
                loss = self.gradient(group, p, total, self.step, count=calls == 1)
            except Exception as error:
                problem = error
            loss = self.team.sum_gradients(self.parameters, loss, problem)
            clip = self.settings.clip_norm
            norm = torch.nn.utils.clip_grad_norm_(self.parameters, float("inf") if clip is None else clip)
            if not bool(torch.isfinite(norm)):
                raise TrainingError(self._blame(everything, "gradient"))
            return loss

        self.optimizer.step(closure)
        if not isinstance(self.reweighter, Uniform):
            self.reweighter.observe(*self.team.assemble(everything, *self.gradient.last_losses()))
        if self.average is not None:
            self.average.update()
        self.step += 1
        self.position += 1

    def _blame(self, ids: np.ndarray, what: str, examples: Examples | None = None) -> str:
        """Message that names structures."""
        return (
            f"{what} is not finite in epoch {self.epoch}, step {self.step}, for "
            f"{named(examples or self.train, ids)}; "
            f"the last good state is kept in {self.path}: check these structures, or lower the learning rate, "
            "or set clip_norm"
        )

    def _end_epoch(self) -> None:
        """Validate, write metrics, begin the next epoch."""
        row: Row = {"epoch": self.epoch, "step": self.step, "learning_rate": self.optimizer.learning_rate}
        row |= self._prefactors() | dict(self._summed(self.gradient.running).row("train"))
        timings = self._timings()
        self._name_suspects(self.reweighter.end_epoch())
        last = self.epoch + 1 == self.settings.epochs
        by_mode: Row = {}
        if (self.epoch + 1) % self.settings.validate_every == 0 or last:
            overall, by_mode = self._validate()
            row |= overall
        trained, self.seconds = self.seconds, time.monotonic() - self.zero
        row |= timings | {"valid_seconds": self.seconds - trained, "seconds": round(self.seconds, 3)}
        if (waited := self.loader.wait()) is not None:
            row["loader_wait"] = round(waited, 4)
        self.reporter.metrics(row | {"epochs": self.settings.epochs, "seconds_left": self._seconds_left()})
        self.history.append(row | by_mode)
        if self.log is not None:
            self.log.add(row | by_mode)
        self.epoch, self.position = self.epoch + 1, 0
        self.gradient.running = RunningErrors.zero(self.device)

    def _config(self) -> dict[str, Any]:
        """What loggers show beside the curves: all settings."""
        return self.identity | {"train": self.settings.model_dump(mode="json", exclude=WATCHING)}

    def _prefactors(self) -> Row:
        """Weights of the active terms of the loss at the last step."""
        p = prefactors(self.settings.loss, self.schedule.factor(max(self.step - 1, 0)))
        found = {"energy": p.energy, "force": p.force, "virial": p.virial}
        return {f"prefactor_{name}": weight for name, weight in found.items() if weight}

    def _timings(self) -> Row:
        """Seconds of the steps of this epoch, and how many structures and atoms they took in a second."""
        seconds = max(self.seconds - (float(self.history[-1]["seconds"]) if self.history else 0.0), 1e-6)
        atoms = float(self.train.sizes.sum())
        per_second = {"structures_per_second": len(self.train) / seconds, "atoms_per_second": atoms / seconds}
        return {"train_seconds": seconds, **per_second}

    def _seconds_left(self) -> float:
        """Time that the remaining epochs will take, at the pace of the last ten, or until the time is over."""
        recent = [0.0, *(float(row["seconds"]) for row in self.history), self.seconds][-11:]
        pace = (recent[-1] - recent[0]) / (len(recent) - 1)
        left = pace * (self.settings.epochs - self.epoch - 1)
        return left if self.settings.max_seconds is None else min(left, self.settings.max_seconds - self.seconds)

    def _name_suspects(self, ids: Tensor) -> None:
        """Say which structures have losses so large that their labels may be wrong."""
        if len(ids):
            self.reporter.warn(
                f"epoch {self.epoch}: loss above {self.settings.reweight.suspect:g} medians for "
                f"{named(self.train, ids.numpy())}: look at their labels (they keep a weight of 1 instead of FL_i)"
            )

    def _validate(self) -> tuple[Row, Row]:
        """Errors with the weights that would be saved, of all and of each calc mode; remembers the best."""
        if self.average is not None:
            self.average.swap()
        running = RunningErrors.zero(self.device)
        modes = sorted(set(self.valid.modes.tolist()))
        by_mode = {mode: RunningErrors.zero(self.device) for mode in modes} if len(modes) > 1 else {}
        p = prefactors(self.settings.loss, 0.0)
        with self.team.together():
            for ids in self._mine_to_check():
                labelled, predict = self.valid.batch(ids)
                e = errors(predict(False), labelled)
                losses = structure_losses(e, p, self.settings.loss)
                if not bool(torch.isfinite(losses).all()):
                    bad = ids[~torch.isfinite(losses).cpu().numpy()]
                    raise TrainingError(self._blame(bad, "validation loss", self.valid))
                running.add(e, labelled, losses)
                for mode, its_own in by_mode.items():
                    its = torch.from_numpy(self.valid.modes[ids] == mode).to(self.device)
                    its_own.add_some(its, e, labelled, losses)
        running = self._summed(running)
        by_mode = {mode: self._summed(its_own) for mode, its_own in by_mode.items()}
        row = running.row("valid")
        self.best.observe(row["valid_loss"], self.epoch, self.parameters)
        if self.average is not None:
            self.average.swap()
        self.schedule.observe(row["valid_loss"])
        return dict(row), {k: v for mode, one in by_mode.items() for k, v in one.row(f"valid_{mode}").items()}

    def _mine_to_check(self) -> Iterator[np.ndarray]:
        """Batches of validation structures that this process predicts."""
        for ids in self.checks[self.team.rank :: self.team.size]:
            yield from np.array_split(ids, min(self.pieces, len(ids)))

    def _summed(self, running: RunningErrors) -> RunningErrors:
        """Of all processes."""
        return RunningErrors(*self.team.sum(running.sums, running.counts))

    def _keep(self) -> None:
        """Give the potential the best weights, or the last ones."""
        if self.best.weights and self.settings.keep == "best":
            _copy(self.parameters, self.best.weights)
        elif self.average is not None:
            _copy(self.parameters, self.average.average)

    def save(self) -> None:
        """Write the checkpoint.

        Raises:
            TrainingError: a weight is not finite; the checkpoint before stays.
            FileError: it cannot be written; the checkpoint before stays.
        """
        if not all(bool(torch.isfinite(p).all()) for p in self.parameters):
            raise TrainingError(
                f"weights are not finite after step {self.step}; the state before is kept in {self.path}: lower the "
                "learning rate, or set clip_norm"
            )
        average = self.average
        running = self._summed(self.gradient.running)
        with self.team.together():
            if not self.team.first:
                return
            state = {
                "identity": self.identity,
                "epoch": self.epoch,
                "position": self.position,
                "step": self.step,
                "seconds": self.seconds,
                "potential": dict(self.potential.state_dict()),
                "optimizer": self.optimizer.state(),
                "schedule": self.schedule.state(),
                "average": None if average is None else {"steps": average.steps, "weights": average.average},
                "best": self.best.state(),
                "reweighter": self.reweighter.state(),
                "running": [running.sums, running.counts],
                "history": self.history,
                "rng": torch.get_rng_state(),
            }
            write_checkpoint(self.path, state)

    def restore(self) -> None:
        """Read the checkpoint."""
        state = read_checkpoint(self.path)
        require_same(state["identity"], self.identity, self.path)
        self.epoch, self.position, self.step = state["epoch"], state["position"], state["step"]
        self.seconds, self.history = state["seconds"], state["history"]
        self.potential.load_state_dict(state["potential"])
        self.optimizer.restore(state["optimizer"])
        self.schedule.restore(state["schedule"])
        if self.average is not None:
            self.average.steps = state["average"]["steps"]
            self.average.average = [w.to(self.device) for w in state["average"]["weights"]]
        self.best.restore(state["best"], self.device)
        self.reweighter.restore(state["reweighter"])
        if self.team.first:
            self.gradient.running = RunningErrors(*(x.to(self.device) for x in state["running"]))
        torch.set_rng_state(state["rng"])


def _copy(parameters: list[torch.nn.Parameter], values: list[Tensor]) -> None:
    with torch.no_grad():
        for parameter, value in zip(parameters, values, strict=True):
            parameter.copy_(value)
