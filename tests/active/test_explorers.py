"""Exploring with a committee: what runs meet, how they end, and that they do so again with the same numbers."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from rutile.active.explorers import (
    SOUND,
    Explore,
    Limits,
    Watch,
    along_modes,
    dynamics,
    nearest,
    path,
    relaxations,
)
from rutile.active.plan import MdExplorer, NebExplorer, NormalModesExplorer, RelaxExplorer
from rutile.potentials.calculator import RutileCalculator
from rutile.potentials.calibration import BarScale, Calibration
from rutile.potentials.lennard_jones import LennardJones

FAR = Limits(high=1e9, closest=0.3, max_force=1e9)


def committee(*epsilons, calibration=None):
    """Lennard-Jones potentials of argon that differ in their depth: forces differ in proportion."""
    return RutileCalculator([LennardJones(sigma=3.4, epsilon=e, cutoff=7.0) for e in epsilons], calibration=calibration)


def argon(repeat=1):
    return bulk("Ar", a=5.3, cubic=True).repeat(repeat)


@pytest.mark.slow
def test_a_run_keeps_structures_and_says_at_which_temperature():
    explorer = MdExplorer(temperature=(20, 60), time=100, timestep=2, every=10)
    found = dynamics(argon(), explorer, committee(0.0104, 0.0105), FAR, 7)
    assert found.ended == SOUND
    assert [a.info["step"] for a in found.frames] == [10, 20, 30, 40, 50]
    assert [a.info["temperature"] for a in found.frames] == pytest.approx([28, 36, 44, 52, 60])
    assert all(a.calc is None for a in found.frames)
    again = dynamics(argon(), explorer, committee(0.0104, 0.0105), FAR, 7)
    other = dynamics(argon(), explorer, committee(0.0104, 0.0105), FAR, 8)
    assert np.array_equal(found.frames[-1].positions, again.frames[-1].positions)
    assert not np.allclose(found.frames[-1].positions, other.frames[-1].positions)


@pytest.mark.slow
def test_pressure_moves_the_cell_and_no_pressure_does_not():
    def volume(pressure):
        explorer = MdExplorer(
            temperature=(20, 20), pressure=pressure, time=240, timestep=4, every=60, barostat_time=150
        )
        return dynamics(argon(), explorer, committee(0.0104, 0.0104), FAR, 1).frames[-1].get_volume()

    assert volume(None) == pytest.approx(argon().get_volume())
    assert volume((1.0, 1.0)) < 0.97 * volume((0.0, 0.0))


def test_a_molecule_has_no_cell_that_could_move():
    pair = Atoms("Ar2", positions=[[0, 0, 0], [0, 0, 3.8]])
    explorer = MdExplorer(temperature=(5, 5), pressure=(1, 1), time=20, timestep=2, every=5)
    assert dynamics(pair, explorer, committee(0.0104, 0.0105), FAR, 1).ended == SOUND


@pytest.mark.slow
def test_a_run_ends_where_the_members_disagree_too_much():
    explorer = MdExplorer(temperature=(50, 3000), time=1000, timestep=4, every=50)
    calculator = committee(0.0104, 0.0125)
    limits = Limits(high=0.05, closest=0.1, max_force=1e9)
    found = dynamics(argon(), explorer, calculator, limits, 3)
    assert found.ended.startswith("the members disagree")
    said = []
    for atoms in found.frames:
        atoms.calc = calculator
        atoms.get_forces()
        said.append(Watch(calculator, limits).deviations().max())
    assert said[-1] >= 0.05  # where it ended
    assert all(d < 0.05 for d in said[:-1])
    steps = [a.info["step"] for a in found.frames]
    assert steps[-2] == steps[-1] - 1  # the last sound one is kept
    assert steps[-1] < 250


def test_a_calibrated_committee_disagrees_in_the_size_of_errors():
    bars = Calibration(
        coverage=0.9, members=2, energy=None, data="", forces=BarScale(scale=4, quantile=8, floor=1e-9, frames=9)
    )
    atoms = argon()
    atoms.rattle(0.2, seed=1)
    deviations = []
    for calculator in (committee(0.01, 0.012), committee(0.01, 0.012, calibration=bars)):
        atoms.calc = calculator
        atoms.get_forces()
        deviations.append(Watch(calculator, FAR).deviations().max())
        spread = np.linalg.norm(calculator.results["forces_std"], axis=1).max()
        assert deviations[-1] == pytest.approx(spread * (4 if calculator.calibration else 1))
    assert deviations[1] == pytest.approx(4 * deviations[0])


def test_a_structure_that_cannot_be_ends_a_run_at_its_start():
    close = argon()
    close.positions[1] = close.positions[0] + [0, 0, 1.0]
    assert nearest(close) == pytest.approx(1.0 / (2 * 1.06))
    found = dynamics(close, MdExplorer(time=10), committee(0.0104, 0.0105), Limits(1e9, 0.6, 1e99), 1)
    assert found.frames == []
    assert "too close" in found.ended


def test_a_run_that_bursts_keeps_what_was_sound():
    explorer = MdExplorer(temperature=(10, 10), time=400, timestep=40, every=1)
    squeezed = argon()
    squeezed.set_cell(squeezed.cell * 0.75, scale_atoms=True)
    found = dynamics(squeezed, explorer, committee(0.0104, 0.0104), Limits(1e9, 0.0, 1e99), 1)
    assert found.ended != SOUND
    assert all(np.isfinite(a.positions).all() for a in found.frames)


def test_relaxations_go_downhill_and_keep_their_way():
    explorer = RelaxExplorer(rattle=0.3, steps=40, every=5, fmax=1e-4)
    calculator = committee(0.0104, 0.0105)
    found = relaxations([argon(), argon()], explorer, calculator, 5)
    assert found.ended == SOUND

    def energy(atoms):
        atoms.calc = calculator
        return atoms.get_potential_energy()

    first = [a for a in found.frames if a.info["step"] == 5]
    last = [a for a in found.frames if a.info["step"] == max(b.info["step"] for b in found.frames)]
    assert len(first) == 2
    assert 10 <= last[0].info["step"] <= 40
    assert all(energy(b) < min(energy(a) for a in first) for b in last)
    assert not np.allclose(first[0].positions, first[1].positions)  # displaced differently


def test_modes_of_a_molecule_surround_its_minimum():
    triangle = Atoms("Ar3", positions=[[0, 0, 0], [3.9, 0, 0], [1.9, 3.4, 0]])
    explorer = NormalModesExplorer(temperature=(200, 200), largest_displacement=0.5)
    calculator = committee(1.0, 1.1)
    found = along_modes(triangle, explorer, calculator, 12, 1)
    energies = []
    for atoms in found.frames:
        atoms.calc = calculator
        energies.append(atoms.get_potential_energy())
    assert len(found.frames) > 6
    assert energies[0] == min(energies)
    assert all(a.info["temperature"] == 200 for a in found.frames[1:])
    tight = NormalModesExplorer(temperature=(200, 200), largest_displacement=1e-4)
    assert "moved too far" in along_modes(triangle, tight, calculator, 5, 1).ended


@pytest.mark.slow
def test_a_path_has_its_images_and_a_hill():
    """An atom of solid argon moves into a vacancy beside it, which is then where the atom was."""
    crystal = bulk("Ar", "fcc", a=5.26, cubic=True).repeat(2)
    hops = crystal.copy()
    hops.positions[1] = crystal.positions[0]
    ends = [crystal[1:], hops[1:]]
    explorer = NebExplorer(start="a.xyz", end="b.xyz", images=3, steps=10, every=5, fmax=0.02)
    calculator = committee(1.0, 1.1)
    found = path(ends, explorer, calculator, FAR)
    assert found.ended == SOUND
    assert len(found.frames) == 5 + 2 * 3
    energies = []
    for atoms in [found.frames[0], found.frames[-2], found.frames[4]]:  # the middle one on top of a bond
        atoms.calc = calculator
        energies.append(atoms.get_potential_energy())
    assert energies[1] > energies[0] + 0.03
    assert energies[0] == pytest.approx(energies[2], abs=1e-2)


def test_an_element_that_the_committee_does_not_know_ends_a_run(monkeypatch):
    class Stored:
        def calculator(self, **_):
            return committee(0.0104, 0.0105)

    monkeypatch.setattr("rutile.active.explorers.load_model", lambda _: Stored())
    from rutile.active.explorers import Run

    found = Explore("model", FAR)(Run(RelaxExplorer(), [Atoms("Ar2", positions=[[0, 0, 0], [0, 0, 1e-6]])], 1))
    assert found.frames == []
    assert found.ended


@pytest.mark.slow
def test_what_falls_into_a_hole_is_kept_as_it_began():
    """Of a potential that draws atoms into each other; what the data lack is learned from there."""
    hole = committee(-0.0104, -0.0105)
    pair, farther = (Atoms("Ar2", positions=[[0, 0, 0], [0, 0, d]]) for d in (3.2, 3.3))
    fallen = relaxations([pair, farther], RelaxExplorer(rattle=0.01, fmax=1e-4, steps=400, every=400), hole, 1)
    assert "2 of 2 fell into a hole" in fallen.ended
    assert [a.info["step"] for a in fallen.frames] == [0, 0]
    assert [a.get_distance(0, 1) for a in fallen.frames] == pytest.approx([3.2, 3.3], abs=0.1)
    vibrating = along_modes(pair, NormalModesExplorer(), hole, 5, 1)
    assert vibrating.ended.startswith("its relaxation failed")
    assert [a.get_distance(0, 1) for a in vibrating.frames] == pytest.approx([3.2])
    between = path([pair, farther], NebExplorer(start="a", end="b", images=1, fmax=1e-4, steps=200), hole, FAR)
    assert between.ended.startswith("the relaxation of an end failed")
    assert [a.get_distance(0, 1) for a in between.frames] == pytest.approx([3.2, 3.25, 3.3], abs=0.01)
    assert all(a.calc is None for a in (*fallen.frames, *vibrating.frames, *between.frames))


@pytest.mark.slow
def test_a_path_ends_where_the_members_disagree_and_keeps_what_was_before():
    crystal = bulk("Ar", "fcc", a=5.26, cubic=True).repeat(2)
    hops = crystal.copy()
    hops.positions[1] = crystal.positions[0]
    ends = [crystal[1:], hops[1:]]
    explorer = NebExplorer(start="a.xyz", end="b.xyz", images=3, steps=10, every=5, fmax=0.02)
    found = path(ends, explorer, committee(1.0, 1.5), Limits(high=0.05, closest=0.1, max_force=1e9))
    assert found.ended == "the members disagree beyond the failed level after 5 steps"
    assert len(found.frames) == 5
    assert all(a.calc is None and a.info["step"] == 0 for a in found.frames)
