"""Predicted charges on Anatase: neutral, local, and an energy that reaches beyond the cutoffs."""

import math

import numpy as np
import pytest
import torch

from rutile.core.errors import GeometryError
from rutile.core.reporting import SilentReporter
from rutile.core.units import COULOMB
from rutile.data.frames import Frame
from rutile.data.store import build_store
from rutile.graph.graph import build_graph
from rutile.graph.neighbors import find_edges
from rutile.potentials.anatase import fade
from rutile.potentials.catalogue import make
from rutile.potentials.evaluate import evaluate
from rutile.potentials.parts.charges import far_coulomb
from rutile.potentials.settings import AnataseSettings
from rutile.structures.structures import concatenate
from rutile.testing.potential_contract import cluster, potential_contract
from rutile.testing.strategies import random_rotation, random_structure
from rutile.train.examples import GraphExamples
from rutile.train.fit import fit
from rutile.train.settings import Adam, Cosine, TrainSettings

TINY = {
    "channels": 4, "radial": 4, "sources": 2, "hidden": 8, "embedding": 3, "waves": 4, "radial_hidden": 8,
    "readout": 4, "cutoffs": (4.0,),
}  # fmt: skip


def charged(electrostatics=True, seed=0, **more):
    return make(AnataseSettings(**TINY | more, electrostatics=electrostatics), (8, 22), seed=seed)


TestElectrostatics = potential_contract(charged, n_atoms=4, partly_periodic=False)


def graph_of(potential, batch):
    return build_graph(batch, find_edges(batch, potential.cutoff))


def test_every_system_is_neutral_and_atoms_are_not():
    potential = charged(cutoffs=(4.0, 4.0))
    batch = concatenate([random_structure(k, [8, 22, 8, 8], pbc=(k == 0,) * 3) for k in range(3)])
    q = potential.charges(graph_of(potential, batch)).detach()
    torch.testing.assert_close(q.view(3, 4).sum(1), torch.zeros(3, dtype=torch.float64), rtol=0, atol=1e-14)
    assert q.abs().min() > 1e-4
    assert not charged(electrostatics=False).charges(graph_of(potential, batch)).any()


def test_groups_far_apart_keep_their_charges():
    potential = charged()
    near, far = [[0, 0, 0], [0, 0, 1.9], [1.8, 0, 0]], [[30.0, 0, 0], [30.0, 1.7, 0]]
    alone = potential.charges(graph_of(potential, cluster([22, 8, 8], near)))
    both = potential.charges(graph_of(potential, cluster([22, 8, 8, 22, 8], near + far)))
    torch.testing.assert_close(both[:3], alone)
    assert float(both[3:].detach().sum()) == pytest.approx(0, abs=1e-14)


def test_the_energy_beyond_the_cutoff_is_that_of_the_charges():
    """Two pairs moved apart: the energy changes as Coulomb's, summed by hand."""
    potential = charged()
    energies, expected = [], []
    for d in (5.0, 9.0):
        x = torch.tensor([[0, 0, 0], [0, 0, 1.8], [d, 0, 0], [d, 0, -1.8]], dtype=torch.float64)
        pairs = cluster([8, 22, 8, 22], x.tolist())
        q = potential.charges(graph_of(potential, pairs)).detach()
        energies.append(float(evaluate(potential, pairs).energy))
        expected.append(sum(COULOMB * float(q[a] * q[b] / (x[a] - x[b]).norm()) for a in (0, 1) for b in (2, 3)))
    assert abs(expected[0] - expected[1]) > 1e-4
    assert energies[0] - energies[1] == pytest.approx(expected[0] - expected[1], rel=1e-9)


def test_screened_between_neighbours_and_points_from_the_cutoff_on():
    def energy(r):
        pair = cluster([8, 22], [[0, 0, 0], [0, 0, r]])
        graph = build_graph(pair, find_edges(pair, 8.0))
        q = torch.tensor([0.7, -0.7], dtype=torch.float64)
        return float(far_coulomb(q, graph, 8.0, fade(graph.vectors.norm(dim=1), 8.0)).sum())

    for r in (0.5, 2.0, 7.0):
        u = (r / 8) ** 4
        assert energy(r) == pytest.approx(-0.49 * COULOMB * (1 - math.exp(-u / (1 - u))) / r, rel=1e-9)
    assert energy(1e-3) == pytest.approx(0, abs=1e-9)
    assert energy(9.0) == pytest.approx(-0.49 * COULOMB / 9.0, rel=1e-12)


