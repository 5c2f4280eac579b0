"""Multilayer perceptrons with smooth activations.

    modified_tanh      1.7159 tanh(2x/3)           (Y. LeCun et al., "Efficient BackProp", 1998)
    twist              1.7159 tanh(2x/3) + 0.1 x           (as in aenet)
    shifted_softplus   ln(e^x / 2 + 1 / 2)       (SchNet, MEGNet): softplus that is 0 at 0

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


def modified_tanh(x: Tensor) -> Tensor:
    """1.7159 tanh(2x/3)."""
    return 1.7159 * torch.tanh(x * (2.0 / 3.0))


def twist(x: Tensor) -> Tensor:
    """1.7159 tanh(2x/3) + 0.1 x."""
    return modified_tanh(x) + 0.1 * x


def shifted_softplus(x: Tensor) -> Tensor:
    """ln(e^x / 2 + 1 / 2); linear above 40, where that changes no digit of float64."""
    return functional.softplus(x, threshold=40.0) - math.log(2.0)


ACTIVATIONS: dict[ActivationName, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "silu": functional.silu,
    "softplus": functional.softplus,
    "shifted_softplus": shifted_softplus,
    "gelu": functional.gelu,
    "modified_tanh": modified_tanh,
    "twist": twist,
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
            layer = nn.Linear(fan_in, fan_out, dtype=torch.float64)
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
