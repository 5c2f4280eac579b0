"""TeaNet: a tensor-embedded atom network, with a Morse term and atomic charges.

Atoms carry scalars s, vectors v and symmetric traceless tensors t; bonds carry scalars b and vectors c, which point
from i to j and turn round with the bond, so that each bond is stored once. Layer l joins atoms closer than its cutoff
r_l. With u = r_ij / r_ij, w = exp(1 - 1 / (1 - (r_ij/r_l)^2)), all features bounded, s, v, t mapped to bond channels,

    z = [s_i + s_j, s_i s_j, v_i.v_j, t_i:t_j, (v_i - v_j).u, u.(t_i + t_j)u, b, c.u, c.c, radial functions]
    b <- b + w P_0(z),   c <- c + w [P_1(z) (v_i - v_j) + P_2(z) (t_i + t_j) u + P_3(z) y_1]
    m_i = n^-1/2 sum_j w [A b,  (B b) y_1 + C c,  (D b) y_2 + E sym0(c y_1)]      (scalar, vector, tensor)
    s <- s + Q_0(x),   v <- F v + (1 + Q_1(x)) m_v,   t <- G t + (1 + Q_2(x)) m_t,
    x = [s, m_s, v.v, t:t, m_v.m_v, m_t:m_t, v.m_v, t:m_t]

with perceptrons P and Q, maps A to G of the channels, y_1 = sqrt(3) u, y_2 = sqrt(15/2) sym0(u u), products . and :
over the root of the number of components, and n the mean number of neighbours, each counted as w. Sums of u and u u
over neighbours hold the angles of a bond order, so that three-body terms cost as much as pairs: with f_ik = f(r_ik)

    sum_k f_ik (h - cos(theta_jik))^2 = h^2 sum_k f_ik - 2h u_ij.(sum_k f_ik u_ik) + u_ij.(sum_k f_ik u_ik u_ik) u_ij

The network's number for an atom is

    R_1(s_i) + 1/2 sum_j w [R_2(b_ij) + D (exp(-2a (r - r_0)) - 2 exp(-a (r - r_0)))]

with D, a, r_0 of each pair of elements, and charges are a second output that the energy does not depend on.

After S. Takamoto, S. Izumi and J. Li, Comput. Mater. Sci. 207, 111280 (2022), doi:10.1016/j.commatsci.2022.111280,
with the cutoffs, the Morse term and the charges of PFP (S. Takamoto et al., Nat. Commun. 13, 2991 (2022),
doi:10.1038/s41467-022-30687-9). Neither publishes all of its parts: z, y, the perceptrons, normalisation and the
cutoff function, with which the energy is infinitely differentiable, are ours.
Letters of shapes: N atoms, S systems, E edges, B bonds, C channels of atoms, K of bonds, H hidden.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor, nn
from torch.nn import functional

from rutile.graph.graph import Graph
from rutile.potentials.parts.cartesian import apply, directions, normalise_rank, outer
from rutile.potentials.parts.cutoff import cutoff
from rutile.potentials.parts.embedding import ElementEmbedding
from rutile.potentials.parts.mlp import ACTIVATIONS, MLP
from rutile.potentials.parts.network import NetworkPotential
from rutile.potentials.parts.products import Linear
from rutile.potentials.parts.radial import bessel
from rutile.potentials.settings.teanet import TeaNetSettings

PAIR = 16
"""Numbers that describe a pair of elements."""
QUIET = 0.3
"""Factor of the first weights of what is added to features and of what gives energies."""
DENSITY = 0.06
"""Atoms per cubic Angstrom, for the number of neighbours before any training set is seen."""


@dataclass(frozen=True)
class Bonds:
    """Pairs of neighbours, shortest shells first, so that those within a layer's cutoff are the first ones."""

    i: Tensor
    """One end, [B] int64."""
    j: Tensor
    """The other end, [B] int64."""
    back: Tensor
    """Row to which the message to j goes: j, or N for an atom and its own image, whose two edges are both here."""
    r: Tensor
    """Length (Angstrom), [B]."""
    u: Tensor
    """Direction from i to j, [B, 3, 1]."""
    y_1: Tensor
    """sqrt(3) u, [B, 3, 1]."""
    y_2: Tensor
    """sqrt(15/2) sym0(u u), packed, [B, 5, 1]."""
    count: dict[float, int]
    """Cutoff (Angstrom) -> how many bonds are shorter."""

    def first(self, n: int) -> Bonds:
        """The first n bonds."""
        return Bonds(
            self.i[:n], self.j[:n], self.back[:n], self.r[:n], self.u[:n], self.y_1[:n], self.y_2[:n], self.count
        )


