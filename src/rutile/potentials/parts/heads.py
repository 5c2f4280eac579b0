"""Shallow ensembles: one trunk with many readout heads, whose spread says how far the answer is to be trusted.

A potential with `n_heads` = H > 1 has `head_energies`, [H, N]; its energy is their mean. In evaluation each head is a
member of a committee (`heads_of`), except that the trunk is computed once and only the derivatives are taken head by
head. In training each structure of a step is answered by one head, drawn anew for each step (`one_head_each`): the
expected loss is the mean of the losses of the heads, so that each of them fits the labels by itself. Trained through
their mean alone they would not, and their spread would mean nothing. Heads start with other weights and see other
structures; where the data do not bind them, they disagree. The spread is not calibrated: `rutile
calibrate` makes error bars of it.

After M. Kellner and M. Ceriotti, Mach. Learn.: Sci. Technol. 5, 035006 (2024), doi:10.1088/2632-2153/ad594a (who train
on the likelihood of the labels under the mean and the spread instead).
Letters of shapes: N atoms, S systems, H heads.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from rutile.graph.graph import Graph
from rutile.potentials.parts.dense import Dense


class HeadsDense(Dense):
    """One number from each of H heads, each with weights of its own for its own part of x.

    Args:
        n_in: length of the part of one head.
        heads: H.
        generator: source of the random numbers.
        gain: see `parts.dense`.
    """

    def __init__(self, n_in: int, heads: int, generator: torch.Generator | None, *, gain: float = 1.0) -> None:
        super().__init__(n_in, heads, generator, gain=gain)

    def forward(self, x: Tensor) -> Tensor:
        """[N, H n_in] -> [H, N]."""
        n_in, heads = self.weight.shape
        if heads == 1:
            return super().forward(x).mT
        parts = x.view(x.shape[0], heads, n_in).transpose(0, 1)
        y = (parts @ (self.weight * self.factor).mT.unsqueeze(2)).squeeze(2)
        return y if self.bias is None else y + self.bias.unsqueeze(1)


class Head(nn.Module):
    """One head of a potential, itself a potential that shares all parameters with the whole."""

    def __init__(self, whole: Any, number: int) -> None:
        """View a head.

        Args:
            whole: a potential with `head_energies`.
            number: which head.
        """
        super().__init__()
        self.whole = whole
        self.number = number
        self.cutoff, self.elements, self.modes = whole.cutoff, whole.elements, whole.modes

    def forward(self, graph: Graph) -> Tensor:
        """Energy of each atom (eV), [N]."""
        return self.energy(graph, {})

    def features(self, graph: Graph) -> Tensor:
        """Those of the whole, [N, F]."""
        features: Tensor = self.whole.features(graph)
        return features

    def energy(self, graph: Graph, known: dict[int, Tensor]) -> Tensor:
        """As `forward`; `known` keeps the energies of all heads for the other heads of the same potential."""
        if id(self.whole) not in known:
            known[id(self.whole)] = self.whole.head_energies(graph)
        return known[id(self.whole)][self.number]


def heads_of(potential: Any) -> list[Any]:
    """Each head of a potential as a potential; the potential itself if it has no more than one."""
    n = getattr(potential, "n_heads", 1)
    return [Head(potential, k) for k in range(n)] if n > 1 else [potential]


def draw(n_heads: int, graph: Graph, lesson: int) -> Tensor:
    """One head for each system, the same ones for the same seed `lesson`, said for each atom, [N] int64."""
    drawn = torch.randint(n_heads, (graph.n_systems,), generator=torch.Generator().manual_seed(lesson))
    return drawn.to(graph.system.device)[graph.system]


def answer(energies: Tensor, drawn: Tensor | None) -> Tensor:
    """The energy of a potential with heads.

    Args:
        energies: of all heads, [H, N].
        drawn: None: the mean of the heads answers. Else the head that answers for each atom, [N].

    Returns:
        [N].
    """
    if len(energies) == 1:
        return energies[0]
    return energies.mean(0) if drawn is None else energies.gather(0, drawn.unsqueeze(0))[0]


@contextmanager
def one_head_each(potential: nn.Module, seed: int) -> Iterator[None]:
    """Let one head answer for each system inside the `with`, the same ones for the same seed; for training.

    Args:
        potential: whose energies are asked; potentials without heads in it do not notice.
        seed: of the choice.
    """
    parts = [part for part in potential.modules() if getattr(part, "n_heads", 1) > 1 and hasattr(part, "lesson")]
    for part in parts:
        part.lesson = seed  # type: ignore[assignment]
    try:
        yield
    finally:
        for part in parts:
            part.lesson = None  # type: ignore[assignment]
