"""CGCNN: against a loop over atoms and neighbours as the paper writes it, and the contract."""

import math

import pytest
import torch
from graph_batch import MODE, batch, energies, neighbors_of, ready

from rutile.graph.graph import build_graph
from rutile.graph.neighbors import find_edges
from rutile.potentials.catalogue import make
from rutile.potentials.evaluate import evaluate
from rutile.potentials.settings import CGCNNSettings
from rutile.testing.potential_contract import potential_contract

SMALL = CGCNNSettings(cutoff=4.0, channels=8, layers=2, hidden=(6,), spacing=0.4, zbl=False)

TestCGCNN = potential_contract(lambda: make(SMALL, (8, 22), seed=0))


def ssp(x):
    return torch.log(0.5 * torch.exp(x) + 0.5)


def naive(potential):
    """What the network says of each atom, by loops, with z = [v_i, v_j, u_ij] written out."""

    def outputs(position, mode, neighbors):
        v = [potential.embedding.element[p] + potential.embedding.mode[m] for p, m in zip(position, mode, strict=True)]
        for layer in potential.layers:
            new = []
            for i, mine in enumerate(neighbors):
                total = torch.zeros(8, dtype=torch.float64)
                for j, r, f_c in mine:
                    u = [math.exp(-((r - 0.4 * k) ** 2) / 0.4**2) for k in range(11)]
                    z = torch.cat([v[i], v[j], torch.tensor(u, dtype=torch.float64)])
                    both = layer.gate_and_core.linear.weight @ z + layer.gate_and_core.linear.bias
                    total += f_c / (1 + torch.exp(-both[:8])) * ssp(both[8:])
                new.append(ssp(v[i] + layer.gain * total / math.sqrt(float(potential.neighbors.mean)) + layer.shift))
            v = new
        first, last = potential.readout.layers
        return [last.weight @ ssp(first.weight @ x + first.bias) + last.bias for x in v]

    return outputs


def test_a_loop_gives_the_same_energies():
    potential = ready(SMALL)
    found = evaluate(potential, batch(), mode=MODE).atom_energy
    expected = energies(potential, batch(), naive(potential))
    assert (expected - potential.reference.energy[1, 1]).abs()[:-1].min() > 1e-3
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_division_by_the_neighbors_of_the_training_set():
    potential = ready(SMALL)
    near = neighbors_of(batch(), 4.0)
    assert float(potential.neighbors.mean) == pytest.approx(sum(f for atom in near for _, _, f in atom) / len(near))
    graph = build_graph(batch(), find_edges(batch(), 4.0))
    before = potential.neighbors.mean.clone()
    potential.learn_statistics([graph, graph])
    torch.testing.assert_close(potential.neighbors.mean, before)


def test_a_thirteenth_neighbor_does_not_make_the_energy_jump():
    """Where two neighbours swap ranks, a list of the 12 nearest would jump; here the force is continuous."""
    potential = make(SMALL, (8, 22), seed=1)
    shell = torch.nn.functional.normalize(torch.randn(13, 3, generator=torch.Generator().manual_seed(3)).double())

    def force(step):
        structures = batch()
        positions = torch.cat([torch.zeros(1, 3).double(), 3.0 * shell])
        positions[-1] *= 1 + step / 3.0
        cluster = structures.replace(
            numbers=torch.tensor([22] + [8] * 13), positions=positions, system=torch.zeros(14, dtype=torch.long),
            cell=structures.cell[:1], pbc=structures.pbc[:1],
        )  # fmt: skip
        return evaluate(potential, cluster).forces[-1]

    inside, outside = force(-1e-5), force(1e-5)
    assert inside.norm() > 1e-3
    torch.testing.assert_close(inside, outside, rtol=0, atol=1e-4)
