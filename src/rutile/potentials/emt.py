"""Effective medium theory: a fast classical potential of the metals Al, Cu, Ag, Au, Ni, Pd, Pt (crudely: H, C, N, O).

    E_i = E0 [(1 + lambda s_i) exp(-lambda s_i) - 1] + 6 V0 exp(-kappa s_i) - V0/(2 gamma2) sum_j chi_ij e2_ij
    s_i = -ln(sum_j chi_ij e1_ij / (12 gamma1)) / (beta eta2),   chi_ij = n0_j / n0_i
    e1_ij = w(r) exp(-eta2_j (r - beta s0_j)),   e2_ij = w(r) exp(-kappa_j (r / beta - s0_j))
    w(r) = 1 / (1 + exp(a (r - rc)))

A cheap truth for tests, benchmarks and first steps; for the seven metals, and roughly. An atom alone has the energy
-E0: energies count from the metals at equilibrium, as in ASE, whose parameters these are. ASE breaks the pairs off at
rc + 0.5 Angstrom, where w is 6e-6; here they go smoothly to 0 from there to rc + 0.8, so that energies do not jump.

Source: K. W. Jacobsen, P. Stoltze and J. K. Norskov, Surf. Sci. 366, 394 (1996), doi:10.1016/0039-6028(96)00816-3.
Letters of shapes: N atoms, E edges.
"""

from __future__ import annotations

import math

import torch
from ase.calculators.emt import beta as BETA
from ase.calculators.emt import parameters
from ase.data import atomic_numbers
from ase.units import Bohr
from torch import Tensor, nn

from rutile.core.elements import symbol
from rutile.core.errors import ElementError
from rutile.graph.graph import Graph

NEAREST = BETA * max(p[1] for p in parameters.values()) * Bohr
"""Distance of neighbours in the widest of the metals (Angstrom)."""
MIDDLE = NEAREST * 0.5 * (math.sqrt(3.0) + 2.0)
"""rc, between the third and the fourth neighbours (Angstrom)."""
STEEPNESS = math.log(9999.0) / (2.0 * NEAREST - MIDDLE)
"""a (1/Angstrom)."""
BREAK = MIDDLE + 0.5
"""Where ASE breaks off (Angstrom)."""
FADE = 0.3
"""Length over which pairs go to 0 beyond (Angstrom)."""


class Emt(nn.Module):
    """The energy function, in float64 unless moved; has no parameters to train."""

    name = "emt"
    elements: tuple[int, ...] = tuple(sorted(atomic_numbers[s] for s in parameters))
    cutoff: float

    def __init__(self, fade: float = FADE) -> None:
        """Prepare.

        Args:
            fade: length over which pairs go to 0 (Angstrom); 0: broken off as in ASE.
        """
        super().__init__()
        self.fade, self.cutoff = fade, BREAK + fade
        self.table: Tensor
        table = torch.ones(119, 9, dtype=torch.float64)
        for name, (e0, s0, v0, eta2, kappa, decay, n0) in parameters.items():
            values = [e0, s0 * Bohr, v0, eta2 / Bohr, kappa / Bohr, decay / Bohr, n0 / Bohr**3]
            values += _gammas(values[1], values[3], values[4])
            table[atomic_numbers[name]] = torch.tensor(values, dtype=torch.float64)
        self.register_buffer("table", table)

    def forward(self, graph: Graph) -> Tensor:
        """Energy of each atom (eV), [N].

        Raises:
            ElementError: an element without parameters.
        """
        unknown = set(graph.numbers.unique().tolist()) - set(self.elements)
        if unknown:
            raise ElementError(f"effective medium theory has no parameters for {symbol(min(unknown))}")
        e0, _, v0, eta2, kappa, decay, n0, gamma1, gamma2 = self.table[graph.numbers].unbind(1)
        s0_j, eta2_j, kappa_j = self.table[graph.numbers[graph.j]][:, [1, 3, 4]].unbind(1)
        r = graph.vectors.norm(dim=1)
        weight = torch.sigmoid(-STEEPNESS * (r - MIDDLE)) * n0[graph.j] / n0[graph.i]
        if self.fade:
            x = ((r - BREAK) / self.fade).clamp(0.0, 1.0)
            weight = weight * (1.0 - x**3 * (10.0 - 15.0 * x + 6.0 * x**2))
        density = weight * torch.exp(-eta2_j * (r - BETA * s0_j))
        pair = weight * torch.exp(-kappa_j * (r / BETA - s0_j))
        zero = torch.zeros_like(e0)
        sigma1 = zero.index_add(0, graph.i, density).clamp(min=1e-30)
        s = -torch.log(sigma1 / (12.0 * gamma1)) / (BETA * eta2)
        cohesion = e0 * ((1.0 + decay * s) * torch.exp(-decay * s) - 1.0)
        own = -0.5 * (v0 / gamma2)[graph.i] * pair
        half = 0.5 * own
        return (
            cohesion + 6.0 * v0 * torch.exp(-kappa * s) + zero.index_add(0, graph.i, half).index_add(0, graph.j, half)
        )


def _gammas(s0: float, eta2: float, kappa: float) -> tuple[float, float]:
    """gamma1 and gamma2: the sums of the exponentials over three shells of a perfect fcc crystal, over 12."""
    gamma1 = gamma2 = 0.0
    for count, square in ((12, 1.0), (6, 2.0), (24, 3.0)):
        r = BETA * s0 * math.sqrt(square)
        weight = count / 12.0 / (1.0 + math.exp(STEEPNESS * (r - MIDDLE)))
        gamma1 += weight * math.exp(-eta2 * (r - BETA * s0))
        gamma2 += weight * math.exp(-kappa / BETA * (r - BETA * s0))
    return gamma1, gamma2
