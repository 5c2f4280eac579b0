"""The space of a search: which settings may vary between which bounds. No search here, and no torch.

optimizer.learning_rate: log:1e-3:1e-1      evenly in its logarithm
reweight.gamma: 0:1                         evenly; whole numbers where the setting is one
potential.hidden: [[15], [15, 15]]          one of these; also written 15,20,30
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rutile.core.config import assign, build, parse_pair
from rutile.core.describe import every_entry
from rutile.core.errors import SettingsError
from rutile.train.settings import JobSettings, Lbfgs, Rprop

FIXED = {
    "data": "it is what is learned", "read": "it changes the data", "split": "it changes the validation structures",
    "seed": "luck is no setting", "references": "they change the labels", "epochs": "trials need the same budget",
    "max_seconds": "trials need the same budget", "validate_every": "trials are compared epoch by epoch",
    "replay": "it changes the data", "replay_fraction": "it changes the data",
}  # fmt: skip
"""Settings that cannot vary, with the reason."""
LOSS = "trials are compared by the validation loss, which depends on it; search loss.energy.start, or set goal=force"
EXAMPLE = "write low:high, log:low:high, or choices a,b,c"
TENFOLD = 10.0
"""The usual space reaches from a tenth to ten times the usual value."""


@dataclass(frozen=True)
class Dimension:
    """One setting that varies."""

    key: str
    """Dotted name."""
    low: float = 0.0
    """Lower bound, where there are no choices."""
    high: float = 0.0
    """Upper bound."""
    log: bool = False
    """Evenly in the logarithm."""
    whole: bool = False
    """Whole numbers only."""
    choices: tuple[Any, ...] = ()
    """JSON values to choose from."""

    @property
    def labels(self) -> list[str | int | float | bool | None]:
        """The choices as plain values: lists and groups as JSON text."""
        return [c if c is None or isinstance(c, str | int | float | bool) else json.dumps(c) for c in self.choices]

    @property
    def extremes(self) -> tuple[Any, ...]:
        """What must be valid."""
        return self.choices or ((int(self.low), int(self.high)) if self.whole else (self.low, self.high))


def read_space(space: Mapping[str, Any], given: Mapping[str, Any], goal: str) -> list[Dimension]:
    """The dimensions of a search.

    Args:
        space: nested or dotted keys -> bounds or choices; empty: learning rate, size of batches, weight of energies.
        given: settings of all trials, as for `JobSettings`.
        goal: what trials are compared by; "loss" fixes the loss.

    Raises:
        SettingsError: a setting is unknown or cannot vary, its bounds cannot be read or are no values of it.
    """
    base = build(JobSettings, dict(copy.deepcopy(given)))
    found = [_dimension(key, value) for key, value in _flat(space)] or _usual(base)
    if twice := {d.key for d in found if sum(d.key == other.key for other in found) > 1}:
        raise SettingsError(f"space.{twice.pop()}: given twice")
    for dimension in found:
        _check(dimension, given, goal)
    return found


def with_values(given: Mapping[str, Any], values: Mapping[str, Any]) -> JobSettings:
    """Settings of one trial.

    Raises:
        SettingsError: they do not fit together.
    """
    tree = dict(copy.deepcopy(given))
    for key, value in values.items():
        assign(tree, JobSettings, key, copy.deepcopy(value))
    return build(JobSettings, tree)


def _flat(space: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Dotted keys, aliases replaced."""
    out: list[tuple[str, Any]] = []
    for name, value in space.items():
        key = prefix + str(name)
        if isinstance(value, Mapping):
            out += _flat(value, key + ".")
        else:
            out.append((JobSettings.ALIASES.get(key, key), value))
    return out


def _dimension(key: str, value: Any) -> Dimension:
    """What was written for one setting."""
    if isinstance(value, list):
        return _choices(key, value)
    text = str(value).strip()
    log = text.startswith("log:")
    parts = text.removeprefix("log:").split(":")
    if len(parts) == 1 and not log:
        return _choices(key, [parse_pair(f"x={part}")[1] for part in text.split(",")])
    try:
        low, high = (float(part) for part in parts)
    except ValueError:
        raise SettingsError(f"space.{key} = {text!r}: {EXAMPLE}") from None
    if not low < high or (log and low <= 0):
        more = " and above 0" if log else ""
        raise SettingsError(f"space.{key} = {text!r}: the first bound must be below the second{more}")
    kinds = {e.kind.split(" ")[0] for e in every_entry(JobSettings) if e.key == key}
    if kinds and not kinds & {"number", "integer"}:
        raise SettingsError(f"space.{key} = {text!r}: bounds are for numbers; write choices a,b,c")
    whole = "integer" in kinds
    if whole and (low % 1 or high % 1):
        raise SettingsError(f"space.{key} = {text!r}: whole numbers are needed")
    return Dimension(key, low, high, log, whole)


def _choices(key: str, values: Sequence[Any]) -> Dimension:
    if len(values) < 2:
        raise SettingsError(f"space.{key}: one value alone is no choice; set {key}=..., or {EXAMPLE}")
    return Dimension(key, choices=tuple(values))


def _check(dimension: Dimension, given: Mapping[str, Any], goal: str) -> None:
    """Refuse what would not be a search."""
    key = dimension.key
    first = key.split(".")[0]
    if first in FIXED:
        raise SettingsError(f"space.{key}: cannot vary: {FIXED[first]}")
    if goal == "loss" and first == "loss" and not key.endswith(".start"):
        raise SettingsError(f"space.{key}: cannot vary: {LOSS}")
    for value in dimension.extremes:
        try:
            with_values(given, {key: value})
        except SettingsError as error:
            raise SettingsError("\n".join(f"space.{line}" for line in str(error).splitlines())) from None


def _usual(base: JobSettings) -> list[Dimension]:
    """Learning rate, size of batches, and the first weight of energies, around what would hold otherwise."""

    def around(key: str, value: float) -> Dimension:
        return Dimension(key, float(f"{value / TENFOLD:.3g}"), float(f"{value * TENFOLD:.3g}"), log=True)

    found = [around("optimizer.learning_rate", base.optimizer.learning_rate)]
    if not isinstance(base.optimizer, Lbfgs | Rprop) and base.batch_edges is None:
        sizes = sorted({max(1, base.batch_size // 2), base.batch_size, 2 * base.batch_size})
        found.append(Dimension("batch_size", choices=tuple(sizes)))
    if base.loss.energy.active and base.loss.force.active:
        found.append(around("loss.energy.start", base.loss.energy.start))
    return found
