"""Scaling of descriptors by the statistics of the training set, for each centre element.

    standard   G' = (G - mean) / std; a function with std <= 1e-10 is switched off (as in aenet)
    whitened   G' = (C + r 1)^(-1/2) (G - mean) / std with the correlation matrix C and the ridge r = 0.01
    minmax     G' = (G - min) / (max - min); a function with max - min <= 1e-10 is switched off
    none       G' = G

Symmetry functions are strongly correlated: of 70, a handful of combinations carry most of the variance. Whitening puts
all combinations on one footing, which gradient descent needs to see the small ones (on the TiO2 set it lowers the force
error after the same number of epochs by 40 %). The ridge keeps it from blowing up combinations that hardly vary in
training: with 0.001 the errors far from the training set were several times larger.

The training range [min, max] is kept in every mode: a descriptor outside it is an extrapolation (as in n2p2).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rutile.potentials.parts.choices import ScalingMode

OFF = 1e-10
"""Spread (std or max - min) at or below which a function is switched off."""
RIDGE = 1e-2
"""Added to the eigenvalues of the correlation matrix before whitening."""
ROUNDING = 1e-5
"""Relative margin of the training range, so that float32 does not extrapolate on its own training set."""


@dataclass
class _Moments:
    """Statistics of the K functions of one element, gathered batch by batch in float64."""

    count: int
    mean: Tensor
    """[K]."""
    products: Tensor
    """Sums of products of deviations from the mean, [K, K]."""
    low: Tensor
    """[K]."""
    high: Tensor
    """[K]."""

    def add(self, rows: Tensor) -> None:
        """Take in more atoms, [n, K]; merging by Chan, Golub and LeVeque (1979)."""
        total = self.count + len(rows)
        mean = rows.mean(0)
        step = mean - self.mean
        self.products += (rows - mean).mT @ (rows - mean) + torch.outer(step, step) * (self.count * len(rows) / total)
        self.mean += step * (len(rows) / total)
        self.low, self.high = torch.minimum(self.low, rows.amin(0)), torch.maximum(self.high, rows.amax(0))
        self.count = total


class DescriptorScaling(nn.Module):
    """G' = (G - shift) * factor, in mode "whitened" times a matrix: one set of parameters for each element."""

    shift: Tensor
    """[n_elements, K]."""
    factor: Tensor
    """[n_elements, K]."""
    whitening: Tensor | None
    """[n_elements, K, K], symmetric; only in mode "whitened"."""
    minimum: Tensor
    """[n_elements, K]."""
    maximum: Tensor
    """[n_elements, K]."""

    def __init__(self, n_elements: int, width: int, mode: ScalingMode) -> None:
        super().__init__()
        self.mode = mode
        shape = (n_elements, width)
        self.register_buffer("shift", torch.zeros(shape, dtype=torch.float64))
        self.register_buffer("factor", torch.ones(shape, dtype=torch.float64))
        self.register_buffer("minimum", torch.full(shape, -torch.inf, dtype=torch.float64))
        self.register_buffer("maximum", torch.full(shape, torch.inf, dtype=torch.float64))
        identity = torch.eye(width, dtype=torch.float64).repeat(n_elements, 1, 1)
        self.register_buffer("whitening", identity if mode == "whitened" else None)

    def forward(self, element: int, descriptors: Tensor) -> Tensor:
        """Scaled descriptors of atoms of one element (its place in the list of elements), [n, K] -> [n, K]."""
        scaled = (descriptors - self.shift[element]) * self.factor[element]
        return scaled if self.whitening is None else scaled @ self.whitening[element]

    def fit(self, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Take the statistics of (descriptors [N, K], element positions [N]) in one pass, in float64.

        Elements that do not occur keep shift 0, factor 1 and an unlimited range.
        """
        width = self.shift.shape[1]
        found: dict[int, _Moments] = {}
        for descriptors, position in batches:
            g = descriptors.detach().double().cpu()
            for e in position.unique().tolist():
                limit = torch.full((width,), torch.inf, dtype=torch.float64)
                moments = found.setdefault(
                    e, _Moments(0, torch.zeros(width).double(), torch.zeros(width, width).double(), limit, -limit)
                )
                moments.add(g[(position == e).cpu()])
        for e, moments in found.items():
            self._set(e, moments)

    def _set(self, e: int, m: _Moments) -> None:
        self.minimum[e], self.maximum[e] = m.low, m.high
        if self.mode == "none":
            return
        covariance = m.products / m.count
        minmax = self.mode == "minmax"
        spread = m.high - m.low if minmax else covariance.diagonal().clamp_min(0.0).sqrt()
        factor = torch.where(spread > OFF, 1.0 / spread.clamp_min(OFF), torch.zeros_like(spread))
        self.shift[e], self.factor[e] = m.low if minmax else m.mean, factor
        if self.whitening is not None:
            values, vectors = torch.linalg.eigh(covariance * torch.outer(factor, factor))
            self.whitening[e] = (vectors * (values.clamp_min(0.0) + RIDGE).rsqrt()) @ vectors.mT

    def outside(self, descriptors: Tensor, position: Tensor) -> Tensor:
        """Number of functions of each atom outside its element's training range, [N] int64."""
        g, low, high = descriptors.detach().double(), self.minimum[position].double(), self.maximum[position].double()
        return ((g < low - ROUNDING * low.abs()) | (g > high + ROUNDING * high.abs())).sum(1)
