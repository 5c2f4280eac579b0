"""Relaxation: the minima of ASE's optimisers, batches like singles, and failures that are told."""

import dataclasses

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from ase.constraints import FixAtoms
from ase.filters import FrechetCellFilter
from ase.optimize import BFGS

from rutile.core.errors import ElementError, GeometryError
from rutile.core.reporting import SilentReporter
from rutile.core.units import GPA
from rutile.potentials.calculator import RutileCalculator
from rutile.potentials.evaluate import evaluate
from rutile.potentials.lennard_jones import LennardJones
from rutile.simulate.lbfgs import LbfgsSteps
from rutile.simulate.relax import relax
from rutile.simulate.settings import RelaxSettings
from rutile.simulate.steps import Layout
from rutile.structures.structures import Structures
from rutile.structures.symmetry import describe_crystal
from rutile.testing.toys import make_toy

LJ = LennardJones(sigma=2.6, epsilon=0.15, cutoff=5.5)
TIGHT = RelaxSettings(fmax=1e-4, smax=1e-3, max_steps=3000)


def rattled(seed, repeat=1, strain=0.03):
    atoms = bulk("Cu", "fcc", a=4.0, cubic=True).repeat((repeat, 1, 1))
    random = np.random.default_rng(seed)
    e = random.uniform(-strain, strain, (3, 3))
    atoms.set_cell(atoms.cell @ (np.eye(3) + e + e.T), scale_atoms=True)
    atoms.positions += random.normal(0, 0.08, atoms.positions.shape)
    return atoms


def run(atoms, potential=LJ, **changes):
    settings = RelaxSettings(**{**TIGHT.model_dump(), **changes})
    return relax(Structures.from_ase(atoms), potential, settings, SilentReporter())


@pytest.mark.slow
@pytest.mark.parametrize("pressure", [0.0, 5.0])
def test_the_same_minimum_as_ases_frechet_filter(pressure):
    atoms = rattled(0)
    ours = run(atoms, cell="full", pressure=pressure)
    atoms.calc = RutileCalculator([LJ])
    BFGS(FrechetCellFilter(atoms, scalar_pressure=pressure * GPA), logfile=None).run(fmax=1e-5, steps=500)
    assert ours.converged.all()
    enthalpy = ours.energy.item() + pressure * GPA * ours.structures.volume.item()
    theirs = atoms.get_potential_energy() + pressure * GPA * atoms.get_volume()
    assert enthalpy == pytest.approx(theirs, abs=1e-6)
    assert ours.structures.volume.item() == pytest.approx(atoms.get_volume(), rel=1e-4)
    assert ours.stress[0].diagonal().numpy() == pytest.approx([-pressure * GPA] * 3, abs=2e-3 * GPA)
    assert ours.start_energy.item() > ours.energy.item()


@pytest.mark.slow
def test_atoms_alone_as_with_bfgs():
    atoms = rattled(1)
    ours = run(atoms)
    assert torch.equal(ours.structures.cell[0], torch.tensor(atoms.cell.array))
    atoms.calc = RutileCalculator([LJ])
    BFGS(atoms, logfile=None).run(fmax=1e-5)
    assert ours.converged.all()
    assert ours.energy.item() == pytest.approx(atoms.get_potential_energy(), abs=1e-7)


def test_a_cluster():
    atoms = Atoms("Cu4", [[0, 0, 0], [2.5, 0, 0], [0.9, 2.7, 0.1], [1.0, 0.9, 2.6]])
    ours = run(atoms)
    assert ours.converged.all()
    d = np.linalg.norm(ours.structures.positions.numpy()[:, None] - ours.structures.positions.numpy(), axis=-1)
    assert np.ptp(d[np.triu_indices(4, 1)]) < 1e-3  # the tetrahedron
    assert (ours.stress == 0).all()


def test_isotropic_keeps_the_shape_and_volume_keeps_the_volume():
    atoms = rattled(2)
    before = atoms.cell.cellpar()
    iso = run(atoms, cell="isotropic")
    after = iso.structures.to_ase()[0].cell.cellpar()
    assert iso.converged.all()
    np.testing.assert_allclose(after[3:], before[3:], rtol=1e-9)
    np.testing.assert_allclose(after[:3] / before[:3], after[0] / before[0], rtol=1e-9)
    assert abs(after[0] / before[0] - 1) > 1e-3
    assert iso.stress[0].trace().abs() < 3e-3 * GPA * 3
    assert iso.stress[0].abs().max() > 0.01 * GPA
    shape = run(atoms, cell="volume")
    assert shape.converged.all()
    assert shape.structures.volume.item() == pytest.approx(atoms.get_volume(), rel=1e-9)
    hydrostatic = shape.stress[0].trace() / 3 * torch.eye(3)
    assert (shape.stress[0] - hydrostatic).abs().max() < 2e-3 * GPA
    assert hydrostatic[0, 0].abs() > 0.01 * GPA


