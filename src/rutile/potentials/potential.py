"""What a potential is: an energy function of a graph, and what comes out of evaluating one.

Letters of shapes: N atoms, S systems, E edges, K descriptor functions, P pairs of atoms.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor

from rutile.graph.graph import Graph


@runtime_checkable
class Potential(Protocol):
    """An energy function of a graph. Every potential of the catalogue is also a `torch.nn.Module`."""

    cutoff: float
    """Radius of the neighbour list it needs (Angstrom)."""
    elements: tuple[int, ...]
    """Atomic numbers it was made for, ascending; empty: any."""

    def __call__(self, graph: Graph) -> Tensor:
        """Energy of each atom (eV), [N]."""
        ...


@runtime_checkable
class DescriptorPotential(Potential, Protocol):
    """A potential whose network sees the geometry only through fixed descriptors, with core repulsion or without.

    Because nothing that is trained stands before the descriptors, they, their derivatives and the core
    repulsion are computed once and cached: `evaluate.linearise`.
    """

    descriptor_key: str
    """Names the descriptors and the core repulsion with all their parameters: the key of caches. Excludes scaling and
    weights."""
    core_reach: float
    """Distance (Angstrom) from which on the core repulsion is 0; 0: there is none."""

    def describe(self, graph: Graph) -> Tensor:
        """Descriptors of each atom, differentiable in `graph.vectors`, [N, K]."""
        ...

    def describe_with_jacobian(self, graph: Graph) -> tuple[Tensor, Tensor]:
        """Descriptors [N, K] and d descriptor(i_e) / d vectors(e), [E, K, 3] (no gradient attached)."""
        ...

    def energies(self, descriptors: Tensor, numbers: Tensor) -> Tensor:
        """Energy of each atom (eV) from its raw (not scaled) descriptors, without the core repulsion, [N]."""
        ...

    def core_energy(self, graph: Graph) -> Tensor:
        """Core repulsion of each atom (eV), [N]; depends on no weight."""
        ...

    def fit_scaling(self, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Scale by the statistics of the training set: batches of (descriptors [N, K], numbers [N]), in one pass."""
        ...


@dataclass(frozen=True)
class Prediction:
    """What a potential says about a batch."""

    energy: Tensor
    """[S] (eV)."""
    forces: Tensor
    """[N, 3] (eV/Angstrom)."""
    stress: Tensor
    """[S, 3, 3] (eV/Angstrom^3), dE/dstrain/V, positive under tension; 0 where a system is not periodic in 3-D."""
    atom_energy: Tensor
    """[N] (eV)."""


@dataclass(frozen=True)
class Linearised:
    """Descriptors of a batch with their derivatives, enough to train on energies, forces and stress.

    Images are summed: one entry for each ordered pair of atoms (i, j) of a structure with
    dG_i/dR_j not identically 0, i = j included.
    """

    numbers: Tensor
    """[N] int64."""
    system: Tensor
    """[N] int64."""
    volume: Tensor
    """[S] (Angstrom^3); 0 where the system is not periodic in three directions."""
    descriptors: Tensor
    """G, [N, K]."""
    pair_i: Tensor
    """[P] int64: the atom whose descriptor changes, non-decreasing."""
    pair_j: Tensor
    """[P] int64: the atom that moves."""
    d_pair: Tensor
    """dG_i/dR_j, [P, 3, K] (1/Angstrom)."""
    d_strain: Tensor
    """dG_i/dstrain, Voigt order xx yy zz yz xz xy of a symmetric strain matrix (dG/de_yz with e_yz = e_zy counted
    once: the derivative along the matrix element e_yz alone of dE/de, i.e. the symmetric half), [N, 6, K]."""
    core: Prediction | None = None
    """The core repulsion alone, to be added to what the networks say; None: there is none."""