def plan_bonds(graph: Graph, cutoffs: Iterable[float]) -> dict[str, Tensor]:
    """Edges of each shell between the cutoffs, each bond once."""
    length = graph.vectors.detach().square().sum(1).sqrt()
    once = graph.i <= graph.j
    inner, shells = 0.0, {}
    for radius in sorted(set(cutoffs)):
        shells[f"shell {radius}"] = (once & (length >= inner) & (length < radius)).nonzero().squeeze(1)
        inner = radius
    return shells


def find_bonds(graph: Graph, cutoffs: Iterable[float]) -> Bonds:
    """Each bond once, in shells between the cutoffs."""
    cutoffs = sorted(set(cutoffs))
    plan = graph.plan or plan_bonds(graph, cutoffs)
    shells = [plan[f"shell {radius}"] for radius in cutoffs]
    squared = graph.vectors.square().sum(1)
    count = dict(zip(cutoffs, accumulate(shell.shape[0] for shell in shells), strict=True))
    chosen = torch.cat(shells)
    i, j = graph.i[chosen], graph.j[chosen]
    r = squared[chosen].clamp_min(1e-6).sqrt()  # atoms on one another: no direction, and no infinite gradient
    u = graph.vectors[chosen] / r[:, None]
    y = directions(u)
    return Bonds(i, j, torch.where(i == j, graph.n_atoms, j), r, u.unsqueeze(2), y[1], y[2], count)


def linear(fan_in: int, fan_out: int, generator: torch.Generator | None) -> nn.Linear:
    """A map of channels without bias, normal with variance 1 / (fan in), in float64."""
    layer = Linear(fan_in, fan_out, bias=False, dtype=torch.float64)
    with torch.no_grad():
        layer.weight.normal_(0.0, fan_in**-0.5, generator=generator)
    return layer


def quiet(network: MLP) -> MLP:
    """The perceptron with a small last layer, so that the first energies and their slopes are small."""
    with torch.no_grad():
        network.layers[-1].weight.mul_(QUIET)  # type: ignore[operator]
    return network


def per_rank(fan_in: int, fan_out: int, generator: torch.Generator | None) -> nn.ModuleList:
    """One map of channels for each rank."""
    return nn.ModuleList(linear(fan_in, fan_out, generator) for _ in range(3))


@dataclass
class State:
    """What atoms and bonds carry."""

    s: Tensor
    """[N, C]."""
    v: Tensor
    """[N, 3, C]."""
    t: Tensor
    """[N, 5, C]."""
    b: Tensor
    """[B, K]."""
    c: Tensor
    """[B, 3, K]."""