def test_isolated_atoms_are_exact():
    potential = charged()
    potential.set_reference_energies({8: -2000.123456789, 22: -1.1})
    apart = cluster([8, 22, 8], [[0, 0, 0], [0, 0, 4.1], [0, 50.0, 0]])
    p = evaluate(potential, apart)
    assert p.atom_energy.tolist() == [-2000.123456789, -1.1, -2000.123456789]
    assert not p.forces.any()


def test_heads_share_the_charges():
    """The Coulomb energy is in every head, so it is in the mean and not in the spread."""
    potential, batch = charged(heads=3), random_structure(2, [8, 22, 8])
    graph = graph_of(potential, batch)
    with torch.no_grad():
        before = potential.head_energies(graph).std(0)
        potential.charge.give.weight *= 3
        after = potential.head_energies(graph)
    torch.testing.assert_close(after.std(0), before)
    torch.testing.assert_close(after.mean(0), potential(graph).detach())
    assert before.min() > 1e-4


def test_slabs_are_refused():
    with pytest.raises(GeometryError, match="one or two directions"):
        evaluate(charged(), random_structure(1, [8, 22], pbc=(True, True, False)))


def dimers(folder, charge, seeds):
    """Pairs of rigid polar molecules, turned at random, 5 to 9 Angstrom apart, with the energy of point charges."""
    frames = []
    for seed in seeds:
        generator = np.random.default_rng(seed)
        bond = np.array([[0, 0, -0.9], [0, 0, 0.9]])
        centre = np.array([generator.uniform(5.9, 9.0), 0, 0])
        turned = [bond @ random_rotation(2 * seed + k).numpy() for k in (0, 1)]
        x = torch.tensor(np.vstack([turned[0], turned[1] + centre]), requires_grad=True)
        q = charge * torch.tensor([-1.0, 1.0, -1.0, 1.0], dtype=torch.float64)
        energy = sum(COULOMB * q[a] * q[b] / (x[a] - x[b]).norm() for a in (0, 1) for b in (2, 3))
        (gradient,) = torch.autograd.grad(energy, x)
        numbers, forces = np.array([8, 22, 8, 22]), -gradient.numpy()
        frames.append(
            Frame(numbers, x.detach().numpy(), np.zeros((3, 3)), np.zeros(3, bool), float(energy.detach()), forces)
        )
    return build_store(frames, folder, SilentReporter())


@pytest.mark.slow
def test_it_learns_what_the_network_alone_cannot_represent(tmp_path):
    """Molecules beyond the cutoffs: without charges nothing is seen of their interaction."""
    train, test = dimers(tmp_path / "a", 1.0, range(24)), dimers(tmp_path / "b", 1.0, range(100, 112))
    error = {}
    for with_charges in (False, True):
        potential = charged(with_charges, zbl=False)
        potential.set_energy_scale(0.1)
        settings = TrainSettings(
            epochs=120 if with_charges else 20, batch_size=8, optimizer=Adam(learning_rate=0.02),
            schedule=Cosine(stop=0.01), ema=None, precision="float64", tensorboard=False, checkpoint_seconds=1e6,
            clip_norm=10.0,
        )  # fmt: skip
        examples = GraphExamples(train, np.arange(len(train)), potential)
        folder = tmp_path / str(with_charges)
        folder.mkdir()
        fit(potential, examples, examples, settings, folder, SilentReporter())
        labelled, predict = GraphExamples(test, np.arange(len(test)), potential).batch(np.arange(len(test)))
        p = predict(False)
        error[with_charges] = [float((p.energy - labelled.energy).std()), float((p.forces - labelled.forces).std())]
        spread = [float(labelled.energy.std()), float(labelled.forces.std())]
    assert error[False][0] > 0.9 * spread[0]
    assert error[True][0] < 0.05 * spread[0]
    assert error[True][1] < 0.05 * spread[1]
    pair = cluster([8, 22], [[0, 0, 0], [0, 0, 1.8]])
    assert potential.charges(graph_of(potential, pair)).abs().tolist() == pytest.approx([1.0, 1.0], rel=0.02)
