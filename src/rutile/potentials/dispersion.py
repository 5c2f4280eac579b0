"""D3 dispersion with rational (Becke-Johnson) damping.

    E  = -1/2 sum_{i != j} [ s6 C6 / (r^6 + f^6) + s8 C8 / (r^8 + f^8) ] w(r),   f = a1 sqrt(C8 / C6) + a2,
    C8 = 3 C6 Q_i Q_j,   C6_ij = sum_ab W_ia W_jb C6ref_ab,   W_ia = softmax_a[ -4 (CN_i - CN_a)^2 ],
    CN_i = sum_j w(r) / (1 + exp[ -16 (R_ij / r - 1) ]),   R_ij = 4/3 (R_i + R_j),

with the sum over the reference compounds a of each element; optionally with the Axilrod-Teller-Muto term of triples,

    E3 = sum_{i<j<k} sqrt(C6_ij C6_jk C6_ki) (3 cos cos cos + 1) / (r_ij r_jk r_ki)^3 / (1 + 6 (4 R0 / 3 R)^16),

R and R0 the geometric means of the sides and of the van der Waals radii of the pairs. w is 1 up to the smoothing range
and has two continuous derivatives.

Sources: S. Grimme et al., J. Chem. Phys. 132, 154104 (2010), doi:10.1063/1.3382344; S. Grimme, S. Ehrlich,
L. Goerigk, J. Comput. Chem. 32, 1456 (2011), doi:10.1002/jcc.21759. Parameters of the elements (`tables/d3.npz`: C6 of
pairs of reference compounds and their coordination numbers, covalent radii times 4/3, sqrt of r2/r4, van der Waals
radii of pairs, all in atomic units) are those of that work as distributed with torch-dftd (MIT licence, Preferred
Networks). Oracle of the tests: simple-dftd3. Letters of shapes: N atoms, E edges, T triples, M elements.
"""

from __future__ import annotations

from functools import cache
from importlib import resources

import numpy as np
import torch
from torch import Tensor

from rutile.core.elements import symbol
from rutile.core.errors import ElementError
from rutile.core.units import BOHR, HARTREE
from rutile.graph.graph import Graph
from rutile.graph.triplets import triplets_within
from rutile.potentials.parts.cutoff import cutoff
from rutile.potentials.parts.network import TrainablePotential
from rutile.potentials.settings.around import DAMPING, DispersionSettings

HIGHEST = 94
"""Largest atomic number of the tables."""
STEEPNESS, WIDTH = 16.0, 4.0  # of the coordination number; of the weights of reference compounds


