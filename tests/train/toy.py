"""A tiny descriptor potential and noise-free data made by it, for tests of the training loop."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from rutile.data.frames import Frame
from rutile.data.store import Store, build_store
from rutile.graph.graph import Graph
from rutile.potentials.evaluate import evaluate
from rutile.testing.strategies import random_structure


class ToyDescriptors(torch.nn.Module):
    """E_i = net_Z(G_i), G_iw = sum_j Z_j exp(-w r^2) (1 - r^2/rc^2)^3."""

    def __init__(self, seed: int = 0, elements: tuple[int, ...] = (8, 22), hidden: int = 6) -> None:
        super().__init__()
        self.elements, self.cutoff, self.descriptor_key = elements, 4.0, "toy"
        self.core_reach = 0.0
        self.widths = torch.tensor([0.1, 0.5, 1.5], dtype=torch.float64)
        generator = torch.Generator().manual_seed(seed)

        def random(*shape: int) -> torch.nn.Parameter:
            return torch.nn.Parameter(torch.randn(*shape, generator=generator, dtype=torch.float64) * 0.5)

        self.inner, self.bias, self.outer = random(len(elements), hidden, 3), random(len(elements), hidden), None
        self.outer = random(len(elements), hidden)

    def forward(self, graph: Graph) -> Tensor:
        return self.energies(self.describe(graph), graph.numbers)

    def describe(self, graph: Graph) -> Tensor:
        out = graph.vectors.new_zeros(graph.n_atoms, 3)
        return out.index_add(0, graph.i, self._pair(graph.vectors, graph.numbers[graph.j]))

    def _pair(self, vectors: Tensor, numbers: Tensor) -> Tensor:
        r2 = vectors.square().sum(1, keepdim=True)
        inside = (1 - r2 / self.cutoff**2).clamp(min=0) ** 3
        return numbers[:, None] / 20 * torch.exp(-self.widths.to(r2.dtype) * r2) * inside

    def describe_with_jacobian(self, graph: Graph) -> tuple[Tensor, Tensor]:
        vectors, numbers = graph.vectors.detach(), graph.numbers[graph.j]
        jacobian = torch.func.vmap(torch.func.jacrev(lambda v, z: self._pair(v[None], z[None])[0]))(vectors, numbers)
        return self.describe(graph).detach(), jacobian

    def core_energy(self, graph: Graph) -> Tensor:
        return graph.vectors.new_zeros(graph.n_atoms)

    def energies(self, descriptors: Tensor, numbers: Tensor) -> Tensor:
        z = (numbers == self.elements[1]).long()
        hidden = torch.tanh(torch.einsum("nhk,nk->nh", self.inner[z], descriptors) + self.bias[z])
        return (self.outer[z] * hidden).sum(1)


def teacher_frames(n: int, *, seed: int = 0, atoms: int = 6) -> list[Frame]:
    """Frames labelled by a toy with other weights; mixed sizes, mostly periodic, one molecule among five."""
    teacher, frames = ToyDescriptors(seed=99), []
    for k in range(n):
        count = atoms + k % 3
        numbers = [22 if a % 3 == 0 else 8 for a in range(count)]
        pbc = (False, False, False) if k % 5 == 4 else (True, True, True)
        s = random_structure(seed * 10_000 + k, numbers, pbc=pbc)
        p = evaluate(teacher, s)
        frames.append(
            Frame(
                np.array(numbers),
                s.positions.numpy(),
                s.cell[0].numpy(),
                s.pbc[0].numpy(),
                energy=float(p.energy[0]),
                forces=p.forces.numpy(),
                stress=p.stress[0].numpy() if all(pbc) else None,
                source=f"toy.extxyz#{k}",
            )
        )
    return frames


def teacher_store(folder: Path, n: int = 12, *, seed: int = 0) -> Store:
    """A store of such frames."""
    return build_store(teacher_frames(n, seed=seed), folder / "store")
