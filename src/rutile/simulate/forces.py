"""Forces for drivers: a moving batch in float64 on the CPU, evaluated where the potential lives."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from rutile.core.reporting import Reporter
from rutile.graph.graph import build_graph
from rutile.graph.neighbors import find_edges
from rutile.graph.skin import SkinList
from rutile.potentials.evaluate import evaluate
from rutile.potentials.placement import placement
from rutile.potentials.potential import Potential, Prediction
from rutile.structures.structures import Structures, concatenate

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


def evaluate_many(
    structures: Structures, potential: Potential, atoms_at_once: int, reporter: Reporter, label: str = "Evaluating"
) -> Prediction:
    """Prediction for any number of structures, in float64 on the CPU.

    Args:
        structures: displaced or strained ones, say; any precision.
        potential: in any precision, on any device.
        atoms_at_once: consecutive structures are evaluated together up to so many atoms; a larger one alone.
        reporter: told how far it is.
        label: what the work is called.

    Raises:
        GeometryError: as `find_edges`.
    """
    dtype, device = placement(potential)
    parts = []
    batches = list(_batches(structures, atoms_at_once))
    for batch in reporter.track(batches, label, len(batches)):
        edges = find_edges(batch, potential.cutoff)
        p = evaluate(potential, batch.to(dtype=dtype, device=device), edges=edges.to(device))
        parts.append([x.double().cpu() for x in (p.energy, p.forces, p.stress, p.atom_energy)])
    return Prediction(*(torch.cat(column) for column in zip(*parts, strict=True)))


def _batches(structures: Structures, atoms: int) -> Iterator[Structures]:
    """Consecutive structures together, up to so many atoms."""
    waiting: list[Structures] = []
    for one in structures.split():
        if waiting and sum(w.n_atoms for w in waiting) + one.n_atoms > atoms:
            yield concatenate(waiting)
            waiting = []
        waiting.append(one)
    yield concatenate(waiting)
