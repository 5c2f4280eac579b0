"""Behler-Parrinello neural network potential.

    E = sum_i E_i,   E_i = s [ N_Z(G'_i) - N_Z(G' at G = 0) ] + E0_Z

with the symmetry functions G_i of atom i (`parts.symmetry_eager` has the formulas), scaled to G'
(`parts.scaling`), one network N_Z for each element Z, an energy scale s and the energy E0_Z of the isolated atom,
which comes out exactly because an isolated atom has G = 0.

Sources: J. Behler and M. Parrinello, Phys. Rev. Lett. 98, 146401 (2007), doi:10.1103/PhysRevLett.98.146401;
N. Artrith and A. Urban, Comput. Mater. Sci. 114, 135 (2016), doi:10.1016/j.commatsci.2015.11.047.
Letters of shapes: N atoms, E edges, K functions.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from rutile.core.elements import symbol
from rutile.core.errors import SettingsError
from rutile.graph.graph import Graph
from rutile.potentials.parts.mlp import MLP
from rutile.potentials.parts.network import TrainablePotential
from rutile.potentials.parts.scaling import DescriptorScaling
from rutile.potentials.parts.symmetry import SymmetryTable
from rutile.potentials.parts.symmetry_native import symmetry_functions, symmetry_jacobian
from rutile.potentials.parts.tables import expand, table_key
from rutile.potentials.settings import BehlerSettings


class Behler(TrainablePotential):
    """A `DescriptorPotential` with symmetry functions; made in float64."""

    name = "behler"

    def __init__(
        self,
        settings: BehlerSettings,
        elements: tuple[int, ...],
        generator: torch.Generator | None = None,
        modes: tuple[str, ...] = ("",),
    ) -> None:
        """Make the networks with random weights.

        Args:
            settings: kept with the table written out, so that a saved model depends on no file.
            elements: atomic numbers; each must be a centre of the table.
            generator: source of the random weights (default: torch's own).
            modes: name of the calc mode; the networks know only one.

        Raises:
            SettingsError: the table is wrong or has no functions for an element.
            FileError: the table's file cannot be read.
        """
        table = settings.resolve_table(tuple(sorted(elements)))
        super().__init__(settings.model_copy(update={"table": table}), elements, modes)
        self.table = _functions_of(expand(table), self.elements)
        self.cutoff = self.table.cutoff
        self.descriptor_key = table_key(self.table)
        self.scaling = DescriptorScaling(len(self.elements), self.table.width, settings.scaling)
        widths = [(len(self.table.functions[z]), *settings.hidden, 1) for z in self.elements]
        self.networks = nn.ModuleList(MLP(w, settings.activation, generator) for w in widths)

    def forward(self, graph: Graph) -> Tensor:
        """Energy of each atom (eV), [N]."""
        return self.energies(self.describe(graph), graph.numbers)

    def describe(self, graph: Graph) -> Tensor:
        """Symmetry functions of each atom, not scaled, differentiable in `graph.vectors`, [N, K]."""
        return symmetry_functions(self.table, graph)

    def describe_with_jacobian(self, graph: Graph) -> tuple[Tensor, Tensor]:
        """Symmetry functions [N, K] and d G(i_e) / d vectors(e), [E, K, 3] (no gradient attached)."""
        return symmetry_jacobian(self.table, graph)

    def energies(self, descriptors: Tensor, numbers: Tensor) -> Tensor:
        """Energy of each atom (eV) from its symmetry functions, [N] float64.

        Raises:
            ElementError: an element that the potential does not know.
        """
        position = self.position(numbers)
        reference: Tensor = self.reference(position)
        rows, energy = [], []
        for e, (z, network) in enumerate(zip(self.elements, self.networks, strict=True)):
            mine = (position == e).nonzero().squeeze(1)
            if len(mine):
                own = descriptors[mine]
                g = torch.cat([own, own.new_zeros(1, self.table.width)])  # last row: no neighbours
                out = network(self.scaling(e, g)[:, : len(self.table.functions[z])]).squeeze(1)
                # Rows of a matrix product round differently; the mask makes an isolated atom E0 to the last bit.
                has_neighbors = (own != 0).any(1)
                rows.append(mine)
                energy.append((out[:-1] - out[-1]) * has_neighbors)
        if not rows:
            return reference
        change = torch.empty_like(descriptors[:, 0]).index_copy(0, torch.cat(rows), torch.cat(energy))
        return change.double() * self.energy_scale + reference

    def learn_statistics(self, graphs: Iterable[Graph]) -> None:
        """As `fit_scaling`, from graphs."""
        self.fit_scaling((self.describe(graph), graph.numbers) for graph in graphs)

    def fit_scaling(self, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Scale by the statistics of the training set: batches of (descriptors [N, K], numbers [N]), in one pass."""
        self.scaling.fit((descriptors, self.position(numbers)) for descriptors, numbers in batches)

    def extrapolation(self, descriptors: Tensor, numbers: Tensor) -> Tensor:
        """Number of functions of each atom outside the range seen in training, [N] int64."""
        return self.scaling.outside(descriptors, self.position(numbers))


def _functions_of(table: SymmetryTable, elements: tuple[int, ...]) -> SymmetryTable:
    """The table with only the given centres."""
    missing = [symbol(z) for z in elements if not table.functions.get(z)]
    if missing:
        known = ", ".join(symbol(z) for z in table.elements)
        raise SettingsError(
            f"symmetry-function table {table.name!r} has no functions for {', '.join(missing)} (has: {known})"
        )
    return SymmetryTable(table.name, {z: table.functions[z] for z in elements}, table.cutoff_function)