@pytest.mark.slow
def test_batch_equals_singles_and_order_is_kept():
    batch = [rattled(3), bulk("Cu", a=3.9), rattled(4, repeat=2), rattled(5)]
    together = run(batch, cell="full", atoms_at_once=9)
    start = 0
    for s, atoms in enumerate(batch):
        alone = run(atoms, cell="full")
        assert together.steps[s] == alone.steps[0]
        torch.testing.assert_close(together.energy[s], alone.energy[0], rtol=0, atol=1e-9)
        torch.testing.assert_close(together.structures.cell[s], alone.structures.cell[0], rtol=0, atol=1e-7)
        atoms_here = slice(start, start + len(atoms))
        torch.testing.assert_close(together.forces[atoms_here], alone.forces, rtol=0, atol=1e-8)
        torch.testing.assert_close(together.structures.positions[atoms_here], alone.structures.positions)
        start += len(atoms)
    assert len(set(together.steps.tolist())) > 1


def test_what_is_reported_belongs_to_the_final_structures():
    result = run([rattled(6), rattled(7)], cell="full")
    again = evaluate(LJ, result.structures)
    torch.testing.assert_close(result.energy, again.energy)
    torch.testing.assert_close(result.forces, again.forces, rtol=0, atol=1e-9)
    torch.testing.assert_close(result.stress, again.stress, rtol=0, atol=1e-9)
    assert (result.fmax <= 1e-4).all()
    torch.testing.assert_close(result.fmax[0], result.forces[:4].norm(dim=1).max())


def test_a_relaxed_structure_stays():
    once = run(rattled(8), cell="full")
    twice = relax(once.structures, LJ, RelaxSettings(**{**TIGHT.model_dump(), "cell": "full"}), SilentReporter())
    assert twice.steps.item() == 0
    assert torch.equal(twice.structures.positions, once.structures.positions)


@pytest.mark.slow
def test_a_turned_start_relaxes_alike():
    atoms = rattled(9)
    turned = atoms.copy()
    turned.rotate(37, (1, 2, 3), rotate_cell=True)
    turned.translate([0.4, 5.0, -3.0])
    a, b = run(atoms, cell="full"), run(turned, cell="full")
    assert a.energy.item() == pytest.approx(b.energy.item(), abs=1e-7)


def test_out_of_steps_is_not_converged_and_not_failed():
    result = run(rattled(10), cell="full", max_steps=3)
    assert not result.converged.any()
    assert result.failure == ("",)
    assert result.steps.item() == 3
    single = run(rattled(10), max_steps=0)
    assert single.steps.item() == 0
    assert single.energy.item() == pytest.approx(single.start_energy.item())


def test_input_is_not_changed():
    given = Structures.from_ase(rattled(11))
    before = dataclasses.replace(given, positions=given.positions.clone(), cell=given.cell.clone())
    relax(given, LJ, RelaxSettings(cell="full", max_steps=5), SilentReporter())
    assert torch.equal(given.positions, before.positions)
    assert torch.equal(given.cell, before.cell)


class Hole(torch.nn.Module):
    """Attracts without limit: E_i = -sum exp(3 - r), switched off at the cutoff."""

    cutoff, elements = 4.0, ()

    def forward(self, graph):
        r = graph.vectors.norm(dim=1)
        pair = -torch.exp(3 - r) * (1 - (r / 4) ** 2).clamp(min=0) ** 3
        return torch.zeros(graph.n_atoms, dtype=r.dtype).index_add(0, graph.i, pair)


class Broken(torch.nn.Module):
    """Lennard-Jones until two atoms come nearer than 2.3 Å; then NaN for that structure."""

    cutoff, elements = LJ.cutoff, ()

    def forward(self, graph):
        r = graph.vectors.norm(dim=1)
        near = torch.zeros(graph.n_systems, dtype=r.dtype).index_add(0, graph.system[graph.i], (r < 2.3).to(r.dtype))
        return LJ(graph) + torch.where(near > 0, torch.nan, 0.0)[graph.system]


