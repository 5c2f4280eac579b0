"""Coulomb energy of point charges: Ewald's sums for crystals, plain pairs for molecules.

    E = 1/2 sum' k q_i q_j erfc(a r) / r  +  (2 pi k / V) sum_{K != 0} exp(-K^2 / 4 a^2) / K^2 |S(K)|^2
        - k a / sqrt(pi) sum q_i^2  -  k pi Q^2 / (2 V a^2),      S(K) = sum_i q_i exp(i K . R_i)

with conducting boundaries and, for a total charge Q, a uniform background. The result does not depend on a, which is
chosen so that the real-space part ends at the cutoff of the graph. The energy of atom i is its share in each pair.

Source: D. Frenkel and B. Smit, Understanding Molecular Simulation, ch. 12. Letters of shapes: N atoms, S systems,
E edges, K wave vectors.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from rutile.core.errors import GeometryError
from rutile.core.units import COULOMB
from rutile.graph.graph import Graph

DECAYS = 4.5
"""Both sums end where their terms have fallen to exp(-4.5^2) = 2e-9."""


def coulomb(charges: Tensor, graph: Graph, cutoff: float, decays: float = DECAYS) -> Tensor:
    """Coulomb energy of each atom (eV), [N].

    Args:
        charges: of each atom (e), [N].
        graph: with all edges to the cutoff.
        cutoff: radius of the real-space sum (Angstrom).
        decays: accuracy: terms below exp(-decays^2) are left out.

    Raises:
        GeometryError: a system is periodic in one or two directions only.
    """
    partly = graph.pbc.any(1) & ~graph.pbc.all(1)
    if bool(partly.any()):
        raise GeometryError(
            f"system {int(partly.nonzero()[0])} of the batch is periodic in one or two directions: long-range "
            "electrostatics is for molecules and for crystals; put vacuum into the cell and make it periodic in three"
        )
    sizes = torch.bincount(graph.system, minlength=graph.n_systems).tolist()
    groups = zip(charges.split(sizes), graph.positions.split(sizes), graph.cell, graph.pbc, strict=True)
    a = decays / cutoff
    parts = [_reciprocal(q, x, cell, a, decays) if bool(pbc.all()) else _open(q, x) for q, x, cell, pbc in groups]
    return torch.cat([charges[:0], *parts]) + _real(charges, graph, cutoff, a)


def _real(charges: Tensor, graph: Graph, cutoff: float, a: float) -> Tensor:
    """The part of crystals over edges, [N]."""
    r = graph.vectors.norm(dim=1)
    inside = graph.pbc.all(1)[graph.system[graph.i]] & (r.detach() < cutoff)
    i, j, r = graph.i[inside], graph.j[inside], r[inside]
    pair = 0.5 * COULOMB * charges[i] * charges[j] * torch.erfc(a * r) / r
    return torch.zeros_like(charges).index_add(0, i, pair)


def _open(q: Tensor, x: Tensor) -> Tensor:
    """All pairs of a molecule, [N]."""
    i, j = (~torch.eye(len(q), dtype=torch.bool, device=q.device)).nonzero(as_tuple=True)
    pair = 0.5 * COULOMB * q[i] * q[j] / (x[i] - x[j]).norm(dim=1)
    return torch.zeros_like(q).index_add(0, i, pair)


def _reciprocal(q: Tensor, x: Tensor, cell: Tensor, a: float, decays: float) -> Tensor:
    """The part over wave vectors of one crystal, with the self-energy and the background, [N]."""
    volume: Tensor = torch.linalg.det(cell).abs()
    k = _wave_vectors(cell, 2.0 * a * decays)
    k2 = k.square().sum(1)
    weight = 2.0 * torch.exp(-k2 / (4.0 * a * a)) / k2  # K and -K
    phase = x @ k.T
    cos, sin = torch.cos(phase), torch.sin(phase)
    potential = cos @ (weight * (q @ cos)) + sin @ (weight * (q @ sin))
    waves = (2.0 * math.pi * COULOMB / volume) * q * potential
    own = COULOMB * a / math.sqrt(math.pi) * q * q
    background: Tensor = COULOMB * math.pi / (2.0 * volume * a * a) * q * q.sum()
    return waves - own - background


def _wave_vectors(cell: Tensor, radius: float) -> Tensor:
    """One of each pair K, -K of reciprocal lattice vectors shorter than a radius (1/Angstrom), without 0, [K, 3]."""
    reciprocal = 2.0 * math.pi * torch.linalg.inv(cell).T
    most = [int(radius * float(v.norm()) / (2.0 * math.pi)) for v in cell.detach()]
    a, b, c = (torch.arange(-m, m + 1, device=cell.device) for m in most)
    n = torch.cartesian_prod(a[most[0] :], b, c)
    half = (n[:, 0] > 0) | ((n[:, 0] == 0) & ((n[:, 1] > 0) | ((n[:, 1] == 0) & (n[:, 2] > 0))))
    k = n[half].to(cell.dtype) @ reciprocal
    inside: Tensor = k[k.detach().square().sum(1) < radius**2]
    return inside
