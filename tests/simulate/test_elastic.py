"""Elastic tensors: reference numbers, internal coordinates, symmetry, stability and averages."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from ase.build import bulk, make_supercell
from scipy.spatial.transform import Rotation

from rutile.core.reporting import SilentReporter
from rutile.core.units import GPA
from rutile.potentials.emt import Emt
from rutile.potentials.lennard_jones import LennardJones
from rutile.simulate.elastic import elastic_tensor, polycrystal, rotations, sound, stability, young_along
from rutile.simulate.eos import equation_of_state
from rutile.simulate.settings import ElasticSettings, EosSettings
from rutile.simulate.start import settled
from rutile.structures.structures import Structures

REFERENCE = json.loads((Path(__file__).parent / "apps_emt_reference.json").read_text())["values"]
QUIET = SilentReporter()


def found(atoms, potential=None, **settings):
    how = ElasticSettings(**settings)
    start, _ = settled(Structures.from_ase(atoms), potential or Emt(), how, QUIET)
    return elastic_tensor(start, potential or Emt(), how, QUIET), start


@pytest.mark.slow
def test_copper_and_aluminium_as_in_the_reference():
    result, start = found([bulk("Cu", cubic=True), bulk("Al", cubic=True)], smax=1e-3)
    for tensor, name in zip(result.tensor / GPA, ("Cu", "Al"), strict=True):
        c = REFERENCE[name]["elastic_GPa"]
        assert tensor[0, 0].item() == pytest.approx(c["C11"], rel=2e-3)
        assert tensor[0, 1].item() == pytest.approx(c["C12"], rel=2e-3)
        assert tensor[3, 3].item() == pytest.approx(c["C44"], rel=2e-3)
    assert result.failure == ("", "")
    eos = equation_of_state(start, Emt(), EosSettings(inner="none", span=0.02), QUIET)
    for tensor, fit in zip(result.tensor, eos.fit, strict=True):
        assert (tensor[0, 0] + 2 * tensor[0, 1]).item() / 3 == pytest.approx(fit.bulk, rel=0.01)


@pytest.mark.slow
def test_tensors_turn_with_the_crystal_and_do_not_depend_on_the_cell():
    primitive, _ = found(bulk("Cu"), symmetry=False)
    turned = bulk("Cu", cubic=True)
    r = Rotation.from_rotvec([0.3, -0.2, 0.5]).as_matrix()
    turned.set_cell(turned.cell.array @ r.T, scale_atoms=True)
    result, _ = found(turned)
    place = np.array([[0, 5, 4], [5, 1, 3], [4, 3, 2]])
    full = primitive.tensor[0].numpy()[place[:, :, None, None], place[None, None]]
    full = np.einsum("ai,bj,ck,dl,ijkl->abcd", r, r, r, r, full)
    voigt = [(0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1)]
    expected = np.array([[full[a, b, c, d] for c, d in voigt] for a, b in voigt])
    np.testing.assert_allclose(result.tensor[0].numpy() / GPA, expected / GPA, atol=0.15)
    torch.testing.assert_close(stability(result.tensor), stability(primitive.tensor), rtol=2e-3, atol=1e-5)


@pytest.mark.slow
def test_internal_coordinates_soften_and_keep_the_symmetry():
    """In hcp the two atoms shift against each other under strain in the basal plane."""
    atoms = bulk("Cu", "hcp", a=2.55, c=4.17)
    relaxed, _ = found(atoms, symmetry=False)
    clamped, _ = found(atoms, inner="none", symmetry=False)
    c, k = relaxed.tensor[0] / GPA, clamped.tensor[0] / GPA
    assert c[0, 0] < k[0, 0] - 1
    assert c[2, 2].item() == pytest.approx(k[2, 2].item(), abs=0.2)
    assert c[5, 5].item() == pytest.approx(0.5 * (c[0, 0] - c[0, 1]).item(), abs=0.3)
    assert (stability(k) > stability(c) - 0.1).all()
    averaged, _ = found(atoms)
    torch.testing.assert_close(averaged.tensor[0] / GPA, c, atol=0.3, rtol=0)
    assert (relaxed.raw - relaxed.raw.mT).abs().max() / GPA < 0.3


def test_born_catches_a_crystal_that_shears_away():
    """Simple cubic Lennard-Jones: a minimum by volume and by symmetry, without resistance to shear."""
    potential = LennardJones(sigma=2.5, epsilon=0.2, cutoff=5.0)
    simple = bulk("Cu", "sc", a=2.7)
    result, _ = found(simple, potential, inner="none")
    assert stability(result.tensor)[0, 0] < 0
    fine, _ = found(bulk("Cu", "fcc", a=3.7), potential)
    assert stability(fine.tensor)[0, 0] > 0


def test_averages_of_an_isotropic_solid_and_of_copper():
    lame, mu = 0.4, 0.3
    c = torch.zeros(6, 6).double()
    c[:3, :3] = lame
    c += torch.diag(torch.tensor([2 * mu] * 3 + [mu] * 3).double())
    mean = polycrystal(c)
    assert mean.bulk_voigt == pytest.approx(lame + 2 / 3 * mu)
    assert mean.bulk_reuss == pytest.approx(mean.bulk_voigt)
    assert mean.shear_voigt == pytest.approx(mu)
    assert mean.shear_reuss == pytest.approx(mu)
    assert mean.anisotropy == pytest.approx(0, abs=1e-12)
    assert mean.poisson == pytest.approx(lame / (2 * (lame + mu)))
    c = torch.zeros(6, 6).double()  # copper, GPa: C11 168.4, C12 121.4, C44 75.4
    c[:3, :3] = 121.4
    c += torch.diag(torch.tensor([47.0] * 3 + [75.4] * 3).double())
    mean = polycrystal(c)
    assert mean.shear_voigt == pytest.approx((168.4 - 121.4 + 3 * 75.4) / 5)
    assert mean.shear_reuss == pytest.approx(5 * 47 * 75.4 / (4 * 75.4 + 3 * 47))
    assert mean.shear_reuss < mean.shear < mean.shear_voigt


def test_debye_temperature_of_measured_copper():
    c = torch.zeros(6, 6).double()
    c[:3, :3] = 121.4 * GPA
    c += torch.diag(torch.tensor([47.0] * 3 + [75.4] * 3).double() * GPA)
    along, across, debye = sound(polycrystal(c), Structures.from_ase(bulk("Cu", a=3.615)))
    assert along == pytest.approx(4.76, abs=0.05)  # km/s
    assert across == pytest.approx(2.3, abs=0.06)
    assert 325 < debye < 345  # measured at 0 K: 343 K


def test_the_point_group_of_a_supercell_is_that_of_the_crystal():
    cell = make_supercell(bulk("Cu", cubic=True), np.diag([2, 1, 1]))
    turn = rotations(Structures.from_ase(bulk("Cu")))
    assert len(turn) == 48
    np.testing.assert_allclose(turn @ turn.transpose(0, 2, 1), np.broadcast_to(np.eye(3), turn.shape), atol=1e-10)
    assert len(rotations(Structures.from_ase(cell))) == 16  # those that keep the larger lattice


def test_young_modulus_of_a_crystal_pulled_along_its_edge_face_and_body_diagonal():
    """Of measured copper: 67, 130 and 191 GPa; and the same of the crystal turned with the directions."""
    c11, c12, c44 = 168.4, 121.4, 75.4
    tensor = torch.diag(torch.tensor([c11 - c12] * 3 + [c44] * 3, dtype=torch.float64))
    tensor[:3, :3] += c12
    along = torch.tensor([[1.0, 0, 0], [1, 1, 0], [1, 1, 1]], dtype=torch.float64)
    found = young_along(tensor, along / along.norm(dim=1, keepdim=True))
    s = torch.linalg.inv(tensor)
    weight = torch.tensor([0, 1 / 4, 1 / 3], dtype=torch.float64)  # of l^2 m^2 + m^2 n^2 + n^2 l^2
    expected = 1 / (s[0, 0] - 2 * (s[0, 0] - s[0, 1] - s[3, 3] / 2) * weight)
    assert found == pytest.approx(expected, rel=1e-12)
    assert found == pytest.approx([66.7, 130.3, 191.1], abs=0.3)
