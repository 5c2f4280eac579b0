"""How many neighbours a batch may have: what suits the caches of a processor, or half of the memory of a GPU.

Memory and time of an evaluation grow with the edges, whatever the sizes and densities of the structures are.
"""

from __future__ import annotations

import torch

from rutile.core.machine import free_memory
from rutile.potentials.placement import placement
from rutile.potentials.potential import Potential

ON_PROCESSOR = 30_000
"""Edges evaluated together on a processor: many enough that the cost of each call is shared, few enough for caches."""
BYTES = 40_000
"""Memory that an edge may need in message-passing potentials (bytes); of theirs, until more is known."""
SHARE = 0.5
"""Of the free memory that may be used."""


class Room:
    """Counts edges for one potential.

    Args:
        potential: on whatever device.
    """

    def __init__(self, potential: Potential) -> None:
        self.device = placement(potential)[1]

    def edges(self, pieces: int = 1) -> int:
        """Edges of a batch at most (a batch has at least one structure).

        Args:
            pieces: parts into which memory has forced batches already.
        """
        if self.device.type == "cuda":
            free, total = torch.cuda.mem_get_info(self.device)
            held = torch.cuda.memory_reserved(self.device)  # ours to use again
            return int(SHARE * min(free + held, total) / BYTES / pieces)
        return max(1, min(ON_PROCESSOR, int(SHARE * free_memory() / BYTES)) // pieces)
