"""Potentials made of potentials: sums of terms, and committees.

A committee is of several potentials trained alike; their mean is the prediction, their spread a sign of ignorance.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from rutile.core.errors import SettingsError
from rutile.graph.graph import Graph, within
from rutile.potentials.catalogue import class_of
from rutile.potentials.modes import modes_of
from rutile.potentials.parts.descriptor_networks import DescriptorNetworks
from rutile.potentials.parts.heads import Head
from rutile.potentials.parts.network import TrainablePotential
from rutile.potentials.potential import Potential, Prediction
from rutile.potentials.settings import SumSettings


class Sum(TrainablePotential):
    """The sum of several potentials, each with its own cutoff; the reference energies are the sum's own.

    A network and its dispersion, say: `Sum.of([network, dispersion])`.
    """

    name = "sum"
    knows_modes = True  # where all terms do

    def __init__(
        self,
        settings: SumSettings,
        elements: tuple[int, ...],
        generator: torch.Generator | None = None,
        modes: tuple[str, ...] = ("",),
    ) -> None:
        """Make the terms with random weights.

        Args:
            settings: the terms' settings.
            elements: atomic numbers.
            generator: source of the random weights.
            modes: names of the calc modes.

        Raises:
            SettingsError: a term does not fit the elements or the modes.
        """
        super().__init__(settings, elements, modes)
        self._take([class_of(s)(s, self.elements, generator, modes) for s in settings.terms])

    @staticmethod
    def of(terms: Sequence[TrainablePotential]) -> Sum:
        """The sum of potentials that exist; their reference energies are added.

        Raises:
            SettingsError: the terms are for other elements or modes than the first.
        """
        first = terms[0]
        for term in terms[1:]:
            if (term.elements, term.modes) != (first.elements, first.modes):
                raise SettingsError(
                    f"a sum of potentials for different elements or modes: {first.elements}, {first.modes} and "
                    f"{term.elements}, {term.modes}"
                )
        settings = SumSettings.model_validate({"terms": [term.settings for term in terms]})
        whole = Sum(settings, first.elements, None, first.modes)
        whole._take(terms)
        return whole

    def _take(self, terms: Sequence[TrainablePotential]) -> None:
        """Make these the terms; their reference energies become the sum's."""
        self.terms = torch.nn.ModuleList(terms)
        self.cutoff = max(term.cutoff for term in terms)
        self.frozen = next((term.frozen for term in terms if term.frozen), "")
        heads = {getattr(term, "n_heads", 1) for term in terms} - {1}
        if len(heads) > 1:
            raise SettingsError(f"a sum of potentials with different numbers of heads: {sorted(heads)}")
        self.n_heads = max(heads, default=1)
        with torch.no_grad():
            for term in terms:
                self.reference.energy += term.reference.energy
                term.reference.energy.zero_()

    def _terms(self) -> list[TrainablePotential]:
        return cast(list[TrainablePotential], list(self.terms))

    def forward(self, graph: Graph) -> Tensor:
        """Energy of each atom (eV), [N] float64."""
        energy: Tensor = self.reference(self.position(graph.numbers), graph.mode[graph.system])
        for term in self._terms():
            energy = energy + term(self._near(graph, term))
        return energy

    def head_energies(self, graph: Graph) -> Tensor:
        """Energy of each atom (eV) as each head of the terms says it, [H, N] float64."""
        energy: Tensor = self.reference(self.position(graph.numbers), graph.mode[graph.system]).unsqueeze(0)
        for term in self._terms():
            say: Any = term.head_energies if getattr(term, "n_heads", 1) > 1 else term
            energy = energy + say(self._near(graph, term))
        return energy

    def features(self, graph: Graph) -> Tensor:
        """Those of all terms, [N, F]."""
        return torch.cat([term.features(self._near(graph, term)) for term in self._terms()], 1)

    def _near(self, graph: Graph, term: TrainablePotential) -> Graph:
        return within(graph, term.cutoff) if term.cutoff < self.cutoff else graph

    def set_energy_scale(self, scale: float) -> None:
        """The energy (eV) that stands for a network output of 1, of each term."""
        for term in self._terms():
            term.set_energy_scale(scale)

    def learn_statistics(self, graphs: Iterable[Graph]) -> None:
        """Each term learns from the graphs within its cutoff (which are kept in memory if there are several terms)."""
        seen = graphs if len(self.terms) == 1 else list(graphs)
        for term in self._terms():
            term.learn_statistics(within(graph, term.cutoff) for graph in seen)
        learnt = tuple(term.settings for term in self._terms())
        self.settings = self.settings.model_copy(update={"terms": learnt})


