"""Bands, dimers and second derivatives against ASE, published cases and exact ones."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import add_adsorbate, fcc100
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms
from ase.data import atomic_masses
from ase.mep import NEB

from rutile.core.errors import ElementError, GeometryError
from rutile.core.reporting import SilentReporter
from rutile.core.units import ACCELERATION
from rutile.potentials.emt import Emt
from rutile.potentials.evaluate import evaluate
from rutile.potentials.lennard_jones import LennardJones
from rutile.simulate.chain import Chain
from rutile.simulate.dimer import find_saddles
from rutile.simulate.guess import first_guess
from rutile.simulate.hessian import hessian, wave_numbers
from rutile.simulate.neb import neb
from rutile.simulate.relax import relax
from rutile.simulate.settings import NebSettings, RelaxSettings, SaddleSettings
from rutile.structures.structures import Structures, concatenate

QUIET = SilentReporter()
REFERENCE = Path(__file__).parents[3] / "shared/spec/apps_emt_reference.json"


@pytest.fixture(scope="module")
def hop():
    """Gold on aluminium, from hollow to hollow: both ends relaxed, and the atoms that stay."""
    slab = fcc100("Al", size=(2, 2, 3))
    add_adsorbate(slab, "Au", 1.7, "hollow")
    slab.center(axis=2, vacuum=4.0)
    other = slab.copy()
    other.positions[-1, 0] += other.cell[0, 0] / 2
    fixed = torch.tensor([a.tag > 1 for a in slab])
    ends = relax(Structures.from_ase([slab, other]), Emt(), RelaxSettings(fmax=0.002), QUIET, fixed.repeat(2))
    assert bool(ends.converged.all())
    return *ends.structures.split(), fixed


@pytest.mark.slow
def test_gold_hops_over_the_bridge(hop):
    start, end, fixed = hop
    (band,) = neb([first_guess(start, end, 5, fixed=fixed)], Emt(), NebSettings(images=5, fmax=0.01), QUIET, [fixed])
    assert band.converged
    assert band.top == 3
    expected = 0.3744
    if REFERENCE.exists():
        expected = json.loads(REFERENCE.read_text())["values"]["NEB_Au_on_Al100"]["barrier_eV"]
    assert band.barrier == pytest.approx(expected, abs=1e-3)
    assert band.reverse_barrier == pytest.approx(band.barrier, abs=1e-4)
    assert band.reaction_energy == pytest.approx(0.0, abs=1e-4)
    held = band.images.positions.reshape(7, -1, 3)[:, fixed]
    assert torch.equal(held, held[:1].expand_as(held))
    x, y = band.curve()
    assert float(y.max() - y[0]) == pytest.approx(band.barrier, abs=2e-3)
    assert float(x[-1]) == pytest.approx(float(band.coordinate[-1]))
    saddle = band.images.split()[band.top]
    waves, _ = wave_numbers(hessian(saddle, Emt(), QUIET, fixed), saddle.numbers[~fixed])
    assert int((waves < -5).sum()) == 1


def test_forces_of_the_band_are_those_of_ase(hop):
    start, end, fixed = hop
    path = first_guess(start, end, 4, "linear", fixed)
    rng = np.random.default_rng(0)
    noise = torch.tensor(0.05 * rng.normal(size=path.positions.shape))
    noise[: start.n_atoms] = noise[-start.n_atoms :] = 0.0
    noise[fixed.repeat(6)] = 0.0
    path = path.replace(positions=path.positions + noise)
    images = path.to_ase()
    for atoms in images:
        atoms.calc = EMT()
        atoms.set_constraint(FixAtoms(mask=fixed.numpy()))
    band = NEB(images, k=1.7, climb=True, method="improvedtangent")
    expected = band.get_forces().reshape(4, -1, 3)
    now = evaluate(Emt(fade=0.0), path)
    chain = Chain.of(path, torch.tensor([6]), moving_cell=False)
    force = torch.cat([now.forces * ~fixed.repeat(6)[:, None], torch.zeros(18, 3).double()])
    found = chain.nudged(force, chain.tangent(now.energy), 1.7, chain.highest(now.energy))
    found = found[: path.n_atoms].reshape(6, -1, 3)
    assert float(found[[0, 5]].abs().max()) == 0.0
    np.testing.assert_allclose(found[1:5, ~fixed].numpy(), expected[:, ~fixed.numpy()], atol=1e-8)


@pytest.mark.slow
def test_paths_move_the_same_alone_and_in_company(hop):
    start, end, fixed = hop
    along_x = first_guess(start, end, 3, fixed=fixed)
    pair = Structures.from_ase(
        [Atoms("Ar3", [(0, 0, 0), (3.8, 0, 0), (1.9, 3.3, 0)]), Atoms("Ar3", [(0, 0, 0), (3.8, 0, 0), (1.9, -3.3, 0)])]
    )
    how = NebSettings(images=3, fmax=0.02, climb=False)
    other = first_guess(end, start, 3, "linear", fixed)
    together = neb([along_x, other], Emt(), how, QUIET, [fixed, fixed])
    alone = neb([along_x], Emt(), how, QUIET, [fixed]) + neb([other], Emt(), how, QUIET, [fixed])
    for a, b in zip(together, alone, strict=True):
        assert a.steps == b.steps
        torch.testing.assert_close(a.images.positions, b.images.positions, rtol=0, atol=1e-9)
    flip = first_guess(*pair.split(), 3)
    assert float(flip.positions.reshape(5, 3, 3)[2].abs().max()) > 1.0  # the third atom steps around the pair
    turned = neb([flip], LennardJones(), NebSettings(images=3, fmax=0.005), QUIET)[0]
    assert turned.converged
    assert turned.barrier == pytest.approx(0.0103, rel=0.02)  # one of three bonds breaks


@pytest.mark.slow
def test_cells_change_along_the_path():
    a = 3.6 / math.sqrt(2)
    long, short = 3.6, a
    cells = [np.diag([short, short, long]), np.diag([long, short, short])]
    crystals = [
        Atoms("Cu2", scaled_positions=[(0, 0, 0), (0.5, 0.5, 0.5)], cell=cell, pbc=True) for cell in cells
    ]  # two settings of fcc, one stretched along z, one along x: between them bcc
    ends = relax(Structures.from_ase(crystals), Emt(), RelaxSettings(cell="full", fmax=1e-3, smax=0.01), QUIET)
    how = NebSettings(images=5, fmax=0.002, cell=True, max_move=0.05, climb_below=0.1)
    (band,) = neb([first_guess(*ends.structures.split(), 5)], Emt(), how, QUIET)
    assert band.converged
    saddle = band.images.split()[band.top]
    x, y, z = saddle.cell[0].norm(dim=1).tolist()
    assert x == pytest.approx(z, abs=1e-3)  # half way from one to the other
    # forces keep the symmetry of a start between both
    symmetric = Atoms("Cu2", scaled_positions=[(0, 0, 0), (0.5, 0.5, 0.5)], cell=[x, y, x], pbc=True)
    top = relax(Structures.from_ase([symmetric]), Emt(), RelaxSettings(cell="full", fmax=1e-4, smax=1e-3), QUIET)
    assert band.barrier == pytest.approx(float(top.energy[0] - ends.energy[0]), abs=1e-4)
    assert band.barrier > 0.01


@pytest.mark.slow
def test_dimers_climb_to_the_same_saddle(hop):
    start, end, fixed = hop
    barrier = neb([first_guess(start, end, 3, fixed=fixed)], Emt(), NebSettings(images=3, fmax=0.01), QUIET, [fixed])[0]
    rng = np.random.default_rng(3)
    directions = []
    for _ in range(2):
        d = torch.tensor(0.02 * rng.normal(size=(start.n_atoms, 3))) * ~fixed[:, None]
        d[-1] += torch.tensor([1.0, 0.0, 0.3]).double()
        directions.append(d / d.norm())
    begun = concatenate(start.replace(positions=start.positions + 0.3 * d) for d in directions)
    found = find_saddles(begun, torch.cat(directions), Emt(), SaddleSettings(), QUIET, fixed.repeat(2))
    assert bool(found.converged.all())
    assert bool((found.curvature < 0).all())
    e0 = float(barrier.energy[0])
    assert (found.energy - e0).tolist() == pytest.approx([barrier.barrier] * 2, abs=2e-3)
    d = found.direction[: start.n_atoms]
    saddle = found.structures.split()[0]
    step = 1e-3
    e = [
        float(evaluate(Emt(), saddle.replace(positions=saddle.positions + s * step * d)).energy[0]) for s in (-1, 0, 1)
    ]
    assert float(found.curvature[0]) == pytest.approx((e[0] - 2 * e[1] + e[2]) / step**2, abs=0.02)


def test_second_derivatives_of_a_pair_are_exact():
    sigma, epsilon = 3.4, 0.0103
    r = 2 ** (1 / 6) * sigma
    pair = Structures.from_ase([Atoms("Ar2", positions=[(0, 0, 0), (r, 0, 0)])])
    stiffness = 72 * epsilon / (2 ** (1 / 3) * sigma**2)
    second = hessian(pair, LennardJones(cutoff=60.0), QUIET, step=1e-3)
    expected = torch.zeros(6, 6).double()
    expected[0, 0] = expected[3, 3] = stiffness
    expected[0, 3] = expected[3, 0] = -stiffness
    torch.testing.assert_close(second, expected, rtol=0, atol=2e-5)
    waves, motions = wave_numbers(second, pair.numbers)
    omega = math.sqrt(2 * stiffness / atomic_masses[18] * ACCELERATION)  # 1/fs
    assert float(waves[-1]) == pytest.approx(omega / (2 * math.pi) / 2.99792458e-5, rel=1e-4)
    assert motions[-1].abs().flatten().tolist() == pytest.approx([math.sqrt(0.5), 0, 0, math.sqrt(0.5), 0, 0], abs=1e-4)
    held = hessian(pair, LennardJones(cutoff=60.0), QUIET, torch.tensor([True, False]), step=1e-3)
    assert held.shape == (3, 3)


def test_atoms_take_the_short_way_through_the_boundary():
    a = Structures.from_ase([Atoms("Cu2", scaled_positions=[(0, 0, 0), (0.9, 0.5, 0.5)], cell=[8] * 3, pbc=True)])
    b = Structures.from_ase([Atoms("Cu2", scaled_positions=[(0, 0, 0), (0.1, 0.5, 0.5)], cell=[8] * 3, pbc=True)])
    path = first_guess(a, b, 3, "linear").positions.reshape(5, 2, 3)
    assert path[:, 1, 0].tolist() == pytest.approx([7.2, 7.6, 8.0, 8.4, 8.8])
    slab = [s.replace(pbc=torch.tensor([[True, True, False]])) for s in (a, b)]
    assert first_guess(*slab, 1, "linear").positions[3, 0] == pytest.approx(8.0)


def test_turned_cells_are_turned_back():
    a = Structures.from_ase([Atoms("Cu", cell=[3, 4, 5], pbc=True), Atoms("Cu", cell=[3.3, 4, 5], pbc=True)])
    start, end = a.split()
    c, s = math.cos(0.3), math.sin(0.3)
    turn = torch.tensor([[c, s, 0], [-s, c, 0], [0, 0, 1]], dtype=torch.float64)
    path = first_guess(start, end.replace(cell=end.cell @ turn), 1)
    torch.testing.assert_close(path.cell[2], end.cell[0], rtol=0, atol=1e-12)
    torch.testing.assert_close(
        path.cell[1], torch.diag(torch.tensor([3.15, 4, 5], dtype=torch.float64)), rtol=0, atol=1e-12
    )


def test_what_is_no_path_is_refused(hop):
    start, end, fixed = hop
    with pytest.raises(GeometryError, match="the same structure"):
        first_guess(start, start, 3)
    with pytest.raises(GeometryError, match="atoms"):
        first_guess(start, end.select(torch.tensor([False])), 3)
    with pytest.raises(GeometryError, match="shall stay"):
        first_guess(start, end.replace(positions=end.positions + 0.5), 3, fixed=fixed)
    swapped = end.replace(numbers=end.numbers.flip(0))
    with pytest.raises(GeometryError, match="sort"):
        first_guess(start, swapped, 3)
    path = first_guess(start, end, 3, fixed=fixed)
    with pytest.raises(ElementError, match="Ti"):
        neb([path.replace(numbers=torch.full_like(path.numbers, 22))], Emt(), NebSettings(), QUIET)
    with pytest.raises(GeometryError, match="three directions"):
        neb([path], Emt(), NebSettings(cell=True), QUIET)
    crystal = Structures.from_ase([Atoms("Cu", cell=[2.6] * 3, pbc=True), Atoms("Cu", cell=[2.7] * 3, pbc=True)])
    with pytest.raises(GeometryError, match="cell=true"):
        neb([first_guess(*crystal.split(), 2)], Emt(), NebSettings(), QUIET)
    with pytest.raises(GeometryError, match="images"):
        neb([path.select(torch.tensor([True, False, False, False, True]))], Emt(), NebSettings(), QUIET)


@pytest.mark.slow
def test_a_band_with_atoms_on_each_other_fails_and_the_others_go_on(hop):
    start, end, fixed = hop
    good = first_guess(start, end, 3, fixed=fixed)
    positions = good.positions.clone()
    positions[start.n_atoms + 12] = positions[start.n_atoms + 11] + 0.2
    bad = good.replace(positions=positions)
    kept = []
    how = NebSettings(fmax=0.05, keep_every=5)
    found = neb([bad, good], Emt(), how, QUIET, [fixed, fixed], lambda k, images: kept.append((k, images.n_systems)))
    assert "apart at step 0" in found[0].failure
    assert found[1].converged
    assert set(kept) == {(1, 5)}
    short = neb([good], Emt(), NebSettings(fmax=1e-6, max_steps=3), QUIET, [fixed])[0]
    assert not short.converged
    assert not short.failure
    assert short.steps == 3
