"""Tiny potentials for tests: smooth, cheap, with analytic behaviour that needs no training."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from rutile.core.settings import Settings
from rutile.graph.graph import Graph


class ToySettings(Settings):
    """Settings of `Toy`."""

    name: Literal["toy"] = "toy"
    cutoff: float = Field(default=4.0, gt=0)
    """Cutoff (Angstrom)."""
    widths: tuple[float, ...] = (0.5, 1.5)
    """Exponents of the Gaussians (1/Angstrom^2)."""


class Toy(torch.nn.Module):
    """E_i = E0_Z + sum_j sum_w c[Z_i, Z_j, w] exp(-w r^2) (1 - r^2/rc^2)^3, with random c."""

    name = "toy"

    def __init__(
        self,
        settings: ToySettings,
        elements: tuple[int, ...],
        generator: torch.Generator | None = None,
        modes: tuple[str, ...] = ("",),
    ) -> None:
        super().__init__()
        self.modes = modes
        self.settings, self.elements, self.cutoff = settings, elements, settings.cutoff
        index = torch.full((119,), -1)
        index[list(elements)] = torch.arange(len(elements))
        self.index: Tensor
        self.reference: Tensor
        self.register_buffer("index", index)
        self.register_buffer("reference", -torch.arange(1, len(elements) + 1).double())
        shape = (len(elements), len(elements), len(settings.widths))
        self.weights = torch.nn.Parameter(torch.randn(shape, generator=generator, dtype=torch.float64))

    def forward(self, graph: Graph) -> Tensor:
        """Energy of each atom (eV), [N]."""
        r2 = graph.vectors.square().sum(1)
        inside = (1 - r2 / self.cutoff**2).clamp(min=0) ** 3
        z = self.index[graph.numbers]
        radial = torch.stack([torch.exp(-w * r2) * inside for w in self.settings.widths], 1)
        pair = (self.weights[z[graph.i], z[graph.j]] * radial).sum(1)
        return self.reference[z].index_add(0, graph.i, pair)


def make_toy(seed: int = 0, elements: tuple[int, ...] = (8, 22)) -> Toy:
    """A toy with random weights."""
    return Toy(ToySettings(), elements, torch.Generator().manual_seed(seed))
