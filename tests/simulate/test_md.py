"""The loop of molecular dynamics: the same path as ASE, alone and in company, stopped and gone on."""

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from ase.md.verlet import VelocityVerlet

from rutile.core.errors import GeometryError, SettingsError
from rutile.core.units import ACCELERATION, GPA
from rutile.potentials.calculator import RutileCalculator
from rutile.potentials.lennard_jones import LennardJones
from rutile.simulate.md.loop import Dynamics
from rutile.simulate.md.settings import (
    CellRescaleSettings,
    CsvrSettings,
    LangevinSettings,
    MdSettings,
    NoseHooverSettings,
    NveSettings,
    ParrinelloRahmanSettings,
    WatchSettings,
)
from rutile.simulate.md.state import (
    State,
    by_system,
    degrees_of_freedom,
    kinetic_of,
    pressure_tensor,
    temperature,
    thermal_velocities,
)
from rutile.structures.structures import Structures, concatenate

LJ = LennardJones(sigma=2.6, epsilon=0.15, cutoff=4.5)
ENSEMBLES = [
    NveSettings(temperature=600),
    LangevinSettings(temperature=600, temperature_end=300),
    NoseHooverSettings(temperature=600),
    CsvrSettings(temperature=600),
    CellRescaleSettings(temperature=600, cell="full", pressure=1, pressure_end=2),
    ParrinelloRahmanSettings(temperature=600, cell="full", pressure=1),
]
NAMES = [e.name for e in ENSEMBLES]


def crystal(seed=0, symbols="Al", repeat=(2, 1, 1)):
    atoms = bulk("Cu", "fcc", a=4.1, cubic=True).repeat(repeat)
    atoms.symbols[::2] = symbols
    atoms.rattle(0.05, seed=seed)
    return atoms


def settings(ensemble, steps=20, timestep=2.0, **more):
    return MdSettings(ensemble=ensemble, time=steps * timestep / 1000, timestep=timestep, **more)


def last(dynamics, state):
    for moment in dynamics.run(state):
        assert not moment.stopped
        state = moment.state
    return state


def go(atoms, ensemble, potential=LJ, **more):
    dynamics = Dynamics([potential], settings(ensemble, **more))
    return last(dynamics, dynamics.begin(Structures.from_ase(atoms)))


@pytest.mark.slow
def test_the_same_path_as_ase_step_by_step():
    atoms = crystal(repeat=(2, 2, 1))
    dynamics = Dynamics([LJ], settings(NveSettings(temperature=900), steps=40))
    state = dynamics.begin(Structures.from_ase(atoms))
    unit = ACCELERATION**0.5  # of time in ASE, with our constants: theirs are of 2014
    atoms.set_velocities(state.velocities.numpy() / unit)
    atoms.calc = RutileCalculator([LJ])
    theirs = VelocityVerlet(atoms, timestep=2.0 * unit)
    for moment in dynamics.run(state):
        theirs.run(1)
        np.testing.assert_allclose(moment.state.structures.positions, atoms.positions, rtol=0, atol=1e-9)
        assert moment.state.energy.item() == pytest.approx(atoms.get_potential_energy(), abs=1e-9)
        assert kinetic_of(moment.state).item() == pytest.approx(atoms.get_kinetic_energy(), abs=1e-9)
    assert moment.state.step == 40


@pytest.mark.slow
@pytest.mark.parametrize("ensemble", ENSEMBLES, ids=NAMES)
def test_a_run_is_the_same_alone_and_in_company(ensemble):
    parts = [crystal(0), crystal(1, "Cu", (1, 1, 1)), crystal(2)]
    together = go(parts, ensemble)
    dynamics = Dynamics([LJ], settings(ensemble))
    state = dynamics.begin(Structures.from_ase(parts)).keep(torch.tensor([False, True, False]))
    alone = last(dynamics, state)
    mine = together.structures.system == 1
    torch.testing.assert_close(alone.structures.positions, together.structures.positions[mine], rtol=0, atol=1e-11)
    torch.testing.assert_close(alone.velocities, together.velocities[mine], rtol=0, atol=1e-12)
    torch.testing.assert_close(alone.structures.cell[0], together.structures.cell[1], rtol=0, atol=1e-11)


