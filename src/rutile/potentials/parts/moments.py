"""Sums over the neighbours of an atom of rows of the environment times features of the distance.

    T_i = sum_j R_ij^T G_ij,   R_ij = s(r_ij) (1 / sigma_0, x / (r sigma_1), y / (r sigma_1), z / (r sigma_1))

`add_moments` takes the features G of every edge. `moments` takes them from tables: by the compiled kernel
(`moments.c`) where there is one, which goes from the table to T directly, centre by centre; otherwise in plain PyTorch.
The kernel serves the values and the first derivative; further derivatives are those of the plain form.
Letters of shapes: N atoms, E edges, M features.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from rutile.core.native import function, library
from rutile.potentials.parts.hermite import HermiteTables

FEW_EDGES = 400
"""Below this the work is done before a second thread has started."""


@dataclass(frozen=True)
class Environment:
    """Edges with what rows and arguments are made of."""

    i: Tensor
    """Centre of each edge, [E] int64, non-decreasing."""
    net: Tensor
    """Table or embedding net of each edge, [E] int64."""
    kind: Tensor
    """Row of the statistics of each edge, [E] int64."""
    vectors: Tensor
    """r_ij (Angstrom), [E, 3]."""
    mean: Tensor
    """mu (1/Angstrom), [kinds]."""
    spread: Tensor
    """sigma_0 and sigma_1 (1/Angstrom), [kinds, 2]."""
    smooth_from: float
    """r_s (Angstrom)."""
    cutoff: float
    """r_c (Angstrom)."""
    n_atoms: int
    """N."""

    def rows(self) -> tuple[Tensor, Tensor]:
        """Arguments (s - mu) / sigma_0, [E], and R, [E, 4]."""
        r = torch.linalg.vector_norm(self.vectors, dim=1)
        s = switched_inverse(r, self.smooth_from, self.cutoff)
        spread = self.spread[self.kind]
        radial = (s / spread[:, 0]).unsqueeze(1)
        angular = (s / (r * spread[:, 1])).unsqueeze(1) * self.vectors
        return (s - self.mean[self.kind]) / spread[:, 0], torch.cat([radial, angular], 1)


def switched_inverse(r: Tensor, smooth_from: float, cutoff: float) -> Tensor:
    """s(r) (1/Angstrom), twice continuously differentiable.

    1/r up to r_s, then (1/r) (1 - 10 x^3 + 15 x^4 - 6 x^5) with x = (r - r_s) / (r_c - r_s), 0 from r_c on.
    """
    x = ((r - smooth_from) / (cutoff - smooth_from)).clamp(0.0, 1.0)
    return (1.0 + x**3 * (-10.0 + x * (15.0 - 6.0 * x))) / r


def add_moments(total: Tensor, i: Tensor, rows: Tensor, features: Tensor) -> Tensor:
    """The total [N, 4, M] plus sum_e rows[e]^T features[e] at the centres i [E], from [E, 4] and [E, M]."""
    return total.index_add(0, i, rows.unsqueeze(2) * features.unsqueeze(1))


def moments(tables: HermiteTables, around: Environment) -> Tensor:
    """T with the features of tables, [N, 4, M]; differentiable in `around.vectors`."""
    if not _serves(tables, around):
        return moments_plain(tables, around)
    out: Tensor = _Moments.apply(around.vectors, tables, around)  # type: ignore[no-untyped-call]
    return out


def moments_plain(tables: HermiteTables, around: Environment) -> Tensor:
    """What `moments` gives, in plain PyTorch."""
    argument, rows = around.rows()
    total = around.vectors.new_zeros(around.n_atoms, 4, tables.values.shape[3])
    return add_moments(total, around.i, rows, tables(around.net, argument))


class _Moments(Function):
    """vectors [E, 3] -> T [N, 4, M]."""

    @staticmethod
    def forward(ctx: Any, vectors: Tensor, tables: HermiteTables, around: Environment) -> Tensor:
        ctx.save_for_backward(vectors)
        ctx.tables, ctx.around = tables, around
        out = vectors.new_empty(around.n_atoms, 4, tables.values.shape[3])
        _run("moments", tables, around, vectors, out)
        return out

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor, None, None]:
        (vectors,) = ctx.saved_tensors
        if torch.is_grad_enabled():  # the derivative will be differentiated
            leaf = vectors if vectors.requires_grad else vectors.detach().requires_grad_()
            total = moments_plain(ctx.tables, dataclasses.replace(ctx.around, vectors=leaf))
            (gradient,) = torch.autograd.grad(total, leaf, cotangents[0], create_graph=True)
        else:
            gradient = torch.empty_like(vectors, memory_format=torch.contiguous_format)
            _run("moments_gradient", ctx.tables, ctx.around, vectors, cotangents[0].contiguous(), gradient)
        return gradient, None, None


def _serves(tables: HermiteTables, around: Environment) -> bool:
    vectors = around.vectors
    right = vectors.device.type == "cpu" and vectors.dtype in (torch.float64, torch.float32)
    return right and tables.values.dtype == vectors.dtype and library() is not None


def _run(name: str, tables: HermiteTables, around: Environment, vectors: Tensor, *arrays: Tensor) -> None:
    """Call a kernel of `moments.c` with contiguous arrays of the vectors' dtype.

    Raises:
        MemoryError: the kernel got no memory for its list of ranges.
    """
    n_edges = len(vectors)
    threads = torch.get_num_threads() if n_edges > FEW_EDGES else 1
    sizes = (around.n_atoms, n_edges, tables.values.shape[3], tables.size.fine, tables.size.coarse, threads)
    integers = (around.i, around.net, around.kind)
    reals = (around.mean, around.spread, tables.ranges, tables.values, vectors.detach())
    held = [a.contiguous() for a in (*integers, *reals, *arrays)]
    kernel = function(f"{name}_{'f64' if vectors.dtype == torch.float64 else 'f32'}", "nnnnnndd" + "p" * len(held))
    if kernel(*sizes, around.smooth_from, around.cutoff, *(a.data_ptr() for a in held)):
        raise MemoryError(f"{name}: no memory for the list of ranges")
