"""Infrared spectra from the flux of dipoles: places and intensities of lines, and the flux itself."""

import math

import numpy as np
import pytest
import torch
from ase import Atoms

from rutile.core.errors import DataError
from rutile.core.reporting import SilentReporter
from rutile.core.units import ACCELERATION, KB
from rutile.potentials.catalogue import make
from rutile.potentials.combine import Mean, Sum
from rutile.potentials.rigid_ion import RigidIon
from rutile.potentials.settings import AnataseSettings, SchNetSettings, TeaNetSettings
from rutile.simulate.dipoles import born_charges, change, dipole_flux, dipoles, polar_of, polar_of_ions
from rutile.simulate.md.loop import Dynamics
from rutile.simulate.md.settings import MdSettings
from rutile.simulate.observe.infrared import flux, infrared, kinetic_temperature
from rutile.simulate.observe.trajectory import Trajectory
from rutile.simulate.settings import VibrationSettings
from rutile.simulate.start import settled
from rutile.simulate.vibrations import INTENSITY, PER_CM, vibrations
from rutile.structures.structures import Structures
from rutile.testing.potential_contract import cluster
from rutile.testing.strategies import random_structure

TINY = {
    "channels": 4, "radial": 4, "sources": 2, "hidden": 8, "embedding": 3, "waves": 4, "radial_hidden": 8,
    "readout": 4, "cutoffs": (4.0,),
}  # fmt: skip
OPEN = np.zeros(3, dtype=bool)


def anatase(seed=0):
    return make(AnataseSettings(**TINY, electrostatics=True), (8, 22), seed=seed)


def diatomic(wave, amplitude, frames, interval):
    """H and Cl on a spring: mass-weighted coordinate Q = amplitude cos(w t)."""
    m = np.array([1.008, 35.45])
    mu = m.prod() / m.sum()
    t = np.arange(frames) * interval
    w = wave * PER_CM
    stretch, rate = amplitude * np.cos(w * t) / mu**0.5, -w * amplitude * np.sin(w * t) / mu**0.5
    share = np.array([-m[1], m[0]]) / m.sum()
    x = np.zeros((frames, 2, 3))
    x[:, 1, 0] = 1.3
    v = np.zeros_like(x)
    x[:, :, 0] += stretch[:, None] * share
    v[:, :, 0] = rate[:, None] * share
    box = np.broadcast_to(np.eye(3), (frames, 3, 3))
    return Trajectory(np.array([1, 17]), x, box, OPEN, interval, v), mu, w


@pytest.mark.slow
@pytest.mark.parametrize("window", ["hann", "blackman"])
def test_a_diatomic_absorbs_where_and_as_much_as_it_must(window):
    kelvin = 300.0
    path, mu, w = diatomic(2345.6, 1.0, 20_000, 1.0)
    path, _, _ = diatomic(2345.6, math.sqrt(2 * KB * kelvin * 9.648533215665e-3) / w, 20_000, 1.0)  # <Q'^2> = kT
    moving = flux(path, polar_of_ions({1: 0.3, 17: -0.3}))
    seen = infrared(moving, 1.0, kelvin, None, resolution=10.0, window=window)
    (peak,) = seen.peaks
    assert peak.wave_number == pytest.approx(2345.6, abs=0.5)
    assert seen.resolution == pytest.approx(10.0, rel=1e-3)
    assert peak.area == pytest.approx(INTENSITY * 0.3**2 / mu, rel=0.02)
    assert seen.blocks >= 2
    assert peak.error < 1.0
    assert kinetic_temperature(path) == pytest.approx(kelvin, rel=0.02)


@pytest.mark.slow
def test_a_crystal_has_the_cross_section_of_its_molecules():
    path, _, _ = diatomic(1000.0, 0.05, 8000, 2.0)
    moving = flux(path, polar_of_ions({1: 0.3, 17: -0.3}))
    molecule = infrared(moving, 2.0, 300.0, None)
    crystal = infrared(moving, 2.0, 300.0, 50.0)
    # alpha n = cross section / volume: km/mol per 1/cm is 602.2 Angstrom^2
    np.testing.assert_allclose(crystal.absorption, molecule.absorption / 602.214076 * 1e8 / 50.0)


