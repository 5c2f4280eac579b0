"""Coulomb energy of point charges: published sums, independence of the splitting, derivatives, molecules."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from rutile.core.errors import GeometryError
from rutile.core.units import COULOMB
from rutile.graph.graph import build_graph
from rutile.graph.neighbors import find_edges
from rutile.potentials.evaluate import evaluate
from rutile.potentials.parts.ewald import coulomb
from rutile.structures.structures import Structures, concatenate
from rutile.testing.potential_contract import STENCIL, STEP, assert_slope, cluster, repeat, slope
from rutile.testing.strategies import random_structure

SPEC = Path(__file__).resolve().parents[2].parent / "shared" / "spec" / "misc_vectors.json"


class Charges(torch.nn.Module):
    """Point charges, one for each element, that depend a little on the neighbours."""

    elements = (8, 22)

    def __init__(self, cutoff=6.0, decays=5.5, polarisation=0.02):
        super().__init__()
        self.cutoff, self.decays, self.polarisation = cutoff, decays, polarisation

    def forward(self, graph):
        r2 = graph.vectors.square().sum(1)
        q = torch.where(graph.numbers == 22, 1.6, -0.8).to(r2.dtype)
        change = self.polarisation * torch.exp(-r2) * (1 - r2 / self.cutoff**2) ** 3
        return coulomb(q.index_add(0, graph.i, change), graph, self.cutoff, self.decays)


def crystal(cell, positions, numbers=None):
    n = len(positions)
    return Structures.from_arrays(np.array([8] * n if numbers is None else numbers), np.array(positions),
                                  np.array(cell), np.array([True] * 3))  # fmt: skip


def energy(one, charges, cutoff, decays=6.0):
    graph = build_graph(one, find_edges(one, cutoff))
    return float(coulomb(torch.tensor(charges, dtype=torch.float64), graph, cutoff, decays).sum())


def test_madelung_constants():
    """Of rock salt and caesium chloride, as found in textbooks."""
    fcc = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
    a = 5.64
    salt = crystal(np.eye(3) * a, np.vstack([fcc, fcc + np.array([0.5, 0, 0])]) * a)
    assert -energy(salt, [1.0] * 4 + [-1.0] * 4, 6.0) / 4 * (a / 2) / COULOMB == pytest.approx(1.7475645946, abs=1e-9)
    a = 4.12
    caesium = crystal(np.eye(3) * a, np.array([[0, 0, 0], [0.5, 0.5, 0.5]]) * a)
    madelung = -energy(caesium, [1.0, -1.0], 6.0) * (a * math.sqrt(3) / 2) / COULOMB
    assert madelung == pytest.approx(1.7626747731, abs=1e-9)


@pytest.mark.skipif(not SPEC.is_file(), reason=f"the reference vectors are not at {SPEC}")
def test_triclinic_charged_cell_agrees_with_the_vectors():
    v = json.loads(SPEC.read_text())["values"]["ewald"]["triclinic"]
    one = crystal(v["cell"], v["positions"])
    assert abs(sum(v["q"])) < 1e-12
    assert energy(one, v["q"], 6.0) == pytest.approx(v["E_eV"], abs=1e-8)


def test_the_splitting_does_not_matter_not_even_for_a_charged_cell():
    one = random_structure(3, [8, 22, 8, 8])
    charges = [1.0, -0.4, 0.3, 0.6]
    values = [energy(one, charges, cutoff) for cutoff in (4.0, 6.0, 9.0)]
    assert values[1] == pytest.approx(values[0], abs=1e-8)
    assert values[2] == pytest.approx(values[0], abs=1e-8)


def test_a_molecule_has_its_pairs_whatever_the_cutoff():
    two = cluster([22, 8], [[0, 0, 0], [0, 0, 17.0]])
    assert energy(two, [1.0, -2.0], 5.0) == pytest.approx(-2 * COULOMB / 17.0)
    assert energy(cluster([8], [[0, 0, 0]]), [1.0], 5.0) == 0


def test_a_molecule_in_a_large_box_is_nearly_alone():
    positions = [[0, 0, 0], [0, 1.0, 0], [0.7, 0, 0.6]]
    box = crystal(np.eye(3) * 40, positions)
    charges = [0.8, -0.5, -0.3]
    assert energy(box, charges, 9.0) == pytest.approx(energy(cluster([8] * 3, positions), charges, 9.0), abs=2e-3)


@pytest.mark.parametrize("pbc", [(True, True, True), (False, False, False)])
def test_forces_and_stress_are_derivatives(pbc):
    """Through edges, positions, cells and charges that depend on the neighbours."""
    a = random_structure(5, [8, 22, 8, 8, 22], pbc=pbc)
    generator = torch.Generator().manual_seed(0)
    way = torch.randn(a.positions.shape, generator=generator, dtype=torch.float64)
    p = evaluate(Charges(), a)
    moved = concatenate(a.replace(positions=a.positions + s * STEP * way) for s in STENCIL)
    assert_slope(slope(evaluate(Charges(), moved).energy.unbind()), -p.forces * way)
    torch.testing.assert_close(p.forces.sum(0), torch.zeros(3, dtype=torch.float64), rtol=0, atol=1e-8)
    if not all(pbc):
        return
    e = torch.randn(3, 3, generator=generator, dtype=torch.float64)
    e = 0.5 * (e + e.T)
    one = torch.eye(3, dtype=torch.float64)
    strained = concatenate(
        a.replace(positions=a.positions @ f, cell=a.cell @ f) for f in (one + s * STEP * e for s in STENCIL)
    )
    assert_slope(slope(evaluate(Charges(), strained).energy.unbind()), p.stress[0] * e * a.volume[0])


def test_batches_and_supercells():
    a, b = random_structure(1, [8, 22, 8]), random_structure(2, [22, 8, 8], pbc=(False, False, False))
    together = evaluate(Charges(), concatenate([b, a, b]))
    torch.testing.assert_close(together.energy[1], evaluate(Charges(), a).energy[0])
    torch.testing.assert_close(together.energy[2], evaluate(Charges(), b).energy[0])
    twice = evaluate(Charges(), repeat(a, (1, 2, 1)))
    torch.testing.assert_close(twice.energy[0], 2 * evaluate(Charges(), a).energy[0], rtol=1e-9, atol=1e-8)
    torch.testing.assert_close(twice.stress, evaluate(Charges(), a).stress, rtol=1e-8, atol=1e-9)


def test_a_slab_is_refused():
    with pytest.raises(GeometryError, match="one or two directions"):
        evaluate(Charges(), random_structure(1, [8, 22], pbc=(True, True, False)))


def test_crystals_of_all_shapes_are_summed_together_as_alone():
    rng = np.random.default_rng(0)
    cells = [np.diag(x) for x in ([4.0, 4.0, 4.0], [3.0, 14.0, 5.0], [11.0, 12.0, 13.0], [4.0, 5.0, 6.0])]
    cells[3][1, 0], cells[3][2, 1] = 1.5, -2.0
    sizes, batch = (4, 10, 60, 8), []
    for cell, n in zip(cells, sizes, strict=True):
        numbers = [22 if k % 3 == 0 else 8 for k in range(n)]
        batch.append(crystal(cell, rng.random((n, 3)) @ cell, numbers))
    together = concatenate([*batch[:2], cluster([22, 8], [[0, 0, 0], [0, 0, 1.7]]), *batch[2:]])
    every = evaluate(Charges(), together)
    for one, k in zip([*batch[:2], *batch[2:]], (0, 1, 3, 4), strict=True):
        alone = evaluate(Charges(), one)
        assert float(every.energy[k]) == pytest.approx(float(alone.energy[0]), rel=1e-10)
        torch.testing.assert_close(every.forces[together.system == k], alone.forces, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(every.stress[k], alone.stress[0], rtol=1e-9, atol=1e-9)
