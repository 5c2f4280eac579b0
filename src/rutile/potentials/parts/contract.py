"""Cached derivatives of descriptors: sums over periodic images, and products with slopes, which training repeats.

Both only read the derivatives once; on the CPU the compiled kernel (`contract.c`) does that at the speed of memory,
elsewhere PyTorch does. Letters: N atoms, E edges, P pairs of atoms, K descriptor functions, M components.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from rutile.core.native import function, library
from rutile.graph.graph import Graph

VOIGT = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))


def contract(derivatives: Tensor, slope: Tensor, i: Tensor) -> Tensor:
    """out[p, m] = sum_k derivatives[p, m, k] slope[i_p, k], differentiable in the slope.

    Args:
        derivatives: [P, M, K], a constant.
        slope: [N, K].
        i: atom of each row, [P] int64, non-decreasing.

    Returns:
        [P, M].
    """
    if not _serves(derivatives, slope):
        return torch.matmul(derivatives, slope[i].unsqueeze(2)).squeeze(2)
    out: Tensor = _Contract.apply(slope, derivatives.contiguous(), i.contiguous())  # type: ignore[no-untyped-call]
    return out


def sum_images(
    jacobian: Tensor, vectors: Tensor, i: Tensor, slot: Tensor, own: Tensor, n_pairs: int
) -> tuple[Tensor, Tensor]:
    """Derivatives with respect to atoms and strain from those with respect to edges (no gradient).

    Args:
        jacobian: dG(i_e)/dr_e, [E, K, 3].
        vectors: r_e, [E, 3].
        i: centre of each edge, [E] int64, non-decreasing.
        slot: pair of each edge, [E] int64.
        own: pair of each atom with itself, [N] int64.
        n_pairs: P.

    Returns:
        dG_i/dR_j of each pair, [P, 3, K], and dG_i/dstrain in Voigt order, [N, 6, K].
    """
    k = jacobian.shape[1]
    pairs, strain = jacobian.new_zeros(n_pairs, 3, k), jacobian.new_zeros(len(own), 6, k)
    if _serves(jacobian, vectors):
        jacobian, vectors = jacobian.contiguous(), vectors.contiguous()
        _call("sum_images", jacobian, (len(own), len(i), k), (i, slot, own, vectors, jacobian, pairs, strain))
        return pairs, strain
    jacobian = jacobian.mT
    pairs.index_add_(0, slot, jacobian)
    pairs.index_add_(0, own[i], jacobian, alpha=-1)
    for v, (a, b) in enumerate(VOIGT):
        term = 0.5 * (jacobian[:, a] * vectors[:, b, None] + jacobian[:, b] * vectors[:, a, None])
        strain[:, v].index_add_(0, i, term)
    return pairs, strain


def sum_edges(push: Tensor, graph: Graph) -> tuple[Tensor, Tensor]:
    """Derivatives with respect to atoms and symmetric strain from those with respect to edges.

    Args:
        push: p_e = dE/dr_e, [E, 3]; where it has a gradient, the sums have one.
        graph: the graph of the edges.

    Returns:
        dE/dR, [N, 3], and dE/dstrain, [S, 3, 3].
    """
    vectors, n, s = graph.vectors, graph.n_atoms, graph.n_systems
    if _serves(push, vectors) and not (torch.is_grad_enabled() and push.requires_grad):
        positions, product = push.new_zeros(n, 3), push.new_zeros(s, 3, 3)
        arrays = (graph.i, graph.j, graph.system, vectors.detach(), push)
        _call("sum_edges", push, (n, len(push)), (*(a.contiguous() for a in arrays), positions, product), threads=False)
    else:
        positions = push.new_zeros(n, 3).index_add(0, graph.j, push).index_add(0, graph.i, push, alpha=-1)
        each = (vectors[:, :, None] * push[:, None, :]).flatten(1)
        product = push.new_zeros(s, 9).index_add(0, graph.system[graph.i], each).reshape(s, 3, 3)
    return positions, 0.5 * (product + product.mT)


class _Contract(Function):
    """slope [N, K] -> [P, M]."""

    @staticmethod
    def forward(ctx: Any, slope: Tensor, derivatives: Tensor, i: Tensor) -> Tensor:
        ctx.save_for_backward(derivatives, i)
        ctx.n_atoms = len(slope)
        p, m, k = derivatives.shape
        out = slope.new_empty(p, m)
        _call("contract", slope, (len(slope), p, m, k), (i, derivatives, slope.contiguous(), out))
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        derivatives, i = ctx.saved_tensors
        slope: Tensor = _Transposed.apply(gradients[0], derivatives, i, ctx.n_atoms)  # type: ignore[no-untyped-call]
        return slope, None, None


class _Transposed(Function):
    """[P, M] -> slope [N, K], the transpose of `_Contract`."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, derivatives: Tensor, i: Tensor, n_atoms: int) -> Tensor:
        ctx.save_for_backward(derivatives, i)
        p, m, k = derivatives.shape
        out = weight.new_zeros(n_atoms, k)
        _call("contract_transposed", weight, (n_atoms, p, m, k), (i, derivatives, weight.contiguous(), out))
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        derivatives, i = ctx.saved_tensors
        weight: Tensor = _Contract.apply(gradients[0].contiguous(), derivatives, i)  # type: ignore[no-untyped-call]
        return weight, None, None, None


def _serves(*tensors: Tensor) -> bool:
    first = tensors[0]
    right = first.device.type == "cpu" and first.dtype in (torch.float64, torch.float32)
    return right and all(t.dtype == first.dtype for t in tensors) and library() is not None


def _call(name: str, like: Tensor, sizes: tuple[int, ...], arrays: tuple[Tensor, ...], *, threads: bool = True) -> None:
    """Call a kernel of `contract.c`: sizes, number of threads where it takes one, arrays.

    Raises:
        MemoryError: the kernel got no memory for its list of ranges.
    """
    kinds = "n" * len(sizes) + "i" * threads + "p" * len(arrays)
    if threads:
        sizes = (*sizes, torch.get_num_threads())
    kernel = function(f"{name}_{'f64' if like.dtype == torch.float64 else 'f32'}", kinds)
    if kernel(*sizes, *(a.data_ptr() for a in arrays)):
        raise MemoryError(f"{name}: no memory for the list of ranges")
