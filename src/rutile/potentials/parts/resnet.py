"""Networks whose layers are residual where widths allow it, as in DeePMD-kit.

    y = x + dt * phi(W x + b)           equal widths
    y = [x, x] + dt * phi(W x + b)      doubled width
    y = phi(W x + b)                    otherwise

Source: L. Zhang et al., NeurIPS 31, 4436 (2018), arXiv:1805.09003; rule and initial values of DeePMD-kit
(J. Zeng et al., J. Chem. Phys. 159, 054801 (2023), doi:10.1063/5.0155600).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from rutile.potentials.parts.choices import ActivationName
from rutile.potentials.parts.mlp import ACTIVATIONS
from rutile.potentials.parts.products import Linear


class ResNet(nn.Module):
    """Hidden layers with residuals; every layer has the activation.

    Weights start normal with variance 1 / (fan in + fan out), biases with variance 1, in float64. The biases matter:
    features of a single number must bend at different places.
    """

    def __init__(
        self,
        widths: Sequence[int],
        activation: ActivationName,
        generator: torch.Generator | None,
        *,
        timestep: bool = False,
    ) -> None:
        """Make the layers.

        Args:
            widths: of the input and of every layer.
            activation: phi.
            generator: source of the random weights.
            timestep: residual layers learn dt, one for each column, which starts at 0.1; otherwise dt is 1.
        """
        super().__init__()
        self.activation = ACTIVATIONS[activation]
        self.layers = nn.ModuleList()
        self.steps = nn.ParameterDict()
        for k, (fan_in, fan_out) in enumerate(pairwise(widths)):
            layer = Linear(fan_in, fan_out, dtype=torch.float64)
            with torch.no_grad():
                layer.weight.normal_(0.0, (fan_in + fan_out) ** -0.5, generator=generator)
                layer.bias.normal_(0.0, 1.0, generator=generator)
            self.layers.append(layer)
            if timestep and fan_out in (fan_in, 2 * fan_in):
                step = torch.empty(fan_out, dtype=torch.float64).normal_(0.1, 0.001, generator=generator)
                self.steps[str(k)] = nn.Parameter(step)

    def forward(self, x: Tensor) -> Tensor:
        """[..., widths[0]] -> [..., widths[-1]]."""
        for k, layer in enumerate(self.layers):
            y = self.activation(layer(x))
            if str(k) in self.steps:
                y = self.steps[str(k)] * y
            x = _residual(x, y)
        return x

    def derivatives(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Value, first and second derivative of a net of one number at x [E], each [E, M], without gradient."""
        value = x.unsqueeze(1)
        first, second = torch.ones_like(value), torch.zeros_like(value)
        with torch.no_grad():
            for k, layer in enumerate(cast(list[nn.Linear], self.layers)):
                a, slope, bend = _elementwise(self.activation, layer(value))
                da, dda = (functional.linear(d, layer.weight) for d in (first, second))
                new = [a, slope * da, bend * da**2 + slope * dda]
                if str(k) in self.steps:
                    new = [self.steps[str(k)] * n for n in new]
                value, first, second = (_residual(o, n) for o, n in zip((value, first, second), new, strict=True))
        return value, first, second


def _residual(x: Tensor, y: Tensor) -> Tensor:
    """y, with x added where it is as wide, and [x, x] where it is half as wide."""
    if y.shape[-1] == x.shape[-1]:
        return x + y
    return torch.cat([x, x], -1) + y if y.shape[-1] == 2 * x.shape[-1] else y


def _elementwise(function: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Value, first and second derivative of an activation at each element."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        y = function(x)
        (first,) = torch.autograd.grad(y.sum(), x, create_graph=True)
        (second,) = torch.autograd.grad(first.sum(), x)
    return y.detach(), first.detach(), second
