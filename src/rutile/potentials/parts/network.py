"""What all trained potentials have in common, and what networks on graphs have beyond it.

    E_i = s [ N_i(graph) - N(an isolated atom of element Z_i in mode m_i) ] + E0(Z_i, m_i) + V_i

with the core repulsion V (`parts.repulsion`) if it is asked for, so that an isolated atom has exactly its reference
energy E0, whatever the weights are.
Letters of shapes: N atoms, S systems, E edges.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from rutile.core.settings import Settings
from rutile.graph.graph import Graph
from rutile.potentials.parts.heads import answer, draw
from rutile.potentials.parts.reference import ElementIndex, ReferenceEnergies, one_mode
from rutile.potentials.parts.repulsion import CoreRepulsion
from rutile.potentials.settings.network import NetworkSettings


class TrainablePotential(nn.Module):
    """A potential of the catalogue: elements, calc modes, reference energies of isolated atoms, an energy scale.

    Networks have the core repulsion besides, if their settings ask for it, and add it themselves: `core`. Subclasses
    make their layers in float64 with weights from a generator, set `cutoff`, and set `knows_modes` if they use
    `graph.mode`.
    """

    name: str
    """Its name in the catalogue."""
    knows_modes = False
    """Whether it tells calc modes apart."""
    smooth: bool = True
    """Whether energy and forces are continuous in the positions of the atoms."""
    pads_neighbours = False
    """Whether its cost grows with the largest number of neighbours in a batch instead of the number of all."""
    frozen = ""
    """Why it cannot be trained; empty: it can."""
    cutoff: float
    """Radius of the neighbour list it needs (Angstrom)."""
    energy_scale: Tensor

    def __init__(self, settings: Settings, elements: tuple[int, ...], modes: tuple[str, ...] = ("",)) -> None:
        """Keep what every potential has.

        Args:
            settings: its parameters; with the elements and the modes they make it again.
            elements: atomic numbers.
            modes: names of the calc modes, in the order of `graph.mode`; at least one.

        Raises:
            SettingsError: several modes, and the potential cannot tell them apart.
        """
        super().__init__()
        self.settings = settings
        self.elements = tuple(sorted(elements))
        self.modes = modes if self.knows_modes else one_mode(self.name, modes)
        self.position = ElementIndex(self.elements)
        self.reference = ReferenceEnergies(self.elements, len(self.modes))
        self.register_buffer("energy_scale", torch.ones((), dtype=torch.float64))
        end = settings.zbl_end if isinstance(settings, NetworkSettings) and settings.zbl else None
        self.core = None if end is None else CoreRepulsion(end)

    def set_reference_energies(self, energies: Mapping[int, float], mode: int | None = None) -> None:
        """Energies of the isolated atoms (eV) by atomic number, in one calc mode or (default) all.

        Raises:
            ElementError: the energy of an element is missing.
        """
        self.reference.set(energies, mode)

    def set_energy_scale(self, scale: float) -> None:
        """The energy (eV) that stands for a network output of 1."""
        self.energy_scale.fill_(scale)

    def learn_statistics(self, graphs: Iterable[Graph]) -> None:
        """Constants that the potential takes from the training set, in one pass; none by default."""

    def features(self, graph: Graph) -> Tensor:
        """How it sees the surroundings of each atom: invariant numbers that tell them apart, detached, [N, F].

        None by default (F = 0). What they are differs between potentials; only those of one of them can be compared.
        """
        return graph.positions.new_zeros(graph.n_atoms, 0)


class NetworkPotential(TrainablePotential, ABC):
    """Base of the networks on graphs: a subclass says `outputs`, the rest is here."""

    n_heads = 1
    """Readouts, whose mean is the energy; see `parts.heads`."""
    reads = "head"
    """Name of the module that makes an atom's number from its features, [N or more, F]."""
    lesson: int | None = None
    """Seed of the heads that answer while `parts.heads.one_head_each` holds."""

    @abstractmethod
    def outputs(self, graph: Graph, position: Tensor) -> Tensor:
        """The network's number for each atom, smooth and independent of the order of neighbours.

        Args:
            graph: the batch; may hold atoms without edges.
            position: of each atom's element in `self.elements`, [N] int64.

        Returns:
            [N], or [H, N] from H heads, in units of the energy scale.
        """

    def forward(self, graph: Graph) -> Tensor:
        """Energy of each atom (eV), [N] float64; the mean of the heads.

        Raises:
            ElementError: an element that the potential does not know.
        """
        drawn = graph.plan["head"] if "head" in graph.plan else self._drawn(graph)
        return self._complete(answer(self._changes(graph), drawn), graph)

    @torch.no_grad()
    def features(self, graph: Graph) -> Tensor:
        """What the last network is given, detached, [N, F]."""
        given: list[Tensor] = []
        hook = self.get_submodule(self.reads).register_forward_pre_hook(lambda _, x: given.append(x[0]))
        try:
            self.outputs(graph, self.position(graph.numbers))
        finally:
            hook.remove()
        return given[0][: graph.n_atoms].detach()

    def head_energies(self, graph: Graph) -> Tensor:
        """Energy of each atom (eV) as each head says it, [H, N] float64.

        Raises:
            ElementError: an element that the potential does not know.
        """
        return self._complete(self._changes(graph), graph)

    def plan(self, graph: Graph) -> dict[str, Tensor]:
        """Who goes where in a batch: what depends on data and is the same for all weights, [..] int64 each.

        In a graph that has it (`graph.plan`) no operation's shape depends on the values of a tensor, so that the energy
        can be compiled. Sizes are those of the tensors.

        Raises:
            ElementError: an element that the potential does not know.
        """
        drawn = self._drawn(graph)
        return self._plan_kinds(graph) | self.plan_edges(graph) | ({} if drawn is None else {"head": drawn})

    def plan_edges(self, graph: Graph) -> dict[str, Tensor]:
        """The part of the plan that `outputs` needs."""
        raise NotImplementedError(f"{self.name} cannot be compiled")

    def _plan_kinds(self, graph: Graph) -> dict[str, Tensor]:
        """Places of the elements [N], kinds of atoms (element and mode) that occur [K], and the kind of each [N]."""
        position = self.position(graph.numbers)
        kinds, kind = torch.unique(position * len(self.modes) + graph.mode[graph.system], return_inverse=True)
        return {"position": position, "kinds": kinds, "kind": kind}

    def _drawn(self, graph: Graph) -> Tensor | None:
        """The head that answers for each atom, [N]; None: all do."""
        if self.n_heads == 1 or self.lesson is None:
            return None
        return draw(self.n_heads, graph, self.lesson)

    def _complete(self, changes: Tensor, graph: Graph) -> Tensor:
        """What the network says with the reference energies and the core repulsion (eV), [N] or [H, N]."""
        position = graph.plan["position"] if graph.plan else self.position(graph.numbers)
        energy: Tensor = changes + self.reference(position, graph.mode[graph.system])
        return energy if self.core is None else energy + self.core(graph, self.cutoff)

    def _changes(self, graph: Graph) -> Tensor:
        """What the network says about each atom, less what it says about the isolated atom (eV), [H, N]."""
        plan = graph.plan or self._plan_kinds(graph)
        position, kinds, kind = plan["position"], plan["kinds"], plan["kind"]
        n_kinds = kinds.shape[0]
        alone = kinds // len(self.modes)
        extended = dataclasses.replace(
            graph,
            numbers=torch.cat([graph.numbers, graph.numbers.new_tensor(self.elements)[alone]]),
            system=torch.cat([graph.system, graph.n_systems + torch.arange(n_kinds, device=kinds.device)]),
            n_systems=graph.n_systems + n_kinds,
            mode=torch.cat([graph.mode, kinds % len(self.modes)]),
            positions=torch.cat([graph.positions, graph.positions.new_zeros(n_kinds, 3)]),
            cell=torch.cat([graph.cell, graph.cell.new_zeros(n_kinds, 3, 3)]),
            pbc=torch.cat([graph.pbc, graph.pbc.new_zeros(n_kinds, 3)]),
        )
        out = self.outputs(extended, torch.cat([position, alone]))
        n = graph.n_atoms
        # Rows of a matrix product round differently; the mask makes an isolated atom E0 to the last bit.
        bound = torch.zeros(n, dtype=torch.bool, device=out.device).index_fill_(0, graph.i, True)
        change = (out[..., :n] - out[..., n:][..., kind]) * bound
        return change.double().view(-1, n) * self.energy_scale