class Layer(nn.Module):
    """One exchange between atoms and bonds."""

    def __init__(self, settings: TeaNetSettings, radius: float, generator: torch.Generator | None) -> None:
        super().__init__()
        c, k, h = settings.channels, settings.bond_channels, settings.hidden
        self.radius = radius
        self.activation = ACTIVATIONS[settings.activation]
        self.to_bonds = per_rank(c, k, generator)
        self.ends = linear(c, h, generator)
        self.inner = MLP((8 * k + settings.n_radial, h), settings.activation, generator)
        self.gates = quiet(MLP((h, 4 * k), settings.activation, generator))
        self.from_scalars = linear(k, 3 * k, generator)
        self.from_vectors = linear(k, 2 * k, generator)
        self.to_atoms = per_rank(k, c, generator)
        self.keep = nn.ModuleList(linear(c, c, generator) for _ in range(2))
        self.update = quiet(MLP((8 * c, h, 3 * c), settings.activation, generator))

    def forward(self, state: State, bonds: Bonds, radial: Tensor, scale: Tensor) -> State:
        """The next state.

        Args:
            state: its bonds are those within the cutoff of this layer, as `bonds` are.
            bonds: [B].
            radial: radial functions of the bonds.
            scale: factor of the sums over neighbours, [].
        """
        w = cutoff("exp", bonds.r, self.radius).unsqueeze(1)
        s, v, t = (normalise_rank(x, rank) for rank, x in enumerate((state.s, state.v, state.t)))
        b, c = self._bonds(s, v, t, state, bonds, radial, w)
        m = self._messages(normalise_rank(b, 0), normalise_rank(c, 1), bonds, w * scale, s.shape[0])
        m_s, m_v, m_t = (normalise_rank(f(x), rank) for rank, (f, x) in enumerate(zip(self.to_atoms, m, strict=True)))
        x = [s, m_s, dot(v, v), dot(t, t), dot(m_v, m_v), dot(m_t, m_t), dot(v, m_v), dot(t, m_t)]
        q_s, q_v, q_t = self.update(torch.cat(x, 1)).chunk(3, 1)
        keep_v, keep_t = self.keep
        return State(
            state.s + q_s,
            keep_v(v) + (1 + q_v).unsqueeze(1) * m_v,
            keep_t(t) + (1 + q_t).unsqueeze(1) * m_t,
            b,
            c,
        )

    def _bonds(
        self, s: Tensor, v: Tensor, t: Tensor, state: State, bonds: Bonds, radial: Tensor, w: Tensor
    ) -> tuple[Tensor, Tensor]:
        """New scalars [B, K] and vectors [B, 3, K] of the bonds."""
        down_s, down_v, down_t = self.to_bonds
        atoms = torch.cat([down_s(s).unsqueeze(1), down_v(v), down_t(t)], 1)  # [N, 9, K]
        x_i, x_j = atoms.index_select(0, bonds.i), atoms.index_select(0, bonds.j)
        b, c = normalise_rank(state.b, 0), normalise_rank(state.c, 1)
        product = x_i * x_j
        dv = x_i[:, 1:4] - x_j[:, 1:4]
        tu = apply(x_i[:, 4:] + x_j[:, 4:], bonds.u)
        z = [
            product[:, 0],
            product[:, 1:4].sum(1) * 3**-0.5,
            product[:, 4:].sum(1) * 5**-0.5,
            (dv * bonds.u).sum(1),
            (tu * bonds.u).sum(1),
            b,
            (c * bonds.u).sum(1),
            dot(c, c),
            radial,
        ]
        ends = self.ends(s)
        pre = self.inner(torch.cat(z, 1)) + ends.index_select(0, bonds.i) + ends.index_select(0, bonds.j)
        p_b, p_v, p_t, p_u = (self.gates(self.activation(pre)) * w).chunk(4, 1)
        change = p_v.unsqueeze(1) * dv + p_t.unsqueeze(1) * tu + p_u.unsqueeze(1) * bonds.y_1
        return state.b + p_b, state.c + change

    def _messages(self, b: Tensor, c: Tensor, bonds: Bonds, w: Tensor, n: int) -> tuple[Tensor, Tensor, Tensor]:
        """Sums over the neighbours, weighted: scalars [N, K], vectors [N, 3, K], tensors [N, 5, K]."""
        to_s, to_v, to_t = (self.from_scalars(b) * w).unsqueeze(1).chunk(3, 2)
        c_v, c_t = (self.from_vectors(c) * w.unsqueeze(2)).chunk(2, 2)
        message = torch.cat([to_s, to_v * bonds.y_1 + c_v, to_t * bonds.y_2 + outer(c_t, bonds.y_1)], 1)
        nothing = message.new_zeros(n + 1, *message.shape[1:])
        here, there = nothing.index_add(0, bonds.i, message)[:n], nothing.index_add(0, bonds.back, message)[:n]
        # Seen from j a bond is turned round: vectors change sign.
        return here[:, 0] + there[:, 0], here[:, 1:4] - there[:, 1:4], here[:, 4:] + there[:, 4:]


