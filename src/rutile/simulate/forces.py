"""Forces for drivers: a moving batch in float64, evaluated in the precision and on the device of the potential."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rutile.core.reporting import Reporter
from rutile.graph.graph import Edges
from rutile.graph.neighbors import find_edges
from rutile.graph.skin import SkinList
from rutile.potentials.combine import Spread, mean, spread
from rutile.potentials.evaluate import evaluate, evaluate_members
from rutile.potentials.placement import placement
from rutile.potentials.potential import Potential, Prediction
from rutile.structures.structures import Structures, concatenate

SKIN = 0.3
"""Extra radius of the neighbour list (Angstrom)."""


@dataclass(frozen=True)
class Look:
    """A batch as its potentials see it, in float64, where the structures are."""

    prediction: Prediction
    """Of a committee the mean."""
    closest: Tensor
    """Shortest distance in each structure (Angstrom), [S]; infinite where no two atoms are within the cutoff."""
    spread: Spread | None
    """Of the members; None: there is one only."""


class ForceField:
    """Evaluates a batch that moves a little at each call; the neighbour list is kept while it holds.

    Args:
        potential: one, or the members of a committee; in any precision, on any device.
        skin: extra radius of the neighbour list (Angstrom).
    """

    def __init__(self, potential: Potential | Sequence[Potential], skin: float = SKIN) -> None:
        self.members: list[Potential] = list(potential) if isinstance(potential, Sequence) else [potential]
        self.neighbors = SkinList(self.members[0].cutoff, skin)
        self.dtype, self.device = placement(self.members[0])

    def __call__(self, structures: Structures) -> tuple[Prediction, Tensor]:
        """Prediction and shortest distances of `look`."""
        seen = self.look(structures)
        return seen.prediction, seen.closest

    def look(self, structures: Structures) -> Look:
        """Evaluate.

        Args:
            structures: in float64, on any device.

        Raises:
            GeometryError: as `find_edges`.
        """
        edges, squared = self.neighbors.near(structures)
        at = structures.to(dtype=self.dtype, device=self.device)
        every = evaluate_members(self.members, at, edges=edges.to(self.device))
        home = structures.positions.device
        several = spread([_in_float64(p, home) for p in every]) if len(every) > 1 else None
        return Look(_in_float64(mean(every) if several else every[0], home), _closest(structures, edges, squared),
                    several)  # fmt: skip


def _closest(structures: Structures, edges: Edges, squared: Tensor) -> Tensor:
    """Shortest edge of each structure, [S]."""
    if structures.n_systems == 1:
        return squared.amin(0, keepdim=True).sqrt() if len(squared) else squared.new_full((1,), torch.inf)
    none = squared.new_full((structures.n_systems,), torch.inf)
    return none.scatter_reduce(0, structures.system[edges.i], squared, "amin").sqrt()


def _in_float64(p: Prediction, device: torch.device) -> Prediction:
    return Prediction(*(x.double().to(device) for x in (p.energy, p.forces, p.stress, p.atom_energy)))


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
    together = list(batches(structures, atoms_at_once))
    for batch in reporter.track(together, label, len(together)):
        edges = find_edges(batch, potential.cutoff)
        p = evaluate(potential, batch.to(dtype=dtype, device=device), edges=edges.to(device))
        parts.append([x.double().cpu() for x in (p.energy, p.forces, p.stress, p.atom_energy)])
    return Prediction(*(torch.cat(column) for column in zip(*parts, strict=True)))


def batches(structures: Structures, atoms: int) -> Iterator[Structures]:
    """Consecutive structures together, up to so many atoms."""
    waiting: list[Structures] = []
    for one in structures.split():
        if waiting and sum(w.n_atoms for w in waiting) + one.n_atoms > atoms:
            yield concatenate(waiting)
            waiting = []
        waiting.append(one)
    yield concatenate(waiting)