def test_a_hole_in_the_potential_is_a_failure_of_that_structure_alone():
    dimer, far = Atoms("Cu2", [[0, 0, 0], [2.0, 0, 0]]), Atoms("Cu2", [[0, 0, 0], [5.0, 0, 0]])
    result = run([dimer, far], Hole())
    assert "apart" in result.failure[0]
    assert not result.converged[0]
    assert result.converged[1]
    assert not result.failure[1]
    d = (result.structures.positions[1] - result.structures.positions[0]).norm().item()
    assert 0.5 <= d < 2.0  # where it was last sound


def test_a_collapsing_cell_is_a_failure():
    result = run(bulk("Cu", a=4.0), Hole(), cell="full", closest=1e-6)
    assert result.failure[0]
    assert not result.converged.any()


def test_a_bursting_cell_is_a_failure():
    result = run(bulk("Cu", a=4.0), cell="full", pressure=-50.0)
    assert "volume" in result.failure[0]
    assert not result.converged.any()


def test_nan_is_a_failure_of_that_structure_alone():
    squeezed, fine = bulk("Cu", a=3.1), bulk("Cu", a=3.9)
    result = run([squeezed, fine], Broken(), cell="full")
    assert "not finite at step 0" in result.failure[0]
    assert torch.isnan(result.energy[0])
    assert result.converged.tolist() == [False, True]
    alone = run(fine, Broken(), cell="full")
    assert result.energy[1].item() == pytest.approx(alone.energy.item(), abs=1e-12)


def test_refused_at_the_door():
    nan = rattled(0)
    nan.positions[0, 0] = np.nan
    with pytest.raises(GeometryError, match="structure 1: x of atom 0"):
        run([rattled(0), nan])
    with pytest.raises(GeometryError, match="structure 0 is not periodic"):
        run([Atoms("Cu2", [[0, 0, 0], [2.5, 0, 0]]), rattled(0)], cell="full")
    with pytest.raises(ElementError, match="Cu"):
        run(rattled(0), make_toy())


@pytest.mark.slow
def test_fixed_atoms_stay_and_their_forces_do_not_count():
    atoms = rattled(12, repeat=2)
    fixed = torch.arange(len(atoms)) < 3
    structures = Structures.from_ase([atoms, rattled(13)])
    both = torch.cat([fixed, torch.zeros(4, dtype=torch.bool)])
    result = relax(structures, LJ, TIGHT, SilentReporter(), both)
    assert result.converged.all()
    assert torch.equal(result.structures.positions[both], structures.positions[both])
    assert result.forces[both].norm(dim=1).min() > 0.01
    atoms.set_constraint(FixAtoms(range(3)))
    atoms.calc = RutileCalculator([LJ])
    BFGS(atoms, logfile=None).run(fmax=1e-5)
    assert result.energy[0].item() == pytest.approx(atoms.get_potential_energy(), abs=1e-6)
    with pytest.raises(ValueError, match="fixed"):
        relax(structures, LJ, TIGHT, SilentReporter(), both[1:])


def test_fixed_atoms_follow_the_cell():
    atoms = rattled(14)
    structures = Structures.from_ase(atoms)
    fixed = torch.tensor([True, True, False, False])
    settings = RelaxSettings(**{**TIGHT.model_dump(), "cell": "full"})
    result = relax(structures, LJ, settings, SilentReporter(), fixed)
    assert result.converged.all()
    after = result.structures.to_ase()[0].get_scaled_positions()[:2]
    np.testing.assert_allclose(after, atoms.get_scaled_positions()[:2], atol=1e-9)


def test_nothing_to_do():
    result = relax(Structures.from_ase([]), LJ, RelaxSettings(), SilentReporter())
    assert len(result.energy) == 0


def test_single_precision_potential():
    """The path is kept in float64 around a float32 potential."""
    toy = make_toy().float()
    from rutile.testing.strategies import random_crystal

    result = relax(random_crystal(0), toy, RelaxSettings(fmax=0.05), SilentReporter())
    assert result.structures.positions.dtype == torch.float64
    assert result.energy.dtype == torch.float64


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["fire", "lbfgs"])
def test_each_optimizer_finds_the_minimum_and_its_batch_equals_singles(optimizer):
    how = {"cell": "full", "optimizer": {"name": optimizer}}
    batch = [rattled(20), bulk("Cu", a=3.9), rattled(21)]
    together = run(batch, **how, atoms_at_once=6)
    assert together.converged.all()
    for s, atoms in enumerate(batch):
        alone = run(atoms, **how)
        assert together.steps[s] == alone.steps[0]
        assert together.energy[s].item() == pytest.approx(alone.energy.item(), abs=1e-9)
    perfect = run(bulk("Cu", a=3.9), cell="full")
    assert (together.energy[0] / 4).item() == pytest.approx(perfect.energy.item(), abs=1e-6)


