"""Normal-mode sampling against the published formula, and its energies against theory."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.calculators.emt import EMT
from ase.optimize import BFGS
from ase.vibrations import Vibrations

from rutile.build.normal_modes import (
    MDYN,
    SOFTEST,
    Modes,
    amplitudes,
    displacement,
    normal_modes,
    numerical_hessian,
    shares,
)
from rutile.core.units import KB

VECTORS = [
    (0.1, 3, 600, 8.0, 0.03052766081769123),
    (0.3, 9, 2000, 0.5, 0.6688275383086436),
    (0.5, 5, 300, 0.05, 0.7882208129705788),
]
"""c_i, N, T (K), K_i (mdyn/Angstrom), R_i (Angstrom): computed apart from this code from the published formula."""


def of_emt(atoms: Atoms):
    calculator = EMT()

    def forces(x: np.ndarray) -> np.ndarray:
        return calculator.get_forces(Atoms(atoms.numbers, positions=x))

    return forces


def relaxed(name: str) -> Atoms:
    atoms = molecule(name)
    atoms.calc = EMT()
    BFGS(atoms, logfile=None).run(fmax=1e-5)
    return Atoms(atoms.numbers, positions=atoms.positions)


@pytest.mark.parametrize(("c", "n", "t", "k", "r"), VECTORS)
def test_amplitudes_are_the_published_ones(c, n, t, k, r):
    assert amplitudes(np.array([c]), n, t, np.array([k]))[0] == pytest.approx(r, rel=1e-8)


def test_soft_modes_are_stiffened_and_long_displacements_cut_to_both_sides():
    soft, floor = (amplitudes(np.array([1e-6]), 3, 300, np.array([k]))[0] for k in (1e-9, SOFTEST))
    assert soft == floor
    assert amplitudes(np.array([1.0]), 60, 2000, np.array([-1.0]))[0] == 2.0
    modes = Modes(np.array([[[1.0, 0, 0]]]), np.array([0.0]))
    moved = [displacement(modes, 1e6, np.random.default_rng(k))[0, 0] for k in range(40)]
    assert min(moved) == -2.0
    assert max(moved) == 2.0


def test_shares_have_the_mean_of_theory():
    """<c_i> = 1/(2 n): differences of n - 1 sorted even numbers, times an even number."""
    rng = np.random.default_rng(0)
    c = np.array([shares(6, rng) for _ in range(20000)])
    assert (c >= 0).all()
    assert (c.sum(axis=1) <= 1).all()
    assert c.mean(axis=0) == pytest.approx(np.full(6, 1 / 12), rel=0.03)


def test_modes_are_those_of_ase(tmp_path):
    """Frequencies of water in EMT; mode vectors have length one and no translation or rotation in them."""
    atoms = relaxed("H2O")
    modes = normal_modes(atoms, numerical_hessian(of_emt(atoms), atoms.positions))
    assert modes.vectors.shape == (3, 3, 3)
    assert (modes.vectors**2).sum(axis=(1, 2)) == pytest.approx(np.ones(3))
    mass = atoms.get_masses()[:, None]
    assert np.abs((mass * modes.vectors).sum(axis=1)).max() < 1e-10
    turning = np.cross(atoms.positions - atoms.get_center_of_mass(), mass * modes.vectors).sum(axis=1)
    assert np.abs(turning).max() < 1e-9
    reduced = 1 / ((modes.vectors**2 / 1).sum(axis=(1, 2)) / (mass * modes.vectors**2).sum(axis=(1, 2)))
    square = modes.constants * MDYN / reduced  # omega^2 in eV/Angstrom^2/amu
    atoms.calc = EMT()
    vibrations = Vibrations(atoms, name=str(tmp_path / "vib"), delta=5e-3)
    vibrations.run()
    energies = vibrations.get_energies()[-3:].real
    hbar = 0.06465415134  # eV per sqrt(eV/Angstrom^2/amu)
    assert hbar * np.sqrt(square) == pytest.approx(energies, rel=1e-3)


def test_linear_molecules_and_atoms_have_the_right_number_of_modes():
    for name, count in (("N2", 1), ("CO2", 4), ("H2O", 3), ("CH4", 9)):
        atoms = molecule(name)
        modes = normal_modes(atoms, np.eye(3 * len(atoms)))
        assert len(modes.constants) == count, name
    alone = normal_modes(Atoms("H"), np.zeros((3, 3)))
    assert displacement(alone, 300, np.random.default_rng(0)).tolist() == [[0, 0, 0]]


def test_the_mean_harmonic_energy_is_that_of_theory():
    """<sum K R^2 / 2> = sum (3/2) <c_i> N k_B T with <c_i> = 1/(2 n), so (3/4) N k_B T."""
    atoms = relaxed("H2O")
    hessian = numerical_hessian(of_emt(atoms), atoms.positions)
    modes = normal_modes(atoms, hessian)
    assert modes.constants.min() > SOFTEST
    rng = np.random.default_rng(1)
    energies = []
    for _ in range(4000):
        x = displacement(modes, 100.0, rng).ravel()
        energies.append(0.5 * x @ hessian @ x)
    assert np.mean(energies) == pytest.approx(0.75 * 3 * KB * 100.0, rel=0.03)


def test_the_hessian_is_the_derivative_of_the_forces():
    """Of a spring between two atoms: k along it, and 0 across where it is relaxed."""
    k, length = 7.0, 1.3

    def forces(x: np.ndarray) -> np.ndarray:
        v = x[1] - x[0]
        d = np.linalg.norm(v)
        f = k * (d - length) * v / d
        return np.array([f, -f])

    hessian = numerical_hessian(forces, np.array([[0.0, 0, 0], [length, 0, 0]]))
    expected = np.zeros((6, 6))
    expected[0, 0] = expected[3, 3] = k
    expected[0, 3] = expected[3, 0] = -k
    assert hessian == pytest.approx(expected, abs=1e-4)
