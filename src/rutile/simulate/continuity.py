"""How much energy and forces of a potential jump where its view of an atom changes.

An atom j is moved along its line to a neighbour i until its distance is r* + g/2 and r* - g/2, where r* is the cutoff
or the distance of another neighbour of i. With f the energy or a force,

    f(r* + g/2) - f(r* - g/2) = J + c1 g + c2 g^2 + ...

and J, the jump, is what is left at g = 0. It is extrapolated from four gaps through the cubic polynomial in g; the
remainder is of order g^4, so that the jump of a smooth potential comes out below 1e-9 eV.
Letters of shapes: N atoms, E edges, G gaps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from rutile.core.reporting import Reporter
from rutile.graph.graph import build_graph
from rutile.graph.neighbors import find_edges
from rutile.potentials.evaluate import evaluate
from rutile.potentials.placement import placement
from rutile.potentials.potential import Potential
from rutile.structures.structures import Structures, concatenate

GAPS = (2e-3, 1e-3, 5e-4, 2.5e-4)
"""Widths of the gap (Angstrom)."""
WEIGHTS = (-1 / 21, 14 / 21, -56 / 21, 64 / 21)
"""Of the differences at those gaps in the extrapolation to zero."""
REACH = 0.5
"""Atoms are moved at most so far (Angstrom)."""
CUTOFF, NEAREST, RANK = (
    "crosses the cutoff",
    "two of the three nearest exchange rank",
    "two of one element exchange rank",
)


@dataclass(frozen=True)
class Event:
    """A move of one atom through a change in what a potential sees."""

    kind: str
    """Which change."""
    centre: int
    """Atom i."""
    moved: int
    """Atom j."""
    way: tuple[float, float, float]
    """Direction from i to j."""
    start: float
    """Distance of i and j in the structure (Angstrom)."""
    border: float
    """r*, the distance at which the change happens (Angstrom)."""


@dataclass(frozen=True)
class Jump:
    """What happens at an event."""

    event: Event
    """The move."""
    energy: float
    """Jump of the total energy (eV), unsigned."""
    force: float
    """Largest jump of the force on an atom (eV/Angstrom)."""


def find_events(structure: Structures, cutoff: float, most: int) -> list[Event]:
    """Changes that small moves of single atoms bring about; of each kind those with the smallest moves.

    Args:
        structure: one structure.
        cutoff: of the potential (Angstrom).
        most: events of each kind.
    """
    edges = find_edges(structure, cutoff + REACH)
    vectors = build_graph(structure, edges).vectors
    r = vectors.norm(dim=1)
    i, j, distance = edges.i.tolist(), edges.j.tolist(), r.tolist()
    way = (vectors / r[:, None]).tolist()

    def event(kind: str, e: int, border: float) -> Event:
        return Event(kind, i[e], j[e], tuple(way[e]), distance[e], border)

    found = [event(CUTOFF, e, cutoff) for e in range(len(i)) if i[e] < j[e]]
    for centre in range(structure.n_atoms):
        near = [e for e in range(*_span(edges.i, centre)) if distance[e] < cutoff]
        near.sort(key=distance.__getitem__)
        kinds = [(NEAREST, near[:3])]
        kinds += [(RANK, [e for e in near if structure.numbers[j[e]] == z]) for z in structure.numbers.unique()]
        for kind, row in kinds:
            found += [event(kind, b, distance[a]) for a, b in pairwise(row) if len({j[a], j[b], centre}) == 3]
    found = [x for x in found if abs(x.start - x.border) < REACH]
    found.sort(key=lambda x: abs(x.start - x.border))
    return [x for kind in (CUTOFF, NEAREST, RANK) for x in [y for y in found if y.kind == kind][:most]]


def _span(i: Tensor, centre: int) -> tuple[int, int]:
    """First edge of a centre and the one after its last."""
    first, end = torch.searchsorted(i, torch.tensor([centre, centre + 1])).tolist()
    return first, end


def measure_jumps(
    structure: Structures, events: Sequence[Event], potential: Potential, reporter: Reporter
) -> list[Jump]:
    """The jump at each event.

    Args:
        structure: one structure, the one the events were found in.
        events: moves of its atoms.
        potential: in float64, or noise is measured.
        reporter: told how far it is.
    """
    dtype, device = placement(potential)
    weights = torch.tensor(WEIGHTS, dtype=torch.float64)
    jumps = []
    for event in reporter.track(events, "jumps", len(events)):
        sides = [event.border + s * g / 2 for s in (1, -1) for g in GAPS]
        p = evaluate(potential, concatenate(_moved(structure, event, x) for x in sides).to(dtype=dtype, device=device))
        outer, inner = p.energy.double().cpu().view(2, -1)  # [G]
        energy = float(weights @ (outer - inner))
        outer, inner = p.forces.double().cpu().view(2, len(GAPS), -1)  # [G, 3 N]
        force = (weights @ (outer - inner)).view(-1, 3).norm(dim=1).max()
        jumps.append(Jump(event, abs(energy), float(force)))
    return jumps


def _moved(structure: Structures, event: Event, distance: float) -> Structures:
    """The structure with the event's atom at a distance from its centre."""
    step = (distance - event.start) * structure.positions.new_tensor([event.way])
    moved = torch.tensor([event.moved], device=step.device)
    return structure.replace(positions=structure.positions.index_add(0, moved, step))


def rattled_block(elements: Sequence[int], spacing: float, diagonal: float, generator: torch.Generator) -> Structures:
    """A cluster for want of a better structure: a rattled cubic block with the elements in turn.

    Args:
        elements: atomic numbers.
        spacing: distance of neighbours (Angstrom).
        diagonal: longest distance in the block, at least (Angstrom).
        generator: source of the random numbers.
    """
    side = torch.arange(max(2, math.ceil(diagonal / (spacing * math.sqrt(3))) + 1))
    sites = torch.cartesian_prod(side, side, side)
    kind = (sites.sum(1) + sites[:, 0] // 2) % len(elements)
    rattle = 0.05 * spacing * torch.randn(len(sites), 3, generator=generator, dtype=torch.float64)
    return Structures(
        torch.tensor(list(elements))[kind],
        spacing * sites.double() + rattle,
        torch.zeros(1, 3, 3, dtype=torch.float64),
        torch.zeros(1, 3, dtype=torch.bool),
        torch.zeros(len(sites), dtype=torch.long),
    )
