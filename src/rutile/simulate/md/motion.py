"""Sums over moving atoms that every time step asks for, by the compiled kernel (`motion.c`) or by PyTorch.

With few atoms a step of a quick potential takes less than a hundred calls of PyTorch. Letters: N atoms, S systems.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rutile.core.native import function
from rutile.graph.graph import squared_lengths
from rutile.structures.structures import Structures


def kinetic_sums(velocities: Tensor, mass: Tensor, structures: Structures) -> Tensor:
    """Half the sum of m v^2 of each system, in the units of its arguments, [S].

    Args:
        velocities: [N, 3].
        mass: [N, 1].
        structures: whose atoms.
    """
    kernel = function("kinetic_energies", "nnpppp")
    if kernel is None or not _serves(velocities, mass):
        zero = velocities.new_zeros(structures.n_systems)
        return zero.index_add(0, structures.system, 0.5 * mass[:, 0] * squared_lengths(velocities))
    sums = velocities.new_empty(structures.n_systems)
    arrays = (structures.system.contiguous(), mass.contiguous(), velocities.contiguous(), sums)
    kernel(len(velocities), len(sums), *(x.data_ptr() for x in arrays))
    return sums


def largest_square(velocities: Tensor) -> float:
    """The largest v^2 of velocities [N, 3]; not finite if one of them is not, 0 without atoms."""
    kernel = function("largest_square", "np", "d")
    if kernel is None or not _serves(velocities):
        return float(squared_lengths(velocities).amax()) if len(velocities) else 0.0
    velocities = velocities.contiguous()
    return float(kernel(len(velocities), velocities.data_ptr()))


def _serves(*tensors: Tensor) -> bool:
    return all(x.dtype == torch.float64 and x.device.type == "cpu" for x in tensors)
