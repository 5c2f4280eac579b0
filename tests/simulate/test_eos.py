"""Equations of state: reference numbers, ASE's fit, and what has none."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from ase.build import bulk
from ase.eos import EquationOfState

from rutile.core.errors import GeometryError
from rutile.core.reporting import SilentReporter
from rutile.core.units import GPA
from rutile.potentials.emt import Emt
from rutile.simulate.birch_murnaghan import BirchMurnaghan, fit_birch_murnaghan
from rutile.simulate.eos import equation_of_state
from rutile.simulate.settings import EosSettings
from rutile.simulate.start import settled
from rutile.structures.structures import Structures

REFERENCE = json.loads((Path(__file__).parent / "apps_emt_reference.json").read_text())["values"]
QUIET = SilentReporter()


def found(atoms, potential=None, **settings):
    how = EosSettings(**settings)
    start, why = settled(Structures.from_ase(atoms), potential or Emt(), how, QUIET)
    assert not any(why)
    return equation_of_state(start, potential or Emt(), how, QUIET), start


def test_copper_and_aluminium_as_in_the_reference():
    result, start = found([bulk("Cu", cubic=True), bulk("Al")])
    for fit, one, name in zip(result.fit, start.split(), ("Cu", "Al"), strict=True):
        expected = REFERENCE[name]["EOS_birch_murnaghan"]
        assert fit.volume / one.n_atoms == pytest.approx(expected["V0_A3"], rel=2e-4)
        assert fit.bulk / GPA == pytest.approx(expected["B_GPa"], rel=2e-3)
        assert fit.energy / one.n_atoms == pytest.approx(REFERENCE[name]["energy_eV_per_atom"], abs=1e-4)
    lattice = float(start.cell[0, 0, 0])
    assert lattice == pytest.approx(REFERENCE["Cu"]["a0_A"], abs=1e-4)
    assert result.failure == ("", "")


def test_the_fit_is_that_of_ase():
    result, _ = found(bulk("Cu"), inner="none", span=0.08, points=11)
    volume, energy = result.volume[0].numpy(), result.energy[0].numpy()
    v0, e0, b = EquationOfState(volume, energy, eos="birchmurnaghan").fit()
    fit = result.fit[0]
    assert (fit.volume, fit.energy, fit.bulk) == pytest.approx((v0, e0, b), rel=1e-5)
    assert fit.residual == pytest.approx(np.sqrt(np.mean((fit.energy_at(volume) - energy) ** 2)), rel=1e-6)


def test_a_known_equation_is_found_again():
    known = BirchMurnaghan(volume=40.0, energy=-7.0, bulk=1.2, slope=5.5)
    volume = np.linspace(36, 45, 6)
    fit = fit_birch_murnaghan(volume, known.energy_at(volume))
    assert (fit.volume, fit.energy, fit.bulk, fit.slope) == pytest.approx((40.0, -7.0, 1.2, 5.5), rel=1e-9)
    h = 1e-3
    curvature = (known.energy_at(40 + h) + known.energy_at(40 - h) - 2 * known.energy) / h**2
    assert 40 * curvature == pytest.approx(1.2, rel=1e-5)


def test_pressure_is_minus_the_slope_of_the_energy():
    result, _ = found(bulk("Cu"), inner="none", points=41)
    slope = np.gradient(result.energy[0].numpy(), result.volume[0].numpy(), edge_order=2)
    np.testing.assert_allclose(result.pressure[0].numpy()[2:-2], -slope[2:-2], atol=2e-4)


@pytest.mark.slow
def test_relaxing_the_shape_lowers_the_energy_of_an_anisotropic_crystal():
    atoms = bulk("Cu", "hcp", a=2.55, c=4.3)
    by_shape, _ = found(atoms, relax=False, inner="shape", span=0.1)
    scaled, _ = found(atoms, relax=False, inner="none", span=0.1)
    assert (by_shape.energy <= scaled.energy + 1e-7).all()
    assert by_shape.energy[0, 0] < scaled.energy[0, 0] - 1e-5
    torch.testing.assert_close(by_shape.volume, scaled.volume, rtol=1e-4, atol=0)


def test_what_has_no_equation_says_why():
    pressed = bulk("Cu", a=3.2)
    result, _ = found(pressed, relax=False, inner="none", span=0.02)
    assert "outside the volumes" in result.failure[0] or "no minimum" in result.failure[0]
    with pytest.raises(GeometryError, match="no minimum"):
        fit_birch_murnaghan(np.linspace(9, 11, 7), -(np.linspace(-1, 1, 7) ** 2))
    open_ones = bulk("Cu")
    open_ones.pbc = (True, True, False)
    with pytest.raises(GeometryError, match="2 of 3 directions"):
        found(open_ones, relax=False)
