"""Molecular vibrations: the reference, ASE's modes and free energies, intensities, symmetry numbers."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import add_adsorbate, fcc111, molecule
from ase.thermochemistry import HarmonicThermo, IdealGasThermo
from ase.vibrations import Vibrations

from rutile.core.reporting import SilentReporter
from rutile.core.units import ACCELERATION
from rutile.potentials.calculator import RutileCalculator
from rutile.potentials.emt import Emt
from rutile.potentials.lennard_jones import LennardJones
from rutile.simulate.dipoles import charges_of, dipoles
from rutile.simulate.settings import VibrationSettings
from rutile.simulate.start import settled
from rutile.simulate.vibrations import find_symmetry_number, free_energy, vibrations
from rutile.structures.structures import Structures

REFERENCE = json.loads((Path(__file__).parent / "apps_emt_reference.json").read_text())["values"]
QUIET = SilentReporter()


class Springs(torch.nn.Module):
    """Harmonic bonds and fixed charges by atomic number: everything about it is known."""

    elements: tuple[int, ...] = ()
    cutoff = 3.0

    def __init__(self, k=30.0, length=1.2, charges=None):
        super().__init__()
        self.k, self.length = k, length
        if charges:
            table = torch.zeros(20, dtype=torch.float64)
            for z, q in charges.items():
                table[z] = q
            self.register_buffer("charges", table)

    def forward(self, graph):
        r = graph.vectors.norm(dim=1)
        energy = torch.zeros(len(graph.numbers), dtype=r.dtype)
        return energy.index_add(0, graph.i, 0.25 * self.k * (r - self.length) ** 2)


def found(given, potential=None, held=(), **settings):
    how = VibrationSettings(**settings)
    batch = Structures.from_ase(given)
    fixed = torch.isin(torch.arange(batch.n_atoms), torch.tensor(list(held), dtype=torch.long))
    start, why = settled(batch, potential or Emt(), how, QUIET, "none", fixed)
    assert not any(why)
    return vibrations(start, potential or Emt(), how, QUIET, fixed), start, how


@pytest.mark.slow
def test_nitrogen_as_in_the_reference():
    (one,), start, _ = found(molecule("N2"))
    assert one.frequency == pytest.approx([REFERENCE["N2"]["stretch_cm1"]], rel=1e-3)
    assert (start.positions[0] - start.positions[1]).norm().item() == pytest.approx(REFERENCE["N2"]["bond_A"], abs=1e-4)
    assert one.external < 5
    assert one.free
    assert one.intensity is None


@pytest.mark.slow
def test_modes_and_free_energy_are_those_of_ase(tmp_path):
    water, ammonia = molecule("H2O"), molecule("NH3")
    both, starts, how = found([water, ammonia], temperature=400, gas_pressure=2.0)
    for ours, start, number, modes in zip(both, starts.split(), (2, 3), (3, 6), strict=True):
        assert len(ours.frequency) == modes
        (atoms,) = start.to_ase()
        atoms.calc = RutileCalculator([Emt()])
        theirs = Vibrations(atoms, name=str(tmp_path / str(modes)), delta=0.005)
        theirs.run()
        np.testing.assert_allclose(ours.frequency, theirs.get_frequencies().real[-modes:], atol=3.0)
        found_energy = free_energy(start, ours, how)
        assert found_energy.symmetry_number == number
        gas = IdealGasThermo(ours.quanta, "nonlinear", atoms=atoms, symmetrynumber=number, spin=0, natoms=len(atoms))
        assert found_energy.enthalpy == pytest.approx(gas.get_enthalpy(400, verbose=False), rel=1e-4)
        assert found_energy.entropy == pytest.approx(gas.get_entropy(400, 2e5, verbose=False), rel=1e-5)
        assert found_energy.gibbs == pytest.approx(gas.get_gibbs_energy(400, 2e5, verbose=False), rel=1e-5)


def test_a_linear_molecule_as_ases_ideal_gas():
    (one,), start, how = found(Atoms("NO", [[0, 0, 0], [0.3, 0.8, 0.9]]), Springs(), spin=0.5)
    assert len(one.frequency) == 1
    ours = free_energy(start, one, how)
    gas = IdealGasThermo(one.quanta, "linear", atoms=start.to_ase()[0], symmetrynumber=1, spin=0.5)
    assert ours.gibbs == pytest.approx(gas.get_gibbs_energy(298.15, 1e5, verbose=False), rel=1e-5)
    assert ours.symmetry_number == 1


def test_frequency_and_intensity_of_a_known_oscillator():
    k, q = 30.0, 0.4
    (one,), start, _ = found(Atoms("NO", [[0, 0, 0], [0, 0, 1.2]]), Springs(k, charges={7: q, 8: -q}))
    m = 14.007 * 15.999 / (14.007 + 15.999)
    wave = np.sqrt(k / m * ACCELERATION) / (2 * np.pi * 2.99792458e-5)
    assert one.frequency == pytest.approx([wave], rel=1e-4)
    assert one.intensity == pytest.approx([42.2561 * (q * 4.80320471) ** 2 / m], rel=1e-5)
    moment = dipoles(start, Springs(charges={7: q, 8: -q}), 100)
    assert moment.norm().item() == pytest.approx(1.2 * q, rel=1e-6)
    assert charges_of(Springs()) is None


def test_adsorbed_atoms_vibrate_alone():
    slab = fcc111("Cu", (2, 2, 3), vacuum=6.0)
    add_adsorbate(slab, "O", 1.2, "fcc")
    slab.pbc = (True, True, False)
    (one,), start, how = found(slab, held=range(12))
    assert one.frequency.shape == (3,)
    assert not one.free
    assert (one.modes[:, :12] == 0).all()
    ours = free_energy(start, one, how)
    theirs = HarmonicThermo(one.quanta)
    assert ours.gibbs == pytest.approx(theirs.get_helmholtz_energy(298.15, verbose=False), rel=1e-4)


def test_a_straight_trimer_bends():
    """Three Lennard-Jones atoms in a row stretch like a minimum and fall along both bends."""
    row = Atoms("Ar3", [[0, 0, 0], [2.8, 0.1, 0.3], [5.6, 0.2, 0.6]])
    (one,), _, _ = found(row, LennardJones(sigma=2.5, epsilon=0.1, cutoff=8.0), max_steps=500, displacement=1e-3)
    assert len(one.frequency) == 4
    assert (one.frequency[:2] < -1).all()
    assert one.frequency[0] == pytest.approx(one.frequency[1], rel=1e-3)
    assert (one.frequency[2:] > 10).all()


@pytest.mark.parametrize(
    ("name", "number"),
    [("H2O", 2), ("NH3", 3), ("CH4", 12), ("C6H6", 12), ("N2", 2), ("CO", 1), ("CH3CH2OH", 1), ("C2H4", 4), ("CO2", 2)],
)
def test_symmetry_numbers(name, number):
    assert find_symmetry_number(Structures.from_ase(molecule(name))) == number
