"""Linear maps whose weights start normal with variance 1 and are scaled in the forward pass.

    y = gain / sqrt(n_in) x W + b,   W ~ N(0, 1),  b = 0

so that features of variance 1 stay so, and one learning rate suits layers of every width (as in e3nn: M. Geiger and
T. Smidt, arXiv:2207.09453). A map after `silu` has `SILU_GAIN`, which makes up for the variance that SiLU takes.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from rutile.core.errors import SettingsError
from rutile.potentials.parts.products import NARROW, Linear, Products, multiply, rounds, wide

SILU_GAIN = 1.6765
"""1 / sqrt(E[silu(x)^2]) for x ~ N(0, 1)."""


class Dense(nn.Module):
    """x -> gain / sqrt(n_in) x W + b, in float64.

    Args:
        n_in: length of x.
        n_out: length of the result.
        generator: source of the random numbers.
        bias: add b.
        gain: see the module.
    """

    def __init__(
        self, n_in: int, n_out: int, generator: torch.Generator | None, *, bias: bool = True, gain: float = 1.0
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(n_in, n_out, generator=generator, dtype=torch.float64))
        self.bias = nn.Parameter(torch.zeros(n_out, dtype=torch.float64)) if bias else None
        self.factor = gain / math.sqrt(n_in)

    def forward(self, x: Tensor) -> Tensor:
        """[N, n_in] -> [N, n_out]."""
        weight = self.weight * self.factor
        if self.bias is None or rounds(weight):
            y = multiply(x, weight)
            return y if self.bias is None else y + self.bias
        return torch.addmm(self.bias, x, weight)


def require_products(potential: nn.Module, how: Products, device: torch.device) -> None:
    """Refuse to round where it does not apply.

    Raises:
        SettingsError: the potential has no wide layers, or tf32 is asked for and the device is no GPU.
    """
    if how == "tf32" and device.type == "cpu":
        raise SettingsError("matmul=tf32 is for GPUs, and this is a CPU: leave it out")
    if how != "full" and not any(wide(m.weight) for m in potential.modules() if isinstance(m, Dense | Linear)):
        name = getattr(potential, "name", type(potential).__name__)
        raise SettingsError(
            f"matmul={how} changes nothing here: the potential {name!r} has no dense layer of {NARROW} inputs and "
            "outputs; leave it out"
        )
