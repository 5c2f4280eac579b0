"""Where a potential's numbers live: their precision and device."""

from __future__ import annotations

import torch

from rutile.potentials.potential import Potential


def placement(potential: Potential) -> tuple[torch.dtype, torch.device]:
    """Precision and device of a potential's tensors; float64 on the CPU for one without any."""
    if isinstance(potential, torch.nn.Module):
        for tensor in [*potential.parameters(), *potential.buffers()]:
            if tensor.is_floating_point():
                return tensor.dtype, tensor.device
    return torch.float64, torch.device("cpu")
