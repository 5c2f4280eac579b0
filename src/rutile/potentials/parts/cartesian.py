"""Cartesian tensors of rank 0, 1 and 2 for networks that know rotations and mirrors.

A feature of rank l has 2l + 1 components, and C channels behind them: scalars [..., C], vectors [..., 3, C] (x, y, z),
symmetric traceless matrices T [..., 5, C], packed as five orthonormal numbers

    t = (sqrt2 T_xy, sqrt2 T_yz, sqrt2 T_xz, (T_xx - T_yy)/sqrt2, sqrt(3/2) T_zz),   sum t^2 = ||T||_F^2.

The couplings below are all products of two such features that are again one of them and have even parity (so that
they turn with mirrors, too). They are scaled so that independent components of variance 1 give variance 1:

    000 s s'    011 s v    022 s T    101 v s    202 T s    110 v.v'/sqrt3    112 sym0(v v')
    121 sqrt(3/5) T v    211 sqrt(3/5) T v    220 T:T'/sqrt5    222 sqrt(12/7) sym0(T T')

with sym0 the symmetric traceless part. The name says rank of the first and second factor, and of the result.
Rank 2 as in TensorNet (G. Simeon and G. De Fabritiis, NeurIPS 2023, arXiv:2306.06482), without its antisymmetric part.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

Features = dict[int, Tensor]
"""Rank -> feature of that rank; absent: 0."""

S2 = math.sqrt(2.0)
Z2 = math.sqrt(1.5)
_V110 = 1.0 / math.sqrt(3.0)
_V121 = math.sqrt(3.0 / 5.0)
_V220 = 1.0 / math.sqrt(5.0)
_V222 = math.sqrt(12.0 / 7.0)
COUPLINGS = ("000", "011", "022", "101", "110", "112", "121", "202", "211", "220", "222")
"""All eleven."""


def pack(matrix: Tensor) -> Tensor:
    """Symmetric traceless matrices [..., 3, 3, C] as five numbers, [..., 5, C]."""
    m = matrix
    return torch.stack(
        [
            S2 * m[..., 0, 1, :],
            S2 * m[..., 1, 2, :],
            S2 * m[..., 0, 2, :],
            (m[..., 0, 0, :] - m[..., 1, 1, :]) / S2,
            Z2 * m[..., 2, 2, :],
        ],
        -2,
    )


def unpack(t: Tensor) -> Tensor:
    """The matrices [..., 3, 3, C] of packed numbers [..., 5, C]."""
    xx, yy, zz, xy, yz, xz = elements(t)
    rows = [torch.stack(row, -2) for row in ([xx, xy, xz], [xy, yy, yz], [xz, yz, zz])]
    return torch.stack(rows, -3)


def elements(t: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """T_xx, T_yy, T_zz, T_xy, T_yz, T_xz [..., C] of packed numbers [..., 5, C]."""
    xy, yz, xz, d, z = t.unbind(-2)
    zz = z / Z2
    return d / S2 - zz / 2, -d / S2 - zz / 2, zz, xy / S2, yz / S2, xz / S2


def outer(a: Tensor, b: Tensor) -> Tensor:
    """sym0(a b^T) of vectors [..., 3, C], packed [..., 5, C]."""
    ax, ay, az = a.unbind(-2)
    bx, by, bz = b.unbind(-2)
    x, y, z = ax * bx, ay * by, az * bz
    return torch.stack(
        [(ax * by + ay * bx) / S2, (ay * bz + az * by) / S2, (ax * bz + az * bx) / S2, (x - y) / S2,
         Z2 * (2 * z - x - y) / 3], -2)  # fmt: skip


def apply(t: Tensor, a: Tensor) -> Tensor:
    """T a of packed t [..., 5, C] and vectors a [..., 3, C], [..., 3, C]."""
    xx, yy, zz, xy, yz, xz = elements(t)
    x, y, z = a.unbind(-2)
    return torch.stack([xx * x + xy * y + xz * z, xy * x + yy * y + yz * z, xz * x + yz * y + zz * z], -2)


def multiply(t: Tensor, u: Tensor) -> Tensor:
    """sym0(T U), packed, of packed t and u [..., 5, C]."""
    a, b, c, d, e, f = elements(t)
    p, q, r, s, v, w = elements(u)
    xx, yy, zz = a * p + d * s + f * w, d * s + b * q + e * v, f * w + e * v + c * r
    xy = a * s + d * q + f * v + p * d + s * b + w * e
    yz = d * w + b * v + e * r + s * f + q * e + v * c
    xz = a * w + d * v + f * r + p * f + s * e + w * c
    return torch.stack([xy / S2, yz / S2, xz / S2, (xx - yy) / S2, Z2 * (2 * zz - xx - yy) / 3], -2)


def couple(name: str, x: Mapping[int, Tensor], y: Mapping[int, Tensor]) -> Tensor:
    """One of the couplings, channel by channel.

    Args:
        name: of `COUPLINGS`.
        x: first factor, features by rank.
        y: second factor, with as many channels or one.

    Returns:
        A feature of rank `int(name[2])`.

    Raises:
        ValueError: no such coupling.
    """
    match name:
        case "000":
            return x[0] * y[0]
        case "011" | "022":
            return x[0].unsqueeze(-2) * y[int(name[1])]
        case "101" | "202":
            return x[int(name[0])] * y[0].unsqueeze(-2)
        case "110":
            return _V110 * (x[1] * y[1]).sum(-2)
        case "112":
            return outer(x[1], y[1])
        case "121":
            return _V121 * apply(y[2], x[1])
        case "211":
            return _V121 * apply(x[2], y[1])
        case "220":
            return _V220 * (x[2] * y[2]).sum(-2)
        case "222":
            return _V222 * multiply(x[2], y[2])
    raise ValueError(f"no coupling {name!r} (known: {', '.join(COUPLINGS)})")


def directions(unit: Tensor) -> Features:
    """The three features of a direction, of mean square 1 in each component: 1, sqrt3 u, sqrt7.5 sym0(u u^T).

    Args:
        unit: unit vectors, [E, 3].

    Returns:
        Features with one channel: [E, 1], [E, 3, 1], [E, 5, 1].
    """
    u = unit.unsqueeze(-1)
    return {0: torch.ones_like(u[:, 0]), 1: math.sqrt(3.0) * u, 2: math.sqrt(7.5) * outer(u, u)}


def direction_constants() -> Tensor:
    """The constants of `stacked_directions`, [16, 9] float64."""
    c = torch.zeros(9, 4, 4, dtype=torch.float64)
    c[0, 0, 0] = 1.0
    c[[1, 2, 3], 0, [1, 2, 3]] = math.sqrt(3.0)
    c[4:, 1:, 1:] = math.sqrt(7.5) * coupling_constants("112")
    return c.view(9, 16).T.contiguous()


def stacked_directions(unit: Tensor, constants: Tensor) -> Tensor:
    """`directions` side by side, from all products of (1, u): few operations for many edges.

    Args:
        unit: unit vectors, [E, 3].
        constants: `direction_constants()`, in the precision of the vectors.

    Returns:
        [E, 9].
    """
    q = torch.nn.functional.pad(unit, (1, 0), value=1.0)
    return (q.unsqueeze(2) * q.unsqueeze(1)).view(q.shape[0], 16) @ constants


def squared_norm(x: Tensor, rank: int) -> Tensor:
    """Sum of the squared components, [..., C]; of a matrix its Frobenius norm."""
    return x.square() if rank == 0 else x.square().sum(-2)


def normalise(x: Mapping[int, Tensor]) -> Features:
    """Features x / sqrt(1 + mean over channels of |x|^2/(2l+1)) for each rank: bounded, smooth, x for small x."""
    return {rank: normalise_rank(f, rank) for rank, f in x.items()}


def normalise_rank(x: Tensor, rank: int) -> Tensor:
    """`normalise` for one rank."""
    size = squared_norm(x, rank).mean(-1, keepdim=True) / (2 * rank + 1)
    factor = torch.rsqrt(1 + size)
    return x * (factor if rank == 0 else factor.unsqueeze(-2))


def coupling_constants(name: str) -> Tensor:
    """The constants c of a coupling z_m = sum_ab c_mab x_a y_b, [2l + 1, 2l1 + 1, 2l2 + 1] float64.

    Raises:
        ValueError: no such coupling.
    """
    first, second, rank = (int(digit) for digit in name)
    n, m = 2 * first + 1, 2 * second + 1
    x = torch.eye(n, dtype=torch.float64).repeat_interleave(m, 0)[:, :, None]
    y = torch.eye(m, dtype=torch.float64).repeat(n, 1)[:, :, None]
    z = couple(name, {first: x if first else x[:, 0]}, {second: y if second else y[:, 0]})
    return z.reshape(n, m, 2 * rank + 1).permute(2, 0, 1).contiguous()
