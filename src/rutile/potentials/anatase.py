"""Anatase: a network of scalars, vectors and rank-2 tensors in which sums over neighbours are matrix products.

State of atom i, with C channels each: scalars s, vectors v, symmetric traceless tensors t (`parts.cartesian`), stacked
as nine components. An edge is described by its nine direction components Y_m and K learned radial functions

    b_k(r) = a f(r) network_k(n^-p sin(n pi r / r_c) / r for n = 1, 2, ..),   f = exp(-u/(1 - u)),  u = (r / r_c)^4,

the same in all layers of one cutoff, with p = `wave_decay`; all derivatives of f vanish at r_c, and a makes the mean
over the training set of sum_j (a f)^2 = 1. One layer, with x = (n[s], v, t):

    G_i^{mk,aq} = sum_j b_k(r_ij) Y_m(r_ij) X_j^{aq}              X = W_x x: Q channels of all components a
    A_i^l  = n[ sum over couplings (l1, l2 -> l) and k, q of W^{kq} (G coupled) ] (1 + film(Z_i, mode))
    B_i^l  = sum over couplings (l1, l2 -> l) of w^c A^{l1} A^{l2},       D_i = sum_l w_l A^l . B^l
    o_i    = network(s, A^0, B^0, D, e)                                   e: vector of element and calc mode
    s <- s + o_0,   (v, t) <- W_s (v, t) + (1 + o_1) W_m (A, B)

with n[x] = x / sqrt(1 + mean over channels of |x|^2/(2l+1)); (v, t) go on to the next layer as they are, or through n
if `normalised_states` is set, which fits hot molecules worse. The energy is a network of the scalars of all layers,
or the mean of several (`parts.heads`), to which that of charges comes if they are asked for (`parts.charges`).

The sum over neighbours comes before the mixing with the channels (as in the atomic cluster expansion: R. Drautz, Phys.
Rev. B 99, 014104 (2019), doi:10.1103/PhysRevB.99.014104), so that nothing as large as edges x components x channels
exists, and it is one batched matrix product over padded rows of neighbours. Learned products of body order 4 in each
layer as in MACE (I. Batatia et al., arXiv:2206.07697). Letters: N atoms, M places of a row, K, Q, C as above.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from rutile.graph.graph import Graph
from rutile.potentials.parts.cartesian import COUPLINGS, coupling_constants, direction_constants, stacked_directions
from rutile.potentials.parts.charges import BondCharges, far_coulomb
from rutile.potentials.parts.dense import SILU_GAIN, Dense
from rutile.potentials.parts.embedding import ElementEmbedding
from rutile.potentials.parts.heads import HeadsDense
from rutile.potentials.parts.network import NetworkPotential
from rutile.potentials.parts.padded import pad_edges, plan_places
from rutile.potentials.parts.products import unrounded
from rutile.potentials.settings import AnataseSettings

SIZE = (1, 3, 5)
SQUARES = ("000", "110", "220", "011", "121", "022", "112", "222")
"""Couplings of a feature with itself that differ, by rank of the result."""


class Anatase(NetworkPotential):
    """See the module.

    Args:
        settings: parameters.
        elements: atomic numbers.
        generator: source of the first weights.
        modes: names of the calc modes.
    """

    name = "anatase"
    reads = "hidden"
    knows_modes = True
    pads_neighbours = True
    spread: Tensor
    directions: Tensor

    def __init__(
        self,
        settings: AnataseSettings,
        elements: tuple[int, ...],
        generator: torch.Generator | None = None,
        modes: tuple[str, ...] = ("",),
    ) -> None:
        super().__init__(settings, elements, modes)
        self.cutoffs = settings.cutoffs
        self.cutoff = max(self.cutoffs)
        self.distinct = sorted(set(self.cutoffs))
        self.n_waves, self.wave_decay = settings.waves, settings.wave_decay
        self.split = (4, 5) if settings.couplings == "light" else (9,)
        self.embedding = ElementEmbedding(self.elements, len(self.modes), settings.embedding, generator)
        self.start = Dense(settings.embedding, settings.channels, generator)
        last = len(self.cutoffs) - 1
        self.layers = nn.ModuleList(
            Layer(settings, generator, first=k == 0, last=k == last) for k in range(len(self.cutoffs))
        )
        self.n_heads = settings.heads
        width = settings.channels * (last + 1) + settings.embedding
        self.hidden = Dense(width, settings.readout * settings.heads, generator)
        self.out = HeadsDense(settings.readout, settings.heads, generator, gain=SILU_GAIN)
        widths = (settings.waves, settings.radial_hidden, settings.radial_hidden, settings.radial)
        self.radial = nn.ModuleList(radial_network(widths, generator) for _ in self.distinct)
        self.charge = BondCharges(width, generator) if settings.electrostatics else None
        self.register_buffer("spread", torch.ones(len(self.distinct), dtype=torch.float64))
        self.register_buffer("directions", direction_constants(), persistent=False)

    def learn_statistics(self, graphs: Iterable[Graph]) -> None:
        """Root of the mean number of neighbours, counted with the weights f^2, of each cutoff."""
        sums, n = torch.zeros_like(self.spread), 0
        for graph in graphs:
            n += graph.n_atoms
            r = graph.vectors.to(sums.dtype).norm(dim=1)
            sums += torch.stack([fade(r, r_c).square().sum() for r_c in self.distinct])
        self.spread.copy_(torch.where(sums > 0, sums / max(n, 1), torch.ones_like(sums)).sqrt())

    def edge_features(self, graph: Graph, r_c: float) -> tuple[list[Tensor], Tensor]:
        """b_k Y_m of all places in parts of 4 and 5 or all 9 components, each [N, M, .. K]; neighbours [N * M]."""
        padded = pad_edges(graph, r_c)
        r = padded.vectors.square().sum(1).sqrt()
        k = self.distinct.index(r_c)
        n = torch.arange(1, self.n_waves + 1, dtype=r.dtype, device=r.device)
        waves = torch.sin(r.unsqueeze(1) * (n * (math.pi / r_c))) * (2 / r).unsqueeze(1) * n**-self.wave_decay
        b = unrounded(self.radial[k], waves) * (fade(r, r_c) / self.spread[k]).unsqueeze(1)
        y = stacked_directions(padded.vectors / r.unsqueeze(-1), self.directions)
        shape = (graph.n_atoms, padded.n_places, -1)
        parts = y.split(self.split, 1)
        return [(part.unsqueeze(-1) * b.unsqueeze(1)).reshape(shape) for part in parts], padded.j

    def outputs(self, graph: Graph, position: Tensor) -> Tensor:
        """The network's number for each atom, [N], or [H, N] of H heads; see `NetworkPotential.outputs`."""
        features = self._features(graph, position)
        out: Tensor = self.out(functional.silu(self.hidden(features))).squeeze(0)
        if self.charge is None:
            return out
        fading = fade(graph.vectors.square().sum(1).sqrt(), self.cutoff)
        charges = self.charge(features, graph, fading / self.spread[-1])
        return out + far_coulomb(charges, graph, self.cutoff, fading) / self.energy_scale

    def plan_edges(self, graph: Graph) -> dict[str, Tensor]:
        """Rows of neighbours for each cutoff."""
        if self.charge is not None:
            raise NotImplementedError("the energy of charges cannot be compiled")
        parts = [plan_places(graph, r_c) for r_c in self.distinct]
        return {name: part for plan in parts for name, part in plan.items()}

    def charges(self, graph: Graph) -> Tensor:
        """Charge of each atom (e), [N]; they sum to 0 in each system, and all are 0 without `electrostatics`.

        Raises:
            ElementError: an element that the potential does not know.
        """
        if self.charge is None:
            return torch.zeros_like(graph.positions[:, 0])
        charges: Tensor = self.charge(*self._seen_by_charges(graph))
        return charges

    def moments(self, graph: Graph) -> Tensor:
        """Dipole moment of the bonds of each atom (e Angstrom), [N, 3]: `BondCharges.moments`; 0 where charges are.

        Raises:
            ElementError: an element that the potential does not know.
        """
        if self.charge is None:
            return torch.zeros_like(graph.positions)
        moments: Tensor = self.charge.moments(*self._seen_by_charges(graph))
        return moments

    def _seen_by_charges(self, graph: Graph) -> tuple[Tensor, Graph, Tensor]:
        """Features, graph and weights of its edges."""
        weight = fade(graph.vectors.square().sum(1).sqrt(), self.cutoff) / self.spread[-1]
        return self._features(graph, self.position(graph.numbers)), graph, weight

    def _features(self, graph: Graph, position: Tensor) -> Tensor:
        """Vectors of elements and modes, and the scalars of all layers, [N, F]."""
        kind = self.embedding(graph, position)
        geometry = {r_c: self.edge_features(graph, r_c) for r_c in self.distinct}
        s, e = self.start(kind), None
        seen = [kind]
        for layer, r_c in zip(self.layers, self.cutoffs, strict=True):
            s, e = layer(s, e, kind, *geometry[r_c])
            seen.append(s)
        return torch.cat(seen, 1)