@pytest.mark.slow
@pytest.mark.parametrize("potential", [anatase(), make(TeaNetSettings(cutoffs=(3.0, 3.0)), (8, 22)), RigidIon()])
def test_the_flux_of_a_molecule_is_the_change_of_its_moment(potential):
    molecule = cluster([22, 8, 8, 8], [[0, 0, 0], [0, 0.1, 1.9], [1.8, 0, 0], [-0.3, 1.9, 0.2]])
    v = 0.01 * torch.randn(4, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    v = v - v.mean(0)
    one = potential.double() if isinstance(potential, torch.nn.Module) else potential
    found = dipole_flux(molecule, v, polar_of(one))
    moments = [dipoles(molecule.replace(positions=molecule.positions + s * 0.05 * v), one, 100) for s in (1, -1)]
    changed = (moments[0] - moments[1]) / 0.1
    assert (found - changed).norm() < 2e-4 * changed.norm()  # both are differences; of one component little may be left


@pytest.mark.slow
def test_bonds_carry_the_flux_of_crystals_without_branches():
    potential = anatase()
    one = random_structure(3, [22, 8, 8, 22], pbc=(True, True, True))
    polar = polar_of(potential)
    assert polar.kind == "bonds"
    v = 0.01 * torch.randn(4, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    here = dipole_flux(one, v, polar)
    jumps = torch.tensor([[1.0, 0, 0], [0, -2, 0], [0, 0, 0], [1, 1, 1]], dtype=torch.float64)
    elsewhere = one.replace(positions=one.positions + jumps @ one.cell[0])
    torch.testing.assert_close(dipole_flux(elsewhere, v, polar), here)
    z = born_charges(one, polar, atoms_at_once=8)
    torch.testing.assert_close(torch.einsum("nab,nb->a", z, v), here[0], rtol=1e-3, atol=1e-7)
    torch.testing.assert_close(z.sum(0), torch.zeros(3, 3, dtype=torch.float64), rtol=0, atol=2e-4)


def test_born_charges_add_up_to_the_charge():
    ion = cluster([22, 8, 8, 8], [[0, 0, 0], [0, 0.1, 1.9], [1.8, 0, 0], [-0.3, 1.9, 0.2]])
    z = born_charges(ion, polar_of(RigidIon()))
    total = 2.196 - 3 * 1.098
    torch.testing.assert_close(z.sum(0), total * torch.eye(3, dtype=torch.float64), rtol=0, atol=1e-10)
    tea = make(TeaNetSettings(cutoffs=(3.0, 3.0)), (8, 22)).double()
    z = born_charges(ion, polar_of(tea))
    torch.testing.assert_close(z.sum(0), torch.zeros(3, 3, dtype=torch.float64), rtol=0, atol=2e-4)
    assert z.abs().max() > 1e-3


def test_charges_are_found_in_sums_and_committees():
    plain, other = anatase(), anatase(1)
    summed = Sum.of([plain, make(SchNetSettings(cutoff=5.0), (8, 22))])
    one = random_structure(3, [22, 8, 8, 22], pbc=(True, True, True))
    moved = one.replace(positions=one.positions + 0.01 * torch.eye(4, 3, dtype=torch.float64))
    each = [change(moved, one, polar_of(p)) for p in (plain, other, summed, Mean([plain, other]))]
    torch.testing.assert_close(each[2], each[0])
    torch.testing.assert_close(each[3], (each[0] + each[1]) / 2)
    silent = make(AnataseSettings(**TINY), (8, 22))
    assert polar_of(silent) is None


def test_too_little_is_refused():
    path, _, _ = diatomic(1000.0, 0.05, 40, 2.0)
    moving = flux(path, polar_of_ions({1: 0.3, 17: -0.3}))
    with pytest.raises(DataError, match="40 frames are too few"):
        infrared(moving, 2.0, 300.0, None)
    with pytest.raises(DataError, match="does not change"):
        infrared(np.zeros((100, 3)), 2.0, 300.0, None)


@pytest.mark.slow
def test_cold_dynamics_absorbs_at_the_static_frequencies():
    potential = RigidIon()
    start = Structures.from_ase([Atoms("OTiO", [[-1.5, 0, 0.6], [0, 0, 0], [1.5, 0, 0.6]])])
    start, _ = settled(start, potential, VibrationSettings(fmax=1e-4), SilentReporter(), "none")
    (static,) = vibrations(start, potential, VibrationSettings(), SilentReporter())
    settings = MdSettings(ensemble={"name": "nve", "temperature": 4.0}, time=7.0, timestep=1.0)
    dynamics = Dynamics([potential], settings)
    x, v = [], []
    for moment in dynamics.run(dynamics.begin(start)):
        if moment.state.step % 2 == 0:
            x.append(moment.state.structures.positions.numpy())
            v.append(moment.state.velocities.numpy())
    box = np.broadcast_to(np.eye(3), (len(x), 3, 3))
    path = Trajectory(start.numbers.numpy(), np.array(x), box, OPEN, 2.0, np.array(v))
    seen = infrared(flux(path, polar_of(potential)), 2.0, kinetic_temperature(path), None, resolution=10.0)
    found = np.array([p.wave_number for p in seen.peaks])
    bright = static.frequency[static.intensity > 0.05 * static.intensity.max()]
    assert len(bright) >= 2
    for wave in bright:
        assert np.abs(found - wave).min() < 10.0


@pytest.mark.parametrize(("angle", "dof"), [(180.0, 4), (120.0, 3)])
def test_the_temperature_of_a_linear_molecule_counts_one_turn_less(angle, dof):
    rng = np.random.default_rng(0)
    bent = np.deg2rad(angle)
    x = np.array([[1.2, 0, 0], [0, 0, 0], [1.2 * np.cos(bent), 1.2 * np.sin(bent), 0]])
    frames = np.repeat(x[None], 50, axis=0)
    v = rng.normal(0, 1e-3, (50, 3, 3))
    path = Trajectory(
        numbers=np.array([8, 6, 8]), positions=frames, cell=np.zeros((50, 3, 3)), pbc=np.zeros(3, bool), interval=1.0,
        velocities=v,
    )  # fmt: skip
    mass = np.array([15.999, 12.011, 15.999])
    v = v - np.einsum("n,fna->fa", mass, v)[:, None] / mass.sum()
    kinetic = 0.5 * np.einsum("n,fna,fna->f", mass, v, v).mean() / ACCELERATION
    assert kinetic_temperature(path) == pytest.approx(2 * kinetic / (dof * KB), rel=1e-3)
