"""Monte Carlo exchanges: distributions against enumeration, order of alloys, particles."""

import itertools

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk

from rutile.build.particles import mixed_particle
from rutile.core.errors import SettingsError
from rutile.core.units import KB
from rutile.potentials.emt import Emt
from rutile.simulate.ordering import bond_length, counted, peeled, warren_cowley
from rutile.simulate.swap import Swaps, frozen_arrays, thawed
from rutile.simulate.swap_settings import SwapSettings
from rutile.structures.fingerprint import pairs_within
from rutile.structures.structures import Structures, concatenate

CU, AU = 29, 79


class Bonds(torch.nn.Module):
    """E = sum of J over unlike pairs of nearest neighbours (a lattice model; forces vanish)."""

    elements = ()

    def __init__(self, bond=-0.02, cutoff=3.0):
        super().__init__()
        self.bond, self.cutoff = bond, cutoff
        self.register_buffer("places", torch.zeros(1, dtype=torch.float64))

    def forward(self, graph):
        unlike = (graph.numbers[graph.i] != graph.numbers[graph.j]).double() * self.bond / 2
        return torch.zeros(graph.n_atoms, dtype=torch.float64).index_add(0, graph.i, unlike)


def lattice(repeat=(2, 2, 2), share=0.5, seed=0):
    atoms = bulk("Cu", cubic=True, a=3.6) * repeat
    rng = np.random.default_rng(seed)
    atoms.numbers[rng.permutation(len(atoms))[: round(share * len(atoms))]] = AU
    return atoms


def ran(atoms, potential, temperatures, **settings):
    how = SwapSettings(temperatures=temperatures, **settings)
    swaps = Swaps(potential, torch.tensor(temperatures), how)
    states = [swaps.begin(concatenate(Structures.from_ase(atoms) for _ in temperatures))]
    states += list(swaps.run(states[0]))
    return states


@pytest.mark.slow
@pytest.mark.physics
def test_energies_are_distributed_as_boltzmann_says():
    """Every arrangement of two gold atoms among eight copper ones on a line of bonds, enumerated."""
    line = Atoms("Cu8", positions=[[2.5 * k, 0, 0] for k in range(8)])
    temperature, model = 600.0, Bonds(bond=0.05)
    levels = {}
    for pair in itertools.combinations(range(8), 2):
        numbers = np.full(8, CU)
        numbers[list(pair)] = AU
        energy = 0.05 * int((numbers[1:] != numbers[:-1]).sum())
        levels[round(energy, 6)] = levels.get(round(energy, 6), 0) + np.exp(-energy / (KB * temperature))
    line.numbers[[0, 1]] = AU
    states = ran(line, model, (temperature,) * 16, steps=1500, relax="never")
    seen = torch.stack([s.energy for s in states[100:]]).numpy().round(6).ravel()
    whole = sum(levels.values())
    assert set(seen) == set(levels)
    for energy, weight in levels.items():
        share = (seen == energy).mean()
        assert share == pytest.approx(weight / whole, abs=0.02), energy


@pytest.mark.slow
def test_two_elements_that_seek_each_other_reach_their_ground_state():
    """At 1:1 on fcc two thirds of the twelve bonds of each atom are unlike at best, as in L1_0."""
    atoms = lattice((2, 2, 2))
    states = ran(atoms, Bonds(-0.05), (100.0,) * 4, steps=1500, relax="never", hot=1500.0)
    ground = -0.05 * len(atoms) * 12 / 2 * 2 / 3
    assert float(states[-1].best_energy.min()) == pytest.approx(ground)
    (best,) = states[-1].best.split()[int(states[-1].best_energy.argmin())].to_ase()
    alpha = warren_cowley(counted(best, np.array([CU, AU])).pairs, np.array([16, 16]))
    assert alpha[0, 0, 1] == pytest.approx(-1 / 3)  # p = 2/3, c = 1/2
    assert alpha[1, 0, 1] > 0.3  # second neighbours are alike


@pytest.mark.slow
def test_elements_that_do_not_care_mix():
    atoms = lattice((3, 3, 3), share=0.25)
    states = ran(atoms, Bonds(0.0), (300.0,), steps=400, relax="never")
    assert int(states[-1].accepted) == 400
    pairs = sum(counted(s.structures.to_ase()[0], np.array([CU, AU])).pairs for s in states[100::20])
    alpha = warren_cowley(pairs, np.array([81, 27]))
    assert np.abs(alpha[:, 0, 1]).max() < 0.06
    assert np.abs(alpha[:, 1, 0]).max() < 0.06


