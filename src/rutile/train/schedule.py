"""Learning rate as a function of the step, as a factor of its first value.

DeePMD-kit's conventions (doc/train/learning-rate.md of deepmd-kit, LGPL; formulas only): stepped decay
lr = lr0 d^floor((t - t_w)/d_s), smooth without the floor, d = stop^(d_s/(T - t_w)) when not given, linear warm-up
over t_w steps. t counts optimizer steps from 0, T is their planned total.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

from rutile.train.settings import Constant, Cosine, Exponential, Plateau, ScheduleSettings


class Schedule(Protocol):
    """lr(t) / lr0."""

    def factor(self, step: int) -> float:
        """Factor of the first learning rate at a step (0, 1, ...)."""
        ...

    def observe(self, score: float) -> None:
        """Hear of a validation score (lower is better)."""
        ...

    def state(self) -> dict[str, Any]:
        """What is needed to go on, as JSON values."""
        ...

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from `state()`."""
        ...


class _Stateless:
    """A schedule that only looks at the step."""

    def observe(self, score: float) -> None:
        """Ignore it."""

    def state(self) -> dict[str, Any]:
        """Nothing."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Nothing."""


class ConstantSchedule(_Stateless):
    """Factor 1."""

    def factor(self, step: int) -> float:
        """1."""
        del step
        return 1.0


@dataclass
class ExponentialSchedule(_Stateless):
    """rate^floor(t/steps), without the floor if smooth."""

    rate: float
    steps: int
    smooth: bool

    def factor(self, step: int) -> float:
        """Factor at a step."""
        x = step / self.steps
        return float(self.rate ** (x if self.smooth else math.floor(x)))


@dataclass
class CosineSchedule(_Stateless):
    """Half a cosine from 1 to stop."""

    total: int
    stop: float

    def factor(self, step: int) -> float:
        """Factor at a step."""
        x = min(step / self.total, 1.0)
        return self.stop + (1 - self.stop) * 0.5 * (1 + math.cos(math.pi * x))


@dataclass
class PlateauSchedule:
    """Lower the factor after `patience` scores that were not better."""

    settings: Plateau
    now: float = 1.0
    best: float = math.inf
    waited: int = 0

    def factor(self, step: int) -> float:
        """The factor now."""
        del step
        return self.now

    def observe(self, score: float) -> None:
        """Count scores without progress and lower the factor."""
        if score < self.best * (1 - self.settings.threshold):
            self.best, self.waited = score, 0
            return
        self.waited += 1
        if self.waited >= self.settings.patience:
            self.now, self.waited = max(self.now * self.settings.factor, self.settings.stop), 0

    def state(self) -> dict[str, Any]:
        """Factor, best score and count."""
        return {"now": self.now, "best": self.best, "waited": self.waited}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from `state()`."""
        self.now, self.best, self.waited = state["now"], state["best"], state["waited"]


@dataclass
class WarmUp:
    """A linear rise from 0 over the first `steps`, then another schedule, whose steps begin at its end."""

    inner: Schedule
    steps: int

    def factor(self, step: int) -> float:
        """Factor at a step."""
        return step / self.steps if step < self.steps else self.inner.factor(step - self.steps)

    def observe(self, score: float) -> None:
        """Pass it on."""
        self.inner.observe(score)

    def state(self) -> dict[str, Any]:
        """Of the inner schedule."""
        return self.inner.state()

    def restore(self, state: dict[str, Any]) -> None:
        """The inner schedule."""
        self.inner.restore(state)


def make_schedule(settings: ScheduleSettings, total_steps: int, warmup: int = 0) -> Schedule:
    """The schedule of a training of `total_steps` optimizer steps, of which `warmup` rise."""
    remaining = max(total_steps - warmup, 1)
    schedule: Schedule
    match settings:
        case Constant():
            schedule = ConstantSchedule()
        case Exponential():
            steps = settings.steps or max(remaining // 100, 1)
            rate = settings.rate or settings.stop ** (steps / remaining)
            schedule = ExponentialSchedule(rate, steps, settings.smooth)
        case Cosine():
            schedule = CosineSchedule(remaining, settings.stop)
        case Plateau():
            schedule = PlateauSchedule(settings)
    return WarmUp(schedule, warmup) if warmup else schedule
