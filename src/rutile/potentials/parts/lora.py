"""Low-rank updates: a trained matrix W stays, and W + A B takes its place, with A and B of few columns and rows.

Fine-tuning then changes few numbers and cannot wander far. A starts at zero, so that training begins where the model
was; on saving the product is added to the matrix and nothing of it remains.

Source: E. J. Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models" (2021), arXiv:2106.09685.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from rutile.potentials.parts.embedding import ElementEmbedding

SKIPPED = (ElementEmbedding, nn.Embedding, nn.ParameterList, nn.ParameterDict)
"""Modules whose parameters are trained whole: rows that belong to elements and modes, and lists."""


class LowRank(nn.Module):
    """W -> W + A B."""

    def __init__(self, weight: Tensor, rank: int, generator: torch.Generator | None) -> None:
        """Start at W.

        Args:
            weight: W, [..., rows, columns].
            rank: columns of A and rows of B.
            generator: of B, normal with variance 1 / columns.
        """
        super().__init__()
        *stack, rows, columns = weight.shape
        self.a = nn.Parameter(weight.new_zeros(*stack, rows, rank))
        b = torch.randn(*stack, rank, columns, generator=generator, dtype=torch.float64)
        self.b = nn.Parameter((b / columns**0.5).to(weight))

    def forward(self, weight: Tensor) -> Tensor:
        """[..., rows, columns] -> [..., rows, columns]."""
        return weight + self.a @ self.b


def add_low_rank(potential: nn.Module, rank: int, generator: torch.Generator | None = None) -> list[str]:
    """Train low-rank updates of all matrices that have more than `rank` rows and columns, instead of the matrices.

    Args:
        potential: changed in place; embeddings, biases and other vectors stay as they are.
        rank: of the updates.
        generator: of their first values.

    Returns:
        Names of the matrices.
    """
    found = [
        (module, name, f"{prefix}.{name}".lstrip("."))
        for prefix, module in potential.named_modules()
        if not isinstance(module, SKIPPED)
        for name, p in module.named_parameters(recurse=False)
        if p.ndim >= 2 and min(p.shape[-2:]) > rank
    ]
    for module, name, _ in found:
        weight = getattr(module, name)
        weight.requires_grad_(False)
        parametrize.register_parametrization(module, name, LowRank(weight.detach(), rank, generator))
    return [full for _, _, full in found]


def merge_low_rank(potential: nn.Module) -> None:
    """Add the updates to their matrices; the potential is as if it never had any."""
    for module in list(potential.modules()):
        if isinstance(module, LowRank) or not parametrize.is_parametrized(module):
            continue
        for name in list(module.parametrizations):  # type: ignore[arg-type]
            parametrize.remove_parametrizations(module, name, leave_parametrized=True)
