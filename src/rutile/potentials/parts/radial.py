"""Radial basis functions: distances r (Angstrom, any shape [...]) -> K functions of each, [..., K].

    gaussians       exp(-gamma (r - mu_k)^2)
    bessel          sqrt(2 / r_c) sin(k pi r / r_c) / r,  k = 1..K: orthonormal in the ball of radius r_c

None of them vanishes smoothly at a cutoff: multiply by one of `parts.cutoff`, or by it the filter made from them.

Sources: K. T. Schuett et al., SchNet, J. Chem. Phys. 148, 241722 (2018), doi:10.1063/1.5019779, for the Gaussians;
J. Gasteiger, J. Gross and S. Guennemann, DimeNet, arXiv:2003.03123, for the Bessel functions and their envelope.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from rutile.potentials.parts.cutoff import cutoff
from rutile.potentials.parts.symmetry import CutoffName


def even_centers(start: float, stop: float, n: int) -> Tensor:
    """Evenly spaced centres mu_k from start to stop (Angstrom), both included, [n] float64."""
    return torch.linspace(start, stop, n, dtype=torch.float64)


def gaussians(r: Tensor, centers: Tensor, gamma: float) -> Tensor:
    """exp(-gamma (r - mu_k)^2).

    Args:
        r: distances (Angstrom), [...].
        centers: mu_k (Angstrom), [K]; a buffer of the caller, so that it follows dtype and device.
        gamma: 1/Angstrom^2; a width sigma is gamma = 1 / (2 sigma^2).

    Returns:
        [..., K].
    """
    return torch.exp(-gamma * (r.unsqueeze(-1) - centers) ** 2)


def bessel(r: Tensor, r_c: float, n: int) -> Tensor:
    """Spherical Bessel functions of order 0 that vanish at r_c, [..., n] (Angstrom^-3/2); not smooth at r_c."""
    k = torch.arange(1, n + 1, dtype=r.dtype, device=r.device)
    r = r.unsqueeze(-1)
    return math.sqrt(2.0 / r_c) * torch.sin(r * (k * (math.pi / r_c))) / r


def smooth_bessel(r: Tensor, r_c: float, n: int, envelope: CutoffName = "envelope6") -> Tensor:
    """`bessel` times a cutoff function: 0 from r_c on, as smooth there as the envelope is, [..., n]."""
    return bessel(r, r_c, n) * cutoff(envelope, r, r_c).unsqueeze(-1)
