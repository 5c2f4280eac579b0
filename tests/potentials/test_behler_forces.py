"""Forces and stress of symmetry functions against an independent evaluation without differences.

A complex step: dE/dx = Im E(x + i h) / h with h = 1e-30 is exact to rounding, so that 1e-10 can be asked for.
The oracle writes the definitions once more in NumPy, from positions and cell; it shares no code with rutile.
"""

import itertools

import numpy as np
import pytest
import torch

from rutile.potentials.evaluate import evaluate
from rutile.potentials.parts import symmetry_eager, symmetry_native
from rutile.potentials.parts.tables import expand, read_table
from rutile.structures.structures import Structures

STEP = 1e-30
TRIMER = ([22, 8, 8], [[0, 0, 0], [1.62, 0.2, 0], [-0.5, 1.5, 0.3]], np.zeros((3, 3)), [False] * 3)
RUTILE = (
    [22, 22, 8, 8, 8, 8],
    [[0.05, 0.02, -0.04], [2.31, 2.25, 1.52], [1.36, 1.44, 0.03], [3.22, 3.15, -0.05],
     [3.74, 0.86, 1.45], [0.93, 3.66, 1.5]],
    [[4.594, 0, 0], [0.2, 4.5, 0], [-0.1, 0.15, 2.959]],
    [True] * 3,
)  # fmt: skip
CLUSTER = (
    [29, 79, 29, 79, 8, 1],
    [[0, 0, 0], [2.6, 0.1, 0], [1.2, 2.4, 0.2], [1.3, 0.8, 2.2], [1.2, 0.9, 4.0], [1.9, 1.4, 4.5]],
    np.zeros((3, 3)),
    [False] * 3,
)


def cosine(r, r_c):
    return np.where(r.real < r_c, 0.5 * (np.cos(np.pi * r / r_c) + 1), 0)


def norm(v):
    return np.sqrt((v * v).sum(-1))  # no modulus: complex arithmetic must go through


def neighbours(i, positions, cell, pbc, r_c):
    """(atom, vector) of all images inside the cutoff, by trying every shift."""
    found = []
    for shift in itertools.product(*(range(-4, 5) if p else range(1) for p in pbc)):
        for j in range(len(positions)):
            v = positions[j] + np.array(shift) @ cell - positions[i]
            if 0 < norm(v.real) < r_c:
                found.append((j, v))
    return found


def descriptor(i, numbers, positions, cell, pbc, functions):
    near = neighbours(i, positions, cell, pbc, max(f.r_c for f in functions))
    z, v = np.array([numbers[j] for j, _ in near]), np.array([v for _, v in near])
    r = norm(v)
    a, b = np.triu_indices(len(near), 1)
    cos = (v[a] * v[b]).sum(-1) / (r[a] * r[b])
    side = norm(v[a] - v[b])
    out = []
    for f in functions:
        if f.kind == "G2":
            m = z == f.neighbors[0]
            out.append((np.exp(-f.eta * (r[m] - f.r_s) ** 2) * cosine(r[m], f.r_c)).sum())
        else:
            assert f.kind == "G4"
            low, high = f.neighbors
            m = ((z[a] == low) & (z[b] == high)) | ((z[a] == high) & (z[b] == low))
            p, q, s = r[a][m], r[b][m], side[m]
            gauss = np.exp(-f.eta * (p**2 + q**2 + s**2)) * cosine(p, f.r_c) * cosine(q, f.r_c) * cosine(s, f.r_c)
            out.append((2 ** (1 - f.zeta) * (1 + f.lambda_ * cos[m]) ** f.zeta * gauss).sum())
    return np.array(out)


def weights(z, width):
    """Numbers without meaning that differ for every element and function, large and of both signs."""
    return np.cos(0.7 * np.arange(1, width + 1) + 0.3 * z)


def energy(numbers, positions, cell, pbc, table):
    parts = [descriptor(i, numbers, positions, cell, pbc, table.functions[z]) for i, z in enumerate(numbers)]
    return sum(np.sqrt(1 + (weights(z, len(g)) * g).sum() ** 2) for z, g in zip(numbers, parts, strict=True))


class Probe:
    """The same energy for `evaluate`, by one of the two implementations."""

    def __init__(self, table, functions):
        self.table, self.functions, self.cutoff, self.elements = table, functions, table.cutoff, table.elements

    def __call__(self, graph):
        g = self.functions(self.table, graph)
        w = torch.tensor(np.array([weights(int(z), self.table.width) for z in graph.numbers]))
        return torch.sqrt(1 + (w * g).sum(1) ** 2)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "name"),
    [(TRIMER, "tio2_artrith_urban_2016"), (RUTILE, "tio2_artrith_urban_2016"), (CLUSTER, "cuauoh_artrith")],
    ids=["trimer", "rutile", "cluster"],
)
def test_forces_and_stress_to_1e10(case, name):
    numbers, positions, cell, pbc = case[0], np.array(case[1], dtype=float), np.array(case[2], dtype=float), case[3]
    table = expand(read_table(name))
    direction = np.random.default_rng(5).normal(size=positions.shape)
    moved = energy(numbers, positions + 1j * STEP * direction, cell, pbc, table)
    strain = np.array([[0.3, -0.2, 0.5], [-0.2, 0.7, 0.1], [0.5, 0.1, -0.4]])
    deform = np.eye(3) + 1j * STEP * strain
    strained = energy(numbers, positions @ deform, cell @ deform, pbc, table) if all(pbc) else None
    for implementation in (symmetry_eager, symmetry_native):
        probe = Probe(table, implementation.symmetry_functions)
        out = evaluate(probe, Structures.from_arrays(numbers, positions, cell, pbc))
        assert float(out.energy[0]) == pytest.approx(moved.real, rel=1e-12)
        forces = out.forces.numpy()
        assert np.abs(forces).max() > 0.1
        assert -(forces * direction).sum() == pytest.approx(moved.imag / STEP, rel=1e-10)
        if strained is not None:
            work = (out.stress[0].numpy() * strain).sum() * abs(np.linalg.det(cell))
            assert work == pytest.approx(strained.imag / STEP, rel=1e-10)