@pytest.mark.parametrize("ensemble", ENSEMBLES, ids=NAMES)
def test_a_run_that_goes_on_equals_one_that_was_not_interrupted(ensemble):
    how = settings(ensemble, steps=16)
    whole = Dynamics([LJ], how)
    state = whole.begin(Structures.from_ase([crystal(0), crystal(1)]))
    moments = list(whole.run(state))
    half = moments[6].state
    again = Dynamics([LJ], how)
    again.resume(half, whole.temperatures, whole.volume)
    stored = State.from_tensors({k: v.clone() for k, v in half.tensors().items()}, half.step)
    end, expected = last(again, stored), moments[-1].state
    assert end.step == expected.step == 16
    for name, value in expected.tensors().items():
        assert torch.equal(end.tensors()[name], value), name


def test_the_seed_changes_the_path_and_each_replica_has_its_own():
    one = go([crystal(), crystal()], LangevinSettings(), steps=4)
    again = go([crystal(), crystal()], LangevinSettings(), steps=4)
    other = go([crystal(), crystal()], LangevinSettings(), steps=4, seed=1)
    x, y = one.velocities.chunk(2)
    assert not torch.allclose(x, y)
    assert torch.equal(one.velocities, again.velocities)
    assert not torch.allclose(one.velocities, other.velocities)


@pytest.mark.slow
def test_time_reversal():
    dynamics = Dynamics([LJ], settings(NveSettings(temperature=900), steps=100))
    start = dynamics.begin(Structures.from_ase(crystal()))
    there = last(dynamics, start)
    back = last(dynamics, there.replace(velocities=-there.velocities, step=0))
    assert (there.structures.positions - start.structures.positions).norm(dim=1).max() > 0.1
    torch.testing.assert_close(back.structures.positions, start.structures.positions, rtol=0, atol=1e-9)


def scatter(ensemble, timestep, steps):
    dynamics = Dynamics([LJ], settings(ensemble, steps=steps, timestep=timestep))
    state = dynamics.begin(Structures.from_ase(crystal()))
    values = [dynamics.integrator.conserved(state, dynamics.targets(state)).item()]
    for moment in dynamics.run(state):
        value = dynamics.integrator.conserved(moment.state, dynamics.targets(moment.state))
        values += value.tolist()
    return np.std(values)


@pytest.mark.slow
@pytest.mark.parametrize(
    "ensemble",
    [
        NveSettings(temperature=600),
        NoseHooverSettings(temperature=600, thermostat_time=50),
        ParrinelloRahmanSettings(temperature=600, cell="full", thermostat_time=50, barostat_time=200),
    ],
    ids=["nve", "nose_hoover", "parrinello_rahman"],
)
def test_the_conserved_quantity_errs_with_the_square_of_the_step(ensemble):
    coarse, fine = scatter(ensemble, 4.0, 50), scatter(ensemble, 2.0, 100)
    assert 3.0 < coarse / fine < 5.5
    assert coarse > 1e-6


def test_degrees_of_freedom():
    atoms = [crystal(), molecule("H2O"), molecule("N2"), Atoms("Ar"), crystal()]
    s = Structures.from_ase(atoms)
    fixed = torch.zeros(s.n_atoms, dtype=torch.bool)
    fixed[-3:] = True
    assert degrees_of_freedom(s, fixed, still=True).tolist() == [21, 3, 1, 0, 15]
    assert degrees_of_freedom(s, fixed, still=False).tolist() == [24, 9, 6, 3, 15]


def test_velocities_are_still_and_of_their_temperature():
    big = bulk("Al", cubic=True).repeat(8)
    big.symbols[::2] = "Au"
    parts = [big, molecule("C2H6"), molecule("CO2")]
    s = Structures.from_ase(parts)
    none = torch.zeros(s.n_atoms, dtype=torch.bool)
    v = thermal_velocities(s, torch.tensor([300.0, 300, 300]).double(), 3, none, True, torch.arange(3))
    dynamics = Dynamics([LJ], settings(NveSettings()))
    state = dynamics.begin(Structures.from_ase(big), velocities=v[: len(big)])
    assert temperature(kinetic_of(state), state.dof).item() == pytest.approx(300, rel=0.06)
    m = torch.tensor(np.concatenate([a.get_masses() for a in parts]))[:, None]
    assert by_system(m * v, s).abs().max() < 1e-12
    centre = by_system(m * s.positions, s) / by_system(m, s)
    spin = by_system(m * torch.linalg.cross(s.positions - centre[s.system], v), s)[1:]
    assert spin.abs().max() < 1e-10
    gold = big.numbers == 79
    ratio = v[: len(big)][gold].square().mean() / v[: len(big)][~gold].square().mean()
    assert ratio.item() == pytest.approx(26.98 / 196.97, rel=0.1)


