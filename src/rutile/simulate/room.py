"""How many neighbours a batch may have: what suits the caches of a processor, or half of the memory of a GPU.

Memory and time of an evaluation grow with the edges, whatever the sizes and densities of the structures are.
"""

from __future__ import annotations

import torch

from rutile.core.machine import free_memory
from rutile.potentials.placement import placement
from rutile.potentials.potential import Potential

ON_PROCESSOR = 120_000
"""Edges evaluated together on a processor: so many that the cost of each call is shared. Measured on one core with
crystals of TiO2: behler takes 1.7, 1.1, 0.95, 0.8 and 0.9 microseconds for each of 2 500, 9 000, 31 000, 119 000 and
270 000 edges (0.5 in float32 from 50 000 on), anatase 5 to 7 from 3 000 to 90 000."""
BYTES = 20_000
"""Memory that an edge may need (bytes): anatase small takes 5 000 in float32."""
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
