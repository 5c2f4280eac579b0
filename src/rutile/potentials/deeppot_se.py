"""DeepPot-SE with radial and angular information (se_e2_a of DeePMD-kit).

With the neighbours j of atom i, its row of the environment and the embedding net N of its pair of elements,

    R_j = s(r_ij) (1 / sigma_0, x_ij / (r_ij sigma_1), y_ij / (r_ij sigma_1), z_ij / (r_ij sigma_1))
    G_j = N((s(r_ij) - mu) / sigma_0)                       [M]
    T   = (1 / N_c) sum_j R_j^T G_j                         [4, M]
    D   = T^T T_<                                           [M, M_<], T_< the first M_< columns of T
    E_i = s [ F(D') - F(D' at D = 0) ] + E0,   D' = (D - nu) / tau

with the smooth 1/r of `switched_inverse`, one fitting net F for each element, and, for each element of the centre,
statistics of the training set: mu, sigma_0 (of s), sigma_1 (of s x/r and the like), and, with the first weights, the
mean nu and the spread tau of each component of D. Without the last two, as in DeePMD-kit, training takes many times
longer. DeePMD-kit also takes mu off the
first column of R and fills up missing neighbours with zeros; here there is nothing to fill up, and R goes to zero at
the cutoff with two continuous derivatives, and the energy with it.

`DeepPotSE.compressed` replaces the embedding nets by tables (`parts.hermite`), which `parts.moments` evaluates without
ever holding a row of G for each neighbour (D. Lu et al., J. Chem. Theory Comput. 18, 5559 (2022),
doi:10.1021/acs.jctc.2c00102).

Sources: L. Zhang et al., NeurIPS 31, 4436 (2018), arXiv:1805.09003; DeePMD-kit (J. Zeng et al., J. Chem. Phys. 159,
054801 (2023), doi:10.1063/5.0155600). Letters of shapes: N atoms, E edges, M and M_< columns.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn

from rutile.core.errors import SettingsError
from rutile.graph.graph import Graph
from rutile.potentials.parts.hermite import HermiteTables, choose_size
from rutile.potentials.parts.moments import Environment, add_moments, moments, switched_inverse
from rutile.potentials.parts.network import NetworkPotential
from rutile.potentials.parts.products import unrounded
from rutile.potentials.parts.resnet import ResNet
from rutile.potentials.settings import DeepPotSESettings

NEAR, NEAREST = 0.5, 0.1
"""Tables are fine from the cutoff to NEAR and coarse from there to NEAREST (Angstrom); nearer atoms are refused."""
TOLERANCE, NEAR_TOLERANCE = 1e-9, 1e-6
"""Errors of the tables in both parts, relative to the largest slope."""
SMALLEST_SPREAD = 1e-2
"""sigma of a training set whose distances are all the same (1/Angstrom)."""
SMALLEST_PART, SMALLEST_DESCRIPTOR_SPREAD = 0.03, 1e-3
"""tau is at least this part of the largest one, and at least this."""
ENOUGH_ATOMS = 2000
"""So many atoms give the mean and the spread of the descriptors."""


class DeepPotSE(NetworkPotential):
    """Embedding nets (or their tables) and fitting nets."""

    name = "deeppot_se"
    settings: DeepPotSESettings
    mean: Tensor
    spread: Tensor
    n_c: Tensor
    descriptor_mean: Tensor
    descriptor_spread: Tensor
    net_of_pair: Tensor

    def __init__(
        self,
        settings: DeepPotSESettings,
        elements: tuple[int, ...],
        generator: torch.Generator | None = None,
        modes: tuple[str, ...] = ("",),
    ) -> None:
        """Make the networks with random weights.

        Args:
            settings: widths and radii.
            elements: atomic numbers.
            generator: source of the random weights (default: torch's own).
            modes: name of the calc mode; the networks know only one.
        """
        super().__init__(settings, elements, modes)
        n, width = len(self.elements), settings.embedding[-1]
        self.cutoff, self.axis = settings.cutoff, settings.axis
        n_nets = n if settings.type_one_side else n * n
        centre, neighbor = torch.arange(n).repeat_interleave(n), torch.arange(n).repeat(n)
        pairs = neighbor if settings.type_one_side else centre * n + neighbor
        self.register_buffer("net_of_pair", pairs, persistent=False)
        if settings.tables is None:
            sides = (1, *settings.embedding)
            self.embedding = nn.ModuleList(ResNet(sides, settings.activation, generator) for _ in range(n_nets))
        else:
            self.frozen = "it is compressed (tables have no weights): train the model it was made from"
            self.tables = HermiteTables(n_nets, settings.tables, width)
        sides = (width * settings.axis, *settings.fitting)
        self.fitting = nn.ModuleList(
            nn.Sequential(
                ResNet(sides, settings.activation, generator, timestep=settings.resnet_dt),
                _last(sides[-1], generator),
            )
            for _ in range(n)
        )
        self.register_buffer("mean", torch.zeros(n, dtype=torch.float64))
        self.register_buffer("spread", torch.ones(n, 2, dtype=torch.float64))
        self.register_buffer("descriptor_mean", torch.zeros(n, width * settings.axis, dtype=torch.float64))
        self.register_buffer("descriptor_spread", torch.ones(n, width * settings.axis, dtype=torch.float64))
        self.register_buffer("n_c", torch.tensor(settings.n_c or 1.0, dtype=torch.float64))

    def outputs(self, graph: Graph, position: Tensor) -> Tensor:
        """Fitting net of each atom, [N]; see `NetworkPotential.outputs`."""
        descriptors = self.descriptors(graph, position)
        rows, out = [], []
        for e, network in enumerate(self.fitting):
            mine = (position == e).nonzero().squeeze(1)
            rows.append(mine)
            out.append(network((descriptors[mine] - self.descriptor_mean[e]) / self.descriptor_spread[e]).squeeze(1))
        return torch.empty_like(descriptors[:, 0]).index_copy(0, torch.cat(rows), torch.cat(out))

    @torch.no_grad()
    def features(self, graph: Graph) -> Tensor:
        """Scaled descriptors, detached, [N, K]."""
        kind = self.position(graph.numbers)
        return (self.descriptors(graph, kind) - self.descriptor_mean[kind]) / self.descriptor_spread[kind]

    def descriptors(self, graph: Graph, position: Tensor) -> Tensor:
        """D of each atom, row by row, [N, M * M_<]."""
        t = self.moments(graph, position)
        return torch.matmul(t.mT, t[:, :, : self.axis]).flatten(1)

    def moments(self, graph: Graph, position: Tensor) -> Tensor:
        """T of each atom, [N, 4, M]."""
        around = self._environment(graph, position)
        if self.settings.tables is not None:
            return moments(self.tables, around) / self.n_c
        argument, rows = around.rows()
        total = graph.vectors.new_zeros(graph.n_atoms, 4, self.settings.embedding[-1])
        for k, network in enumerate(self.embedding):
            mine = (around.net == k).nonzero().squeeze(1) if len(self.embedding) > 1 else slice(None)
            total = add_moments(total, around.i[mine], rows[mine], unrounded(network, argument[mine].unsqueeze(1)))
        return total / self.n_c

    def learn_statistics(self, graphs: Iterable[Graph]) -> None:
        """Statistics of the environment and the descriptors, and N_c unless the settings give it."""
        n = len(self.elements)
        total = torch.zeros(n, 3, dtype=torch.float64)  # neighbours, sum of s, sum of s^2
        atoms = 0
        some: list[Graph] = []
        for graph in graphs:
            if atoms < ENOUGH_ATOMS:
                some.append(graph)
            position = self.position(graph.numbers.to(self.mean.device))[graph.i].cpu()
            r = graph.vectors.detach().double().norm(dim=1).cpu()
            s = switched_inverse(r, self.settings.smooth_from, self.cutoff)
            total.index_add_(0, position, torch.stack([torch.ones_like(s), s, s * s], 1))
            atoms += graph.n_atoms
        count = total[:, 0].clamp_min(1.0)
        mean, square = total[:, 1] / count, total[:, 2] / count
        spread = torch.stack([(square - mean**2).clamp_min(0.0), square / 3.0], 1).sqrt().clamp_min(SMALLEST_SPREAD)
        seen = total[:, 0] > 0
        self.mean.copy_(torch.where(seen, mean, 0.0))
        self.spread.copy_(torch.where(seen[:, None], spread, 1.0))
        if self.settings.n_c is None:
            self.n_c.fill_(max(float(total[:, 0].sum()) / max(atoms, 1), 1.0))
        self._learn_descriptors(some)

    @torch.no_grad()
    def _learn_descriptors(self, graphs: Sequence[Graph]) -> None:
        """Mean and spread of the descriptors; an element that is not there keeps 0 and 1."""
        total, square = torch.zeros_like(self.descriptor_mean), torch.zeros_like(self.descriptor_mean)
        count = torch.zeros_like(total[:, :1])
        for graph in graphs:
            position = self.position(graph.numbers.to(count.device))
            d = self.descriptors(replace(graph, vectors=graph.vectors.to(total)), position)
            total.index_add_(0, position, d)
            square.index_add_(0, position, d**2)
            count.index_add_(0, position, torch.ones_like(d[:, :1]))
        mean = total / count.clamp_min(1.0)
        spread = (square / count.clamp_min(1.0) - mean**2).clamp_min(0.0).sqrt()
        least = (SMALLEST_PART * spread.max(1, keepdim=True).values).clamp_min(SMALLEST_DESCRIPTOR_SPREAD)
        self.descriptor_mean.copy_(mean)
        self.descriptor_spread.copy_(torch.where(count > 0, torch.maximum(spread, least), 1.0))

    def compressed(self) -> DeepPotSE:
        """The same potential with tables in the place of the embedding nets, in the same precision.

        Raises:
            SettingsError: it is compressed already.
        """
        if self.settings.tables is not None:
            raise SettingsError("this model is compressed already")
        nets = [cast(ResNet, copy.deepcopy(net).double().cpu()).derivatives for net in self.embedding]
        ranges = self._ranges(len(nets))
        size = choose_size(nets, ranges, TOLERANCE, NEAR_TOLERANCE)
        made = DeepPotSE(self.settings.model_copy(update={"tables": size}), self.elements, None, self.modes)
        made.to(self.mean)
        state = {k: v for k, v in self.state_dict().items() if not k.startswith("embedding.")}
        made.load_state_dict(state, strict=False)
        tables = HermiteTables(len(nets), size, self.settings.embedding[-1])
        tables.fill(nets, ranges)
        made.tables.load_state_dict(tables.state_dict())
        return made.requires_grad_(False)

    def _environment(self, graph: Graph, position: Tensor) -> Environment:
        pair = position[graph.i] * len(self.elements) + position[graph.j]
        return Environment(
            graph.i,
            self.net_of_pair[pair],
            position[graph.i],
            graph.vectors,
            self.mean,
            self.spread,
            self.settings.smooth_from,
            self.cutoff,
            graph.n_atoms,
        )

    def _ranges(self, n_nets: int) -> Tensor:
        """Arguments of each embedding net at infinity, at NEAR and at NEAREST, over its centres, [nets, 3]."""
        s = torch.tensor([0.0, 1.0 / NEAR, 1.0 / NEAREST], dtype=torch.float64)
        by_centre = (s - self.mean.double().cpu()[:, None]) / self.spread.double().cpu()[:, :1]
        if n_nets > len(self.elements) or len(self.elements) == 1:
            return by_centre.repeat_interleave(len(self.elements), 0)
        low, high = by_centre.min(0).values, by_centre.max(0).values
        return torch.stack([low[0], high[1], high[2]]).repeat(n_nets, 1)


def _last(width: int, generator: torch.Generator | None) -> nn.Linear:
    """The linear layer at the end of a fitting net."""
    layer = nn.Linear(width, 1, dtype=torch.float64)
    with torch.no_grad():
        layer.weight.normal_(0.0, (width + 1) ** -0.5, generator=generator)
        layer.bias.zero_()
    return layer