def test_fixed_atoms_stay():
    dynamics = Dynamics([LJ], settings(LangevinSettings(temperature=900)))
    s = Structures.from_ase(crystal())
    fixed = torch.arange(s.n_atoms) < 3
    end = last(dynamics, dynamics.begin(s, fixed=fixed))
    assert torch.equal(end.structures.positions[:3], s.positions[:3])
    assert (end.structures.positions[3:] - s.positions[3:]).abs().min() > 1e-4
    with pytest.raises(SettingsError, match="barostat moves all atoms"):
        Dynamics([LJ], settings(CellRescaleSettings())).begin(s, fixed=fixed)


def test_a_strain_rate_deforms_and_a_barostat_leaves_it_alone():
    rate = (2.0, 0, 0, 0, 0, 0)
    for ensemble in (LangevinSettings(), CellRescaleSettings(cell="axes", pressure=-3)):
        dynamics = Dynamics([LJ], settings(ensemble, steps=25, strain_rate=rate))
        start = dynamics.begin(Structures.from_ase(crystal()))
        end = last(dynamics, start)
        stretch = end.structures.cell[0, 0, 0] / start.structures.cell[0, 0, 0]
        assert stretch.item() == pytest.approx(np.exp(2.0 * 0.05), rel=1e-10)
        sideways = (end.structures.cell - start.structures.cell)[0, 1, 1].abs()
        assert (sideways > 1e-3) == ensemble.MOVES_CELL