def test_cold_runs_go_down_and_hot_ones_take_everything():
    states = ran(lattice(), Bonds(-0.05), (1.0, 1e5), steps=200, relax="never")
    energies = torch.stack([s.energy for s in states])
    assert (energies[1:, 0] <= energies[:-1, 0] + 1e-12).all()
    assert states[-1].accepted[1] > 190 > states[-1].accepted[0]
    assert (states[-1].best_energy == energies.min(0).values).all()
    assert (states[-1].structures.numbers == AU).sum() == 32  # composition stays: 16 in each run


@pytest.mark.slow
def test_a_stored_state_goes_on_to_the_same_bits():
    atoms = mixed_particle("icosahedron", 13, {"Cu": 1, "Au": 1}, np.random.default_rng(0))
    how = SwapSettings(steps=6, relax="trial", md_every=3, md_time=0.01, temperatures=(600.0, 900.0))
    batch = Structures.from_ase([atoms, atoms])
    swaps = Swaps(Emt(), torch.tensor([600.0, 900.0]), how)
    whole = list(swaps.run(swaps.begin(batch)))
    stored = frozen_arrays(whole[2])
    *_, after = Swaps(Emt(), torch.tensor([600.0, 900.0]), how).run(thawed(batch, stored))
    for name, value in frozen_arrays(whole[-1]).items():
        assert np.array_equal(frozen_arrays(after)[name], value), name
    assert whole[-1].step == after.step == 6


@pytest.mark.slow
def test_gold_goes_to_the_surface_of_copper():
    """The larger atom with the lower surface energy; EMT, a particle of 55 atoms whose centre would strain gold."""
    atoms = mixed_particle("icosahedron", 55, {"Cu": 43, "Au": 12}, np.random.default_rng(1))
    states = ran(atoms, Emt(), (300.0,), steps=150, relax="trial", fmax=0.1, hot=1500.0)
    (best,) = states[-1].best.to_ase()
    order = counted(best, np.array([CU, AU]))
    assert order.shells.sum(axis=1).tolist() == [42, 12, 1]
    assert order.shells[0, 1] >= 11  # of twelve gold atoms
    assert states[-1].best_energy < states[0].energy


def test_shells_of_an_icosahedron_and_of_a_crystal():
    particle = mixed_particle("icosahedron", 147, {"Cu": 1, "Au": 1}, np.random.default_rng(0))
    pairs = pairs_within(particle.positions, particle.cell.array, particle.pbc, 8.0)
    shells = peeled(len(particle), pairs, bond_length(len(particle), pairs))
    assert np.bincount(shells).tolist() == [92, 42, 12, 1]
    assert counted(lattice(), np.array([CU, AU])).shells.sum(axis=1).tolist() == [32]


def test_shells_of_neighbours_of_fcc():
    pairs = counted(lattice((3, 3, 3)), np.array([CU, AU])).pairs
    assert (pairs.sum(axis=(1, 2)) / 108).tolist() == [12, 6, 24]


def test_particles_have_the_composition_asked_for():
    five = {"Cu": 1, "Ni": 1, "Pd": 1, "Ag": 1, "Pt": 1}
    made = mixed_particle("octahedron", 80, five, np.random.default_rng(0))
    assert len(made) == 79
    assert sorted(np.bincount(made.numbers)[[29, 28, 46, 47, 78]].tolist()) == [15, 16, 16, 16, 16]
    with pytest.raises(SettingsError, match="no atom of Pt"):
        mixed_particle("icosahedron", 13, {"Cu": 100, "Pt": 1}, np.random.default_rng(0))


@pytest.mark.slow
def test_exchanges_on_the_lattice_with_relaxations_now_and_then():
    """relax=sometimes: between relaxations nobody moves; after each the energy is not higher."""
    atoms = mixed_particle("octahedron", 38, {"Cu": 1, "Au": 1}, np.random.default_rng(0))
    states = ran(atoms, Emt(), (300.0,), steps=9, relax="sometimes", relax_every=4, fmax=0.1)
    moves = [(b.structures.positions - a.structures.positions).abs().max() for a, b in itertools.pairwise(states)]
    assert [k + 1 for k, move in enumerate(moves) if move > 0] == [4, 8]
    energies = Swaps(Emt(), torch.tensor([300.0]), SwapSettings()).energies
    for state in states:
        assert float(energies(state.structures)) == pytest.approx(float(state.energy), abs=1e-6)
        assert float(energies(state.best)) == pytest.approx(float(state.best_energy), abs=1e-6)
