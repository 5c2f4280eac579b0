"""Learned vectors of the elements and of the calc modes: where a network on graphs starts.

Letters of shapes: N atoms, M calc modes, C channels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rutile.core.elements import MAX_Z
from rutile.graph.graph import Graph


class ElementEmbedding(nn.Module):
    """x_i = e(Z_i) + e(mode of its system).

    The vectors of the elements start normal with variance 1, drawn for all elements up to `MAX_Z` of which the
    potential keeps its own: an element starts the same whatever others there are. The first mode starts at zero, so
    that a potential of one mode starts as if there were none; the others start small.
    """

    element: Tensor
    mode: Tensor

    def __init__(
        self, elements: tuple[int, ...], n_modes: int, channels: int, generator: torch.Generator | None
    ) -> None:
        """Make the vectors, in float64.

        Args:
            elements: atomic numbers, in the order of `position`.
            n_modes: number of calc modes M.
            channels: length C of the vectors.
            generator: source of the random numbers.
        """
        super().__init__()
        every = torch.randn(MAX_Z + 1, channels, generator=generator, dtype=torch.float64)
        self.element = nn.Parameter(every[list(elements)])
        mode = torch.zeros(n_modes, channels, dtype=torch.float64)
        if n_modes > 1:
            mode[1:] = 0.1 * torch.randn(n_modes - 1, channels, generator=generator, dtype=torch.float64)
        self.mode = nn.Parameter(mode)

    def forward(self, graph: Graph, position: Tensor) -> Tensor:
        """Vector of each atom.

        Args:
            graph: says the mode of each system.
            position: of each atom's element among the elements, [N] int64.

        Returns:
            [N, C].
        """
        return self.element[position] + self.mode[graph.mode[graph.system]]
