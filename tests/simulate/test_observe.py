"""Structure and transport from trajectories whose answers are known."""

import math

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk
from ase.data import atomic_masses

from rutile.core.errors import DataError, GeometryError
from rutile.core.units import ACCELERATION, KB
from rutile.simulate.observe.structure import radial_distributions, structure_factor
from rutile.simulate.observe.trajectory import Trajectory, trajectory
from rutile.simulate.observe.transport import (
    CM2_PER_S,
    arrhenius,
    diffusion,
    ionic_conductivity,
    mean_square_displacement,
    velocity_autocorrelation,
    vibrational_dos,
    viscosity,
)

ALL = (True, True, True)


def made(positions, interval=1.0, numbers=None, cell=None, velocities=None, pbc=ALL):
    n = positions.shape[1]
    box = np.broadcast_to(np.eye(3) * 1000.0 if cell is None else cell, (len(positions), 3, 3))
    kinds = np.full(n, 18) if numbers is None else np.asarray(numbers)
    return Trajectory(kinds, positions, box, np.array(pbc), interval, velocities)


def test_mean_square_displacement_is_the_naive_sum():
    positions = np.random.default_rng(0).normal(size=(37, 3, 3)).cumsum(axis=0) + 50.0
    naive = [((positions[k:] - positions[: 37 - k]) ** 2).sum(axis=2).mean() for k in range(37)]
    np.testing.assert_allclose(mean_square_displacement(positions), naive, rtol=1e-9, atol=1e-9)


@pytest.mark.slow
def test_free_langevin_particles_diffuse_with_kt_over_m_gamma():
    mass, gamma, kelvin, dt, n = atomic_masses[18], 0.02, 300.0, 5.0, 400
    rng = np.random.default_rng(1)
    variance = KB * kelvin * ACCELERATION / mass  # (Angstrom/fs)^2
    decay = math.exp(-gamma * dt)
    # exact for a free particle: v and the move are jointly normal
    v_noise = variance * (1 - decay**2)
    x_noise = variance / gamma**2 * (2 * gamma * dt - 3 + 4 * decay - decay**2)
    both = variance / gamma * (1 - decay) ** 2
    root = np.linalg.cholesky([[v_noise, both], [both, x_noise]])
    v = math.sqrt(variance) * rng.normal(size=(n, 3))
    x, out, speeds = np.zeros((n, 3)), [], []
    for _ in range(3000):
        out.append(x)
        speeds.append(v)
        noise = root @ rng.normal(size=(2, n * 3))
        x = x + v * (1 - decay) / gamma + noise[1].reshape(n, 3)
        v = v * decay + noise[0].reshape(n, 3)
    path = made(np.array(out), dt, velocities=np.array(speeds))
    found = diffusion(path, np.ones(n, dtype=bool))
    expected = variance / gamma * CM2_PER_S
    assert found.coefficient == pytest.approx(expected, rel=0.05)
    assert abs(found.coefficient - expected) < 5 * found.std
    assert found.std < 0.05 * expected
    assert found.exponent == pytest.approx(1.0, abs=0.05)
    auto = velocity_autocorrelation(path)
    assert auto[10] == pytest.approx(math.exp(-gamma * 50), abs=0.03)


@pytest.mark.slow
def test_lattice_walkers_diffuse_and_conduct():
    rng = np.random.default_rng(2)
    steps, n, a, rate, interval = 4000, 300, 2.0, 0.1, 10.0  # each atom hops with probability 0.1 in each frame
    axis = rng.integers(0, 3, size=(steps, n))
    sign = rng.choice([-1.0, 1.0], size=(steps, n)) * (rng.random((steps, n)) < rate)
    hops = np.zeros((steps, n, 3))
    np.put_along_axis(hops, axis[..., None], (a * sign)[..., None], axis=2)
    numbers = np.array([3] * 150 + [79] * 150)
    hops[:, 150:] = 0.0  # gold stays
    path = made(hops.cumsum(axis=0), interval, numbers)
    found = diffusion(path, numbers == 3)
    expected = rate / interval * a**2 / 6 * CM2_PER_S
    assert found.coefficient == pytest.approx(expected, rel=0.05)
    assert diffusion(path, numbers == 79).coefficient < 0.01 * expected
    one_way = diffusion(path, numbers == 3, axes=[2])
    assert one_way.coefficient == pytest.approx(expected, rel=0.1)
    sigma = ionic_conductivity(path, {3: 1e-5}, {3: 1.0}, 500.0)
    si = 150 / (1e9 * 1e-30) * units._e**2 * 1e-9 / (units._k * 500)  # n e^2 D / (k T) in SI: D = 1e-9 m^2/s
    assert sigma == pytest.approx(si, rel=1e-5)


