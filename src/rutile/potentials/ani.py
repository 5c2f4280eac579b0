"""ANI neural network potential: one network for each element on atomic environment vectors (AEVs).

Radial terms of atom i for each element of j and shift R_s, angular terms for each unordered pair of elements of (j, k),
shift R_s and angle t_s, every unordered pair of neighbours once:

    G_R = sum_j 0.25 exp(-eta_R (r_ij - R_s)^2) fc(r_ij)
    G_A = sum_{j<k} 2 ((1 + cos(t - t_s)) / 2)^zeta exp(-eta_A ((r_ij + r_ik) / 2 - R_s)^2) fc(r_ij) fc(r_ik)

with t = arccos(0.95 cos t_ijk), so that t stays away from 0 and 180 degrees, where it has no derivative; hence
cos(t - t_s) = x cos t_s + sqrt(1 - x^2) sin t_s with x = 0.95 cos t_ijk is smooth. Columns: radial ones element by
element, shift fastest; then the pairs of elements (0,0), (0,1), ..., (1,1), ..., in each the shifts, angles fastest.
With M elements there are M n_R + M (M + 1) / 2 n_A n_t of them: 384 for ANI-1x (H, C, N, O), 1008 for ANI-2x (and S, F,
Cl). With the published cosine fc the forces are continuous at the cutoff, their derivative is not; nor is it where a
CELU changes sign.

Sources: J. S. Smith, O. Isayev, A. E. Roitberg, Chem. Sci. 8, 3192 (2017), doi:10.1039/C6SC05720A; constants of J. S.
Smith et al., J. Chem. Phys. 148, 241733 (2018), doi:10.1063/1.5023802 (ANI-1x) and C. Devereux et al., J. Chem. Theory
Comput. 16, 4192 (2020), doi:10.1021/acs.jctc.0c00121 (ANI-2x); the factor 0.25 is in the authors' program, not in the
paper (X. Gao et al., TorchANI, J. Chem. Inf. Model. 60, 3408 (2020), doi:10.1021/acs.jcim.0c00451).
Letters of shapes: N atoms, E edges, T triplets (two edges of a centre), M elements, P pairs of elements, K functions.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from rutile.graph.graph import Graph
from rutile.graph.triplets import chunks_of_centres, triplets, triplets_within
from rutile.potentials.parts.cutoff import cutoff, cutoff_and_slope
from rutile.potentials.parts.descriptor_networks import DescriptorNetworks
from rutile.potentials.settings.ani import PUBLISHED_ORDER, AevSettings, AniSettings

DAMPING = 0.95
"""Factor of the cosine."""
TRIPLETS_AT_ONCE = 5_000
"""Bound on the triplets of one block of centres in derivatives (a block has at least one centre)."""


class Ani(DescriptorNetworks):
    """A `DescriptorPotential` with atomic environment vectors over its own elements; made in float64."""

    name = "ani"

    def __init__(
        self,
        settings: AniSettings,
        elements: tuple[int, ...],
        generator: torch.Generator | None = None,
        modes: tuple[str, ...] = ("",),
    ) -> None:
        """Make the networks with random weights.

        Args:
            settings: constants and networks.
            elements: atomic numbers; those of the published potentials come first in the vectors, in their order.
            generator: source of the random weights (default: torch's own).
            modes: name of the calc mode; the networks know only one.
        """
        super().__init__(settings, elements, modes)
        self.aev = Aev(settings.constants, self.elements)
        self.cutoff = self.aev.cutoff
        widths = [(self.aev.width, *settings.widths(z)) for z in self.elements]
        self.make_networks(self.aev.key, self.aev.width, widths, settings.activation, settings.scaling, generator)

    def describe(self, graph: Graph) -> Tensor:
        """Atomic environment vectors, differentiable in `graph.vectors`, [N, K].

        Raises:
            ElementError: an element that the potential does not know.
        """
        vectors: Tensor = self.aev(graph, self.position(graph.numbers))
        return vectors

    def describe_with_jacobian(self, graph: Graph) -> tuple[Tensor, Tensor]:
        """Atomic environment vectors [N, K] and d G(i_e) / d vectors(e), [E, K, 3] (no gradient attached).

        Raises:
            ElementError: an element that the potential does not know.
        """
        return self.aev.with_jacobian(graph, self.position(graph.numbers))

    def vjps(self, graph: Graph, cotangents: Tensor) -> Tensor:
        """dE/dvectors [M, E, 3] of several energies from their dE/dG, [M, n, K]."""
        return self.aev.vjps(graph, self.position(graph.numbers), cotangents)


class Aev(nn.Module):
    """Atomic environment vectors over some elements."""

    slot: Tensor
    """Place of each element (ascending) in the columns, [M] int64."""
    pair: Tensor
    """Place of each ordered pair of slots among the unordered ones, [M, M] int64."""
    radial_shifts: Tensor
    angular_shifts: Tensor
    angles: Tensor

    def __init__(self, settings: AevSettings, elements: tuple[int, ...]) -> None:
        super().__init__()
        known = [z for z in PUBLISHED_ORDER if z in elements]
        order = known + [z for z in elements if z not in known]
        m, s = len(elements), settings
        self.settings = settings
        self.cutoff = max(s.radial_cutoff, s.angular_cutoff)
        self.key = json.dumps(["aev", order, settings.model_dump(mode="json")])
        self.n_radial, self.n_angular, self.n_pairs = s.radial_shifts, s.angular_shifts * s.sections, m * (m + 1) // 2
        self.width = m * self.n_radial + self.n_pairs * self.n_angular
        low, high = torch.triu_indices(m, m)
        pair = torch.empty(m, m, dtype=torch.long)
        pair[low, high] = pair[high, low] = torch.arange(self.n_pairs)
        constants = {
            "slot": torch.tensor([order.index(z) for z in elements]),
            "pair": pair,
            "radial_shifts": _divided(s.start, s.radial_cutoff, s.radial_shifts),
            "angular_shifts": _divided(s.start, s.angular_cutoff, s.angular_shifts),
            "angles": (torch.arange(s.sections, dtype=torch.float64) + 0.5) * (math.pi / s.sections),
        }
        for name, value in constants.items():
            self.register_buffer(name, value, persistent=False)

    def forward(self, graph: Graph, position: Tensor) -> Tensor:
        """Vectors of all atoms, [N, K], twice differentiable in `graph.vectors`.

        Args:
            graph: the batch.
            position: of each atom's element in the ascending list, [N] int64.
        """
        s, n, slot = self.settings, graph.n_atoms, self.slot[position][graph.j]
        r = torch.linalg.vector_norm(graph.vectors, dim=1)
        shell = 0.25 * torch.exp(-s.radial_eta * (r[:, None] - self.radial_shifts) ** 2)
        terms = shell * cutoff(s.cutoff_function, r, s.radial_cutoff)[:, None]
        radial = _summed(terms, graph.i * len(self.slot) + slot, n * len(self.slot))
        a, b = triplets_within(graph.i, r.detach(), n, s.angular_cutoff)
        u, v, p, q = graph.vectors[a], graph.vectors[b], r[a], r[b]
        fp, fq = (cutoff(s.cutoff_function, x, s.angular_cutoff) for x in (p, q))
        distance = torch.exp(-s.angular_eta * (0.5 * (p + q)[:, None] - self.angular_shifts) ** 2)
        distance = distance * (fp * fq)[:, None]
        angle = 2.0 * self.turned(((u * v).sum(1) / (p * q))[:, None])[0] ** s.zeta
        angular = _summed(
            _outer(distance, angle), graph.i[a] * self.n_pairs + self.pair[slot[a], slot[b]], n * self.n_pairs
        )
        return torch.cat([radial.reshape(n, -1), angular.reshape(n, -1)], 1)

    def with_jacobian(self, graph: Graph, position: Tensor) -> tuple[Tensor, Tensor]:
        """Vectors [N, K] and J[e] = d G(i_e) / d vectors(e), [E, K, 3] (1/Angstrom), by the analytic formulas."""
        with torch.no_grad():
            values = self.forward(graph, position)
        vectors, r, slot = self._geometry(graph, position)
        jacobian = vectors.new_zeros(len(r), self.width, 3)
        edge, split = torch.arange(len(r), device=r.device), len(self.slot) * self.n_radial
        out = (vectors / r[:, None])[:, None, :]
        jacobian[:, :split].unflatten(1, (-1, self.n_radial))[edge, slot] = self._radial_slope(r)[:, :, None] * out
        for near, a, b in self._blocks(graph, r):
            t = _Triplets(self, vectors[near], r[near], a, b)
            total = vectors.new_zeros(len(near) * self.n_pairs, self.n_angular, 3)
            cell = self.pair[slot[near][a], slot[near][b]]
            for side, slope, x, y in ((a, t.d_p, t.u / t.p, t.v), (b, t.d_q, t.v / t.q, t.u)):
                terms = slope[:, :, None] * x[:, None, :] + t.d_s[:, :, None] * y[:, None, :]
                total.index_add_(0, side * self.n_pairs + cell, terms)
            jacobian[near, split:] = total.reshape(len(near), self.n_pairs * self.n_angular, 3)
        return values, jacobian

    def vjps(self, graph: Graph, position: Tensor, cotangents: Tensor) -> Tensor:
        """p[m, e] = sum_k c[m, i_e, k] dG(i_e)_k / d vectors(e), [M, E, 3], of cotangents [M, n, K], no gradient.

        The derivatives of a triplet, the costly part, serve all members.
        """
        vectors, r, slot = self._geometry(graph, position)
        m = len(cotangents)
        split = len(self.slot) * self.n_radial
        radial = cotangents[:, :, :split].reshape(m, -1, self.n_radial).transpose(0, 1)  # [n M', M, n_R]
        angular = cotangents[:, :, split:].reshape(m, -1, self.n_angular).transpose(0, 1).contiguous()
        place = graph.i * len(self.slot) + slot
        along = torch.matmul(radial[place], self._radial_slope(r)[:, :, None]).squeeze(2)  # [E, M], dE/dr
        across = vectors.new_zeros(len(r), m, 3)
        for near, a, b in self._blocks(graph, r):
            t = _Triplets(self, vectors[near], r[near], a, b)
            c = angular[graph.i[near[a]] * self.n_pairs + self.pair[slot[near][a], slot[near][b]]]  # [T, M, n_A n_t]
            d = torch.bmm(c, torch.stack([t.d_p, t.d_q, t.d_s], 2))  # [T, M, 3]
            for side, slope, other in ((near[a], d[:, :, 0], t.v), (near[b], d[:, :, 1], t.u)):
                along.index_add_(0, side, slope)
                across.index_add_(0, side, d[:, :, 2:] * other[:, None])
        return (across + along[:, :, None] * (vectors / r[:, None])[:, None]).transpose(0, 1).contiguous()

    def _geometry(self, graph: Graph, position: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Vectors of the edges without gradient, their lengths, and the slots of their neighbours."""
        vectors = graph.vectors.detach()
        return vectors, torch.linalg.vector_norm(vectors, dim=1), self.slot[position][graph.j]

    def _radial_slope(self, r: Tensor) -> Tensor:
        """Derivatives of the radial terms in the distances, [E, n_R]."""
        s = self.settings
        fc, slope = (x[:, None] for x in cutoff_and_slope(s.cutoff_function, r, s.radial_cutoff))
        step = r[:, None] - self.radial_shifts
        return 0.25 * torch.exp(-s.radial_eta * step**2) * (slope - 2.0 * s.radial_eta * step * fc)

    def _blocks(self, graph: Graph, r: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Edges inside the angular cutoff of some centres, and the triplets among them (places in these edges)."""
        near = (r < self.settings.angular_cutoff).nonzero().squeeze(1)
        i = graph.i[near]
        for atoms, edges in chunks_of_centres(i, graph.n_atoms, TRIPLETS_AT_ONCE):
            yield near[edges], *triplets(i[edges] - atoms.start, atoms.stop - atoms.start)

    def turned(self, cos: Tensor) -> tuple[Tensor, Tensor]:
        """(1 + cos(t - t_s)) / 2, always above 0.02, and its derivative in cos t_ijk [T, 1], [T, n_t] each."""
        x = DAMPING * cos
        sin, c, s = torch.sqrt(1.0 - x * x), torch.cos(self.angles), torch.sin(self.angles)
        return 0.5 * (1.0 + x * c + sin * s), (0.5 * DAMPING) * (c - x / sin * s)


class _Triplets:
    """Derivatives of the angular terms of triplets in p = r_ij, q = r_ik and s = r_ij . r_ik, [T, n_A n_t] each."""

    def __init__(self, aev: Aev, vectors: Tensor, r: Tensor, a: Tensor, b: Tensor) -> None:
        settings = aev.settings
        self.u, self.v, self.p, self.q = vectors[a], vectors[b], r[a, None], r[b, None]
        f, slope = cutoff_and_slope(settings.cutoff_function, r[:, None], settings.angular_cutoff)
        cos = (self.u * self.v).sum(1, keepdim=True) / (self.p * self.q)
        half, half_slope = aev.turned(cos)
        power = half ** (settings.zeta - 1.0)
        angle, turn = 2.0 * power * half, (2.0 * settings.zeta) * power * half_slope  # and d angle / d cos
        step = 0.5 * (self.p + self.q) - aev.angular_shifts
        bare = torch.exp(-settings.angular_eta * step**2)
        shell = bare * (f[a] * f[b])
        drift = settings.angular_eta * step * shell
        turned = _outer(shell, turn)
        self.d_p = _outer(bare * (slope[a] * f[b]) - drift, angle) - turned * (cos / self.p)
        self.d_q = _outer(bare * (slope[b] * f[a]) - drift, angle) - turned * (cos / self.q)
        self.d_s = turned / (self.p * self.q)


def _outer(x: Tensor, y: Tensor) -> Tensor:
    """[T, A], [T, B] -> [T, A B]."""
    return (x[:, :, None] * y[:, None, :]).flatten(1)


def _divided(start: float, stop: float, n: int) -> Tensor:
    """Values start + k (stop - start) / n for k = 0..n-1, [n]."""
    return start + torch.arange(n, dtype=torch.float64) * ((stop - start) / n)


def _summed(terms: Tensor, place: Tensor, n: int) -> Tensor:
    """Sum of the rows with the same place, [T, F] -> [n, F]."""
    return terms.new_zeros(n, terms.shape[1]).index_add(0, place, terms)