def test_pressure_of_a_gas_and_of_the_potential():
    """An ideal gas has kB T N/V; the virial part is the stress of the potential."""
    dynamics = Dynamics([LJ], settings(CsvrSettings()))
    state = dynamics.begin(Structures.from_ase(crystal()))
    p = pressure_tensor(state)[0]
    gas = 2 * kinetic_of(state) / (3 * state.structures.volume)
    assert (p.trace() / 3 + state.stress[0].trace() / 3).item() == pytest.approx(gas.item(), rel=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cell_rescale", "parrinello_rahman"])
def test_a_squeezed_cell_widens_only_as_it_may(name):
    atoms = bulk("Cu", "fcc", a=3.85, cubic=True).repeat((2, 1, 1))
    kind = {"cell_rescale": CellRescaleSettings, "parrinello_rahman": ParrinelloRahmanSettings}[name]
    for cell in ("isotropic", "axes", "full"):
        end = go(atoms, kind(temperature=300, cell=cell, barostat_time=100), steps=60)
        cell_now = end.structures.cell[0].numpy()
        stretch = cell_now @ np.linalg.inv(atoms.cell.array)
        assert np.linalg.det(stretch) > 1.02
        np.testing.assert_allclose(stretch, stretch.T, atol=0.02)
        assert (np.ptp(np.diag(stretch)) < 1e-9) == (cell == "isotropic")
        assert (np.abs(stretch - np.diag(np.diag(stretch))).max() > 1e-6) == (cell == "full")


def test_what_is_not_periodic_has_no_pressure():
    water = Structures.from_ase(molecule("H2O"))
    with pytest.raises(GeometryError, match=r"not periodic in three directions: ensemble\.name=cell_rescale"):
        Dynamics([LJ], settings(CellRescaleSettings())).begin(water)
    with pytest.raises(GeometryError, match="strain_rate"):
        Dynamics([LJ], settings(NveSettings(), strain_rate=(1, 0, 0, 0, 0, 0))).begin(water)


def ends(atoms, how, potentials=(LJ,), **more):
    dynamics = Dynamics(list(potentials), how, **more)
    stopped, state = [], dynamics.begin(Structures.from_ase(atoms))
    for moment in dynamics.run(state):
        stopped += moment.stopped
        state = moment.state
    return stopped, state


def test_a_run_that_bursts_ends_and_the_others_go_on():
    sound, squeezed = crystal(), crystal()
    squeezed.set_cell(squeezed.cell.array * 0.6, scale_atoms=True)
    stopped, state = ends([sound, squeezed, sound], settings(NveSettings(), steps=30))
    (end,) = stopped
    assert end.number == 1
    assert end.step < 30
    assert "burst" in end.why
    assert end.state.structures.positions.isfinite().all()
    assert state.number.tolist() == [0, 2]
    assert state.step == 30
    lone = go([sound], NveSettings(), steps=30)
    torch.testing.assert_close(state.structures.positions[:8], lone.structures.positions, rtol=0, atol=1e-9)


def test_atoms_too_close_and_a_time_step_too_long():
    pair = Atoms("Ar2", [[0, 0, 0], [0, 0, 1.9]])
    (end,), _ = ends(pair, settings(NveSettings(temperature=0), watch=WatchSettings(closest=2.0)))
    assert (end.step, end.why) == (0, "two atoms are 1.90 Å apart (watch.closest: 2 Å)")
    (end,), _ = ends(crystal(), settings(NveSettings(temperature=2e4), timestep=100.0))
    assert "in one time step of 100 fs; is that too long?" in end.why
    assert end.step == 1


def test_a_committee_that_disagrees_ends_a_run():
    committee = [LennardJones(sigma=2.6, epsilon=e, cutoff=4.5) for e in (0.10, 0.16)]
    how = settings(LangevinSettings(temperature=2000), steps=200, watch=WatchSettings(disagreement=0.6))
    (end,), state = ends(crystal(), how, committee)
    assert state.n_systems == 0
    assert "the members disagree by" in end.why
    x = end.state.structures
    from rutile.potentials.evaluate import evaluate

    a, b = (evaluate(p, x).forces for p in committee)
    assert ((a - b) / 2).norm(dim=1).max().item() == pytest.approx(end.state.deviation.item())
    assert end.state.deviation.item() > 0.6


def test_forces_that_are_no_numbers_end_a_run():
    class Hole(torch.nn.Module):
        elements, cutoff = (), 4.5

        def forward(self, graph):
            return LJ(graph) * torch.where(graph.positions[:, 0] > 50, torch.nan, 1.0)

    away = crystal()
    away.positions += 100
    stopped, state = ends([crystal(), away], settings(NveSettings()), [Hole()])
    assert [(e.number, e.step) for e in stopped] == [(1, 0)]
    assert "not finite" in stopped[0].why
    assert state.step == 20


def test_ramps_reach_their_ends():
    dynamics = Dynamics([LJ], settings(CellRescaleSettings(temperature=100, temperature_end=300, pressure_end=4)))
    state = dynamics.begin(Structures.from_ase([crystal()]))
    middle, end = (dynamics.targets(state.replace(step=n)) for n in (9, 19))
    assert (middle.kt / end.kt).item() == pytest.approx(200 / 300)
    assert end.pressure == pytest.approx(4 * GPA)
    assert middle.pressure == pytest.approx(2 * GPA)


@pytest.mark.slow
def test_float32_moves_nearly_alike():
    class Single(torch.nn.Module):
        elements, cutoff = (), 4.5

        def __init__(self):
            super().__init__()
            self.register_buffer("here", torch.zeros(1, dtype=torch.float32))

        def forward(self, graph):
            assert graph.vectors.dtype == torch.float32
            return LJ(graph)

    single, double = go(crystal(), NveSettings(), Single()), go(crystal(), NveSettings())
    assert single.velocities.dtype == torch.float64
    torch.testing.assert_close(single.structures.positions, double.structures.positions, rtol=0, atol=1e-4)


def test_structures_of_a_batch_are_as_given():
    given = concatenate([Structures.from_ase(crystal(k)) for k in range(2)])
    before = given.positions.clone()
    dynamics = Dynamics([LJ], settings(LangevinSettings(), steps=2))
    last(dynamics, dynamics.begin(given))
    assert torch.equal(given.positions, before)