@pytest.mark.slow
def test_lbfgs_needs_fewer_steps():
    batch = [rattled(seed) for seed in range(30, 34)]
    lbfgs, fire = (run(batch, cell="full", optimizer={"name": name}) for name in ("lbfgs", "fire"))
    assert lbfgs.converged.all()
    assert fire.converged.all()
    assert lbfgs.steps.double().mean() < 0.5 * fire.steps.double().mean()
    torch.testing.assert_close(lbfgs.energy, fire.energy, rtol=0, atol=1e-6)


def test_lbfgs_is_the_recursion_of_two_loops():
    random = torch.Generator().manual_seed(0)
    layout = Layout(torch.zeros(7, dtype=torch.long), 4, torch.full((1,), 1e6).double(), 1e6)
    steps = LbfgsSteps(3)
    half = torch.randn(21, 21, generator=random).double()
    hessian = half @ half.T / 21 + torch.eye(21)
    x, memory, pairs, last = torch.randn(7, 3, generator=random).double(), steps.begin(7, 1), [], None
    for _ in range(6):
        force = -(hessian @ x.flatten()).reshape(7, 3)
        move, memory = steps.step(force, layout, memory)
        if last is not None:
            pairs = [*pairs, (last[0], last[1] - force.flatten())][-3:]
            assert torch.allclose(move.flatten(), two_loops(pairs, force.flatten()), atol=1e-10)
        last = (move.flatten(), force.flatten())
        x = x + move


def two_loops(pairs, force):
    """H F by Nocedal's recursion."""
    q, alphas = force.clone(), []
    for s, y in reversed(pairs):
        alphas.append((s @ q) / (s @ y))
        q -= alphas[-1] * y
    s, y = pairs[-1]
    q *= (s @ y) / (y @ y)
    for (s, y), alpha in zip(pairs, reversed(alphas), strict=True):
        q += s * (alpha - (y @ q) / (s @ y))
    return q


class Steps(torch.nn.Module):
    """Lennard-Jones with a saw-tooth on top: forces that do not belong to the energy nearby, and jump."""

    cutoff, elements = LJ.cutoff, ()

    def forward(self, graph):
        r = graph.vectors.norm(dim=1)
        tooth = 0.02 * torch.remainder(r, 0.02)
        return LJ(graph) + torch.zeros(graph.n_atoms, dtype=r.dtype).index_add(0, graph.i, tooth)


def test_a_structure_that_is_led_uphill_goes_on_with_fire():
    result = run(rattled(40), Steps(), max_steps=300, fmax=0.02)
    begin = evaluate(Steps(), Structures.from_ase(rattled(40)))
    assert not result.failure[0]
    assert result.energy.item() < begin.energy.item()
    far = Layout(torch.zeros(4, dtype=torch.long), 1, torch.ones(1).double(), 0.2)
    steps = LbfgsSteps(4)
    memory = steps.begin(4, 1)
    force = torch.zeros(4, 3).double()
    for k in range(30):  # a force that turns round at every step
        force[0, 0] = 5.0 * (-1.0) ** k * (1 + 0.1 * k)
        move, memory = steps.step(force, far, memory)
        assert move.norm() <= 0.2 + 1e-12
    assert memory.systems["uphill"].item() > 3
    assert memory.rows["velocity"].norm() > 0


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["isotropic", "volume"])
def test_parts_of_the_cell_move_as_with_ase(mode):
    atoms = rattled(50)
    ours = run(atoms, cell=mode, fmax=1e-4)
    atoms.calc = RutileCalculator([LJ])
    how = {"hydrostatic_strain": True} if mode == "isotropic" else {"constant_volume": True}
    BFGS(FrechetCellFilter(atoms, **how), logfile=None).run(fmax=1e-5, steps=1000)
    assert ours.converged.all()
    assert ours.energy.item() == pytest.approx(atoms.get_potential_energy(), abs=2e-6)
    np.testing.assert_allclose(ours.structures.to_ase()[0].cell.cellpar(), atoms.cell.cellpar(), rtol=3e-4)


