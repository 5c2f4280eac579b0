"""Grain boundaries: the reference of the 38-atom Sigma 5 cell, the height of cells, refusals."""

import json
from pathlib import Path

import pytest
import torch
from ase.build import bulk

from rutile.core.errors import SettingsError
from rutile.core.reporting import SilentReporter
from rutile.core.units import GPA
from rutile.potentials.emt import Emt
from rutile.potentials.evaluate import evaluate
from rutile.simulate.boundaries import boundary_energies, relax_height
from rutile.simulate.settings import BoundaryEnergySettings
from rutile.simulate.start import settled
from rutile.structures.structures import Structures

REFERENCE = json.loads((Path(__file__).parent / "apps_emt_reference.json").read_text())["values"]
QUIET = SilentReporter()


@pytest.mark.slow
def test_sigma_five_of_aluminium_and_copper_as_in_the_reference():
    how = BoundaryEnergySettings(axes=((1, 0, 0),), planes=((0, -2, 1),), merge=0.6, shifts=(5, 2))
    start, _ = settled(Structures.from_ase([bulk("Al"), bulk("Cu", cubic=True)]), Emt(), how, QUIET)
    found = boundary_energies(start, Emt(), how, QUIET)
    assert len(found) == 2
    for one, name in zip(found, ("Al", "Cu"), strict=True):
        assert one.boundary.sigma == 5
        assert one.starts[0].atoms == one.best.n_atoms == REFERENCE[name]["GB_sigma5_210_001"]["n_atoms"] == 38
        assert not one.starts[0].failure
        energy = one.energy * 0.1 / GPA
        assert energy == pytest.approx(REFERENCE[name]["GB_sigma5_210_001"]["energy_J_m2"], rel=5e-3)
        assert [s.energy for s in one.starts] == sorted(s.energy for s in one.starts)
        p = evaluate(Emt(), one.best)
        assert abs(p.stress[0, 2, 2].item()) < how.smax * GPA
        assert p.forces.norm(dim=1).max() < how.fmax


@pytest.mark.slow
def test_twists_have_positive_energy():
    how = BoundaryEnergySettings(kind="twist", sigma=5, shifts=(2, 2), thickness=5.0)
    start, _ = settled(Structures.from_ase(bulk("Cu")), Emt(), how, QUIET)
    (one,) = boundary_energies(start, Emt(), how, QUIET)
    assert "twist" in one.boundary.name
    assert 0.1 < one.energy * 0.1 / GPA < 2


def test_cells_find_their_height():
    given = bulk("Cu", a=3.59, cubic=True)
    given.set_cell(given.cell.array * [[1, 1, 1], [1, 1, 1], [1, 1, 1.04]], scale_atoms=True)
    batch = Structures.from_ase([given, bulk("Cu", a=3.59, cubic=True)])
    end, energy, why = relax_height(batch, Emt(), BoundaryEnergySettings(smax=0.01), QUIET)
    assert why == ["", ""]
    assert end.cell[0, 2, 2].item() == pytest.approx(3.5898, abs=1e-3)
    assert torch.equal(end.cell[:, :2], batch.cell[:, :2])
    assert energy[0].item() == pytest.approx(energy[1].item(), abs=1e-5)
    _, _, late = relax_height(batch, Emt(), BoundaryEnergySettings(smax=1e-6, rounds=1), QUIET)
    assert "after 1 rounds" in late[0]


def test_what_has_no_boundary_is_refused():
    hcp = Structures.from_ase(bulk("Ti", "hcp", a=2.9, c=4.7))
    with pytest.raises(SettingsError, match="is not cubic"):
        boundary_energies(hcp, Emt(), BoundaryEnergySettings(), QUIET)
    cubic = Structures.from_ase(bulk("Cu"))
    with pytest.raises(SettingsError, match="a plane must hold the axis"):
        boundary_energies(cubic, Emt(), BoundaryEnergySettings(axes=((0, 0, 1),), planes=((0, 1, 2),)), QUIET)
