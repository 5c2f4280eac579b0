"""Forces for drivers: a moving batch in float64 on the CPU, evaluated where the potential lives."""

from __future__ import annotations

import torch
from torch import Tensor

from rutile.graph.graph import build_graph
from rutile.graph.skin import SkinList
from rutile.potentials.evaluate import evaluate
from rutile.potentials.placement import placement
from rutile.potentials.potential import Potential, Prediction
from rutile.structures.structures import Structures

SKIN = 0.3
"""Extra radius of the neighbour list (Angstrom)."""


class ForceField:
    """Evaluates a batch that moves a little at each call; the neighbour list is kept while it holds.

    Args:
        potential: in any precision, on any device.
        skin: extra radius of the neighbour list (Angstrom).
    """

    def __init__(self, potential: Potential, skin: float = SKIN) -> None:
        self.potential = potential
        self.neighbors = SkinList(potential.cutoff, skin)

    def __call__(self, structures: Structures) -> tuple[Prediction, Tensor]:
        """Prediction in float64 on the CPU, and the shortest distance in each structure (Angstrom), [S].

        Args:
            structures: in float64, on the CPU. The distance is infinite where no two atoms are within the cutoff.

        Raises:
            GeometryError: as `find_edges`.
        """
        edges = self.neighbors.edges(structures)
        distances = build_graph(structures, edges).vectors.norm(dim=1)
        closest = torch.full((structures.n_systems,), torch.inf, dtype=distances.dtype)
        closest = closest.scatter_reduce(0, structures.system[edges.i], distances, "amin")
        dtype, device = placement(self.potential)
        p = evaluate(self.potential, structures.to(dtype=dtype, device=device), edges=edges.to(device))
        return Prediction(*(x.double().cpu() for x in (p.energy, p.forces, p.stress, p.atom_energy))), closest