def test_a_kept_symmetry_is_there_at_the_end():
    atoms = bulk("Cu", "fcc", a=3.7, cubic=True)
    atoms.set_cell(atoms.cell.array * [1.05, 1.05, 1.0], scale_atoms=True)  # tetragonal
    atoms.set_cell(
        atoms.cell.array @ (np.eye(3) + 0.05 * np.array([[0, 1, 0], [1, 0, 0], [0, 0, 0]])), scale_atoms=True
    )
    near = atoms.copy()
    near.positions += np.random.default_rng(0).normal(0, 1e-3, near.positions.shape)
    before = describe_crystal(near, 0.02)
    kept = run(near, cell="full", keep_symmetry=True)
    assert kept.converged.all()
    after = kept.structures.to_ase()[0]
    sharp = describe_crystal(after, 1e-4)
    assert sharp.number >= before.number  # a supergroup where the minimum has one


@pytest.mark.slow
def test_a_kept_symmetry_holds_where_less_symmetry_has_less_energy():
    """bcc and simple cubic Lennard-Jones crystals are saddles: rattled by rounding alone they stay, rattled they go."""
    atoms = bulk("Cu", "sc", a=2.6).repeat(2)
    atoms.positions += np.random.default_rng(1).normal(0, 2e-3, atoms.positions.shape)
    kept, free = (run(atoms, cell="full", keep_symmetry=keep) for keep in (True, False))
    assert kept.converged.all()
    assert describe_crystal(kept.structures.to_ase()[0], 1e-5).number == 221
    assert describe_crystal(free.structures.to_ase()[0], 1e-2).number != 221
    assert free.energy.item() < kept.energy.item() - 0.1


def test_kept_symmetry_with_fixed_atoms_and_in_company():
    atoms = bulk("Cu", "sc", a=2.5).repeat((2, 2, 1))
    batch = Structures.from_ase([atoms, rattled(51), bulk("Cu", "bcc", a=2.9)])
    fixed = torch.zeros(batch.n_atoms, dtype=torch.bool)
    fixed[0] = True
    how = RelaxSettings(**{**TIGHT.model_dump(), "cell": "full", "keep_symmetry": True, "atoms_at_once": 6})
    result = relax(batch, LJ, how, SilentReporter(), fixed)
    assert result.converged.all()
    for k, number in ((0, 221), (2, 229)):
        assert describe_crystal(result.structures.to_ase()[k], 1e-4).number == number
    with pytest.raises(GeometryError, match="keep_symmetry=false"):
        run(Atoms("Cu2", [[0, 0, 0], [2.5, 0, 0]]), keep_symmetry=True)


class Short(torch.nn.Module):
    """Lennard-Jones on a machine that has memory for few atoms."""

    cutoff, elements = LJ.cutoff, ()

    def __init__(self, most):
        super().__init__()
        self.most, self.largest = most, 0

    def forward(self, graph):
        if graph.n_atoms > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        self.largest = max(self.largest, graph.n_atoms)
        return LJ(graph)


@pytest.mark.slow
def test_where_memory_runs_out_batches_are_halved():
    batch = [rattled(seed) for seed in range(60, 66)]
    short = Short(9)
    result = run(batch, short, cell="full")
    assert short.largest == 8
    assert result.converged.all()
    enough = run(batch, cell="full")
    torch.testing.assert_close(result.energy, enough.energy, rtol=0, atol=1e-9)


def test_one_structure_too_large_for_memory_fails_alone():
    result = run([rattled(70), rattled(71, repeat=2), rattled(72)], Short(6), cell="full")
    assert result.converged.tolist() == [True, False, True]
    assert "too little memory" in result.failure[1]


@pytest.mark.slow
def test_batches_by_neighbours(monkeypatch):
    import rutile.simulate.room as room

    batch = [rattled(seed) for seed in range(80, 84)]
    seen = Short(10**6)
    monkeypatch.setattr(room, "ON_PROCESSOR", 1)
    alone = run(batch, seen)
    assert seen.largest == 4  # at least one
    monkeypatch.setattr(room, "ON_PROCESSOR", 10**6)
    together = run(batch, seen)
    assert seen.largest == 16
    torch.testing.assert_close(alone.energy, together.energy, rtol=0, atol=1e-9)