class Dispersion(TrainablePotential):
    """D3(BJ); has no parameters to train."""

    name = "d3"
    knows_modes = True  # the same in all
    covalent: Tensor
    r2r4: Tensor
    reference_cn: Tensor
    c6: Tensor
    vdw: Tensor

    def __init__(
        self,
        settings: DispersionSettings,
        elements: tuple[int, ...],
        generator: torch.Generator | None = None,
        modes: tuple[str, ...] = ("",),
    ) -> None:
        """Take the parameters of the elements from the tables.

        Args:
            settings: functional and radii.
            elements: atomic numbers.
            generator: not used.
            modes: names of the calc modes; the dispersion is the same in all.

        Raises:
            ElementError: an element that D3 has no parameters for.
        """
        super().__init__(settings, elements, modes)
        if strange := [symbol(z) for z in self.elements if z > HIGHEST]:
            raise ElementError(f"D3 has no parameters for {', '.join(strange)}; it goes up to {symbol(HIGHEST)}")
        self.settings: DispersionSettings = settings
        reach = settings.three_body_cutoff if settings.three_body else 0.0
        self.cutoff = max(settings.cutoff, settings.cn_cutoff, reach)
        for name, values in tables(self.elements).items():
            self.register_buffer(name, values, persistent=False)

    def forward(self, graph: Graph) -> Tensor:
        """Dispersion energy of each atom (eV) beside its reference energy, [N] float64."""
        position = self.position(graph.numbers)
        r = graph.vectors.norm(dim=1) / BOHR
        weights = self._weights(graph, position, r)
        energy = self._pairs(graph, position, r, weights)
        if self.settings.three_body:
            energy = energy + self._triples(graph, position, r, weights)
        reference: Tensor = self.reference(position, graph.mode[graph.system])
        return energy.double() * HARTREE + reference

    def _weights(self, graph: Graph, position: Tensor, r: Tensor) -> Tensor:
        """Weights of the reference compounds of each atom, [N, 5]."""
        i, j = position[graph.i], position[graph.j]
        near = self.covalent[i] + self.covalent[j]
        count = torch.sigmoid(STEEPNESS * (near / r - 1.0)) * self._taper(r, self.settings.cn_cutoff)
        cn = r.new_zeros(graph.n_atoms).index_add(0, graph.i, count)
        reference = self.reference_cn[position]
        exponent = -WIDTH * (cn[:, None] - reference).square()
        return torch.softmax(exponent.masked_fill(reference < 0, -torch.inf), dim=1)

    def _taper(self, r: Tensor, radius: float) -> Tensor:
        """1, and smoothly 0 at the radius (Angstrom); r in Bohr."""
        rc, width = radius / BOHR, self.settings.smoothing / BOHR
        if width == 0:
            return (r < rc).to(r.dtype)
        return cutoff("poly2", (r - (rc - width)).clamp_min(0.0), width)

    def _c6(self, a: Tensor, b: Tensor, weights: Tensor, position: Tensor) -> Tensor:
        """C6 of pairs of atoms a, b, [E]."""
        half = torch.einsum("na,nzab->nzb", weights, self.c6[position])  # [N, elements, 5]
        return (half[a, position[b]] * weights[b]).sum(1)

    def _pairs(self, graph: Graph, position: Tensor, r: Tensor, weights: Tensor) -> Tensor:
        """Pair energy of each atom (Hartree), [N]."""
        s6, s8, a1, a2 = DAMPING[self.settings.functional]
        i, j = position[graph.i], position[graph.j]
        c6 = self._c6(graph.i, graph.j, weights, position)
        ratio = 3.0 * self.r2r4[i] * self.r2r4[j]  # C8 / C6
        f2 = (a1 * ratio.sqrt() + a2).square()
        r2 = r.square()
        pair = -0.5 * c6 * (s6 / (r2**3 + f2**3) + s8 * ratio / (r2**4 + f2**4)) * self._taper(r, self.settings.cutoff)
        return r.new_zeros(graph.n_atoms).index_add(0, graph.i, pair)

    def _triples(self, graph: Graph, position: Tensor, r: Tensor, weights: Tensor) -> Tensor:
        """Triple energy of each atom (Hartree), [N]; each triple is seen from its three atoms, a third each."""
        radius = self.settings.three_body_cutoff / BOHR
        a, b = triplets_within(graph.i, r.detach(), graph.n_atoms, radius)
        across = (graph.vectors[a] - graph.vectors[b]).norm(dim=1) / BOHR
        short = across.detach() < radius
        a, b, across = a[short], b[short], across[short]
        i, j, k = graph.i[a], graph.j[a], graph.j[b]
        c9 = torch.ones_like(across)
        damping = torch.ones_like(across)
        for p, q in ((i, j), (j, k), (k, i)):
            c9 = c9 * self._c6(p, q, weights, position)
            damping = damping * (4.0 / 3.0) * self.vdw[position[p], position[q]]
        x, y, z = r[a].square(), r[b].square(), across.square()
        product = x * y * z
        cosines = 0.125 * (x + y - z) * (x + z - y) * (y + z - x) / product
        damped = 1.0 / (1.0 + 6.0 * (damping / product.sqrt()) ** (16.0 / 3.0))
        triple = c9.clamp_min(1e-30).sqrt() * (3.0 * cosines + 1.0) / product**1.5 * damped / 3.0
        return r.new_zeros(graph.n_atoms).index_add(0, i, triple)


def tables(elements: tuple[int, ...]) -> dict[str, Tensor]:
    """Parameters of some elements (atomic units).

    Returns:
        covalent [M], r2r4 [M], reference_cn [M, 5], c6 [M, M, 5, 5], vdw [M, M].
    """
    everything = _read()
    z = list(elements)
    numbers = everything["c6"][np.ix_(z, z)]
    return {
        "covalent": torch.tensor(everything["covalent_radius"][z]),
        "r2r4": torch.tensor(everything["r2r4"][z]),
        "reference_cn": torch.tensor(everything["reference_cn"][z].astype(np.float64)),
        "c6": torch.tensor(numbers.astype(np.float64)),
        "vdw": torch.tensor(everything["vdw_radius"][np.ix_(z, z)]),
    }


@cache
def _read() -> dict[str, np.ndarray]:
    """The tables of all elements, those of pairs as [95, 95, ...]."""
    with resources.files("rutile.potentials.tables").joinpath("d3.npz").open("rb") as file:
        stored = dict(np.load(file, allow_pickle=False))
    n = HIGHEST + 1
    i, j = np.triu_indices(n)
    c6 = np.zeros((n, n, 5, 5), dtype=np.float32)
    c6[i, j] = stored["c6"]
    c6[j, i] = stored["c6"].swapaxes(1, 2)
    vdw = np.zeros((n, n))
    vdw[i, j] = vdw[j, i] = stored["vdw_radius"]
    return stored | {"c6": c6, "vdw_radius": vdw}
