"""Matrix products of dense layers, in full precision or with rounded factors.

    bf16    factors rounded to bfloat16 (8 bits), products summed in float32, the result in float32
    tf32    factors rounded to TensorFloat-32 (11 bits), else the same; GPUs only

Which of them holds is said for a part of the program (`products`), never for all of it. What is made outside of dense
layers (vectors of edges, sums of energies), and networks of distances alone (`unrounded`), keep their precision. The
derivatives of a rounded product are rounded products too, so that forces are those of the energy but for rounding; they
can be differentiated again.

Narrow layers are left alone: nothing is gained there, and their inputs or outputs are often geometry or energies. On a
CPU bf16 gives the numbers of a GPU but for the order of sums, and saves no time.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.autograd import Function

Products = Literal["full", "tf32", "bf16"]
NARROW = 16
"""Rows and columns, whichever are fewer, from which on a matrix of weights is multiplied with rounding."""
_now: ContextVar[Products] = ContextVar("products", default="full")


@contextmanager
def products(how: Products) -> Iterator[None]:
    """How dense layers multiply inside the `with`, and when what they gave there is differentiated."""
    token = _now.set(how)
    try:
        yield
    finally:
        _now.reset(token)


def unrounded(network: nn.Module, x: Tensor) -> Tensor:
    """What a network says, in full precision: for functions of distances, whose slopes are forces."""
    with products("full"):
        return network(x)  # type: ignore[no-any-return]


def rounds(weight: Tensor) -> bool:
    """Whether products with this matrix are rounded now."""
    return _now.get() != "full" and wide(weight)


def wide(weight: Tensor) -> bool:
    """Whether products with this matrix may be rounded."""
    return min(weight.shape) >= NARROW


def multiply(x: Tensor, weight: Tensor) -> Tensor:
    """X W: [..., n_in] and [n_in, n_out] -> [..., n_out]."""
    if not rounds(weight):
        return x @ weight
    rows: Tensor = _Rounded.apply(x.reshape(-1, weight.shape[0]), weight, _now.get())  # type: ignore[no-untyped-call]
    return rows.view(*x.shape[:-1], weight.shape[1])


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """X W^T + b, as `torch.nn.functional.linear`: [..., n_in], [n_out, n_in] and [n_out] -> [..., n_out]."""
    if not rounds(weight):
        return nn.functional.linear(x, weight, bias)
    y = multiply(x, weight.mT)
    return y if bias is None else y + bias


class Linear(nn.Linear):
    """`torch.nn.Linear`, whose product may be rounded."""

    def forward(self, x: Tensor) -> Tensor:
        """[..., n_in] -> [..., n_out]."""
        return linear(x, self.weight, self.bias)


class _Rounded(Function):
    """a b of matrices [n, k] and [k, m], with rounded factors."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, how: Products) -> Tensor:
        ctx.save_for_backward(a, b)
        ctx.how = how
        if how == "tf32":
            with _tf32():
                return a @ b
        a, b = a.bfloat16(), b.bfloat16()
        return torch.mm(a, b, out_dtype=torch.float32) if a.device.type == "cuda" else a.float() @ b.float()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        a, b = ctx.saved_tensors
        to_a, to_b, _ = ctx.needs_input_grad
        g = gradients[0]
        d_a = _Rounded.apply(g, b.mT, ctx.how) if to_a else None  # type: ignore[no-untyped-call]
        d_b = _Rounded.apply(a.mT, g, ctx.how) if to_b else None  # type: ignore[no-untyped-call]
        return d_a, d_b, None


@contextmanager
def _tf32() -> Iterator[None]:
    """Products of this moment in TF32, on any GPU that has it."""
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = True
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before
