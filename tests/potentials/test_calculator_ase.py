"""The calculator in the hands of ASE: molecular dynamics, optimisers, filters, equations of state."""

import numpy as np
import pytest
import torch
from ase import units
from ase.build import bulk
from ase.constraints import FixAtoms
from ase.filters import FrechetCellFilter
from ase.io import read
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution, Stationary
from ase.md.verlet import VelocityVerlet
from ase.optimize import BFGS, FIRE

from rutile.graph.graph import build_graph
from rutile.graph.neighbors import find_edges
from rutile.potentials.calculator import RutileCalculator
from rutile.potentials.catalogue import make
from rutile.potentials.lennard_jones import LennardJones
from rutile.potentials.settings import BehlerSettings
from rutile.structures.structures import Structures

STIFF = LennardJones(sigma=2.4, epsilon=0.2, cutoff=5.0)


def crystal(repeat=2):
    atoms = bulk("Cu", "fcc", a=3.9, cubic=True).repeat(repeat)
    atoms.positions += np.random.default_rng(0).normal(0, 0.02, atoms.positions.shape)
    return atoms


class WithBehler(torch.nn.Module):
    """Lennard-Jones holds the crystal together, a random Behler-Parrinello potential shakes it."""

    elements = (29,)

    def __init__(self, atoms):
        super().__init__()
        made = make(BehlerSettings(auto={"cutoff": 5.0}, hidden=(6,), scaling="standard"), (29,), 0)
        batch = Structures.from_ase([atoms, crystal(1)])
        with torch.no_grad():
            graph = build_graph(batch, find_edges(batch, made.cutoff))
            made.fit_scaling([(made.describe(graph), batch.numbers)])
            made.networks[0].layers[0].weight *= 0.02
        made.set_energy_scale(0.05)
        self.holds, self.shakes, self.cutoff = STIFF, made.requires_grad_(False), made.cutoff

    def forward(self, graph):
        return self.holds(graph) + self.shakes(graph)


def total_energies(atoms, potential, time_step, time):
    """Total energy (eV) along NVE at 300 K, started alike."""
    atoms.calc = RutileCalculator([potential])
    MaxwellBoltzmannDistribution(atoms, temperature_K=600, rng=np.random.default_rng(1))
    Stationary(atoms)
    energies = []
    dynamics = VelocityVerlet(atoms, timestep=time_step * units.fs)
    dynamics.attach(lambda: energies.append(atoms.get_total_energy()))
    dynamics.run(round(time / time_step))
    return np.array(energies)


@pytest.mark.physics
@pytest.mark.parametrize("which", ["lennard-jones", "behler"])
def test_energy_is_conserved_and_its_error_falls_as_the_square_of_the_time_step(which):
    atoms = crystal()
    potential = STIFF if which == "lennard-jones" else WithBehler(atoms)
    long, short = (total_energies(atoms.copy(), potential, dt, 400.0) for dt in (4.0, 2.0))
    kinetic = 1.5 * len(atoms) * units.kB * 600
    assert np.ptp(short) < 1e-2 * kinetic
    drift = np.polyfit(np.linspace(0, 1, len(short)), short, 1)[0]
    assert abs(drift) < 3e-3 * kinetic
    assert 2.5 < np.std(long) / np.std(short) < 6.0


def test_a_short_run_crosses_searches_and_agrees_with_fresh_lists():
    """The Verlet list is searched again along the way, and every energy is that of a fresh calculator."""
    atoms = crystal(1)
    potential = LennardJones(sigma=2.4, epsilon=0.2, cutoff=5.0)
    atoms.calc = RutileCalculator([potential], skin=0.1)
    MaxwellBoltzmannDistribution(atoms, temperature_K=1500, rng=np.random.default_rng(1))
    dynamics = VelocityVerlet(atoms, timestep=4 * units.fs)
    for _ in range(8):
        dynamics.run(4)
        fresh = atoms.copy()
        fresh.calc = RutileCalculator([potential])
        assert fresh.get_potential_energy() == pytest.approx(atoms.get_potential_energy(), abs=1e-10)
        np.testing.assert_allclose(fresh.get_forces(), atoms.get_forces(), atol=1e-9)
    assert 1 < atoms.calc._neighbors.searches < 33


@pytest.mark.slow
def test_optimisers_filters_and_constraints():
    potential = LennardJones(sigma=2.6, epsilon=0.15, cutoff=5.5)
    atoms = crystal(1)
    atoms.calc = RutileCalculator([potential])
    start = atoms.get_potential_energy()
    assert BFGS(FrechetCellFilter(atoms), logfile=None).run(fmax=0.01, steps=200)
    assert atoms.get_potential_energy() < start
    assert np.abs(atoms.get_stress()).max() < 0.01
    held = crystal(1)
    held.set_constraint(FixAtoms([0]))
    held.calc = RutileCalculator([potential])
    before = held.positions[0].copy()
    assert FIRE(held, logfile=None).run(fmax=0.02, steps=300)
    np.testing.assert_array_equal(held.positions[0], before)


def test_one_calculator_for_atoms_of_different_size():
    calculator = RutileCalculator([LennardJones(sigma=2.4, epsilon=0.1, cutoff=6.0)])
    energies = {}
    for _ in range(2):
        for repeat in (1, 2):
            atoms = bulk("Cu", "fcc", a=3.9, cubic=True).repeat(repeat)
            atoms.calc = calculator
            energies.setdefault(repeat, []).append(atoms.get_potential_energy())
    assert energies[1][0] == energies[1][1]
    assert energies[2][0] == pytest.approx(8 * energies[1][0], rel=1e-12)


def test_results_survive_a_file(tmp_path):
    atoms = crystal(1)
    atoms.calc = RutileCalculator([LennardJones(sigma=2.4, epsilon=0.1, cutoff=6.0)])
    atoms.get_forces()
    atoms.write(tmp_path / "a.extxyz")
    back = read(tmp_path / "a.extxyz")
    assert back.get_potential_energy() == pytest.approx(atoms.get_potential_energy(), abs=1e-6)
    np.testing.assert_allclose(back.get_forces(), atoms.get_forces(), atol=1e-6)
    np.testing.assert_allclose(back.get_stress(), atoms.get_stress(), atol=1e-6)
