"""Cutoff functions f_c(r), 0 with zero slope from r = r_c on.

With x = r / r_c:

    cosine        (cos(pi x) + 1) / 2                                        C1 at r_c
    tanh3         tanh^3(1 - x), 0.4417 at x = 0                             C2
    tanh3_unit    tanh^3(1 - x) / tanh^3(1)                                  C2
    poly1         1 + x^2 (2x - 3)                                           C1
    poly2         1 + x^3 (15x - 6x^2 - 10)                                  C2
    poly3         1 + x^4 (20x^3 - 70x^2 + 84x - 35)                         C3
    poly4         1 + x^5 (-70x^4 + 315x^3 - 540x^2 + 420x - 126)            C4
    exp           exp(1 - 1 / (1 - x^2)) = exp(-x^2 / (1 - x^2))             C-infinity
    envelope_p    1 - (p+1)(p+2)/2 x^p + p(p+2) x^(p+1) - p(p+1)/2 x^(p+2)   C2, p = 5 or 6

Sources: J. Behler, J. Chem. Phys. 134, 074106 (2011); n2p2 (A. Singraber et al., J. Chem. Theory Comput. 15, 1827
(2019), doi:10.1021/acs.jctc.8b00770) for tanh3, poly and exp; J. Gasteiger et al., arXiv:2003.03123 for the envelope.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from rutile.potentials.parts.symmetry import CutoffName

Pair = tuple[Tensor, Tensor]


def cutoff(name: CutoffName, r: Tensor, r_c: float) -> Tensor:
    """f_c of distances r (any shape), 0 where r >= r_c; differentiable to all orders."""
    return cutoff_and_slope(name, r, r_c)[0]


def cutoff_and_slope(name: CutoffName, r: Tensor, r_c: float) -> Pair:
    """f_c and df_c/dr (1/Angstrom) of distances r (any shape)."""
    inside = r < r_c
    x = torch.where(inside, r / r_c, torch.zeros_like(r))
    f, slope = CUTOFFS[name](x)
    zero = torch.zeros_like(r)
    return torch.where(inside, f, zero), torch.where(inside, slope / r_c, zero)


def _cosine(x: Tensor) -> Pair:
    return 0.5 * (torch.cos(math.pi * x) + 1.0), -0.5 * math.pi * torch.sin(math.pi * x)


def _tanh3(x: Tensor) -> Pair:
    t = torch.tanh(1.0 - x)
    return t**3, -3.0 * t**2 * (1.0 - t**2)


def _tanh3_unit(x: Tensor) -> Pair:
    f, slope = _tanh3(x)
    return f / math.tanh(1.0) ** 3, slope / math.tanh(1.0) ** 3


def _exp(x: Tensor) -> Pair:
    # Where the gap is below the floor the value has underflowed to 0; the floor keeps its derivatives 0, not 0 * inf.
    gap = (1.0 - x * x).clamp_min(1e-3)
    f = torch.exp(1.0 - 1.0 / gap)
    return f, -2.0 * x * f / gap**2


def _polynomial(coefficients: dict[int, float]) -> Callable[[Tensor], Pair]:
    """1 + sum_n c_n x^n and its derivative, by Horner's rule over the powers that occur."""
    low, high = min(coefficients), max(coefficients)

    def function(x: Tensor) -> Pair:
        f = torch.full_like(x, coefficients[high])
        slope = torch.full_like(x, high * coefficients[high])
        for n in range(high - 1, low - 1, -1):
            c = coefficients.get(n, 0.0)
            f = f * x + c
            slope = slope * x + n * c
        return 1.0 + f * x**low, slope * x ** (low - 1)

    return function


def _envelope(p: int) -> Callable[[Tensor], Pair]:
    return _polynomial({p: -(p + 1) * (p + 2) / 2, p + 1: float(p * (p + 2)), p + 2: -p * (p + 1) / 2})


CUTOFFS: dict[CutoffName, Callable[[Tensor], Pair]] = {
    "cosine": _cosine,
    "tanh3": _tanh3,
    "tanh3_unit": _tanh3_unit,
    "poly1": _polynomial({2: -3.0, 3: 2.0}),
    "poly2": _polynomial({3: -10.0, 4: 15.0, 5: -6.0}),
    "poly3": _polynomial({4: -35.0, 5: 84.0, 6: -70.0, 7: 20.0}),
    "poly4": _polynomial({5: -126.0, 6: 420.0, 7: -540.0, 8: 315.0, 9: -70.0}),
    "exp": _exp,
    "envelope5": _envelope(5),
    "envelope6": _envelope(6),
}
"""Name -> (f(x), df/dx) for 0 <= x < 1."""
