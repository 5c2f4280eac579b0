"""PaiNN: against a loop over atoms and neighbours, published counts, and the contract."""

import math

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk

from rutile.graph.graph import build_graph
from rutile.graph.neighbors import find_edges
from rutile.potentials.catalogue import make
from rutile.potentials.evaluate import evaluate
from rutile.potentials.settings import PaiNNSettings
from rutile.structures.structures import Structures
from rutile.testing.potential_contract import potential_contract

SMALL = PaiNNSettings(cutoff=4.0, features=8, interactions=3, radial=5, zbl=False)

TestPaiNN = potential_contract(lambda: make(SMALL, (8, 22), seed=0))


def batch():
    """A molecule, a crystal smaller than the cutoff, so that an atom sees its own images, and a lone atom."""
    crystal = bulk("TiO", "rocksalt", a=4.2)
    crystal.rattle(0.1, seed=1)
    return Structures.from_ase([Atoms("OTiO", [(0, 0, 0), (1.7, 0.2, 0), (1.9, 1.8, 0.4)]), crystal, Atoms("Ti")])


def perceptron(network, x):
    first, second = ((layer.weight.detach().numpy(), layer.bias.detach().numpy()) for layer in network.layers)
    y = first[0] @ x + first[1]
    return second[0] @ (y / (1 + np.exp(-y))) + second[1]


def naive(potential, structures, mode):
    """Energy of each atom by loops over atoms and neighbours, from the formulas of the paper."""
    settings = potential.settings
    channels, r_c = settings.features, settings.cutoff
    graph = build_graph(structures, find_edges(structures, r_c))
    position = [potential.elements.index(z) for z in structures.numbers.tolist()]
    neighbors = [[] for _ in position]
    for i, j, vector in zip(graph.i.tolist(), graph.j.tolist(), graph.vectors.numpy(), strict=True):
        neighbors[i].append((j, vector))

    def filters(message, r):
        weight, u = message.filter.detach().numpy(), (r / r_c) ** 2
        f_c = math.exp(-u / (1 - u)) / math.sqrt(float(potential.mean_neighbors))
        b = [math.sqrt(2 / r_c) * math.sin(k * math.pi * r / r_c) / r for k in range(1, settings.radial + 1)]
        return (np.array([*b, 1.0]) @ weight * f_c).reshape(-1, channels)

    def run(s, neighbors):
        v = np.zeros((len(s), 3, channels))
        for message, update in zip(potential.messages, potential.updates, strict=True):
            ds, dv = np.zeros_like(s), np.zeros_like(v)
            for i, atom in enumerate(neighbors):
                for j, vector in atom:
                    r = np.linalg.norm(vector)
                    w, phi = filters(message, r), perceptron(message.context, s[j]).reshape(-1, channels)
                    ds[i] += w[0] * phi[0]
                    dv[i] += np.outer(vector / r, w[1] * phi[1])
                    if len(w) == 3:
                        dv[i] += w[2] * phi[2] * v[j]
            s, v = s + ds, v + dv
            mix = update.mix.weight.detach().numpy()
            for i in range(len(s)):
                left, right = v[i] @ mix[:channels].T, v[i] @ mix[channels:].T
                length = np.sqrt((left**2).sum(0) + 0.01) - 0.1
                psi = perceptron(update.context, np.concatenate([s[i], length])).reshape(-1, channels)
                s[i] += psi[0] + psi[1] * (left * right).sum(0)
                if len(psi) == 3:
                    v[i] += psi[2] * right
        return np.array([perceptron(potential.head, x)[0] for x in s])

    modes = mode[structures.system]
    embedded = (potential.embedding.element[position] + potential.embedding.mode[modes]).detach().numpy()
    change = run(embedded.copy(), neighbors) - run(embedded.copy(), [[] for _ in position])
    return float(potential.energy_scale) * change + potential.reference.energy[modes, position].numpy()


def test_a_loop_gives_the_same_energies():
    potential = make(SMALL, (8, 22), seed=2, modes=("PBE", "HSE06"))
    potential.set_reference_energies({8: -4.0, 22: -7.5}, 0)
    potential.set_reference_energies({8: -5.0, 22: -9.5}, 1)
    potential.set_energy_scale(0.7)
    structures, mode = batch(), torch.tensor([1, 0, 1])
    graph = build_graph(structures, find_edges(structures, 4.0))
    potential.learn_statistics([graph])
    assert (graph.i == graph.j).sum() > 4
    out = evaluate(potential, structures, mode=mode)
    expected = torch.from_numpy(naive(potential, structures, mode))
    torch.testing.assert_close(out.atom_energy, expected, rtol=1e-11, atol=1e-11)
    assert (out.atom_energy[:3] - evaluate(potential, structures).atom_energy[:3]).abs().min() > 0.5


def test_as_many_parameters_as_schnetpack():
    """SchNetPack 2.1.1 embeds 100 elements (here two and a mode), and has what cannot reach the energy."""
    channels, radial = 128, 20
    unused = (radial + 1) * channels + 2 * (channels + 1) * channels
    potential = make(PaiNNSettings(), (8, 22))
    assert sum(p.numel() for p in potential.parameters()) == 589057 - (100 - 3) * 128 - unused


def test_every_parameter_reaches_the_energy():
    potential = make(SMALL, (8, 22), seed=0, modes=("a", "b"))
    evaluate(potential, batch(), mode=torch.tensor([0, 1, 0]), training=True).energy.square().sum().backward()
    dead = [name for name, p in potential.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert dead == ["head.layers.1.bias"]  # it cancels: an isolated atom has it too


def test_angles_are_seen_where_scalars_see_only_distances():
    """O-Ti-O at two angles, with a cutoff below the distance of the oxygen atoms."""
    potential = make(SMALL.model_copy(update={"cutoff": 2.7, "interactions": 1}), (8, 22), seed=0)
    bent, straight = (
        Structures.from_ase(Atoms("TiO2", [(0, 0, 0), (2, 0, 0), (2 * math.cos(a), 2 * math.sin(a), 0)]))
        for a in (1.9, math.pi)
    )
    ti = [float(evaluate(potential, s).atom_energy[0].detach()) for s in (bent, straight)]
    assert abs(ti[0] - ti[1]) > 1e-7  # a new network feels little of its second functions


def test_forces_near_a_symmetric_crystal_are_linear():
    """Where all vectors are zero the lengths must not have a kink: a force that doubles with the displacement."""
    crystal = bulk("TiO", "rocksalt", a=4.2, cubic=True)
    potential = make(SMALL, (8, 22), seed=0)

    def force(x):
        moved = crystal.copy()
        moved.positions[0, 0] += x
        return float(evaluate(potential, Structures.from_ase(moved)).forces[0, 0])

    assert abs(force(0.0)) < 1e-12
    assert force(2e-4) == pytest.approx(2 * force(1e-4), rel=1e-3)
    assert force(-1e-4) == pytest.approx(-force(1e-4), rel=1e-3)


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
