"""The only place where energies become forces and stress.

F = -dE/dR and stress = (1/V) dE/dstrain, with the symmetric strain e applied as R -> R (1 + e), cell -> cell (1 + e).
Energies depend on the geometry through r_e, the vectors of the edges; with p_e = dE/dr_e

    dE/dR_a = sum_{e to a} p_e - sum_{e from a} p_e,   dE/dstrain = sum_e (r_e p_e^T + p_e r_e^T) / 2;

long-range energies depend on positions and cells, too, whose derivatives are added.
`evaluate` differentiates with respect to these; `evaluate_linearised` uses cached descriptor derivatives.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from rutile.core.native import library
from rutile.graph.graph import Edges, Graph, build_graph, within
from rutile.graph.neighbors import find_edges
from rutile.potentials.parts.contract import contract, sum_edges, sum_images
from rutile.potentials.parts.descriptor_networks import DescriptorNetworks, StackedNetworks
from rutile.potentials.parts.heads import Head
from rutile.potentials.potential import DescriptorPotential, Linearised, Potential, Prediction
from rutile.structures.structures import Structures

_Core = tuple[Tensor, Tensor, Tensor]
"""Core repulsion of each atom (eV), [N], its derivatives with respect to atoms [N, 3] and to strain [S, 3, 3]."""
VOIGT = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))


def evaluate(
    potential: Potential,
    structures: Structures,
    *,
    edges: Edges | None = None,
    mode: Tensor | None = None,
    graph: Graph | None = None,
    training: bool = False,
    compiled: Callable[[Graph], tuple[Tensor, Tensor] | None] | None = None,
) -> Prediction:
    """Energy, forces and stress of a batch.

    Args:
        potential: any potential; its parameters set the precision together with `structures`.
        structures: the batch.
        edges: neighbours at `potential.cutoff`; found here when None.
        mode: number of each system's calc mode among those of the potential, [S] int64 (default: the first).
        graph: of the structures at that cutoff, in the potential's precision, where a driver has it; for no training.
        training: keep the graph, so that a loss of forces and stress can be differentiated. Without it a large batch
            is worked on in parts, see `evaluate_members`.
        compiled: for training, the energies and slopes of the same potential as one graph (`compiled`); where it gives
            None, and by default, they are computed operation by operation.
    """
    if not training:
        return evaluate_members([potential], structures, edges=edges, mode=mode, graph=graph)[0]
    edges = find_edges(structures, potential.cutoff) if edges is None else edges
    with torch.enable_grad():
        graph = build_graph(structures, edges, mode)
        if compiled is not None and (found := compiled(graph)) is not None:
            return _prediction(structures, found[0], *sum_edges(found[1], graph))
        graph = _with_open_geometry(graph)
        atom_energy = potential(graph)
        d_positions, d_strain = _derivatives(atom_energy, graph, training=True)
    return _prediction(structures, atom_energy, d_positions, d_strain)


def evaluate_members(
    potentials: Sequence[Potential],
    structures: Structures,
    *,
    edges: Edges | None = None,
    mode: Tensor | None = None,
    graph: Graph | None = None,
    watch: Callable[[DescriptorPotential, Tensor], None] | None = None,
    edges_at_once: int | None = None,
) -> list[Prediction]:
    """`evaluate` for each member of a committee.

    Members with the same descriptors compute them once. Those of the same class and settings go through their networks
    together, and one pass gives the derivatives of all. Heads of one potential (`parts.heads`) compute its trunk once.

    Where all members have descriptors, so that an atom's energy depends on its own edges alone, many edges are worked
    on in parts of whole centres: memory beyond the edge list does not grow with the size of the batch.

    Args:
        potentials: members of one cutoff.
        structures: the batch.
        edges: neighbours at the members' cutoff; found here when None.
        mode: as in `evaluate`.
        graph: as in `evaluate`; edges and modes are its own.
        watch: called with each potential that has descriptors and those (detached, [N, K]).
        edges_at_once: largest part (a part has at least one centre); by default what suits the memory of a desk.

    Raises:
        ValueError: the members have different cutoffs.
    """
    if len({p.cutoff for p in potentials}) != 1:
        raise ValueError(f"members of different cutoffs: {sorted({p.cutoff for p in potentials})}")
    found = graph or edges or find_edges(structures, potentials[0].cutoff)
    described = [p if isinstance(p, DescriptorPotential) else None for p in potentials]
    local = None not in described
    limit = edges_at_once or (200_000 if library() is not None else 20_000)
    sums = [_Sums(structures) for _ in potentials]
    alone, alike = _alike(potentials)
    for part in _parts(structures, found, mode, limit) if local else [_whole(structures, found, mode)]:
        members = [(sums[k], potentials[k], described[k]) for k in alone]
        _add_part(members, part, keep_descriptors=watch is not None)
        for which, networks in alike:
            _add_part_of_all([sums[k] for k in which], networks, part, keep_descriptors=watch is not None)
    if watch is not None:
        for potential, total in zip(described, sums, strict=True):
            if potential is not None:
                watch(potential, torch.cat(total.descriptors))
    return [_prediction(structures, torch.cat(s.atom_energy), s.d_positions, s.d_strain) for s in sums]


def linearise(potential: DescriptorPotential, structures: Structures, edges: Edges | None = None) -> Linearised:
    """Descriptors of a batch and their derivatives with respect to atoms and strain, and the core repulsion."""
    edges = find_edges(structures, potential.cutoff) if edges is None else edges
    graph = build_graph(structures, edges)
    descriptors, jacobian = potential.describe_with_jacobian(graph)  # [N, K], [E, K, 3]
    n = structures.n_atoms
    # One pair for each neighbour atom, images summed, and one for the centre itself (minus the sum of all).
    centre = torch.arange(n, device=edges.i.device)
    keys, slot = torch.unique(torch.cat([edges.i * n + edges.j, centre * (n + 1)]), return_inverse=True)
    n_edges = len(edges.i)
    d_pair, d_strain = sum_images(jacobian, graph.vectors, edges.i, slot[:n_edges], slot[n_edges:], len(keys))
    core = _core(potential, graph)
    return Linearised(
        structures.numbers,
        structures.system,
        periodic_volume(structures),
        descriptors.detach(),
        keys // n,
        keys % n,
        d_pair,
        d_strain,
        None if core is None else _prediction(structures, *core),
    )


def evaluate_linearised(potential: DescriptorPotential, batch: Linearised, *, training: bool = False) -> Prediction:
    """The same prediction as `evaluate`, from cached descriptors: F_j = -sum_i dE_i/dG_i . dG_i/dR_j."""
    n_systems = batch.volume.shape[0]
    with torch.enable_grad():
        descriptors = batch.descriptors.detach().requires_grad_()
        atom_energy = potential.energies(descriptors, batch.numbers)
        energy = sum_by_system(atom_energy, batch.system, n_systems)
        slope = _slope(atom_energy, descriptors, training)  # dE/dG, [N, K]
        pushes = contract(batch.d_pair, slope, batch.pair_i)  # [P, 3]
        forces = -torch.zeros_like(pushes[:1]).expand(len(slope), 3).index_add(0, batch.pair_j, pushes)
        per_atom = contract(batch.d_strain, slope, torch.arange(len(slope), device=slope.device))  # [N, 6]
        voigt = per_atom.new_zeros(n_systems, 6).index_add(0, batch.system, per_atom)
    d_strain = voigt[:, [0, 5, 4, 5, 1, 3, 4, 3, 2]].reshape(-1, 3, 3)
    prediction = Prediction(energy, forces, _stress(d_strain, batch.volume), atom_energy)
    if batch.core is not None:
        prediction = _added(prediction, batch.core)
    return prediction if training else _detached(prediction)


def sum_by_system(values: Tensor, system: Tensor, n_systems: int) -> Tensor:
    """Sum of per-atom values [N] in each system, [S]; added in float64, so that 10^5 atoms in float32 lose nothing."""
    sums = torch.zeros(n_systems, dtype=torch.float64, device=values.device).index_add(0, system, values.double())
    return sums.to(values.dtype)


def periodic_volume(structures: Structures) -> Tensor:
    """Volume (Angstrom^3), [S]; 0 where a system is not periodic in three directions."""
    return torch.where(structures.pbc.all(1), structures.volume, torch.zeros_like(structures.volume))


@dataclasses.dataclass(frozen=True)
class _Part:
    """Some centres of a batch with all their edges."""

    graph: Graph
    """Its atoms are the centres, then those of their neighbours that are not centres (without edges)."""
    atoms: Tensor | None
    """Number in the batch of each atom of the graph; None: the whole batch."""
    n_centres: int


class _Sums:
    """What the parts of a batch add up to, for one potential."""

    def __init__(self, structures: Structures) -> None:
        self.d_positions = torch.zeros_like(structures.positions)
        self.d_strain = torch.zeros_like(structures.cell)
        self.atom_energy: list[Tensor] = []
        self.descriptors: list[Tensor] = []

    def add(self, part: _Part, d_positions: Tensor, d_strain: Tensor) -> None:
        """Derivatives of a part, with respect to its atoms [N, 3] and to strain [S, 3, 3]."""
        self.d_strain += d_strain
        if part.atoms is None:
            self.d_positions += d_positions
        else:
            self.d_positions.index_add_(0, part.atoms, d_positions)

    def add_core(self, part: _Part, core: _Core | None) -> None:
        """The core repulsion of the part that was added last."""
        if core is not None:
            energy, d_positions, d_strain = core
            self.add(part, d_positions, d_strain)
            self.atom_energy[-1] = self.atom_energy[-1] + energy[: part.n_centres]


def _alike(potentials: Sequence[Potential]) -> tuple[list[int], list[tuple[list[int], StackedNetworks]]]:
    """Which members are evaluated on their own, and which, of the same class, settings and precision, together."""
    groups: list[list[int]] = []
    for k, potential in enumerate(potentials):
        mine = next((g for g in groups if _same_networks(potentials[g[0]], potential)), None)
        if mine is None:
            groups.append([k])
        else:
            mine.append(k)
    alike: list[tuple[list[int], StackedNetworks]] = []
    for group in groups:
        members = [p for p in (potentials[k] for k in group) if isinstance(p, DescriptorNetworks)]
        if len(members) > 1:
            alike.append((group, StackedNetworks(members)))
    return [group[0] for group in groups if len(group) == 1], alike


def _same_networks(a: Potential, b: Potential) -> bool:
    """Whether two potentials differ in their numbers only, and have networks that can be stacked."""
    if not (isinstance(a, DescriptorNetworks) and isinstance(b, DescriptorNetworks)) or type(a) is not type(b):
        return False
    same = (a.descriptor_key, a.elements, a.settings) == (b.descriptor_key, b.elements, b.settings)
    x, y = a.scaling.shift, b.scaling.shift
    return same and (x.dtype, x.device) == (y.dtype, y.device)


def _add_part(
    members: Sequence[tuple[_Sums, Potential, DescriptorPotential | None]], part: _Part, *, keep_descriptors: bool
) -> None:
    """Energies and derivatives of one part, by one member after another: its sums, itself, itself if of descriptors."""
    n = part.n_centres
    known: dict[str, tuple[Tensor, _Core | None]] = {}
    known_heads: dict[int, Tensor] = {}
    with torch.enable_grad():
        graph = _with_open_geometry(part.graph)
        for total, potential, described in members:
            core: _Core | None = None
            if described is not None:
                if described.descriptor_key not in known:
                    known[described.descriptor_key] = described.describe(graph), _core(described, part.graph)
                descriptors, core = known[described.descriptor_key]
                descriptors = descriptors[:n]
                atom_energy = described.energies(descriptors, graph.numbers[:n])
                if keep_descriptors:
                    total.descriptors.append(descriptors.detach())
            elif isinstance(potential, Head):
                atom_energy = potential.energy(graph, known_heads)
            else:
                atom_energy = potential(graph)
            total.add(part, *_derivatives(atom_energy, graph, training=False, keep=len(members) > 1))
            total.atom_energy.append(atom_energy.detach())
            total.add_core(part, core)


def _add_part_of_all(sums: Sequence[_Sums], networks: StackedNetworks, part: _Part, *, keep_descriptors: bool) -> None:
    """Energies and derivatives of one part by members that are alike, together: dE_m/dr_e = dE_m/dG . dG/dr_e."""
    n, one = part.n_centres, networks.members[0]
    with torch.no_grad():
        descriptors = one.describe(part.graph)[:n]
    with torch.enable_grad():
        own = descriptors.repeat(len(sums), 1, 1).requires_grad_()
        atom_energy = networks.energies(own, part.graph.numbers[:n])
        slope = _slope(atom_energy, own, training=False)  # member by member, as no row depends on another member's
    with torch.no_grad():
        pushes = one.vjps(part.graph, slope)
        core = _core(one, part.graph)
        for total, push, energy in zip(sums, pushes, atom_energy.detach(), strict=True):
            total.add(part, *sum_edges(push, part.graph))
            total.atom_energy.append(energy)
            total.add_core(part, core)
            if keep_descriptors:
                total.descriptors.append(descriptors)


def _core(potential: DescriptorPotential, graph: Graph) -> _Core | None:
    """The core repulsion of a potential with descriptors, from the few edges that it reaches; None: it has none."""
    if not potential.core_reach:
        return None
    with torch.enable_grad():
        near = _with_open_geometry(within(graph, potential.core_reach))
        energy = potential.core_energy(near)
        return energy.detach(), *_derivatives(energy, near, training=False)


def _whole(structures: Structures, found: Edges | Graph, mode: Tensor | None) -> _Part:
    graph = found if isinstance(found, Graph) else build_graph(structures, found, mode)
    return _Part(graph, None, structures.n_atoms)


def _parts(structures: Structures, found: Edges | Graph, mode: Tensor | None, edges_at_once: int) -> Iterator[_Part]:
    """The batch in parts of whole centres with at most `edges_at_once` edges, or one centre."""
    if len(found.i) <= edges_at_once:
        yield _whole(structures, found, mode)
        return
    n = structures.n_atoms
    last_edge = torch.bincount(found.i, minlength=n).cumsum(0)
    start = done = 0
    while start < n:
        stop = max(start + 1, int(torch.searchsorted(last_edge, done + edges_at_once, right=True)))
        end = int(last_edge[stop - 1])
        yield _part(structures, found, mode, slice(start, stop), slice(done, end))
        start, done = stop, end


def _part(structures: Structures, found: Edges | Graph, mode: Tensor | None, centres: slice, chosen: slice) -> _Part:
    """The part of a batch that consists of some centres and their edges, with atoms renumbered."""
    n, n_centres = structures.n_atoms, centres.stop - centres.start
    i, j = found.i[chosen] - centres.start, found.j[chosen]
    is_other = torch.zeros(n, dtype=torch.bool, device=j.device)
    is_other[j] = True
    is_other[centres] = False
    atoms = torch.cat([torch.arange(centres.start, centres.stop, device=j.device), is_other.nonzero().squeeze(1)])
    place = torch.empty(n, dtype=torch.long, device=j.device)
    place[atoms] = torch.arange(len(atoms), device=j.device)
    mine = structures.replace(
        numbers=structures.numbers[atoms], positions=structures.positions[atoms], system=structures.system[atoms]
    )
    if isinstance(found, Edges):
        renumbered = Edges(i, place[j], found.shift[chosen], found.cutoff)
        return _Part(build_graph(mine, renumbered, mode), atoms, n_centres)
    graph = dataclasses.replace(
        found, numbers=mine.numbers, positions=mine.positions, system=mine.system, i=i, j=place[j],
        vectors=found.vectors[chosen],
    )  # fmt: skip
    return _Part(graph, atoms, n_centres)


def _with_open_geometry(graph: Graph) -> Graph:
    """The graph with vectors, positions and cells that gradients can be asked for."""
    return dataclasses.replace(
        graph,
        vectors=graph.vectors.detach().requires_grad_(),
        positions=graph.positions.detach().requires_grad_(),
        cell=graph.cell.detach().requires_grad_(),
    )


def _derivatives(atom_energy: Tensor, graph: Graph, training: bool, keep: bool = False) -> tuple[Tensor, Tensor]:
    """dE/dR [N, 3] and dE/dstrain [S, 3, 3] through the edges, and through positions and cells if they were used."""
    if not atom_energy.requires_grad:
        return torch.zeros_like(graph.positions), torch.zeros_like(graph.cell)
    push, d_positions, d_cell = slopes(atom_energy, graph, training=training, keep=keep)
    with torch.set_grad_enabled(training):
        push = torch.zeros_like(graph.vectors) if push is None else push
        force, strain = sum_edges(push, graph)
        if d_positions is not None:
            force = force + d_positions
            each = (graph.positions[:, :, None] * d_positions[:, None, :]).flatten(1)
            product = each.new_zeros(graph.n_systems, 9).index_add(0, graph.system, each).reshape(-1, 3, 3)
            strain = strain + 0.5 * (product + product.mT)
        if d_cell is not None:
            product = graph.cell.mT @ d_cell
            strain = strain + 0.5 * (product + product.mT)
    return force, strain


def slopes(
    atom_energy: Tensor, graph: Graph, *, training: bool, keep: bool = False
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """dE/dr_e [E, 3], and the derivatives with respect to positions and cells themselves; None: not used."""
    push, d_positions, d_cell = torch.autograd.grad(
        atom_energy.sum(),
        [graph.vectors, graph.positions, graph.cell],
        create_graph=training,
        retain_graph=training or keep,
        allow_unused=True,
    )
    return push, d_positions, d_cell


def _slope(atom_energy: Tensor, descriptors: Tensor, training: bool) -> Tensor:
    """dE/dG; zeros where the energy does not depend on it."""
    if not atom_energy.requires_grad:
        return torch.zeros_like(descriptors)
    (slope,) = torch.autograd.grad(atom_energy.sum(), descriptors, create_graph=training, allow_unused=True)
    return torch.zeros_like(descriptors) if slope is None else slope


def _prediction(structures: Structures, atom_energy: Tensor, d_positions: Tensor, d_strain: Tensor) -> Prediction:
    energy = sum_by_system(atom_energy, structures.system, structures.n_systems)
    return Prediction(energy, -d_positions, _stress(d_strain, periodic_volume(structures)), atom_energy)


def _stress(d_strain: Tensor, volume: Tensor) -> Tensor:
    """Stress [S, 3, 3] from dE/dstrain [S, 3, 3]; 0 where the volume is 0."""
    periodic = volume > 0
    safe = torch.where(periodic, volume, torch.ones_like(volume))
    return torch.where(periodic[:, None, None], d_strain / safe[:, None, None], torch.zeros_like(d_strain))


def _added(a: Prediction, b: Prediction) -> Prediction:
    """The sum of two predictions."""
    return Prediction(a.energy + b.energy, a.forces + b.forces, a.stress + b.stress, a.atom_energy + b.atom_energy)


def _detached(p: Prediction) -> Prediction:
    return Prediction(p.energy.detach(), p.forces.detach(), p.stress.detach(), p.atom_energy.detach())
