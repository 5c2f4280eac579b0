"""The optimizers by name, all from torch.optim, with their state as plain tensors and JSON values."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer as TorchOptimizer

from rutile.train import settings as s


class Optimizer:
    """One or several torch optimizers that together hold all parameters.

    Args:
        parts: the torch optimizers; the learning rate of each group now is its first one.
        full_batch: one step sees all structures.
    """

    def __init__(self, parts: list[TorchOptimizer], *, full_batch: bool = False) -> None:
        self.parts, self.full_batch = parts, full_batch
        self._first = [[group["lr"] for group in part.param_groups] for part in parts]

    def set_factor(self, factor: float) -> None:
        """Set the learning rates to a factor of the first ones."""
        for part, first in zip(self.parts, self._first, strict=True):
            for group, lr in zip(part.param_groups, first, strict=True):
                group["lr"] = lr * factor

    @property
    def learning_rate(self) -> float:
        """Of the first group, now."""
        return float(self.parts[0].param_groups[0]["lr"])

    @property
    def parameters(self) -> list[Parameter]:
        """All parameters, in order."""
        return [p for part in self.parts for group in part.param_groups for p in group["params"]]

    def step(self, closure: Callable[[], float]) -> float:
        """One step; `closure` clears and fills the gradients and returns the loss (of its first call, returned)."""
        first: list[float] = []

        def remembered() -> float:
            value = closure()
            first.append(value)
            return value

        if self.full_batch:
            for part in self.parts:
                part.step(remembered)
        else:
            remembered()
            for part in self.parts:
                part.step()
        return first[0]

    def state(self) -> list[dict[str, Any]]:
        """State of every parameter and the groups' options, as nested plain values and tensors."""
        out = []
        for part in self.parts:
            groups = [{k: v for k, v in group.items() if k != "params"} for group in part.param_groups]
            params = [p for group in part.param_groups for p in group["params"]]
            out.append({"groups": groups, "state": [dict(part.state.get(p, {})) for p in params]})
        return out

    def restore(self, saved: list[dict[str, Any]]) -> None:
        """Go on from `state()`, bit for bit (torch's own load_state_dict would change some precisions).

        What was on another device comes to that of the parameter; counts of steps stay on the CPU, where torch wants
        them, unless the kernel that updates all parameters at once reads them.
        """
        for part, one in zip(self.parts, saved, strict=True):
            for group, options in zip(part.param_groups, one["groups"], strict=True):
                group.update(options)
            params = [(p, group) for group in part.param_groups for p in group["params"]]
            part.state.clear()
            for (p, group), values in zip(params, one["state"], strict=True):
                host = not (group.get("fused") or group.get("capturable"))
                if values:
                    part.state[p] = {k: v if host and k == "step" else _placed(v, p.device) for k, v in values.items()}


def _placed(value: Any, device: torch.device) -> Any:
    """A tensor, or a list that may hold some, on a device; anything else as it is."""
    if isinstance(value, list):
        return [_placed(v, device) for v in value]
    return value.to(device) if isinstance(value, Tensor) else value


_TORCH: dict[str, type[TorchOptimizer]] = {
    "adadelta": torch.optim.Adadelta,
    "adam": torch.optim.Adam,
    "adamax": torch.optim.Adamax,
    "adamw": torch.optim.AdamW,
    "asgd": torch.optim.ASGD,
    "lbfgs": torch.optim.LBFGS,
    "muon": torch.optim.Muon,
    "rmsprop": torch.optim.RMSprop,
    "rprop": torch.optim.Rprop,
    "sgd": torch.optim.SGD,
}
"""Class of each."""
_FUSED = ("adam", "adamw", "sgd")
"""Those with a kernel that updates all parameters at once."""


def make_optimizer(settings: s.OptimizerSettings, parameters: Iterable[Parameter]) -> Optimizer:
    """The optimizer that the settings name, over all parameters that want a gradient."""
    params = [p for p in parameters if p.requires_grad]
    if isinstance(settings, s.Lbfgs):
        return Optimizer([_lbfgs(settings, params)], full_batch=True)
    if isinstance(settings, s.Rprop):
        return Optimizer([_rprop(settings, params)], full_batch=True)
    if isinstance(settings, s.Muon):
        return Optimizer(_muon(settings, params))
    options: dict[str, Any] = settings.model_dump(exclude={"name", "learning_rate", "beta1", "beta2"})
    if isinstance(settings, s.Adam | s.AdamW | s.Adamax):
        options["betas"] = (settings.beta1, settings.beta2)
    if settings.name in _FUSED:
        options["fused"] = True
    return Optimizer([_plain(settings.name)(params, lr=settings.learning_rate, **options)])


@cache
def _plain(name: str) -> Callable[..., TorchOptimizer]:
    """The same optimizer without what only `torch.compile` needs around it, for which torch imports its compiler.

    That import is half of the time in which a training starts. The functions inside are those of torch.
    """
    kind = _TORCH[name]
    inner = {method: inspect.unwrap(getattr(kind, method)) for method in ("step", "add_param_group")}
    return type(kind.__name__, (kind,), {method: torch.no_grad()(function) for method, function in inner.items()})


def _rprop(settings: s.Rprop, params: list[Parameter]) -> TorchOptimizer:
    etas, sizes = (settings.shrink, settings.grow), (settings.smallest, settings.largest)
    return _plain("rprop")(params, settings.learning_rate, etas, sizes)


def _lbfgs(settings: s.Lbfgs, params: list[Parameter]) -> TorchOptimizer:
    return _plain("lbfgs")(
        params,
        settings.learning_rate,
        max_iter=settings.iterations,
        tolerance_grad=0.0,
        tolerance_change=0.0,
        history_size=settings.history,
        line_search_fn="strong_wolfe",
    )


def _muon(settings: s.Muon, params: list[Parameter]) -> list[TorchOptimizer]:
    """Muon for matrices that are not narrow, AdamW for the rest; either may be empty."""
    wide = [p.ndim == 2 and min(p.shape) >= settings.narrowest for p in params]
    matrices = [p for p, yes in zip(params, wide, strict=True) if yes]
    others = [p for p, yes in zip(params, wide, strict=True) if not yes]
    parts: list[TorchOptimizer] = []
    if matrices:
        parts.append(
            _plain("muon")(
                matrices, settings.learning_rate, weight_decay=settings.weight_decay, momentum=settings.momentum
            )
        )
    if others:
        decay = settings.weight_decay
        parts.append(_plain("adamw")(others, settings.other_learning_rate, weight_decay=decay, fused=True))
    return parts


class WeightAverage:
    """Exponential moving average of the parameters: a <- a + (1 - d) (w - a), with d = min(decay, (1+n)/(10+n)).

    The smaller first decays let the average forget the random start.
    """

    def __init__(self, parameters: list[Parameter], decay: float) -> None:
        self.parameters, self.decay, self.steps = parameters, decay, 0
        self.average: list[Tensor] = [p.detach().clone() for p in parameters]

    def update(self) -> None:
        """Take in the parameters after a step."""
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        with torch.no_grad():
            torch._foreach_lerp_(self.average, [p.detach() for p in self.parameters], 1 - decay)

    def swap(self) -> None:
        """Exchange the parameters and their average; a second call changes them back."""
        with torch.no_grad():
            for p, a in zip(self.parameters, self.average, strict=True):
                kept = p.detach().clone()
                p.copy_(a)
                a.copy_(kept)
