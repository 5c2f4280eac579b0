"""Symmetry functions in plain PyTorch: the oracle of the compiled kernels, and what runs where they do not.

    G2_i = sum_j exp(-eta (r_ij - r_s)^2) fc(r_ij)
    G4_i = 2^(1-zeta) sum_{j<k} (1 + lambda cos t)^zeta exp(-eta [(r_ij-r_s)^2 + (r_ik-r_s)^2 + (r_jk-r_s)^2])
           fc(r_ij) fc(r_ik) fc(r_jk)
    G5_i = the same without the terms of r_jk

Source: J. Behler, J. Chem. Phys. 134, 074106 (2011), doi:10.1063/1.3553717. Triplets (edge a, edge b of one centre)
are made for a block of centres at a time; functions of the same elements share their exponentials and powers, so
that no array of triplets by functions exists. Letters: N atoms, E edges, T triplets, K functions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from rutile.graph.graph import Graph
from rutile.graph.triplets import chunks_of_centres, triplets
from rutile.potentials.parts.cutoff import cutoff_and_slope
from rutile.potentials.parts.symmetry import CutoffName, Kind, SymmetryFunction, SymmetryTable

TRIPLETS_AT_ONCE = 1_000_000
"""Bound on the triplets of one block of centres (a block has at least one centre)."""


def symmetry_functions(table: SymmetryTable, graph: Graph) -> Tensor:
    """Descriptors of every atom, [N, K], twice differentiable in `graph.vectors`.

    Columns follow the row order of the centre's table; shorter tables are padded with zeros.
    Atoms of an element without a table get zeros.
    """
    out = graph.vectors.new_zeros(graph.n_atoms, table.width)
    columns, values = [], []
    distance = torch.linalg.vector_norm(graph.vectors, dim=1)
    for radial in _radial_groups(table):
        edge = _edges_of(radial, graph)
        r, centre = distance[edge], graph.i[edge]
        fc, _ = cutoff_and_slope(table.cutoff_function, r, radial.r_c)
        for column, f in radial.functions:
            term = torch.exp(-f.eta * (r - f.r_s) ** 2) * fc
            columns.append(column)
            values.append(out.new_zeros(graph.n_atoms).index_add(0, centre, term))
    for angular, t in _angular_groups(table, graph, distance.detach()):
        u, v = graph.vectors[t.a], graph.vectors[t.b]
        terms = _Angular(angular, distance[t.a], distance[t.b], (u * v).sum(1), table.cutoff_function)
        for column, f in angular.functions:
            columns.append(column)
            values.append(out.new_zeros(graph.n_atoms).index_add(0, t.centre, terms.value(f)))
    if not values:
        return out
    return out.index_add(1, torch.tensor(columns, device=out.device), torch.stack(values, 1))


def symmetry_jacobian(table: SymmetryTable, graph: Graph) -> tuple[Tensor, Tensor]:
    """Descriptors [N, K] and J[e] = d G(i_e) / d vectors(e), [E, K, 3] (1/Angstrom), by the analytic formulas."""
    vectors = graph.vectors.detach()
    distance = torch.linalg.vector_norm(vectors, dim=1)
    out = vectors.new_zeros(graph.n_atoms, table.width)
    jacobian = vectors.new_zeros(len(vectors), table.width, 3)
    along = vectors.new_zeros(len(vectors), table.width)  # the part along the edge itself, dG/dr
    for radial in _radial_groups(table):
        edge = _edges_of(radial, graph)
        r = distance[edge]
        fc, slope = cutoff_and_slope(table.cutoff_function, r, radial.r_c)
        for column, f in radial.functions:
            gauss = torch.exp(-f.eta * (r - f.r_s) ** 2)
            out[:, column].index_add_(0, graph.i[edge], gauss * fc)
            along[:, column].index_add_(0, edge, gauss * (slope - 2.0 * f.eta * (r - f.r_s) * fc))
    for angular, t in _angular_groups(table, graph, distance):
        u, v = vectors[t.a], vectors[t.b]
        terms = _Angular(angular, distance[t.a], distance[t.b], (u * v).sum(1), table.cutoff_function)
        for column, f in angular.functions:
            out[:, column].index_add_(0, t.centre, terms.value(f))
            d_a, d_b, d_dot = terms.slopes(f)
            along[:, column].index_add_(0, t.a, d_a)
            along[:, column].index_add_(0, t.b, d_b)
            jacobian[:, column].index_add_(0, t.a, d_dot[:, None] * v)
            jacobian[:, column].index_add_(0, t.b, d_dot[:, None] * u)
    return out, jacobian + along[:, :, None] * (vectors / distance[:, None])[:, None, :]


@dataclass(frozen=True)
class _Group:
    """Functions that act on the same edges or triplets."""

    kind: Kind
    centres: tuple[int, ...]
    neighbors: tuple[int, ...]
    r_c: float
    functions: tuple[tuple[int, SymmetryFunction], ...]
    """(column, function)."""


@dataclass(frozen=True)
class _Triplets:
    a: Tensor
    """[T] first edge."""
    b: Tensor
    """[T] second edge."""
    centre: Tensor
    """[T] atom."""

    def where(self, mask: Tensor) -> _Triplets:
        keep = mask.nonzero().squeeze(1)
        return _Triplets(self.a[keep], self.b[keep], self.centre[keep])


def _groups(table: SymmetryTable) -> list[_Group]:
    """Functions by (kind, neighbours, cutoff, centres); centres with the same function in the same column share it."""
    centres: dict[tuple[int, SymmetryFunction], list[int]] = {}
    for z in table.elements:
        for column, f in enumerate(table.functions[z]):
            centres.setdefault((column, f), []).append(z)
    groups: dict[tuple[Kind, tuple[int, ...], tuple[int, ...], float], list[tuple[int, SymmetryFunction]]] = {}
    for (column, f), zs in centres.items():
        groups.setdefault((f.kind, tuple(zs), f.neighbors, f.r_c), []).append((column, f))
    return [_Group(*key, tuple(members)) for key, members in groups.items()]


def _radial_groups(table: SymmetryTable) -> list[_Group]:
    return [g for g in _groups(table) if g.kind == "G2"]


def _edges_of(group: _Group, graph: Graph) -> Tensor:
    """Edges from the group's centres to its neighbour element, [E'] int64."""
    right = _is_one_of(graph.numbers, group.centres)[graph.i] & (graph.numbers == group.neighbors[0])[graph.j]
    return right.nonzero().squeeze(1)


def _angular_groups(table: SymmetryTable, graph: Graph, distance: Tensor) -> Iterator[tuple[_Group, _Triplets]]:
    """Every angular group with its triplets, block of centres by block of centres."""
    groups = [g for g in _groups(table) if g.kind != "G2"]
    if not groups:
        return
    is_centre = {g.centres: _is_one_of(graph.numbers, g.centres) for g in groups}
    for atoms, edges in chunks_of_centres(graph.i, graph.n_atoms, TRIPLETS_AT_ONCE):
        a, b = triplets(graph.i[edges] - atoms.start, atoms.stop - atoms.start)
        block = _Triplets(a + edges.start, b + edges.start, graph.i[edges][a])
        first, second = graph.numbers[graph.j[block.a]], graph.numbers[graph.j[block.b]]
        low, high = torch.minimum(first, second), torch.maximum(first, second)
        longest = torch.maximum(distance[block.a], distance[block.b])
        opposite = torch.linalg.vector_norm((graph.vectors[block.a] - graph.vectors[block.b]).detach(), dim=1)
        for group in groups:
            reach = longest if group.kind == "G5" else torch.maximum(longest, opposite)
            chosen = (low == group.neighbors[0]) & (high == group.neighbors[1]) & (reach < group.r_c)
            yield group, block.where(chosen & is_centre[group.centres][block.centre])


def _is_one_of(numbers: Tensor, elements: tuple[int, ...]) -> Tensor:
    return torch.isin(numbers, torch.tensor(elements, device=numbers.device))


class _Angular:
    """Values and derivatives of the functions of one group on its triplets; remembers what functions share.

    The variables of a triplet are p = r_ij, q = r_ik and s = r_ij . r_ik; cos t = s / (p q), r_jk^2 = p^2 + q^2 - 2 s.
    """

    def __init__(self, group: _Group, p: Tensor, q: Tensor, s: Tensor, cutoff: CutoffName) -> None:
        self.p, self.q = p, q
        self.cos = s / (p * q)
        self.narrow = group.kind == "G4"
        self.fp, self.fp_slope = cutoff_and_slope(cutoff, p, group.r_c)
        self.fq, self.fq_slope = cutoff_and_slope(cutoff, q, group.r_c)
        self.weight = self.fp * self.fq
        if self.narrow:
            self.o = torch.sqrt(p * p + q * q - 2.0 * s)  # the opposite side r_jk
            self.fo, self.fo_slope = cutoff_and_slope(cutoff, self.o, group.r_c)
            self.weight = self.weight * self.fo
        self._squares: dict[float, Tensor] = {}
        self._radial: dict[tuple[float, float], Tensor] = {}
        self._powers: dict[tuple[float, float], Tensor] = {}

    def value(self, f: SymmetryFunction) -> Tensor:
        """Contribution of each triplet, [T]."""
        return self._power(f.lambda_, f.zeta) * self._gauss(f.eta, f.r_s)

    def slopes(self, f: SymmetryFunction) -> tuple[Tensor, Tensor, Tensor]:
        """Derivatives of `value` with respect to p, q and s, [T] each."""
        power, gauss = self._power(f.lambda_, f.zeta), self._gauss(f.eta, f.r_s)
        bare = self._bare(f.eta, f.r_s)
        d_cos = f.lambda_ * f.zeta * self._lower_power(f) * gauss
        d_p = -d_cos * self.cos / self.p
        d_q = -d_cos * self.cos / self.q
        d_s = d_cos / (self.p * self.q)
        value = power * gauss
        rest = power * bare
        fo = self.fo if self.narrow else torch.ones_like(self.p)
        d_p = d_p - 2.0 * f.eta * (self.p - f.r_s) * value + rest * self.fp_slope * self.fq * fo
        d_q = d_q - 2.0 * f.eta * (self.q - f.r_s) * value + rest * self.fq_slope * self.fp * fo
        if self.narrow:
            d_o = -2.0 * f.eta * (self.o - f.r_s) * value + rest * self.fo_slope * self.fp * self.fq
            d_p = d_p + d_o * self.p / self.o
            d_q = d_q + d_o * self.q / self.o
            d_s = d_s - d_o / self.o
        return d_p, d_q, d_s

    def _bare(self, eta: float, r_s: float) -> Tensor:
        """The Gaussians without cutoff functions."""
        if r_s not in self._squares:
            square = (self.p - r_s) ** 2 + (self.q - r_s) ** 2
            self._squares[r_s] = square + (self.o - r_s) ** 2 if self.narrow else square
        return torch.exp(-eta * self._squares[r_s])

    def _gauss(self, eta: float, r_s: float) -> Tensor:
        if (eta, r_s) not in self._radial:
            self._radial[eta, r_s] = self._bare(eta, r_s) * self.weight
        return self._radial[eta, r_s]

    def _power(self, lambda_: float, zeta: float) -> Tensor:
        """2^(1 - zeta) (1 + lambda cos t)^zeta = 2 x^zeta with x = (1 + lambda cos t) / 2 in [0, 1]."""
        if (lambda_, zeta) not in self._powers:
            self._powers[lambda_, zeta] = 2.0 * _pow(self._half(lambda_), zeta)
        return self._powers[lambda_, zeta]

    def _lower_power(self, f: SymmetryFunction) -> Tensor:
        """x^(zeta - 1), so that d power / d cos t = lambda zeta x^(zeta - 1)."""
        return _pow(self._half(f.lambda_), f.zeta - 1.0)

    def _half(self, lambda_: float) -> Tensor:
        return 0.5 * (1.0 + lambda_ * self.cos)


def _pow(x: Tensor, exponent: float) -> Tensor:
    """x^exponent for x in [0, 1] up to rounding; whole exponents by repeated squaring, all derivatives finite."""
    if exponent != int(exponent):
        # The floor is passed only within 1e-6 rad of 0 or 180 degrees, where the angle's derivative vanishes.
        return x.clamp_min(1e-13 if x.dtype == torch.float64 else 1e-6) ** exponent
    n, result = int(exponent), torch.ones_like(x)
    while n:
        if n & 1:
            result = result * x
        n >>= 1
        if n:
            x = x * x
    return result
