"""SchNet: against a loop over atoms and neighbours, published counts, the reference vectors, and the contract."""

import json
import math
from pathlib import Path

import pytest
import torch
from ase import Atoms
from ase.build import bulk

from rutile.graph.graph import build_graph
from rutile.graph.neighbors import find_edges
from rutile.potentials.catalogue import make
from rutile.potentials.evaluate import evaluate
from rutile.potentials.parts.mlp import shifted_softplus
from rutile.potentials.settings import SchNetSettings
from rutile.structures.structures import Structures
from rutile.testing.potential_contract import potential_contract

SMALL = SchNetSettings(cutoff=4.0, features=8, interactions=2, radial=6, zbl=False)
VECTORS = Path(__file__).resolve().parents[2].parent / "shared" / "spec" / "misc_vectors.json"

TestSchNet = potential_contract(lambda: make(SMALL, (8, 22), seed=0))


def batch():
    """A molecule, a crystal smaller than the cutoff, so that an atom sees its own images, and a lone atom."""
    crystal = bulk("TiO", "rocksalt", a=4.2)
    crystal.rattle(0.1, seed=1)
    return Structures.from_ase([Atoms("OTiO", [(0, 0, 0), (1.7, 0.2, 0), (1.9, 1.8, 0.4)]), crystal, Atoms("Ti")])


def ssp(x):
    return math.log(0.5 * math.exp(x) + 0.5)


def dense(layer, x):
    bias = [0.0] * len(layer.weight) if layer.bias is None else layer.bias.tolist()
    return [sum(w * y for w, y in zip(row, x, strict=True)) + b for row, b in zip(layer.weight.tolist(), bias)]  # noqa: B905


def perceptron(network, x):
    first, second = network.layers
    return dense(second, [ssp(y) for y in dense(first, x)])


def naive(potential, structures, mode):
    """Energy of each atom by loops over atoms, neighbours and channels."""
    settings, edges = potential.settings, find_edges(structures, potential.cutoff)
    d = settings.cutoff / (settings.radial - 1)
    position = [potential.elements.index(z) for z in structures.numbers.tolist()]
    graph = build_graph(structures, edges)
    neighbors = [[] for _ in position]
    for i, j, vector in zip(edges.i.tolist(), edges.j.tolist(), graph.vectors.tolist(), strict=True):
        neighbors[i].append((j, math.dist(vector, (0, 0, 0))))

    def run(start, neighbors):
        x = [list(v) for v in start]
        for block in potential.blocks:
            inward, changes = [dense(block.inward, v) for v in x], []
            for atom in neighbors:
                total = [0.0] * settings.features
                for j, r in atom:
                    gain = math.sqrt(settings.radial / math.sqrt(math.pi))
                    g = [gain * math.exp(-((r - k * d) ** 2) / (2 * d * d)) for k in range(settings.radial)]
                    u = (r / settings.cutoff) ** 2
                    f_c = math.exp(-u / (1 - u)) / math.sqrt(float(potential.mean_neighbors))
                    for c, w in enumerate(perceptron(block.filter, g)):
                        total[c] += inward[j][c] * w * f_c
                changes.append(perceptron(block.outward, total))
            x = [[a + b for a, b in zip(v, w, strict=True)] for v, w in zip(x, changes, strict=True)]
        return [perceptron(potential.head, v)[0] for v in x]

    embedded = (potential.embedding.element[position] + potential.embedding.mode[mode[structures.system]]).tolist()
    together, apart = run(embedded, neighbors), run(embedded, [[] for _ in position])
    references = [
        float(potential.reference.energy[m, p]) for m, p in zip(mode[structures.system], position, strict=True)
    ]
    scale = float(potential.energy_scale)
    return [scale * (a - b) + e for a, b, e in zip(together, apart, references, strict=True)]


def test_a_loop_gives_the_same_energies():
    potential = make(SMALL, (8, 22), seed=2, modes=("PBE", "HSE06"))
    potential.set_reference_energies({8: -4.0, 22: -7.5}, 0)
    potential.set_reference_energies({8: -5.0, 22: -9.5}, 1)
    potential.set_energy_scale(0.7)
    structures, mode = batch(), torch.tensor([1, 0, 1])
    potential.learn_statistics([build_graph(structures, find_edges(structures, 4.0))])
    assert potential.mean_neighbors > 1.5
    graph = build_graph(structures, find_edges(structures, 4.0))
    assert (graph.i == graph.j).sum() > 4
    expected = torch.tensor(naive(potential, structures, mode), dtype=torch.float64)
    out = evaluate(potential, structures, mode=mode)
    torch.testing.assert_close(out.atom_energy, expected, rtol=1e-11, atol=1e-11)
    assert (out.atom_energy[:3] - evaluate(potential, structures).atom_energy[:3]).abs().min() > 0.5


def test_shifted_softplus_agrees_with_the_reference_vectors():
    if not VECTORS.exists():
        pytest.skip(f"no {VECTORS}")
    entry = json.loads(VECTORS.read_text())["values"]["shifted_softplus"]
    x, y = (torch.tensor(entry[k], dtype=torch.float64) for k in "xy")
    torch.testing.assert_close(shifted_softplus(x), y, rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize(("interactions", "published"), [(3, 238465), (6, 455809)])
def test_as_many_parameters_as_schnetpack(interactions, published):
    """SchNetPack 2.1.1 embeds 100 elements; here there are two and one mode."""
    potential = make(SchNetSettings(interactions=interactions, radial=50), (8, 22))
    assert sum(p.numel() for p in potential.parameters()) == published - (100 - 3) * 128


def test_the_filter_depends_on_the_pair_and_not_on_its_direction():
    """Newton's third law: of a dimer both atoms have the force that the distance gives."""
    potential = make(SMALL, (8, 22), seed=1)
    forces = evaluate(potential, Structures.from_ase(Atoms("OTi", [(0, 0, 0), (0, 0, 1.8)]))).forces
    torch.testing.assert_close(forces[0], -forces[1])
    assert abs(float(forces[0, 2])) > 1e-3


def test_all_derivatives_are_continuous_where_a_neighbour_leaves():
    potential = make(SMALL, (8, 22), seed=1)

    def energies(distances):
        dimers = [Atoms("OTi", [(0, 0, 0), (0, 0, r)]) for r in distances]
        return evaluate(potential, Structures.from_ase(dimers)).energy

    r = torch.linspace(3.6, 4.2, 121, dtype=torch.float64).tolist()
    third = energies(r).diff().diff().diff() / 0.005**3
    assert third.abs().max() > 1e-3
    assert third.diff().abs().max() < 0.2 * third.abs().max()
    assert (energies(r)[81:] == energies([5.0])).all()
