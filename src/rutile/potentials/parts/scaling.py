"""Scaling of descriptors by the statistics of the training set, for each centre element.

    standard   G' = (G - mean) / std; a function with std <= 1e-10 is switched off (as in aenet)
    minmax     G' = (G - min) / (max - min); a function with max - min <= 1e-10 is switched off
    none       G' = G

The training range [min, max] is kept in every mode: a descriptor outside it is an extrapolation (as in n2p2).
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from rutile.potentials.parts.choices import ScalingMode

OFF = 1e-10
"""Spread (std or max - min) at or below which a function is switched off."""

ROUNDING = 1e-5
"""Relative margin of the training range, so that float32 does not extrapolate on its own training set."""


class DescriptorScaling(nn.Module):
    """G' = (G - shift) * factor with one row of parameters for each element, [n_elements, K]."""

    shift: Tensor
    factor: Tensor
    minimum: Tensor
    maximum: Tensor

    def __init__(self, n_elements: int, width: int, mode: ScalingMode) -> None:
        super().__init__()
        self.mode = mode
        shape = (n_elements, width)
        self.register_buffer("shift", torch.zeros(shape, dtype=torch.float64))
        self.register_buffer("factor", torch.ones(shape, dtype=torch.float64))
        self.register_buffer("minimum", torch.full(shape, -torch.inf, dtype=torch.float64))
        self.register_buffer("maximum", torch.full(shape, torch.inf, dtype=torch.float64))

    def fit(self, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Take the statistics of (descriptors [N, K], element positions [N]) in one pass, in float64.

        Elements that do not occur keep shift 0, factor 1 and an unlimited range.
        """
        n_elements, width = self.shift.shape
        count = torch.zeros(n_elements, dtype=torch.float64)
        mean = torch.zeros(n_elements, width, dtype=torch.float64)
        square = torch.zeros_like(mean)  # sum of squared deviations from the mean
        low = torch.full_like(mean, torch.inf)
        high = torch.full_like(mean, -torch.inf)
        for descriptors, position in batches:
            g, p = descriptors.detach().double().cpu(), position.cpu()
            for e in range(n_elements):
                rows = g[p == e]
                if len(rows):
                    # Merging two samples' means and squares: Chan, Golub and LeVeque (1979).
                    total = count[e] + len(rows)
                    new = rows.mean(0)
                    step = new - mean[e]
                    square[e] += ((rows - new) ** 2).sum(0) + step**2 * (count[e] * len(rows) / total)
                    mean[e] += step * (len(rows) / total)
                    count[e] = total
                    low[e] = torch.minimum(low[e], rows.amin(0))
                    high[e] = torch.maximum(high[e], rows.amax(0))
        seen = count > 0
        self.minimum[seen], self.maximum[seen] = low[seen].to(self.minimum), high[seen].to(self.maximum)
        if self.mode == "none":
            return
        if self.mode == "standard":
            start, spread = mean, (square / count.clamp_min(1.0)[:, None]).sqrt()
        else:
            start, spread = low, high - low
        factor = torch.where(spread > OFF, 1.0 / spread.clamp_min(OFF), torch.zeros_like(spread))
        self.shift[seen], self.factor[seen] = start[seen].to(self.shift), factor[seen].to(self.factor)

    def outside(self, descriptors: Tensor, position: Tensor) -> Tensor:
        """Number of functions of each atom outside its element's training range, [N] int64."""
        g, low, high = descriptors.detach().double(), self.minimum[position].double(), self.maximum[position].double()
        return ((g < low - ROUNDING * low.abs()) | (g > high + ROUNDING * high.abs())).sum(1)