def test_activation_energies_are_found_with_their_errors():
    t = np.array([600.0, 700.0, 800.0, 1000.0])
    exact = 1e-3 * np.exp(-0.4 / (KB * t))
    fit = arrhenius(t, exact, 0.05 * exact)
    assert fit.energy == pytest.approx(0.4, abs=1e-9)
    assert fit.prefactor == pytest.approx(1e-3, rel=1e-6)
    rng = np.random.default_rng(0)
    noisy = [arrhenius(t, exact * np.exp(0.05 * rng.normal(size=4)), 0.05 * exact).energy for _ in range(400)]
    assert float(np.std(noisy)) == pytest.approx(fit.energy_std, rel=0.15)
    with pytest.raises(DataError, match="three temperatures"):
        arrhenius(t[:2], exact[:2], exact[:2])
    with pytest.raises(DataError, match="not positive"):
        arrhenius(t, exact - exact[1], exact)


@pytest.mark.parametrize("recorded", [True, False])
def test_an_oscillator_has_its_line(recorded):
    wave, dt = 500.0, 1.0  # 1/cm, fs
    omega = 2 * math.pi * 2.99792458e-5 * wave
    t = np.arange(20000) * dt
    x = np.zeros((len(t), 1, 3))
    x[:, 0, 0] = 0.1 * np.sin(omega * t)
    v = np.zeros_like(x)
    v[:, 0, 0] = 0.1 * omega * np.cos(omega * t)
    q, density = vibrational_dos(made(x, dt, velocities=v if recorded else None), resolution=5.0)
    assert q[density.argmax()] == pytest.approx(wave, abs=3.0)
    assert np.trapezoid(density, q) == pytest.approx(1.0, abs=1e-6)
    assert density[np.abs(q - wave) > 30].max() < 0.01 * density.max()


@pytest.mark.slow
def test_an_ideal_gas_has_no_structure():
    rng = np.random.default_rng(4)
    positions = rng.random((20, 400, 3)) * 15.0
    numbers = [18] * 300 + [10] * 100
    path = made(positions, numbers=numbers, cell=np.eye(3) * 15.0)
    for radial in radial_distributions(path, 6.0, 60):
        far = radial.r > 1.5
        assert radial.g[far].mean() == pytest.approx(1.0, abs=0.02)
        count = {18: 300, 10: 100}[radial.pair[1]]
        assert radial.neighbours[-1] == pytest.approx(count / 15.0**3 * 4 / 3 * math.pi * 6**3, rel=0.03)
        assert radial.first_shell is None or radial.r[0] <= radial.first_shell[0]
    _, s = structure_factor(path, 5.0, 20)
    assert s[2:].mean() == pytest.approx(1.0, abs=0.05)


def test_a_crystal_has_its_shells_and_bragg_peaks():
    atoms = bulk("Cu", cubic=True).repeat(4)
    path = made(np.array([atoms.positions] * 2), numbers=atoms.numbers, cell=atoms.cell.array)
    (radial,) = radial_distributions(path, 6.0, 300)
    first, coordination = radial.first_shell
    assert 3.61 / math.sqrt(2) < first < 3.61
    assert coordination == pytest.approx(12.0)
    q, s = structure_factor(path, 6.0, 600, waves=10**6)
    peak = 2 * math.pi / 3.61 * math.sqrt(3)  # (111)
    assert q[s > 1][0] == pytest.approx(peak, abs=0.02)
    assert s[q < peak - 0.02].max() < 1e-9


