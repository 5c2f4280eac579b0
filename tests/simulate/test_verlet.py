"""Velocity Verlet against ASE and against what its energies must do."""

import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.build import bulk
from ase.md.verlet import VelocityVerlet

from rutile.core.reporting import SilentReporter
from rutile.core.units import KB
from rutile.potentials.calculator import RutileCalculator
from rutile.potentials.lennard_jones import LennardJones
from rutile.simulate.verlet import masses_of, thermal_velocities, velocity_verlet
from rutile.structures.structures import Structures, concatenate

LJ = LennardJones(sigma=2.6, epsilon=0.15, cutoff=5.5)


def crystal(repeat=(2, 2, 1), symbols="Cu"):
    atoms = bulk("Cu", "fcc", a=4.0, cubic=True).repeat(repeat)
    atoms.symbols[::2] = symbols
    return atoms


def start(atoms, temperature=300.0, seed=0):
    structures = Structures.from_ase(atoms)
    return structures, thermal_velocities(structures, temperature, torch.Generator().manual_seed(seed))


def run(structures, velocities, time_step=2.0, steps=50, potential=LJ):
    return velocity_verlet(structures, velocities, potential, time_step, steps, SilentReporter())


def test_the_same_path_as_ase():
    atoms = crystal(symbols="Al")
    structures, v = start(atoms)
    ours = run(structures, v)
    atoms.set_velocities(v.numpy() / units.fs)
    atoms.calc = RutileCalculator([LJ])
    dynamics = VelocityVerlet(atoms, timestep=2.0 * units.fs)
    dynamics.run(50)
    np.testing.assert_allclose(ours.structures.positions, atoms.positions, atol=1e-5)
    np.testing.assert_allclose(ours.velocities * units.fs**-1, atoms.get_velocities(), atol=1e-6)
    assert ours.potential[-1].item() == pytest.approx(atoms.get_potential_energy(), abs=1e-5)
    assert ours.kinetic[-1].item() == pytest.approx(atoms.get_kinetic_energy(), abs=1e-5)
    assert ours.time[-1] == 100.0


@pytest.mark.slow
def test_scatter_falls_with_the_square_of_the_step_and_nothing_drifts():
    structures, v = start(crystal())
    coarse, fine = run(structures, v, 4.0, 200), run(structures, v, 2.0, 400)
    assert 3.5 < (coarse.scatter() / fine.scatter()).item() < 4.5
    assert fine.scatter().item() > 1e-7
    assert abs(fine.drift().item()) * 800 < 3 * fine.scatter().item()


def test_it_goes_back_the_way_it_came():
    structures, v = start(crystal(symbols="Al"), 600.0)
    there = run(structures, v)
    back = run(there.structures, -there.velocities)
    assert (there.structures.positions - structures.positions).norm(dim=1).max() > 0.1
    torch.testing.assert_close(back.structures.positions, structures.positions, rtol=0, atol=1e-10)


def test_a_batch_moves_as_its_parts():
    parts = [start(crystal()), start(crystal((1, 1, 1), "Al"), seed=1), start(Atoms("Cu2", [[0, 0, 0], [2.8, 0, 0]]))]
    whole = run(concatenate(s for s, _ in parts), torch.cat([v for _, v in parts]), steps=20)
    for k, (structures, v) in enumerate(parts):
        torch.testing.assert_close(whole.total[:, k], run(structures, v, steps=20).total[:, 0])


def test_thermal_velocities_have_the_temperature_and_no_momentum():
    structures, v = start(crystal((5, 5, 5), "Al"), 500.0)
    m = masses_of(structures)
    assert set(m.round(decimals=2).tolist()) == {26.98, 63.55}
    torch.testing.assert_close((m[:, None] * v).sum(0), torch.zeros(3).double())
    kinetic = run(structures, v, steps=0).kinetic
    assert kinetic.item() / (1.5 * KB * len(m)) == pytest.approx(500.0, rel=0.06)
    light = m < 30
    ratio = v[light].square().mean() / v[~light].square().mean()
    assert ratio.item() == pytest.approx(63.55 / 26.98, rel=0.2)


def test_drift_is_the_slope_of_the_total_energy():
    structures, v = start(crystal((1, 1, 1)))
    path = run(structures, v, steps=30)
    expected = np.polyfit(path.time.numpy(), path.total[:, 0].numpy(), 1)
    assert path.drift().item() == pytest.approx(expected[0], rel=1e-8)
    residual = path.total[:, 0].numpy() - np.polyval(expected, path.time.numpy())
    assert path.scatter().item() == pytest.approx(residual.std(), rel=1e-6)
