"""Which atoms lie outside what a potential has seen: descriptors beyond the range of the training data."""

from __future__ import annotations

import torch
from torch import Tensor

from rutile.potentials.potential import DescriptorPotential


class RangeWatch:
    """Watches an evaluation (`evaluate_members(..., watch=...)`); potentials that keep no training range count 0.

    Args:
        numbers: atomic numbers of the batch, [N].
    """

    outside: Tensor
    """For each atom the largest number of descriptors outside the training range of any member, [N] int64."""

    def __init__(self, numbers: Tensor) -> None:
        self.numbers, self.outside = numbers, torch.zeros_like(numbers)

    def __call__(self, potential: DescriptorPotential, descriptors: Tensor) -> None:
        """Count for one member, descriptors [N, K]."""
        count = getattr(potential, "extrapolation", None)
        if count is not None:
            self.outside = torch.maximum(self.outside, count(descriptors, self.numbers))
