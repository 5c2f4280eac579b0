"""Dipole moments from the charges that a potential predicts, mu = sum_i q_i R_i."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from rutile.graph.graph import Graph, build_graph
from rutile.graph.neighbors import find_edges
from rutile.potentials.combine import Mean
from rutile.potentials.modes import InMode
from rutile.potentials.parts.heads import Head
from rutile.potentials.placement import placement
from rutile.potentials.potential import Potential
from rutile.structures.structures import Structures, in_batches


def charges_of(potential: Potential) -> Callable[[Graph], Tensor] | None:
    """What gives the charge of each atom (e), [N], of a graph; None if the potential predicts none.

    Those of a committee are the means of its members.
    """
    inner: Any = potential
    while isinstance(inner, InMode | Head):
        inner = inner.potential if isinstance(inner, InMode) else inner.whole
    if isinstance(inner, Mean):
        members = [charges_of(member) for member in inner.members]  # type: ignore[arg-type]
        known = [m for m in members if m is not None]
        return (lambda graph: torch.stack([m(graph) for m in known]).mean(0)) if len(known) == len(members) else None
    own = getattr(inner, "charges", None)
    if isinstance(own, Tensor):  # fixed ones by atomic number
        return lambda graph: own[graph.numbers]
    silent = getattr(inner, "charge", True) is None  # could predict charges, was not asked to
    return own if callable(own) and not silent else None


def dipoles(structures: Structures, potential: Potential, atoms_at_once: int) -> Tensor | None:
    """Dipole moment of each system about its mean position (e Angstrom), [S, 3]; None if there are no charges.

    Args:
        structures: not periodic, or the moments depend on where the cells are cut.
        potential: may predict charges.
        atoms_at_once: systems are worked on together up to so many atoms.
    """
    charges = charges_of(potential)
    if charges is None:
        return None
    dtype, device = placement(potential)
    out = []
    for batch in in_batches(structures, atoms_at_once):
        placed = batch.to(dtype=dtype, device=device)
        with torch.no_grad():
            q = charges(build_graph(placed, find_edges(batch, potential.cutoff).to(device))).double().cpu()
        zero = torch.zeros(batch.n_systems, 3, dtype=torch.float64)
        mean = zero.index_add(0, batch.system, batch.positions.double()) / batch.counts[:, None]
        arm = batch.positions.double() - mean[batch.system]
        out.append(zero.index_add(0, batch.system, q[:, None] * arm))
    return torch.cat(out)
