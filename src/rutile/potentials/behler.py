"""Behler-Parrinello neural network potential.

    E = sum_i E_i,   E_i = s [ N_Z(G'_i) - N_Z(G' at G = 0) ] + E0_Z

with the symmetry functions G_i of atom i (`parts.symmetry_eager` has the formulas) and one network for each element
(`parts.descriptor_networks`).

Sources: J. Behler and M. Parrinello, Phys. Rev. Lett. 98, 146401 (2007), doi:10.1103/PhysRevLett.98.146401;
N. Artrith and A. Urban, Comput. Mater. Sci. 114, 135 (2016), doi:10.1016/j.commatsci.2015.11.047.
Letters of shapes: N atoms, E edges, K functions.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rutile.core.elements import symbol
from rutile.core.errors import SettingsError
from rutile.graph.graph import Graph
from rutile.potentials.parts.descriptor_networks import DescriptorNetworks
from rutile.potentials.parts.symmetry import SymmetryTable
from rutile.potentials.parts.symmetry_native import symmetry_functions, symmetry_jacobian, symmetry_vjps
from rutile.potentials.parts.tables import expand, table_key
from rutile.potentials.settings import BehlerSettings


class Behler(DescriptorNetworks):
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
        widths = [(len(self.table.functions[z]), *settings.hidden) for z in self.elements]
        self.make_networks(
            table_key(self.table), self.table.width, widths, settings.activation, settings.scaling, generator
        )

    def describe(self, graph: Graph) -> Tensor:
        """Symmetry functions of each atom, not scaled, differentiable in `graph.vectors`, [N, K]."""
        return symmetry_functions(self.table, graph)

    def describe_with_jacobian(self, graph: Graph) -> tuple[Tensor, Tensor]:
        """Symmetry functions [N, K] and d G(i_e) / d vectors(e), [E, K, 3] (no gradient attached)."""
        return symmetry_jacobian(self.table, graph)

    def vjps(self, graph: Graph, cotangents: Tensor) -> Tensor:
        """dE/dvectors [M, E, 3] of several energies from their dE/dG, [M, n, K]."""
        return symmetry_vjps(self.table, graph, cotangents)


def _functions_of(table: SymmetryTable, elements: tuple[int, ...]) -> SymmetryTable:
    """The table with only the given centres."""
    missing = [symbol(z) for z in elements if not table.functions.get(z)]
    if missing:
        known = ", ".join(symbol(z) for z in table.elements)
        raise SettingsError(
            f"symmetry-function table {table.name!r} has no functions for {', '.join(missing)} (has: {known})"
        )
    return SymmetryTable(table.name, {z: table.functions[z] for z in elements}, table.cutoff_function)
