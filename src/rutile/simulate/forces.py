"""Forces for drivers: a moving batch in float64, evaluated in the precision and on the device of the potential."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from rutile.core.reporting import Reporter
from rutile.graph.graph import Edges, Graph, build_graph
from rutile.graph.neighbors import find_edges
from rutile.graph.skin import SkinList
from rutile.potentials.combine import Spread, mean, spread
from rutile.potentials.evaluate import evaluate, evaluate_members
from rutile.potentials.placement import placement, short_of_memory
from rutile.potentials.potential import Potential, Prediction
from rutile.simulate.keeper import keeper, key_of
from rutile.structures.structures import Structures, in_batches

PREDICTED = ("energy", "forces", "stress", "atom_energy")
"""Fields of a prediction."""
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

    pieces: int
    """Parts in which a batch is evaluated because memory was short; 1: all at once."""
    too_large: list[int]
    """Structures of the last batch for each of which alone memory was short; what is said of them is NaN."""

    def __init__(self, potential: Potential | Sequence[Potential], skin: float = SKIN) -> None:
        self.members: list[Potential] = list(potential) if isinstance(potential, Sequence) else [potential]
        self.neighbors = SkinList(self.members[0].cutoff, skin, reuse=True)
        self.dtype, self.device = placement(self.members[0])
        self.pieces, self.too_large = 1, []

    def keep(self, which: Tensor) -> None:
        """Forget structures that leave the batch, [S] bool, so that the others' neighbours need not be found again."""
        self.neighbors.keep(which)

    def __call__(self, structures: Structures) -> tuple[Prediction, Tensor]:
        """Prediction and shortest distances of `look`."""
        seen = self.look(structures)
        return seen.prediction, seen.closest

    def look(self, structures: Structures) -> Look:
        """Evaluate; where memory is short, in parts, from then on.

        Args:
            structures: in float64, on any device.

        Raises:
            GeometryError: as `find_edges`.
        """
        graph, closest = self.neighbors.graph(structures, dtype=self.dtype)
        self.too_large = []
        every = self._in_parts(structures, graph, 0, structures.n_systems, self.pieces)
        several = spread(every) if len(every) > 1 else None
        return Look(mean(every) if several else every[0], closest, several)

    def _in_parts(self, structures: Structures, graph: Graph, first: int, last: int, pieces: int) -> list[Prediction]:
        """What each member says of structures from the first to before the last, in at least so many parts."""
        if pieces <= 1 or last - first < 2:
            try:
                return self._whole(*part_of(structures, graph, first, last))
            except (RuntimeError, MemoryError) as error:
                if not short_of_memory(error):
                    raise
            torch.cuda.empty_cache()  # nothing without a GPU
            if last - first < 2:
                self.too_large.append(first)
                return [_nothing(int((structures.system == first).sum()), structures.positions.device)] * len(
                    self.members
                )
            self.pieces *= 2
        middle = (first + last) // 2
        parts = [
            self._in_parts(structures, graph, first, middle, pieces // 2),
            self._in_parts(structures, graph, middle, last, pieces // 2),
        ]
        return [_one_after_another(a, b) for a, b in zip(*parts, strict=True)]

    def _whole(self, structures: Structures, graph: Graph) -> list[Prediction]:
        """What each member says of all structures at once."""
        at = structures.to(dtype=self.dtype, device=self.device)
        every = evaluate_members(self.members, at, graph=placed_graph(graph, self.dtype, self.device))
        return [_in_float64(p, structures.positions.device) for p in every]


def part_of(structures: Structures, graph: Graph, first: int, last: int) -> tuple[Structures, Graph]:
    """Structures from the first to before the last of a batch, with their graph."""
    if first == 0 and last == structures.n_systems:
        return structures, graph
    a, b = torch.searchsorted(structures.system, torch.tensor([first, last])).tolist()
    c, d = torch.searchsorted(graph.i, torch.tensor([a, b])).tolist()
    s = structures
    part = Structures(s.numbers[a:b], s.positions[a:b], s.cell[first:last], s.pbc[first:last], s.system[a:b] - first)
    none = Edges(graph.i[:0], graph.j[:0], graph.i.new_zeros(0, 3), 0.0)
    empty = build_graph(part, none, graph.mode[first:last])
    return part, dataclasses.replace(empty, i=graph.i[c:d] - a, j=graph.j[c:d] - a, vectors=graph.vectors[c:d])


def placed_graph(graph: Graph, dtype: torch.dtype, device: torch.device) -> Graph:
    """A graph where a potential lives."""
    whole = {name: getattr(graph, name).to(device) for name in ("numbers", "system", "i", "j", "mode", "pbc")}
    real = {name: getattr(graph, name).to(device=device, dtype=dtype) for name in ("vectors", "positions", "cell")}
    return dataclasses.replace(graph, **whole, **real)


def _one_after_another(a: Prediction, b: Prediction) -> Prediction:
    """Predictions for two batches as for one."""
    names = ("energy", "forces", "stress", "atom_energy")
    return Prediction(*(torch.cat([getattr(a, name), getattr(b, name)]) for name in names))


def _nothing(n_atoms: int, device: torch.device) -> Prediction:
    """Of a structure that cannot be evaluated."""
    shapes = ((1,), (n_atoms, 3), (1, 3, 3), (n_atoms,))
    return Prediction(*(torch.full(shape, torch.nan, dtype=torch.float64, device=device) for shape in shapes))


def _in_float64(p: Prediction, device: torch.device) -> Prediction:
    return Prediction(*(x.double().to(device) for x in (p.energy, p.forces, p.stress, p.atom_energy)))


def evaluate_many(
    structures: Structures, potential: Potential, atoms_at_once: int, reporter: Reporter, label: str = "Evaluating"
) -> Prediction:
    """Prediction for any number of structures, in float64 on the CPU; what a keeper has is not evaluated again.

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
    parts, kept = [], keeper()
    together = list(in_batches(structures, atoms_at_once)) or [structures]
    for batch in reporter.track(together, label, len(together)):
        key = "" if kept is None else key_of("evaluate", batch)
        known = None if kept is None else kept.recall(key)
        if known is not None:
            parts.append([torch.from_numpy(np.array(known[name])) for name in PREDICTED])
            continue
        edges = find_edges(batch, potential.cutoff)
        p = evaluate(potential, batch.to(dtype=dtype, device=device), edges=edges.to(device))
        parts.append([getattr(p, name).detach().double().cpu() for name in PREDICTED])
        if kept is not None:
            kept.keep(key, {name: x.numpy() for name, x in zip(PREDICTED, parts[-1], strict=True)})
    return Prediction(*(torch.cat(column) for column in zip(*parts, strict=True)))
