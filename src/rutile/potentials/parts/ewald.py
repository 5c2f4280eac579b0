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
from torch.nn.utils.rnn import pad_sequence

from rutile.core.errors import GeometryError
from rutile.core.units import COULOMB
from rutile.graph.graph import Graph

DECAYS = 4.5
"""Both sums end where their terms have fallen to exp(-4.5^2) = 2e-9."""
TERMS = 1e6
"""Waves times atoms that are summed together, about."""


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
    q, x, a = charges.split(sizes), graph.positions.split(sizes), decays / cutoff
    parts = {k: _open(q[k], x[k]) for k, crystal in enumerate(graph.pbc.all(1).tolist()) if not crystal}
    for group in _groups([k for k in range(len(q)) if k not in parts], sizes, graph.cell, 2.0 * a * decays):
        together = _reciprocal([q[k] for k in group], [x[k] for k in group], graph.cell[group], a, decays)
        parts |= dict(zip(group, together, strict=True))
    return torch.cat([charges[:0], *(parts[k] for k in range(len(q)))]) + _real(charges, graph, cutoff, a)


def _groups(crystals: list[int], sizes: list[int], cell: Tensor, radius: float) -> list[list[int]]:
    """Crystals that are summed together: alike in size, so that little is wasted on the smaller ones.

    Args:
        crystals: numbers of systems.
        sizes: atoms of all systems.
        cell: of all systems (Angstrom), [S, 3, 3].
        radius: of the wave vectors (1/Angstrom).
    """
    volume = torch.linalg.det(cell.detach()).abs().tolist()
    terms = {k: sizes[k] * (1.0 + volume[k] * radius**3 / (12.0 * math.pi**2)) for k in crystals}
    groups: list[list[int]] = []
    for k in sorted(crystals, key=lambda k: -terms[k]):
        largest = terms[groups[-1][0]] if groups else 0.0
        if groups and terms[k] > largest / 4 and len(groups[-1]) * largest < TERMS:
            groups[-1].append(k)
        else:
            groups.append([k])
    return groups


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


def _reciprocal(
    charges: list[Tensor], positions: list[Tensor], cell: Tensor, a: float, decays: float
) -> tuple[Tensor, ...]:
    """The part over wave vectors of some crystals, with the self-energy and the background, [N] each.

    Crystals are filled up to the same numbers of atoms and of wave vectors with charges and weights of 0.
    """
    volume = torch.linalg.det(cell).abs()[:, None]
    q, x = pad_sequence(charges, batch_first=True), pad_sequence(positions, batch_first=True)
    k, there = _wave_vectors(cell, 2.0 * a * decays)
    k2 = torch.where(there, k.square().sum(2), 1.0)
    weight = torch.where(there, 2.0 * torch.exp(-k2 / (4.0 * a * a)) / k2, 0.0)  # K and -K
    phase = x @ k.mT
    cos, sin = torch.cos(phase), torch.sin(phase)
    each = [wave @ (weight[:, None] * (q[:, None] @ wave)).mT for wave in (cos, sin)]
    waves = (2.0 * math.pi * COULOMB / volume) * q * (each[0] + each[1])[..., 0]
    own = COULOMB * a / math.sqrt(math.pi) * q * q
    background = COULOMB * math.pi / (2.0 * volume * a * a) * q * q.sum(1, keepdim=True)
    return tuple(e[: len(mine)] for e, mine in zip(waves - own - background, charges, strict=True))


def _wave_vectors(cell: Tensor, radius: float) -> tuple[Tensor, Tensor]:
    """One of each pair K, -K of reciprocal lattice vectors shorter than a radius (1/Angstrom), without 0.

    Returns:
        Of each system, filled up to the same number [S, K, 3], and which of them are meant [S, K] bool.
    """
    reciprocal = 2.0 * math.pi * torch.linalg.inv(cell).mT
    spacing = cell.detach().norm(dim=2) / (2.0 * math.pi)
    most = (radius * spacing.amax(0)).int().tolist()
    a, b, c = (torch.arange(-m, m + 1, device=cell.device) for m in most)
    n = torch.cartesian_prod(a[most[0] :], b, c)
    half = (n[:, 0] > 0) | ((n[:, 0] == 0) & ((n[:, 1] > 0) | ((n[:, 1] == 0) & (n[:, 2] > 0))))
    n = n[half].to(cell.dtype)
    near = (n @ reciprocal.detach()).square().sum(2) < radius**2
    system, which = near.nonzero(as_tuple=True)
    counts = near.sum(1)
    place = torch.arange(len(system), device=cell.device) - (torch.cumsum(counts, 0) - counts)[system]
    whole = n.new_zeros(len(cell), int(counts.max()), 3)
    whole[system, place] = n[which]
    return whole @ reciprocal, torch.arange(whole.shape[1], device=cell.device) < counts[:, None]
