"""The repulsion of screened nuclei (ZBL) as a potential of its own; `parts.repulsion` has the formulas."""

from __future__ import annotations

import torch
from torch import Tensor

from rutile.graph.graph import Graph
from rutile.potentials.parts.network import TrainablePotential
from rutile.potentials.parts.repulsion import CoreRepulsion
from rutile.potentials.settings.around import ZBLSettings


class ZBL(TrainablePotential):
    """The core repulsion as a potential of its own; has no parameters to train."""

    name = "zbl"
    knows_modes = True  # the same in all

    def __init__(
        self,
        settings: ZBLSettings,
        elements: tuple[int, ...],
        generator: torch.Generator | None = None,
        modes: tuple[str, ...] = ("",),
    ) -> None:
        """Prepare for some elements.

        Args:
            settings: where it ends.
            elements: atomic numbers.
            generator: not used.
            modes: names of the calc modes; the repulsion is the same in all.
        """
        super().__init__(settings, elements, modes)
        self.repulsion = CoreRepulsion(settings.end)
        self.cutoff = self.repulsion.reach(self.elements)

    def forward(self, graph: Graph) -> Tensor:
        """Energy of each atom (eV), [N] float64."""
        position = self.position(graph.numbers)
        energy: Tensor = self.repulsion(graph).double() + self.reference(position, graph.mode[graph.system])
        return energy
