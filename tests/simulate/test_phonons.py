"""Phonons: phonopy done one at a time, sum rule, speed of sound, imaginary modes, quasi-harmonic expansion."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from rutile.core.errors import GeometryError, SettingsError
from rutile.core.reporting import SilentReporter
from rutile.core.units import ACCELERATION, KB
from rutile.potentials.calculator import RutileCalculator
from rutile.potentials.emt import Emt
from rutile.potentials.lennard_jones import LennardJones
from rutile.simulate.elastic import elastic_tensor
from rutile.simulate.expansion import by_temperature, quasi_harmonic
from rutile.simulate.md.state import masses_of
from rutile.simulate.phonons import phonons
from rutile.simulate.settings import ElasticSettings, ExpansionSettings, PhononSettings
from rutile.simulate.start import settled
from rutile.simulate.supercells import repeated, repeats
from rutile.structures.structures import Structures

phonopy = pytest.importorskip("phonopy")
QUIET = SilentReporter()
LJ = LennardJones(sigma=2.5, epsilon=0.3, cutoff=5.0)
SMALL = {"mesh_length": 15.0, "band_points": 5, "temperature_step": 100.0}


def found(atoms, potential=LJ, **settings):
    how = PhononSettings(**{**SMALL, **settings})
    start, why = settled(Structures.from_ase(atoms), potential, how, QUIET)
    assert not any(why)
    return phonons(start, potential, how, QUIET), start


def one_at_a_time(start, supercell, points):
    """Frequencies (THz) by phonopy with ASE's calculator interface, one displaced supercell after the other."""
    from phonopy.structure.atoms import PhonopyAtoms

    (atoms,) = start.to_ase()
    cell = PhonopyAtoms(
        atoms.get_chemical_symbols(), cell=atoms.cell.array, positions=atoms.positions, masses=masses_of(start).numpy()
    )
    theirs = phonopy.Phonopy(cell, np.diag(supercell), np.eye(3), log_level=0)
    theirs.generate_displacements(distance=0.01)
    forces = []
    for moved in theirs.supercells_with_displacements:
        image = Atoms(moved.symbols, positions=moved.positions, cell=moved.cell, pbc=True)
        image.calc = RutileCalculator([LJ])
        forces.append(image.get_forces())
    theirs.forces = np.array(forces)
    theirs.produce_force_constants(show_drift=False)
    theirs.symmetrize_force_constants(level=3, show_drift=False)
    theirs.run_qpoints(points)
    return theirs.get_qpoints_dict()["frequencies"]


@pytest.mark.slow
def test_as_phonopy_one_at_a_time_on_the_same_forces():
    hcp = bulk("Cu", "hcp", a=2.7, c=4.4)
    (fcc, both), starts = found([bulk("Cu", a=3.8), hcp], supercell=(3, 3, 3), relax=False)
    points = [[0, 0, 0], [0.5, 0, 0], [0.3, 0.1, 0.2], [1 / 3, 1 / 3, 0.5]]
    for ours, start in zip((fcc, both), starts.split(), strict=True):
        ours.phonopy.run_qpoints(points)
        frequencies = ours.phonopy.get_qpoints_dict()["frequencies"]
        np.testing.assert_allclose(frequencies, one_at_a_time(start, (3, 3, 3), points), atol=1e-4)


@pytest.mark.slow
def test_sum_rule_states_and_heat():
    (one,), _ = found(bulk("Cu", a=3.8), supercell=(4, 4, 4))
    assert one.acoustic < 1e-4
    assert one.drift < 1e-6
    assert not one.imaginary
    assert one.lowest > -1e-3
    assert np.trapezoid(one.dos, one.dos_frequency) == pytest.approx(3, rel=0.05)
    t = one.thermal
    assert t.heat_capacity[-1] == pytest.approx(3 * KB, rel=0.02)
    assert t.heat_capacity[0] == pytest.approx(0, abs=1e-9)
    slope = np.gradient(t.free_energy, t.temperature)
    np.testing.assert_allclose(-slope[3:-1], t.entropy[3:-1], rtol=0.03)
    assert [s.start + s.end for s in one.bands][:3] == ["ΓX", "XW", "WK"]
    assert one.bands[0].frequency.shape == (5, 3)


@pytest.mark.slow
def test_the_slope_of_acoustic_branches_is_the_speed_of_sound():
    (one,), start = found(bulk("Cu", a=3.8), supercell=(5, 5, 5))
    c = elastic_tensor(start, LJ, ElasticSettings(), QUIET).tensor[0]
    density = float(masses_of(start).sum()) / float(start.volume[0])
    c11, c12, c44 = float(c[0, 0]), float(c[0, 1]), float(c[3, 3])
    lattice = 2 ** (2 / 3) * float(start.volume[0] * 2) ** (1 / 3)
    h = 0.02
    cases = (
        ([0, h / lattice, 0], (c44, c44, c11)),
        ([h / lattice, h / lattice, 0], ((c11 - c12) / 2, c44, (c11 + c12 + 2 * c44) / 2)),
    )
    for cartesian, moduli in cases:
        q = np.asarray(cartesian) @ one.phonopy.primitive.cell.T
        one.phonopy.run_qpoints([q])
        waves = np.sort(one.phonopy.get_qpoints_dict()["frequencies"][0])
        speed = waves / np.linalg.norm(cartesian) / 1000  # Angstrom/fs
        np.testing.assert_allclose(speed, np.sqrt(np.array(moduli) * ACCELERATION / density), rtol=0.03)


