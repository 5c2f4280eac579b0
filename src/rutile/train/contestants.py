"""The optimizers that `rutile compare-optimizers` knows, and where each one's learning rate is looked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from rutile.train import settings as s

OptimizerName = Literal[
    "adadelta", "adam", "adamax", "asgd", "sgd", "rprop", "rmsprop", "adamw", "lbfgs", "muon", "sgd_momentum"
]  # fmt: skip
PUBLISHED: dict[str, tuple[float, float]] = {
    "adadelta": (0.0155, 0.0341), "adam": (0.0072, 0.0139), "adamax": (0.0110, 0.0172), "asgd": (0.0135, 0.0196),
    "sgd": (0.1676, 0.0294), "rprop": (0.1159, 0.0172), "rmsprop": (0.1037, 0.0083),
}  # fmt: skip
"""Best losses of a published comparison with PyTorch's optimizers: for TiO2, and for SiAu. Loss and budget were others
than here, so that only the order can be compared."""


@dataclass(frozen=True)
class Contestant:
    """An optimizer."""

    name: OptimizerName
    """In settings and tables."""
    settings: s.OptimizerSettings
    """All but the learning rate."""
    usual: int
    """Middle of the rates that are tried first, in half decades: 10^(usual/2)."""

    def at(self, half_decades: int) -> s.OptimizerSettings:
        """The optimizer with a learning rate of 10^(half_decades/2)."""
        rate = rate_of(half_decades)
        changed: dict[str, Any] = {"learning_rate": rate}
        if isinstance(self.settings, s.Muon):  # one rate is tuned: that of its AdamW keeps its usual part
            changed["other_learning_rate"] = rate * self.settings.other_learning_rate / self.settings.learning_rate
        return self.settings.model_copy(update=changed)


CONTESTANTS: dict[str, Contestant] = {
    c.name: c
    for c in (
        Contestant("adadelta", s.Adadelta(), 0),
        Contestant("adam", s.Adam(), -5),
        Contestant("adamax", s.Adamax(), -4),
        Contestant("asgd", s.Asgd(), -3),
        Contestant("sgd", s.Sgd(), -3),
        Contestant("sgd_momentum", s.Sgd(momentum=0.9), -4),
        Contestant("rprop", s.Rprop(), -5),
        Contestant("rmsprop", s.RmsProp(), -6),
        Contestant("adamw", s.AdamW(), -5),
        Contestant("lbfgs", s.Lbfgs(), 0),
        Contestant("muon", s.Muon(), -3),
    )
}


def rate_of(half_decades: int) -> float:
    """10^(half_decades/2), rounded to three digits: -5 is 0.00316."""
    return float(f"{10 ** (half_decades / 2):.3g}")
