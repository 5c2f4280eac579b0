"""Committees: several potentials trained alike; their mean is the prediction, their spread a sign of ignorance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rutile.graph.graph import Graph
from rutile.potentials.potential import Potential, Prediction


class Mean(torch.nn.Module):
    """The mean of several potentials, itself a potential."""

    def __init__(self, members: Sequence[Potential]) -> None:
        super().__init__()
        if len({m.cutoff for m in members}) != 1:
            raise ValueError("a committee is of potentials of one cutoff")
        self.members = torch.nn.ModuleList(members)  # type: ignore[arg-type]
        self.cutoff = members[0].cutoff
        self.elements = common_elements(members)

    def forward(self, graph: Graph) -> Tensor:
        """Mean energy of each atom (eV), [N]."""
        return torch.stack([member(graph) for member in self.members]).mean(0)


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