class TeaNet(NetworkPotential):
    """Scalars, vectors and tensors on atoms and bonds; made in float64."""

    name = "teanet"
    reads = "atom_energy"
    knows_modes = True
    neighbors: Tensor

    def __init__(
        self,
        settings: TeaNetSettings,
        elements: tuple[int, ...],
        generator: torch.Generator | None = None,
        modes: tuple[str, ...] = ("",),
    ) -> None:
        """Make the layers with random weights.

        Args:
            settings: its parameters.
            elements: atomic numbers.
            generator: source of the random weights (default: torch's own).
            modes: names of the calc modes.
        """
        super().__init__(settings, elements, modes)
        self.cutoffs = settings.cutoffs
        self.cutoff = max(self.cutoffs)
        self.n_radial = settings.n_radial
        c, k, h, act = settings.channels, settings.bond_channels, settings.hidden, settings.activation
        n_modes = len(self.modes)
        self.embedding = ElementEmbedding(self.elements, n_modes, c, generator)
        self.pair_embedding = ElementEmbedding(self.elements, n_modes, PAIR, generator)
        self.pair = MLP((2 * PAIR, h, PAIR + 3), act, generator)
        self.first_bond = MLP((PAIR + self.n_radial, h, k), act, generator)
        self.layers = nn.ModuleList(Layer(settings, radius, generator) for radius in self.cutoffs)
        self.atom_energy = quiet(MLP((c, h, 1), act, generator))
        self.bond_energy = quiet(MLP((k, 1), act, generator))
        self.charge = MLP((c, h, 2), act, generator)
        expected = [expected_neighbors(radius) for radius in self.cutoffs]
        self.register_buffer("neighbors", torch.tensor(expected, dtype=torch.float64))

    def outputs(self, graph: Graph, position: Tensor) -> Tensor:
        """The network's number for each atom, [N], in units of the energy scale."""
        state, bonds, morse = self._features(graph, position)
        w = cutoff("exp", bonds.r, self.cutoff)
        last = self.bond_energy(normalise_rank(state.b, 0)).squeeze(1) * self.neighbors[-1].rsqrt()
        half = 0.5 * w * (last + morse)
        own = self.atom_energy(normalise_rank(state.s, 0)).squeeze(1)
        there = torch.cat([own, own.new_zeros(1)]).index_add(0, bonds.back, half)[: graph.n_atoms]
        return there.index_add(0, bonds.i, half)

    def plan_edges(self, graph: Graph) -> dict[str, Tensor]:
        """The bonds in their shells."""
        return plan_bonds(graph, self.cutoffs)

    def charges(self, graph: Graph) -> Tensor:
        """Charge of each atom (e), [N]; they sum to 0 in each system.

        q_i = a_i - g_i sum_k a_k / sum_k g_k with a and g > 0 from the scalars of the atom. The correction is shared by
        the whole system, so the energy, which must stay local, does not depend on the charges.

        Raises:
            ElementError: an element that the potential does not know.
        """
        state, _, _ = self._features(graph, self.position(graph.numbers))
        a, g = self.charge(normalise_rank(state.s, 0)).double().unbind(1)
        g = functional.softplus(g) + 1e-3
        total, weight = a.new_zeros(2, graph.n_systems).index_add(1, graph.system, torch.stack([a, g])).unbind()
        charges: Tensor = a - g * (total / weight.clamp_min(1e-3))[graph.system]
        return charges

    def learn_statistics(self, graphs: Iterable[Graph]) -> None:
        """The mean number of neighbours of each layer, weighted with its cutoff function; at least 1."""
        n_atoms, sums = 0, [0.0] * len(self.cutoffs)
        for graph in graphs:
            n_atoms += graph.n_atoms
            r = graph.vectors.double().norm(dim=1)
            sums = [total + float(cutoff("exp", r, c).sum()) for total, c in zip(sums, self.cutoffs, strict=True)]
        self.neighbors.copy_((torch.tensor(sums, dtype=torch.float64) / max(n_atoms, 1)).clamp_min(1.0))

    def _features(self, graph: Graph, position: Tensor) -> tuple[State, Bonds, Tensor]:
        """Atoms and bonds after the last layer, the bonds, and the Morse energy of each, [B]."""
        bonds = find_bonds(graph, self.cutoffs)
        radial = bessel(bonds.r, self.cutoff, self.n_radial)
        pair, morse = self._pairs(self.pair_embedding(graph, position), bonds)
        start = self.first_bond(torch.cat([pair, radial], 1))
        s = self.embedding(graph, position)
        (n, c), k = s.shape, start.shape[1]
        state = State(s, s.new_zeros(n, 3, c), s.new_zeros(n, 5, c), start[:0], start.new_zeros(0, 3, k))
        scales = self.neighbors.to(s.dtype).rsqrt()
        for radius, scale, layer in zip(self.cutoffs, scales, self.layers, strict=True):
            known, m = state.b.shape[0], bonds.count[radius]
            state.b = torch.cat([state.b, start[known:m]])
            state.c = torch.cat([state.c, state.c.new_zeros(m - known, 3, k)])
            state = layer(state, bonds.first(m), radial[:m], scale)
        return state, bonds, morse

    def _pairs(self, x: Tensor, bonds: Bonds) -> tuple[Tensor, Tensor]:
        """What each bond has from its two elements: features [B, PAIR], and the Morse energy [B]."""
        x_i, x_j = x.index_select(0, bonds.i), x.index_select(0, bonds.j)
        out = self.pair(torch.cat([x_i + x_j, x_i * x_j], 1))
        depth, a, r_0 = (functional.softplus(out[:, k] + start) for k, start in enumerate((-2.0, 1.0, 2.0)))
        decay = torch.exp(-a * (bonds.r - r_0))
        return out[:, 3:], depth * decay * (decay - 2.0)


def expected_neighbors(radius: float) -> float:
    """Neighbours at `DENSITY`, weighted with the cutoff function of a radius (Angstrom); at least 1."""
    r = torch.linspace(0.0, radius, 101, dtype=torch.float64)
    shells = 4.0 * math.pi * DENSITY * r.square() * cutoff("exp", r, radius)
    return max(float(torch.trapezoid(shells, r)), 1.0)


def dot(x: Tensor, y: Tensor) -> Tensor:
    """Product of two vectors or tensors over the root of the number of components, [..., C]."""
    return (x * y).sum(-2) / math.sqrt(x.shape[-2])