class Layer(nn.Module):
    """One exchange with the neighbours.

    Args:
        settings: of the potential.
        generator: source of the first weights.
        first: neighbours show their elements only; there are no vectors and tensors yet.
        last: only scalars are wanted.
    """

    rank: Tensor
    average: Tensor

    def __init__(
        self, settings: AnataseSettings, generator: torch.Generator | None, *, first: bool, last: bool
    ) -> None:
        super().__init__()
        rank = torch.tensor([0, 1, 1, 1, 2, 2, 2, 2, 2])
        same = (rank[:, None] == rank).double()
        self.register_buffer("rank", rank, persistent=False)
        self.register_buffer("average", same / same.sum(1, keepdim=True), persistent=False)
        c, e = settings.channels, settings.embedding
        self.last, self.normalised_states = last, settings.normalised_states
        self.messages = Messages(settings, generator, first=first)
        self.products = Products(c, generator)
        self.film = Dense(e, 3 * c, generator, bias=False, gain=0.3)
        self.hidden = Dense(4 * c + e, settings.hidden, generator)
        self.update = Dense(settings.hidden, c if last else 3 * c, generator, gain=SILU_GAIN)
        self.mix = None if last else RankDense(2 * c, c, generator)
        self.skip = None if first or last else RankDense(c, c, generator)

    def forward(
        self, s: Tensor, e: Tensor | None, kind: Tensor, edges: Sequence[Tensor], j: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """New scalars and tensors.

        Args:
            s: scalars, [N, C].
            e: vectors and tensors, [8, N, C]; None in the first layer.
            kind: vectors of elements and modes.
            edges: b_k Y_m in parts.
            j: neighbours, [N * M].
        """
        n, c = s.shape
        s0 = s * torch.rsqrt(1 + s.square().mean(1, keepdim=True))
        film = 1 + self.film(kind).view(n, 3, c).transpose(0, 1)
        a = normalised(self.messages(kind if e is None else s0, e, edges, j), self.average)
        a = a * film.index_select(0, self.rank)
        b, d = self.products(a)
        (a0, a_rest), (b0, b_rest) = a.split((1, 8)), b.split((1, 8))
        o = self.update(functional.silu(self.hidden(torch.cat([s0, a0[0], b0[0], d, kind], 1))))
        if self.mix is None:
            return s + o, None
        change, gate = o.split((c, 2 * c), 1)
        gate = (1 + gate.view(n, 2, c).transpose(0, 1)).index_select(0, self.rank[1:] - 1)
        new = self.mix(torch.cat([a_rest, b_rest], 2)) * gate
        new = new if self.skip is None or e is None else new + self.skip(e)
        return s + change, normalised(new, self.average[1:, 1:]) if self.normalised_states else new


class Messages(nn.Module):
    """Sums over neighbours, mixed to channels: [9, N, C] from the neighbours' features and the edges."""

    constants: Tensor

    def __init__(self, settings: AnataseSettings, generator: torch.Generator | None, *, first: bool) -> None:
        super().__init__()
        c, q = settings.channels, settings.sources
        self.k, self.q = settings.radial, q
        self.scalars = Dense(settings.embedding if first else c, q, generator, bias=False)
        self.tensors = None if first else RankDense(c, q, generator)
        top = 1 if settings.couplings == "light" else 2
        near = [name for name in COUPLINGS if int(name[1]) <= top and (name[0] == "0" or not first)]
        self.names = [sorted(near, key=lambda name: (name[2], name)), ["022"]][: 3 - top]
        if not first:
            self.register_buffer("constants", coupling_rows(self.names[0]), persistent=False)
        count = [sum(name[2] == str(rank) for names in self.names for name in names) for rank in range(3)]
        self.mix = nn.ModuleList(Dense(n * self.k * q, c, generator, bias=False) for n in count)

    def forward(self, s: Tensor, e: Tensor | None, edges: Sequence[Tensor], j: Tensor) -> Tensor:
        """[9, N, C] from scalars [N, .], vectors and tensors [8, N, C] or None, edges and neighbours."""
        n = s.shape[0]
        shown = [self.scalars(s)]
        if self.tensors is not None and e is not None:
            shown.append(self.tensors(e).transpose(0, 1).reshape(n, -1))
        pieces: list[list[Tensor]] = [[], [], []]
        for k, (names, part) in enumerate(zip(self.names, edges, strict=True)):
            g = self._sum_neighbours(part, shown[0] if k else torch.cat(shown, 1), j)  # [y x, N K Q]
            if k == 0 and len(shown) > 1:
                g = self.constants @ g
            for name, piece in zip(names, g.split([SIZE[int(name[2])] for name in names]), strict=True):
                pieces[int(name[2])].append(piece.view(piece.shape[0], n, -1))
        mixed = [
            mix(torch.cat(of_rank, 2).view(SIZE[rank] * n, -1))
            for rank, (mix, of_rank) in enumerate(zip(self.mix, pieces, strict=True))
        ]
        return torch.cat(mixed).view(9, n, -1)

    def _sum_neighbours(self, part: Tensor, x: Tensor, j: Tensor) -> Tensor:
        """sum_j b_k Y_m X_j^{aq}: edges [N, M, m K] and features [N, a Q] -> [m a, N K Q]."""
        n, places = part.shape[:2]
        g = torch.bmm(part.transpose(1, 2), x.index_select(0, j).view(n, places, -1))
        y, a = part.shape[2] // self.k, x.shape[1] // self.q
        return g.view(n, y, self.k, a, self.q).permute(1, 3, 0, 2, 4).reshape(y * a, -1)


class Products(nn.Module):
    """B = all products of A with itself, D = the scalars of A and B: channel by channel, with learned weights."""

    first: Tensor
    second: Tensor
    constants: Tensor
    dot: Tensor

    def __init__(self, channels: int, generator: torch.Generator | None) -> None:
        super().__init__()
        self.square = nn.Parameter(torch.randn(len(SQUARES), channels, generator=generator, dtype=torch.float64))
        self.cube = nn.Parameter(torch.randn(3, channels, generator=generator, dtype=torch.float64))
        pairs = torch.triu_indices(9, 9)
        self.register_buffer("first", pairs[0], persistent=False)
        self.register_buffer("second", pairs[1], persistent=False)
        full = coupling_rows(list(SQUARES)).view(-1, 9, 9)
        folded = (full + full.transpose(1, 2))[:, pairs[0], pairs[1]] * torch.where(pairs[0] == pairs[1], 0.5, 1.0)
        self.register_buffer("constants", 0.5 * folded, persistent=False)  # [24, 45]
        dot = torch.block_diag(*(torch.full((1, m), 0.5, dtype=torch.float64) for m in SIZE))
        self.register_buffer("dot", dot, persistent=False)  # [3, 9]

    def forward(self, a: Tensor) -> tuple[Tensor, Tensor]:
        """A [9, N, C] -> B [9, N, C], D [N, C]."""
        _, n, c = a.shape
        pairs = a.index_select(0, self.first) * a.index_select(0, self.second)
        scalars, vectors, tensors = (self.constants @ pairs.view(pairs.shape[0], -1)).split((3, 6, 15))
        parts = ((scalars, 1, slice(0, 3)), (vectors, 3, slice(3, 5)), (tensors, 5, slice(5, 8)))
        b = torch.cat([(z.view(-1, m, n, c) * self.square[k, None, None]).sum(0) for z, m, k in parts])
        dots = (self.dot @ (a * b).view(9, -1)).view(3, n, c)
        return b, (dots * self.cube.unsqueeze(1)).sum(0)


class RankDense(nn.Module):
    """Channels of vectors and of tensors mixed, each by its own matrix: [8, N, n_in] -> [8, N, n_out]."""

    def __init__(self, n_in: int, n_out: int, generator: torch.Generator | None) -> None:
        super().__init__()
        self.vectors = Dense(n_in, n_out, generator, bias=False)
        self.tensors = Dense(n_in, n_out, generator, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[8, N, n_in] -> [8, N, n_out]."""
        n = x.shape[1]
        v, t = x.split((3, 5))
        mixed = [self.vectors(v.reshape(3 * n, -1)), self.tensors(t.reshape(5 * n, -1))]
        return torch.cat(mixed).view(8, n, -1)


def radial_network(widths: Sequence[int], generator: torch.Generator | None) -> nn.Sequential:
    """Dense layers with SiLU between them."""
    layers: list[nn.Module] = []
    for k, (n_in, n_out) in enumerate(pairwise(widths)):
        layers += [nn.SiLU()] * (k > 0)
        layers.append(Dense(n_in, n_out, generator, bias=k < len(widths) - 2, gain=SILU_GAIN if k else 1.0))
    return nn.Sequential(*layers)


def fade(r: Tensor, r_c: float) -> Tensor:
    """The weight f = exp(-u/(1 - u)) with u = (r/r_c)^4, 0 from r_c on, of distances of any shape."""
    u = (r / r_c).square().square()
    return torch.exp(-u / (1 - u).clamp_min(1e-3))  # underflows to 0 before the clamp is felt


def coupling_rows(names: Sequence[str]) -> Tensor:
    """Constants of couplings one below the other: components of the results x (y, x) of the two factors.

    Args:
        names: couplings (x, y -> result).

    Returns:
        [sum of 2l + 1, Y * 9] float64 with Y the components up to the largest rank of y.
    """
    ends = (0, 1, 4, 9)
    top = max(int(name[1]) for name in names)
    blocks = []
    for name in names:
        c = coupling_constants(name)  # [m, x, y]
        x, y = int(name[0]), int(name[1])
        block = c.new_zeros(len(c), ends[top + 1], 9)
        block[:, ends[y] : ends[y + 1], ends[x] : ends[x + 1]] = c.transpose(1, 2)
        blocks.append(block.flatten(1))
    return torch.cat(blocks)


def normalised(x: Tensor, average: Tensor) -> Tensor:
    """Features x / sqrt(1 + mean over channels of |x|^2/(2l+1)), by rank.

    Args:
        x: components one after the other, [m, N, C].
        average: of the components of a rank, [m, m].
    """
    size = average @ x.square().mean(2)
    return x * torch.rsqrt(1 + size).unsqueeze(-1)
