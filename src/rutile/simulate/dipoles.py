"""Dipole moments from the charges that a potential predicts, mu = sum_i q_i R_i, and how they follow the atoms.

What changes a moment is known without branches, in crystals, too, and that is all that spectra and Born charges need:

    fixed charges            d mu = sum_i q_i dR_i
    charges along bonds      d mu = d sum_i p_i,  p_i = -1/2 sum_j flow_ij r_ij   (Anatase; everywhere)
    charges of atoms         d mu = d sum_i q_i R_i of molecules;  sum_i q_i dR_i of crystals, where what flows between
                             atoms is left out, since nothing says by which way it went (TeaNet)

The flux is d mu / dt = sum_i Z*_i v_i, with the Born charges Z*_i,ab = d mu_a / d R_ib; both by central differences.
Letters of shapes: N atoms, S systems.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from rutile.graph.graph import Edges, Graph, build_graph, within
from rutile.graph.neighbors import find_edges
from rutile.potentials.combine import Mean, Sum
from rutile.potentials.modes import InMode
from rutile.potentials.parts.heads import Head
from rutile.potentials.placement import placement
from rutile.potentials.potential import Potential
from rutile.structures.structures import Structures, concatenate, in_batches

STEP = 0.005
"""Largest move of an atom in differences of moments (Angstrom)."""


@dataclass(frozen=True)
class Polar:
    """How the moment of a system follows its atoms."""

    kind: Literal["fixed", "bonds", "atoms"]
    """Which of the three cases above."""
    of: Callable[[Graph], Tensor]
    """Charges of atoms (e), [N], or of bonds their moments (e Angstrom), [N, 3]."""
    cutoff: float
    """Of the graph that it needs (Angstrom)."""
    dtype: torch.dtype
    """Precision, and"""
    device: torch.device
    """place of the arithmetic."""

    def __call__(self, structures: Structures) -> Tensor:
        """Values of all atoms, in float64 where the structures are."""
        edges = find_edges(structures, self.cutoff) if self.kind != "fixed" else _no_edges(structures)
        graph = build_graph(structures.to(dtype=self.dtype, device=self.device), edges.to(self.device))
        with torch.no_grad():
            return self.of(graph).double().to(structures.positions.device)


def polar_of(potential: Potential) -> Polar | None:
    """How moments follow the atoms of a potential; None if it predicts no charges."""
    dtype, device = placement(potential)
    moments = _found(potential, "moments")
    if moments is not None:
        return Polar("bonds", moments, potential.cutoff, dtype, device)
    charges = charges_of(potential)
    if charges is None:
        return None
    fixed = isinstance(getattr(_bare(potential), "charges", None), Tensor)
    return Polar("fixed" if fixed else "atoms", charges, potential.cutoff, dtype, device)


def polar_of_ions(charges: Mapping[int, float]) -> Polar:
    """Fixed charges (e) by atomic number; of others 0."""
    table = torch.zeros(119, dtype=torch.float64)
    for number, charge in charges.items():
        table[number] = charge
    return Polar("fixed", lambda graph: table[graph.numbers], 0.0, torch.float64, torch.device("cpu"))


def change(plus: Structures, minus: Structures, polar: Polar) -> Tensor:
    """Moments of structures less those of others that differ little (e Angstrom), [S, 3].

    Args:
        plus: float64.
        minus: the same systems with other positions, not wrapped.
        polar: how moments follow atoms.
    """
    zero = torch.zeros(plus.n_systems, 3, dtype=torch.float64, device=plus.positions.device)
    if polar.kind == "fixed":
        each = polar(plus)[:, None] * (plus.positions - minus.positions)
        return zero.index_add(0, plus.system, each)
    high, low = polar(plus), polar(minus)
    if polar.kind == "bonds":
        return zero.index_add(0, plus.system, high - low)
    moving = 0.5 * (high + low)[:, None] * (plus.positions - minus.positions)
    flowing = 0.5 * (high - low)[:, None] * (plus.positions + minus.positions)
    flowing = torch.where(plus.pbc.any(1)[plus.system, None], 0.0, flowing)
    return zero.index_add(0, plus.system, moving + flowing)


def dipole_flux(structures: Structures, velocities: Tensor, polar: Polar) -> Tensor:
    """Flux d mu / dt of each system (e Angstrom/fs), [S, 3].

    Args:
        structures: float64.
        velocities: (Angstrom/fs), [N, 3]; of ions without the motion of the whole.
        polar: how moments follow atoms.

    Raises:
        GeometryError: as `find_edges`.
    """
    fastest = float(velocities.norm(dim=1).max()) if len(velocities) else 0.0
    if fastest == 0:
        return velocities.new_zeros(structures.n_systems, 3)
    time = STEP / fastest
    plus = structures.replace(positions=structures.positions + time * velocities)
    minus = structures.replace(positions=structures.positions - time * velocities)
    return change(plus, minus, polar) / (2 * time)


def born_charges(one: Structures, polar: Polar, atoms_at_once: int = 2000) -> Tensor:
    """Z* of each atom of one structure, Z_ab = d mu_a / d R_b (e), [N, 3, 3].

    Args:
        one: float64.
        polar: how moments follow atoms.
        atoms_at_once: displaced structures are worked on together up to so many atoms.

    Raises:
        GeometryError: as `find_edges`.
    """
    moves = torch.eye(3 * one.n_atoms, dtype=torch.float64).reshape(-1, one.n_atoms, 3) * STEP
    found = []
    together = max(1, atoms_at_once // max(1, one.n_atoms))
    for some in moves.split(together):
        plus = concatenate(one.replace(positions=one.positions + move) for move in some)
        minus = concatenate(one.replace(positions=one.positions - move) for move in some)
        found.append(change(plus, minus, polar) / (2 * STEP))
    return torch.cat(found).reshape(-1, 3, 3).mT.contiguous()


def _no_edges(structures: Structures) -> Edges:
    """For what needs no neighbours."""
    none = torch.zeros(0, dtype=torch.long, device=structures.positions.device)
    return Edges(none, none, none.reshape(0, 1).expand(0, 3), 0.0)


def _bare(potential: Potential) -> Any:
    """The potential without its choice of a mode or a head."""
    inner: Any = potential
    while isinstance(inner, InMode | Head):
        inner = inner.potential if isinstance(inner, InMode) else inner.whole
    return inner


def _terms(inner: Any) -> Iterator[Any]:
    """Terms of a sum that were asked to predict charges."""
    for term in inner.terms:
        if getattr(term, "charge", True) is not None and callable(getattr(term, "charges", None)):
            yield term


def _found(potential: Potential, name: str) -> Callable[[Graph], Tensor] | None:
    """The method of that name of the potential, of its members (their mean), or of the one term that has it."""
    inner = _bare(potential)
    if isinstance(inner, Mean):
        members = [_found(member, name) for member in inner.members]  # type: ignore[arg-type]
        known = [m for m in members if m is not None]
        return (lambda graph: torch.stack([m(graph) for m in known]).mean(0)) if len(known) == len(members) else None
    if isinstance(inner, Sum):
        every = list(_terms(inner))
        if len(every) != 1:
            return None
        term, near = _found(every[0], name), every[0].cutoff
        return None if term is None else lambda graph: term(within(graph, near))
    own = getattr(inner, name, None)
    silent = getattr(inner, "charge", True) is None  # could predict charges, was not asked to
    return own if callable(own) and not silent else None


def charges_of(potential: Potential) -> Callable[[Graph], Tensor] | None:
    """What gives the charge of each atom (e), [N], of a graph; None if the potential predicts none.

    Those of a committee are the means of its members.
    """
    own = getattr(_bare(potential), "charges", None)
    if isinstance(own, Tensor):  # fixed ones by atomic number
        return lambda graph: own[graph.numbers]
    return _found(potential, "charges")


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
