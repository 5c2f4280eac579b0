"""The only place where energies become forces and stress.

F = -dE/dR and stress = (1/V) dE/dstrain, with the symmetric strain e applied as R -> R (1 + e), cell -> cell (1 + e).
`evaluate` differentiates through the geometry; `evaluate_linearised` uses cached descriptor derivatives.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from rutile.graph.graph import Edges, Graph, build_graph
from rutile.graph.neighbors import find_edges
from rutile.potentials.potential import DescriptorPotential, Linearised, Potential, Prediction
from rutile.structures.structures import Structures

VOIGT = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))


def evaluate(
    potential: Potential, structures: Structures, *, edges: Edges | None = None, training: bool = False
) -> Prediction:
    """Energy, forces and stress of a batch.

    Args:
        potential: any potential; its parameters set the precision together with `structures`.
        structures: the batch.
        edges: neighbours at `potential.cutoff`; found here when None.
        training: keep the graph, so that a loss of forces and stress can be differentiated.
    """
    edges = find_edges(structures, potential.cutoff) if edges is None else edges
    with torch.enable_grad():
        graph, inputs = _strained_graph(structures, edges)
        prediction = _differentiate(potential(graph), structures, inputs, training)
    return prediction if training else _detached(prediction)


def evaluate_members(
    potentials: Sequence[Potential],
    structures: Structures,
    *,
    edges: Edges | None = None,
    watch: Callable[[DescriptorPotential, Tensor], None] | None = None,
) -> list[Prediction]:
    """`evaluate` for each member of a committee; members with the same descriptors compute them once.

    Args:
        potentials: members of one cutoff.
        structures: the batch.
        edges: neighbours at the members' cutoff; found here when None.
        watch: called with each potential that has descriptors and those (detached, [N, K]).

    Raises:
        ValueError: the members have different cutoffs.
    """
    if len({p.cutoff for p in potentials}) != 1:
        raise ValueError(f"members of different cutoffs: {sorted({p.cutoff for p in potentials})}")
    edges = find_edges(structures, potentials[0].cutoff) if edges is None else edges
    known: dict[str, Tensor] = {}
    predictions = []
    with torch.enable_grad():
        graph, inputs = _strained_graph(structures, edges)
        for potential in potentials:
            if isinstance(potential, DescriptorPotential):
                if potential.descriptor_key not in known:
                    known[potential.descriptor_key] = potential.describe(graph)
                descriptors = known[potential.descriptor_key]
                if watch is not None:
                    watch(potential, descriptors.detach())
                atom_energy = potential.energies(descriptors, graph.numbers)
            else:
                atom_energy = potential(graph)
            predictions.append(_detached(_differentiate(atom_energy, structures, inputs, False, keep=True)))
    return predictions


def linearise(potential: DescriptorPotential, structures: Structures, edges: Edges | None = None) -> Linearised:
    """Descriptors of a batch and their derivatives with respect to atoms and strain."""
    edges = find_edges(structures, potential.cutoff) if edges is None else edges
    graph = build_graph(structures, edges)
    descriptors, jacobian = potential.describe_with_jacobian(graph)  # [N, K], [E, K, 3]
    jacobian = jacobian.mT  # [E, 3, K]
    n = structures.n_atoms
    # One pair for each neighbour atom, images summed, and one for the centre itself (minus the sum of all).
    centre = torch.arange(n, device=edges.i.device)
    keys, slot = torch.unique(torch.cat([edges.i * n + edges.j, centre * (n + 1)]), return_inverse=True)
    d_pair = jacobian.new_zeros(len(keys), 3, jacobian.shape[2])
    d_pair.index_add_(0, slot[: len(edges.i)], jacobian)
    d_pair.index_add_(0, slot[len(edges.i) :][edges.i], jacobian, alpha=-1)
    d_strain = jacobian.new_zeros(n, 6, jacobian.shape[2])
    for v, (a, b) in enumerate(VOIGT):
        term = 0.5 * (jacobian[:, a] * graph.vectors[:, b, None] + jacobian[:, b] * graph.vectors[:, a, None])
        d_strain[:, v].index_add_(0, edges.i, term)
    return Linearised(
        structures.numbers,
        structures.system,
        periodic_volume(structures),
        descriptors.detach(),
        keys // n,
        keys % n,
        d_pair,
        d_strain,
    )


def evaluate_linearised(potential: DescriptorPotential, batch: Linearised, *, training: bool = False) -> Prediction:
    """The same prediction as `evaluate`, from cached descriptors: F_j = -sum_i dE_i/dG_i . dG_i/dR_j."""
    n_systems = batch.volume.shape[0]
    with torch.enable_grad():
        descriptors = batch.descriptors.detach().requires_grad_()
        atom_energy = potential.energies(descriptors, batch.numbers)
        energy = sum_by_system(atom_energy, batch.system, n_systems)
        (slope,) = _gradients(energy, [descriptors], training)  # dE/dG, [N, K]
        pushes = torch.matmul(batch.d_pair, slope[batch.pair_i].unsqueeze(2)).squeeze(2)  # [P, 3]
        forces = -torch.zeros_like(pushes[:1]).expand(len(slope), 3).index_add(0, batch.pair_j, pushes)
        per_atom = torch.matmul(batch.d_strain, slope.unsqueeze(2)).squeeze(2)  # [N, 6]
        voigt = per_atom.new_zeros(n_systems, 6).index_add(0, batch.system, per_atom)
    d_strain = voigt[:, [0, 5, 4, 5, 1, 3, 4, 3, 2]].reshape(-1, 3, 3)
    prediction = Prediction(energy, forces, _stress(d_strain, batch.volume), atom_energy)
    return prediction if training else _detached(prediction)


def sum_by_system(values: Tensor, system: Tensor, n_systems: int) -> Tensor:
    """Sum of per-atom values [N] in each system, [S]."""
    return values.new_zeros(n_systems).index_add(0, system, values)


def periodic_volume(structures: Structures) -> Tensor:
    """Volume (Angstrom^3), [S]; 0 where a system is not periodic in three directions."""
    return torch.where(structures.pbc.all(1), structures.volume, torch.zeros_like(structures.volume))


def _strained_graph(structures: Structures, edges: Edges) -> tuple[Graph, list[Tensor]]:
    """The graph as a function of fresh positions [N, 3] and strain [S, 3, 3] (zero), and those two."""
    positions = structures.positions.detach().requires_grad_()
    strain = torch.zeros_like(structures.cell, requires_grad=True)
    deform = torch.eye(3, dtype=strain.dtype, device=strain.device) + 0.5 * (strain + strain.mT)
    strained = structures.replace(
        positions=torch.einsum("na,nab->nb", positions, deform[structures.system]), cell=structures.cell @ deform
    )
    return build_graph(strained, edges), [positions, strain]


def _differentiate(
    atom_energy: Tensor, structures: Structures, inputs: list[Tensor], training: bool, keep: bool = False
) -> Prediction:
    """Sums and derivatives of atom energies made from `_strained_graph`; `keep` allows another call on its graph."""
    energy = sum_by_system(atom_energy, structures.system, structures.n_systems)
    d_positions, d_strain = _gradients(energy, inputs, training, keep)
    return Prediction(energy, -d_positions, _stress(d_strain, periodic_volume(structures)), atom_energy)


def _gradients(energy: Tensor, inputs: list[Tensor], training: bool, keep: bool = False) -> list[Tensor]:
    """dE/dinput for each input; zeros where the energy does not depend on it."""
    if not energy.requires_grad:
        return [torch.zeros_like(x) for x in inputs]
    grads = torch.autograd.grad(
        energy.sum(), inputs, create_graph=training, retain_graph=training or keep, allow_unused=True
    )
    return [torch.zeros_like(x) if g is None else g for g, x in zip(grads, inputs, strict=True)]


def _stress(d_strain: Tensor, volume: Tensor) -> Tensor:
    """Stress [S, 3, 3] from dE/dstrain [S, 3, 3]; 0 where the volume is 0."""
    periodic = volume > 0
    safe = torch.where(periodic, volume, torch.ones_like(volume))
    return torch.where(periodic[:, None, None], d_strain / safe[:, None, None], torch.zeros_like(d_strain))


def _detached(p: Prediction) -> Prediction:
    return Prediction(p.energy.detach(), p.forces.detach(), p.stress.detach(), p.atom_energy.detach())