class Mean(torch.nn.Module):
    """The mean of several potentials, itself a potential."""

    def __init__(self, members: Sequence[Potential]) -> None:
        super().__init__()
        if len({m.cutoff for m in members}) != 1:
            raise ValueError("a committee is of potentials of one cutoff")
        self.members = torch.nn.ModuleList(members)  # type: ignore[arg-type]
        self.cutoff = members[0].cutoff
        self.elements = common_elements(members)
        self.modes = modes_of(members[0])

    def forward(self, graph: Graph) -> Tensor:
        """Mean energy of each atom (eV), [N].

        Members with the same descriptors compute them, and in the backward pass their derivatives, once; heads of one
        potential their trunk.
        """
        known: dict[str, tuple[Tensor, Tensor]] = {}
        known_heads: dict[int, Tensor] = {}
        energies = []
        for member in self.members:
            if isinstance(member, DescriptorNetworks):
                if member.descriptor_key not in known:
                    known[member.descriptor_key] = member.describe(graph), member.core_energy(graph)
                descriptors, core = known[member.descriptor_key]
                energies.append(member.energies(descriptors, graph.numbers) + core)
            elif isinstance(member, Head):
                energies.append(member.energy(graph, known_heads))
            else:
                energies.append(member(graph))
        return torch.stack(energies).mean(0)


def mean_potential(members: Sequence[Potential]) -> Potential:
    """The mean of a committee; of a single member itself."""
    return Mean(members) if len(members) > 1 else members[0]


class Added(torch.nn.Module):
    """The sum of potentials of any kinds, itself a potential; for evaluation, not for training."""

    def __init__(self, terms: Sequence[Potential]) -> None:
        super().__init__()
        self.terms = torch.nn.ModuleList(terms)  # type: ignore[arg-type]
        self.cutoffs = [term.cutoff for term in terms]
        self.cutoff = max(self.cutoffs)
        self.elements = common_elements(terms)
        self.modes = modes_of(terms[0])

    def forward(self, graph: Graph) -> Tensor:
        """Sum of the energies of each atom (eV), [N]."""
        total: Tensor | None = None
        for term, cutoff in zip(self.terms, self.cutoffs, strict=True):
            energy = term(within(graph, cutoff) if cutoff < self.cutoff else graph)
            total = energy if total is None else total + energy
        assert total is not None
        return total


@dataclass(frozen=True)
class Spread:
    """Standard deviation over the members of a committee (divisor: number of members)."""

    energy: Tensor
    """[S] (eV)."""
    forces: Tensor
    """[N, 3] (eV/Angstrom), component by component."""
    stress: Tensor
    """[S, 3, 3] (eV/Angstrom^3), component by component."""


def mean(predictions: Sequence[Prediction]) -> Prediction:
    """The committee's prediction."""
    return Prediction(
        torch.stack([p.energy for p in predictions]).mean(0),
        torch.stack([p.forces for p in predictions]).mean(0),
        torch.stack([p.stress for p in predictions]).mean(0),
        torch.stack([p.atom_energy for p in predictions]).mean(0),
    )


def spread(predictions: Sequence[Prediction]) -> Spread:
    """The committee's disagreement."""
    return Spread(
        torch.stack([p.energy for p in predictions]).std(0, correction=0),
        torch.stack([p.forces for p in predictions]).std(0, correction=0),
        torch.stack([p.stress for p in predictions]).std(0, correction=0),
    )


def common_elements(potentials: Sequence[Potential]) -> tuple[int, ...]:
    """Elements that every potential knows; empty: any."""
    limited = [set(p.elements) for p in potentials if p.elements]
    return tuple(sorted(set.intersection(*limited))) if limited else ()