def test_strained_cells_are_counted_each_with_its_own():
    atoms = bulk("Cu", cubic=True).repeat(3)
    other = atoms.copy()
    other.set_cell(atoms.cell * 1.02, scale_atoms=True)
    path = trajectory([atoms, other], 1.0, "t")
    (radial,) = radial_distributions(path, 2.8, 280)
    peaks = radial.r[radial.g > 1]
    assert peaks.tolist() == pytest.approx([3.61 / math.sqrt(2), 1.02 * 3.61 / math.sqrt(2)], abs=0.011)


def test_atoms_that_cross_the_boundary_do_not_jump():
    true = np.zeros((50, 2, 3))
    true[:, 0, 0] = 0.3 * np.arange(50)
    true[:, 1, 1] = -0.2 * np.arange(50)
    images = [Atoms("Ar2", positions=p, cell=[[5, 0, 0], [1, 5, 0], [0, 0, 5]], pbc=ALL) for p in true]
    for k, a in enumerate(images):
        a.wrap()
        a.info["time"] = 2.0 * k
    path = trajectory(images, None, "t")
    assert path.interval == 2.0
    np.testing.assert_allclose(path.positions - path.positions[0], true - true[0], atol=1e-9)
    slab = [Atoms("Ar2", positions=a.positions, cell=a.cell, pbc=(True, True, False)) for a in images]
    np.testing.assert_allclose(trajectory(slab, 1.0, "t").positions - path.positions[0], true - true[0], atol=1e-9)
    assert len(path.after(20.0)) == 40


def test_green_kubo_of_noise_with_known_correlation():
    rng = np.random.default_rng(5)
    tau, dt, n, size = 20.0, 1.0, 60000, 0.01
    decay = math.exp(-dt / tau)
    p = np.zeros((n, 3, 3))
    for a, b in ((0, 1), (0, 2), (1, 2)):
        noise = rng.normal(size=n) * size * math.sqrt(1 - decay**2)
        value = np.zeros(n)
        value[0] = size * rng.normal()
        for k in range(1, n):
            value[k] = decay * value[k - 1] + noise[k]
        p[:, a, b] = p[:, b, a] = value
    t, running = viscosity(p, dt, 1000.0, 300.0)
    three_of_five = 0.6 * 1000.0 / (KB * 300.0) * size**2 * tau * 0.16021766  # eV fs/Angstrom^3 are 0.1602 mPa s
    assert running[int(6 * tau)] == pytest.approx(three_of_five, rel=0.15)
    assert t[1] == dt


def test_what_is_no_trajectory_is_said():
    ok = [Atoms("Ar", positions=[(0.1 * k, 0, 0)], cell=[9] * 3, pbc=True) for k in range(60)]
    with pytest.raises(DataError, match="at least two"):
        trajectory(ok[:1], 1.0, "t")
    with pytest.raises(DataError, match="interval"):
        trajectory(ok, None, "t")
    with pytest.raises(DataError, match="frame 1 holds other atoms"):
        trajectory([ok[0], Atoms("He")], 1.0, "t")
    for k, atoms in enumerate(ok):
        atoms.info["time"] = float(k if k < 30 else k + 3)
    with pytest.raises(DataError, match="not evenly spaced"):
        trajectory(ok, None, "t")
    with pytest.raises(DataError, match="at least 50"):
        diffusion(trajectory(ok[:40], 1.0, "t"), np.array([True]))
    with pytest.raises(DataError, match="nothing after"):
        trajectory(ok, 1.0, "t").after(1e9)
    with pytest.raises(DataError, match="no atom of that kind moves"):
        vibrational_dos(made(np.zeros((40, 1, 3))))
    cluster = trajectory([Atoms("Ar", positions=[(0.1 * k, 0, 0)]) for k in range(3)], 1.0, "t")
    with pytest.raises(GeometryError, match="three directions"):
        radial_distributions(cluster)
