"""Functions of one number as piecewise polynomials of fifth order.

Value, first and second derivative are stored at the nodes of a grid; between two nodes the polynomial of fifth order
is the one that has all six (quintic Hermite interpolation), so that the whole is twice continuously differentiable.
With the distance w of the nodes and u = (x - x_k) / w in [0, 1]

    f(x) = sum_{n=0,1,2} w^n [ a_n(u) f^(n)(x_k) + b_n(u) f^(n)(x_{k+1}) ]

    a_0 = 1 - 10 u^3 + 15 u^4 - 6 u^5    a_1 = u - 6 u^3 + 8 u^4 - 3 u^5    a_2 = (u^2 - 3 u^3 + 3 u^4 - u^5) / 2
    b_0 = 10 u^3 - 15 u^4 + 6 u^5        b_1 = -4 u^3 + 7 u^4 - 3 u^5       b_2 = (u^3 - 2 u^4 + u^5) / 2

with an error of at most w^6 max|f^(6)| / 46080 (C. de Boor, A Practical Guide to Splines, 1978).
The grid is fine where x usually is and coarse beyond. Outside the grid the function is constant.
Letters of shapes: T tables (one for each function), K nodes, M components of a function, E arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from rutile.potentials.settings.deeppot_se import TableSize

Curve = Callable[[Tensor], tuple[Tensor, Tensor, Tensor]]
"""x [E] -> value, first and second derivative, each [E, M]."""
BASIS = (
    ((1.0, 0.0, 0.0, -10.0, 15.0, -6.0), (0.0, 1.0, 0.0, -6.0, 8.0, -3.0), (0.0, 0.0, 0.5, -1.5, 1.5, -0.5)),
    ((0.0, 0.0, 0.0, 10.0, -15.0, 6.0), (0.0, 0.0, 0.0, -4.0, 7.0, -3.0), (0.0, 0.0, 0.0, 0.5, -1.0, 0.5)),
)
"""Coefficients of 1, u ... u^5 of a_n and b_n."""


class HermiteTables(nn.Module):
    """Several functions of one number, each with its own range; evaluates on any device and differentiates twice."""

    values: Tensor
    ranges: Tensor
    basis: Tensor

    def __init__(self, n_tables: int, size: TableSize, width: int) -> None:
        """Make room; `fill` gives the contents.

        Args:
            n_tables: T.
            size: intervals of both parts of the grid.
            width: M.
        """
        super().__init__()
        self.size = size
        nodes = size.fine + size.coarse + 1
        self.register_buffer("values", torch.zeros(n_tables, nodes, 3, width, dtype=torch.float64))
        ranges = torch.tensor([[0.0, 1.0, 2.0]], dtype=torch.float64).repeat(n_tables, 1)
        self.register_buffer("ranges", ranges)
        self.register_buffer("basis", torch.tensor(BASIS, dtype=torch.float64), persistent=False)

    def fill(self, curves: Sequence[Curve], ranges: Tensor) -> None:
        """Tabulate functions.

        Args:
            curves: the functions, in float64, [T].
            ranges: first node, border of fine and coarse part, last node of each table, [T, 3].
        """
        self.ranges.copy_(ranges)
        for table, (curve, (first, border, last)) in enumerate(zip(curves, ranges, strict=True)):
            x = torch.cat([_grid(first, border, self.size.fine), _grid(border, last, self.size.coarse)[1:]])
            for order, values in enumerate(curve(x)):
                self.values[table, :, order] = values

    def forward(self, table: Tensor, x: Tensor) -> Tensor:
        """Function table[e] at x[e].

        Args:
            table: [E] int64.
            x: [E].

        Returns:
            [E, M].
        """
        first, border, last = self.ranges[table].unbind(1)
        width_fine, width_coarse = (border - first) / self.size.fine, (last - border) / self.size.coarse
        x = torch.minimum(torch.maximum(x, first), last)
        fine = x < border
        with torch.no_grad():
            inner = ((x - first) / width_fine).long().clamp(0, self.size.fine - 1)
            outer = ((x - border) / width_coarse).long().clamp(0, self.size.coarse - 1)
            node = torch.where(fine, inner, self.size.fine + outer)
            left = torch.where(fine, first + inner * width_fine, border + outer * width_coarse)
        width = torch.where(fine, width_fine, width_coarse)
        u = (x - left) / width
        powers = torch.stack([torch.ones_like(u), u, u**2, u**3, u**4, u**5], 1)
        scale = torch.stack([torch.ones_like(width), width, width**2], 1)
        weights = torch.einsum("ep,snp,en->esn", powers, self.basis, scale)  # [E, 2, 3]
        corners = torch.stack([self.values[table, node], self.values[table, node + 1]], 1)  # [E, 2, 3, M]
        return torch.einsum("esn,esnm->em", weights, corners)


def choose_size(curves: Sequence[Curve], ranges: Tensor, fine: float, coarse: float) -> TableSize:
    """The fewest intervals, in steps of a factor of 1.25, with errors of value and slope below these.

    Args:
        curves: the functions, in float64, [T].
        ranges: as for `HermiteTables.fill`, [T, 3].
        fine: largest error in the fine part, relative to the largest slope there.
        coarse: the same in the coarse part.
    """
    counts = [
        max(_enough(curve, first, last, tolerance) for curve, (first, last) in zip(curves, part, strict=True))
        for part, tolerance in ((ranges[:, :2], fine), (ranges[:, 1:], coarse))
    ]
    return TableSize(fine=counts[0], coarse=counts[1])


def _enough(curve: Curve, first: Tensor, last: Tensor, tolerance: float) -> int:
    """Intervals of an even grid with errors below the tolerance."""
    n = 16
    while True:
        tables = HermiteTables(1, TableSize(fine=n, coarse=1), curve(first[None])[0].shape[1])
        tables.fill([curve], torch.stack([first, last, last + 1.0])[None])
        # The error of the slope is largest near u = 0.28 and 0.72, that of the value at 0.5.
        nodes = _grid(first, last, n)
        x = torch.cat([nodes[:-1] + u * (last - first) / n for u in (0.28, 0.5, 0.72)])
        value, slope, _ = curve(x)
        found = _value_and_slope(tables, x)
        worst = max(float((a - b).abs().max()) for a, b in zip((value, slope), found, strict=True))
        if worst <= tolerance * max(float(slope.abs().max()), 1e-3):
            return n
        n = n * 5 // 4


def _value_and_slope(tables: HermiteTables, x: Tensor) -> tuple[Tensor, Tensor]:
    """Of the first function at x [E], each [E, M]: the slope is what a weight of the value does to its gradient."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        value = tables(torch.zeros(len(x), dtype=torch.long), x)
        weight = torch.ones_like(value).requires_grad_()
        (gradient,) = torch.autograd.grad(value, x, weight, create_graph=True)
        (slope,) = torch.autograd.grad(gradient.sum(), weight)
    return value.detach(), slope


def _grid(first: Tensor, last: Tensor, n: int) -> Tensor:
    """Ends of n even intervals, [n + 1]."""
    return first + (last - first) * torch.arange(n + 1, dtype=first.dtype) / n