def test_a_crystal_that_shears_away_has_imaginary_modes():
    (one,), _ = found(bulk("Cu", "sc", a=2.75), supercell=(2, 2, 2))
    assert one.imaginary
    assert one.imaginary[0].frequency < -0.05
    assert one.lowest <= one.imaginary[0].frequency + 1e-6
    assert set(np.round(one.imaginary[0].wave_vector, 6)) <= {0.0, 0.5}


def test_supercells_are_long_enough():
    start = Structures.from_ase(bulk("Cu", "hcp", a=2.5, c=4.0))
    assert repeats(start, None, 12.0) == (5, 5, 3)
    assert repeats(start, (2, 3, 4), 12.0) == (2, 3, 4)
    large = repeated(start, (2, 1, 3))
    expected = start.to_ase()[0].repeat((2, 1, 3))
    np.testing.assert_allclose(large.cell[0], expected.cell.array)
    np.testing.assert_allclose(np.sort(large.positions, axis=0), np.sort(expected.positions, axis=0), atol=1e-12)


def test_what_cannot_be_done_is_refused():
    class Rough(LennardJones):
        smooth = False

    cell, told = bulk("Cu", a=3.8), SilentReporter()
    phonons(Structures.from_ase(cell), LJ, PhononSettings(supercell=(2, 2, 1), **SMALL), told)
    assert any("2 x 2 x 1 cells has less symmetry" in w for w in told.warnings)
    with pytest.raises(SettingsError, match="phonon calculation needs continuous forces"):
        found(cell, Rough(sigma=2.5, epsilon=0.3, cutoff=5.0), supercell=(2, 2, 2), relax=False)
    assert found(cell, Rough(sigma=2.5, epsilon=0.3, cutoff=5.0), supercell=(2, 2, 2), relax=False, rough=True)[0][
        0
    ].bands
    with pytest.raises(GeometryError, match="of crystals"):
        found(Atoms("Cu2", [[0, 0, 0], [2.3, 0, 0]]), relax=False)


@pytest.mark.slow
def test_expansion_of_copper_as_by_phonopy():
    from phonopy import PhonopyQHA

    how = ExpansionSettings(supercell=(2, 2, 2), max_temperature=600, temperature_step=20, mesh_length=20)
    start, _ = settled(Structures.from_ase(bulk("Cu", cubic=True)), Emt(), how, QUIET)
    (ours,) = quasi_harmonic(start, Emt(), how, QUIET)
    assert not ours.failure
    kj = 0.01036426965626
    theirs = PhonopyQHA(
        volumes=ours.volumes, electronic_energies=ours.energies, temperatures=ours.temperature,
        free_energy=ours.vibrational.T / kj, cv=np.ones_like(ours.vibrational.T),
        entropy=np.ones_like(ours.vibrational.T), eos="birch_murnaghan",
    )  # fmt: skip
    n = len(theirs.thermal_expansion) - 1
    np.testing.assert_allclose(ours.volume[:n], theirs.volume_temperature[:n], rtol=1e-5)
    np.testing.assert_allclose(ours.expansion[2:n], theirs.thermal_expansion[2:n], rtol=0.02, atol=1e-7)
    np.testing.assert_allclose(ours.bulk[:n] * 160.2177, theirs.bulk_modulus_temperature[:n], rtol=1e-3)
    assert ours.expansion[15] > 2e-5
    assert (ours.heat_capacity[15:] > 0.9 * 12 * KB).all()
    assert 1.5 < ours.gruneisen[15] < 3


def test_an_einstein_solid_with_a_known_grueneisen_parameter():
    """omega ~ V^-g: gamma is g, and alpha = g C_V / (B V)."""
    g, v0, b, hw, n = 2.0, 40.0, 1.0, 0.02, 4
    volume, t = np.linspace(38, 44, 9), np.arange(0.0, 801.0, 20.0)
    x = (v0 / volume) ** (2 / 3) - 1
    energy = 9 / 16 * v0 * b * 2 * x**2
    quantum = (hw * (v0 / volume) ** g)[:, None]
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        free = 3 * n * (quantum / 2 + np.where(t > 0, KB * t * np.log1p(-np.exp(-quantum / (KB * t))), 0))
        y = quantum / (KB * t)
        heat = np.where(t > 0, 3 * n * KB * y**2 * np.exp(-y) / (1 - np.exp(-y)) ** 2, 0.0)
    one = by_temperature(t, volume, energy, free, np.nan_to_num(heat))
    assert not one.failure
    np.testing.assert_allclose(one.gruneisen[5:-1], g, rtol=0.03)
    assert one.volume[0] > v0  # zero-point motion
    cold = by_temperature(t, volume[:7], energy[:7], 40 * free[:7], np.nan_to_num(heat[:7]))
    assert "outside the scan" in cold.failure
    assert np.isnan(cold.volume[-1])
