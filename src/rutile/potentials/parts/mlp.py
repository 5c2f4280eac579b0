"""Multilayer perceptrons with smooth activations.

    modified_tanh      1.7159 tanh(2x/3)           (Y. LeCun et al., "Efficient BackProp", 1998)
    twist              1.7159 tanh(2x/3) + 0.1 x   (as in aenet)
    shifted_softplus   ln(e^x / 2 + 1 / 2)         (SchNet, MEGNet): softplus that is 0 at 0
    softplus_integral  int_-inf^x ln(1 + e^y) dy   (TeaNet): forces are then trained through softplus
    celu               max(x, 0) + min(0.1 (exp(10 x) - 1), 0)   (ANI; its second derivative jumps at 0)

Activations without a continuous derivative (ReLU) are left out on purpose: forces would jump.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from rutile.potentials.parts.choices import ActivationName
from rutile.potentials.parts.products import Linear


def modified_tanh(x: Tensor) -> Tensor:
    """1.7159 tanh(2x/3)."""
    return 1.7159 * torch.tanh(x * (2.0 / 3.0))


_BERNOULLI = (1.0, -1 / 2, 1 / 6, 0.0, -1 / 30, 0.0, 1 / 42, 0.0, -1 / 30, 0.0, 5 / 66, 0.0, -691 / 2730, 0.0, 7 / 6)


def softplus_integral(x: Tensor) -> Tensor:
    """int_-inf^x ln(1 + e^y) dy = -Li_2(-e^x), which grows as x^2 / 2.

    By the series Li_2(-e^x) = sum_n B_n u^(n + 1) / (n + 1)! with u = -ln(1 + e^x), whose terms fall by (ln 2 / 2 pi)^2
    for x <= 0, and Li_2(-e^x) + Li_2(-e^-x) = -pi^2/6 - x^2/2; B_n are Bernoulli's numbers.
    """
    positive = x > 0
    u = -functional.softplus(torch.where(positive, -x, x))
    series = torch.zeros_like(x)
    for n in range(len(_BERNOULLI) - 1, -1, -1):
        series = (series + _BERNOULLI[n] / math.factorial(n + 1)) * u
    return torch.where(positive, math.pi**2 / 6 + 0.5 * x * x + series, -series)


def twist(x: Tensor) -> Tensor:
    """1.7159 tanh(2x/3) + 0.1 x."""
    return modified_tanh(x) + 0.1 * x


def shifted_softplus(x: Tensor) -> Tensor:
    """ln(e^x / 2 + 1 / 2); linear above 40, where that changes no digit of float64."""
    return functional.softplus(x, threshold=40.0) - math.log(2.0)


def celu(x: Tensor) -> Tensor:
    """max(x, 0) + min(0.1 (exp(10 x) - 1), 0)."""
    return functional.celu(x, 0.1)


ACTIVATIONS: dict[ActivationName, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "silu": functional.silu,
    "softplus": functional.softplus,
    "shifted_softplus": shifted_softplus,
    "softplus_integral": softplus_integral,
    "gelu": functional.gelu,
    "modified_tanh": modified_tanh,
    "twist": twist,
    "celu": celu,
}


class MLP(nn.Module):
    """Linear layers with an activation between them; the last layer is linear.

    Weights start normal with variance 2 / (fan in + fan out) (Glorot and Bengio, 2010), biases at 0, in float64.
    """

    def __init__(self, widths: Sequence[int], activation: ActivationName, generator: torch.Generator | None) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[activation]
        self.layers = nn.ModuleList()
        for fan_in, fan_out in pairwise(widths):
            layer = Linear(fan_in, fan_out, dtype=torch.float64)
            with torch.no_grad():
                layer.weight.normal_(0.0, (2.0 / (fan_in + fan_out)) ** 0.5, generator=generator)
                layer.bias.zero_()
            self.layers.append(layer)

    def forward(self, x: Tensor) -> Tensor:
        """[..., widths[0]] -> [..., widths[-1]]."""
        *hidden, last = self.layers
        for layer in hidden:
            x = self.activation(layer(x))
        return last(x)  # type: ignore[no-any-return]
