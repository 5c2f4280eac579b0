"""Networks on fixed descriptors: one for each element, as Behler-Parrinello and ANI potentials have them.

    E_i = s [ N_Z(G'_i) - N_Z(G' at G = 0) ] + E0_Z + V_i

with the descriptors G_i of atom i, scaled to G' (`parts.scaling`), one network N_Z for each element Z, an energy scale
s and the energy E0_Z of the isolated atom, which comes out exactly because an isolated atom has G = 0. The core
repulsion V_i (`parts.repulsion`) depends on no weight: as the descriptors, it is computed once for all of training.
Letters of shapes: N atoms, E edges, K descriptor functions.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from rutile.graph.graph import Graph, within
from rutile.potentials.parts.choices import ActivationName, ScalingMode
from rutile.potentials.parts.mlp import MLP
from rutile.potentials.parts.network import TrainablePotential
from rutile.potentials.parts.scaling import DescriptorScaling


class DescriptorNetworks(TrainablePotential, ABC):
    """Base of the `DescriptorPotential`s: a subclass says what its descriptors are, the rest is here.

    Subclasses set `cutoff` and call `make_networks`.
    """

    descriptor_key: str
    """Names the descriptors and the core repulsion with all their parameters."""
    core_reach: float
    """Distance (Angstrom) from which on the core repulsion is 0; 0: there is none."""
    scaling: DescriptorScaling
    networks: nn.ModuleList

    def make_networks(
        self,
        key: str,
        width: int,
        widths: Sequence[Sequence[int]],
        activation: ActivationName,
        scaling: ScalingMode,
        generator: torch.Generator | None,
    ) -> None:
        """Make networks with random weights, and a scaling that changes nothing yet.

        Args:
            key: names the descriptors with all their parameters.
            width: K.
            widths: of the layers of each element's network; the first is the number of descriptors, from the left,
                that the element has.
            activation: of the hidden layers.
            scaling: of the descriptors.
            generator: source of the random weights (default: torch's own).
        """
        self.scaling = DescriptorScaling(len(self.elements), width, scaling)
        self.networks = nn.ModuleList(MLP((*w, 1), activation, generator) for w in widths)
        self._used = tuple(w[0] for w in widths)
        self.core_reach = 0.0 if self.core is None else self.core.reach(self.elements)
        self.descriptor_key = key if self.core is None else f"{key} with core repulsion to {self.core_reach!r}"

    def forward(self, graph: Graph) -> Tensor:
        """Energy of each atom (eV), [N]."""
        return self.energies(self.describe(graph), graph.numbers) + self.core_energy(graph)

    def core_energy(self, graph: Graph) -> Tensor:
        """Core repulsion of each atom (eV), which no training changes, [N]."""
        if self.core is None:
            return graph.vectors.new_zeros(graph.n_atoms)
        energy: Tensor = self.core(within(graph, self.core_reach), self.cutoff)
        return energy

    @abstractmethod
    def describe(self, graph: Graph) -> Tensor:
        """Descriptors of each atom, not scaled, differentiable in `graph.vectors`, [N, K]; 0 without neighbours."""

    @abstractmethod
    def describe_with_jacobian(self, graph: Graph) -> tuple[Tensor, Tensor]:
        """Descriptors [N, K] and d G(i_e) / d vectors(e), [E, K, 3] (no gradient attached)."""

    @abstractmethod
    def vjps(self, graph: Graph, cotangents: Tensor) -> Tensor:
        """dE/dvectors of several energies at once, without gradient.

        Args:
            graph: the batch.
            cotangents: dE_m/dG of the first n atoms, beyond which there are no edges, [M, n, K].

        Returns:
            [M, E, 3] (eV/Angstrom).
        """

    def energies(self, descriptors: Tensor, numbers: Tensor) -> Tensor:
        """Energy of each atom (eV) from its descriptors, without the core repulsion, [N] float64.

        Raises:
            ElementError: an element that the potential does not know.
        """
        position = self.position(numbers)
        reference: Tensor = self.reference(position)
        rows, energy = [], []
        for e, (used, network) in enumerate(zip(self._used, self.networks, strict=True)):
            mine = (position == e).nonzero().squeeze(1)
            if len(mine):
                own = descriptors[mine]
                g = torch.cat([own, torch.zeros_like(own[:1])])  # last row: no neighbours
                out = network(self.scaling(e, g)[:, :used]).squeeze(1)
                # Rows of a matrix product round differently; the mask makes an isolated atom E0 to the last bit.
                has_neighbors = (own != 0).any(1)
                rows.append(mine)
                energy.append((out[:-1] - out[-1]) * has_neighbors)
        if not rows:
            return reference
        change = torch.empty_like(descriptors[:, 0]).index_copy(0, torch.cat(rows), torch.cat(energy))
        return change.double() * self.energy_scale + reference

    @torch.no_grad()
    def features(self, graph: Graph) -> Tensor:
        """Scaled descriptors, detached, [N, K]; 0 where an element has fewer."""
        descriptors = self.describe(graph)
        position = self.position(graph.numbers)
        out = torch.zeros_like(descriptors)
        for e, used in enumerate(self._used):
            mine = (position == e).nonzero().squeeze(1)
            out[mine, :used] = self.scaling(e, descriptors[mine])[:, :used]
        return out

    def learn_statistics(self, graphs: Iterable[Graph]) -> None:
        """As `fit_scaling`, from graphs."""
        self.fit_scaling((self.describe(graph), graph.numbers) for graph in graphs)

    def fit_scaling(self, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Scale by the statistics of the training set: batches of (descriptors [N, K], numbers [N]), in one pass."""
        self.scaling.fit((descriptors, self.position(numbers)) for descriptors, numbers in batches)

    def extrapolation(self, descriptors: Tensor, numbers: Tensor) -> Tensor:
        """Number of functions of each atom outside the range seen in training, [N] int64."""
        return self.scaling.outside(descriptors, self.position(numbers))


class StackedNetworks:
    """The networks of several potentials of the same settings as one, by batched matrix products.

    Takes the weights as they are when it is made; no gradient reaches them. A whitening matrix is multiplied with the
    first layer once and for all.
    """

    def __init__(self, members: Sequence[DescriptorNetworks]) -> None:
        self.members = list(members)
        self.shift = torch.stack([m.scaling.shift for m in members])
        self.factor = torch.stack([m.scaling.factor for m in members])
        self.scale = torch.stack([m.energy_scale for m in members])
        self.layers = [self._stacked(e) for e in range(len(members[0].elements))]

    def _stacked(self, e: int) -> list[tuple[Tensor, Tensor]]:
        """Weights [M, in, out] and biases [M, 1, out] of the layers of an element."""
        networks: list[Any] = [m.networks[e] for m in self.members]
        layers = []
        for parts in zip(*(network.layers for network in networks), strict=True):
            weight = torch.stack([part.weight.detach() for part in parts]).mT
            layers.append((weight, torch.stack([part.bias.detach() for part in parts])[:, None]))
        first, bias = layers[0]
        whitening = [m.scaling.whitening for m in self.members]
        if whitening[0] is not None:
            matrix = torch.stack([w[e] for w in whitening if w is not None])
            layers[0] = (matrix[:, :, : first.shape[1]] @ first, bias)
        return layers

    def energies(self, descriptors: Tensor, numbers: Tensor) -> Tensor:
        """Energy of each atom (eV) by each member, as `DescriptorNetworks.energies`, [M, N] float64.

        Args:
            descriptors: a copy for each member, so that each gets its own slope, [M, N, K].
            numbers: [N].
        """
        one: Any = self.members[0]
        position = one.position(numbers)
        reference = torch.stack([m.reference(position) for m in self.members])
        rows, energy = [], []
        for e, layers in enumerate(self.layers):
            mine = (position == e).nonzero().squeeze(1)
            if len(mine):
                own = descriptors[:, mine]
                x = torch.cat([own, torch.zeros_like(own[:, :1])], 1)  # last row: no neighbours
                x = ((x - self.shift[:, e, None]) * self.factor[:, e, None])[..., : layers[0][0].shape[1]]
                for n, (weight, bias) in enumerate(layers):
                    x = torch.baddbmm(bias, one.networks[e].activation(x) if n else x, weight)
                has_neighbors = (own[0] != 0).any(1)
                rows.append(mine)
                energy.append((x[:, :-1, 0] - x[:, -1:, 0]) * has_neighbors)
        if not rows:
            return reference
        change = torch.empty_like(descriptors[:, :, 0]).index_copy(1, torch.cat(rows), torch.cat(energy, 1))
        return change.double() * self.scale[:, None] + reference
