"""Melting points: the order of atoms, the box of crystal and liquid, and what follows from runs."""

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from ase.spacegroup import crystal as from_group

from rutile.core.errors import GeometryError
from rutile.simulate.melting import (
    Bracket,
    boxes,
    bracket,
    growth_rate,
    interface_repeats,
    next_temperatures,
    points_of_members,
    stretched,
    upper_half,
    verdict,
    zero_of_rates,
)
from rutile.simulate.order import crystal_order, lattice_vectors
from rutile.simulate.settings import MeltSettings
from rutile.structures.structures import Structures, concatenate

RUTILE = from_group(
    ["Ti", "O"], [(0, 0, 0), (0.305, 0.305, 0)], spacegroup=136, cellpar=[4.594, 4.594, 2.959, 90, 90, 90]
)
CRYSTALS = {"fcc": bulk("Al", cubic=True), "bcc": bulk("Fe", cubic=True), "diamond": bulk("Si", cubic=True),
            "salt": bulk("NaCl", "rocksalt", a=5.64, cubic=True), "rutile": RUTILE}  # fmt: skip


@pytest.mark.parametrize(("name", "count", "shortest"), [("fcc", 12, 2.86), ("bcc", 14, 2.48), ("diamond", 12, 3.84),
                                                          ("salt", 12, 3.99), ("rutile", 14, 2.96)])  # fmt: skip
def test_lattice_vectors_are_whole_shells_with_their_opposites(name, count, shortest):
    vectors = lattice_vectors(CRYSTALS[name])
    assert len(vectors) >= 12
    if name != "rutile":
        assert len(vectors) == count
    assert np.linalg.norm(vectors, axis=1).min() == pytest.approx(shortest, abs=0.02)
    for v in vectors:
        assert (np.linalg.norm(vectors + v, axis=1) < 1e-6).any()


@pytest.mark.parametrize("name", CRYSTALS)
def test_order_tells_hot_crystals_from_disorder(name):
    one = CRYSTALS[name]
    vectors = torch.from_numpy(lattice_vectors(one))[None]
    shortest = float(vectors.norm(dim=2).min())
    rng = np.random.default_rng(0)
    perfect = one.repeat(3)
    hot, liquid = perfect.copy(), perfect.copy()
    hot.positions += 0.07 * shortest * rng.normal(size=(len(hot), 3))  # nearly Lindemann's limit
    liquid.positions = rng.random((len(liquid), 3)) @ liquid.cell.array
    both = crystal_order(Structures.from_ase([perfect, hot, liquid]), vectors.expand(3, -1, -1)).reshape(3, -1).mean(1)
    assert float(both[0]) == pytest.approx(1.0)
    assert float(both[1]) > 0.75
    assert float(both[2]) < 0.25


def test_another_orientation_is_no_crystal():
    one = bulk("Al", cubic=True)
    vectors = torch.from_numpy(lattice_vectors(one))[None]
    turned = one.repeat((6, 6, 3))
    turned.rotate(45, "z", rotate_cell=True)
    assert float(crystal_order(Structures.from_ase(turned), vectors).mean()) < 0.5


def test_the_box_is_twice_as_long_and_half_of_it_gets_room():
    crystal = Structures.from_ase(bulk("Al", cubic=True))
    times = interface_repeats(crystal, 500)
    assert times[2] % 2 == 0
    assert 1.5 < times[2] / times[0] < 2.5
    (box,) = boxes(crystal, 500, 1)
    assert 400 < box.n_atoms < 620
    half = upper_half(box)
    assert int(half.sum()) * 2 == box.n_atoms
    longer = stretched(box, half, 0.1)
    assert float(longer.volume[0] / box.volume[0]) == pytest.approx(1.05)
    torch.testing.assert_close(longer.positions[~half], box.positions[~half])
    moved = longer.positions - box.positions
    assert float(moved[half][:, 2].min()) >= 0
    gap = longer.cell[0, 2, 2] - longer.positions[:, 2].max()
    assert float(gap) == pytest.approx(float(box.cell[0, 2, 2] - box.positions[:, 2].max()) * 1.1)


def test_atoms_that_moved_across_the_top_of_the_box_stay_above_the_others():
    (box,) = boxes(Structures.from_ase(bulk("Al", cubic=True)), 500, 1)
    half, c = upper_half(box), float(box.cell[0, 2, 2])
    up = torch.tensor([0.0, 0.0, 2.5], dtype=torch.float64)
    drifted = box.replace(positions=box.positions + half[:, None] * up)
    assert float(drifted.positions[:, 2].max()) > c
    for given in (drifted, drifted.replace(positions=drifted.positions % torch.tensor([1e9, 1e9, c]).double())):
        moved = (stretched(given, half, 0.1).positions - given.positions)[:, 2]
        expected = 0.1 * (drifted.positions[:, 2] - c / 2)
        torch.testing.assert_close(moved[half], expected[half])


def test_a_skew_cell_is_refused():
    with pytest.raises(GeometryError, match="upright"):
        interface_repeats(Structures.from_ase(bulk("Al")), 500)
    lying = Atoms("Al", cell=[[0, 0, 4.0], [4.0, 0, 0], [0, 4.0, 0]], pbc=True)
    with pytest.raises(GeometryError, match="along z"):
        interface_repeats(Structures.from_ase(lying), 500)


def test_verdicts():
    t, rng = np.linspace(0, 1, 60), np.random.default_rng(0)
    noise = 0.02 * rng.normal(size=60)
    assert verdict(0.5 + 0.4 * t + noise) == "froze"
    assert verdict(0.5 + 0.25 * t + noise) == "froze"
    assert verdict(0.5 - 0.25 * t + noise) == "melted"
    assert verdict(0.5 + noise) == "undecided"
    assert verdict(0.5 + 0.05 * t + noise) == "undecided"
    assert verdict(np.array([])) == "undecided"
    assert verdict(np.array([0.5, 0.1])) == "melted"


def test_rates_are_those_before_one_phase_is_gone():
    time = np.arange(100.0)
    part = np.clip(0.5 + 0.01 * time, 0, 0.95)
    assert growth_rate(time, part) == pytest.approx(0.01)
    assert growth_rate(time[:2], part[:2]) is None


SETTINGS = MeltSettings(lowest=400, highest=800, runs=3, within=20.0)


def test_rounds_close_in():
    first = next_temperatures(Bracket(None, None, False), [], SETTINGS)
    assert first == [400, 600, 800]
    found = bracket(first, ["froze", "froze", "melted"])
    assert (found.low, found.high, found.point, found.error) == (600, 800, 700, 100)
    second = next_temperatures(found, first, SETTINGS)
    assert second == [650, 700, 750]
    found = bracket([*first, *second], ["froze", "froze", "melted", "froze", "undecided", "melted"])
    assert (found.low, found.high, found.undecided) == (650, 750, (700,))
    third = next_temperatures(found, [*first, *second], SETTINGS)
    assert third == [675, 700, 725]
    done = bracket([*first, 690, 720], ["froze", "froze", "melted", "froze", "melted"])
    assert next_temperatures(done, [*first, 690, 720], SETTINGS) == []


def test_a_grid_beside_the_melting_point_goes_on_beyond():
    tried = [400.0, 600.0, 800.0]
    above = next_temperatures(bracket(tried, ["froze"] * 3), tried, SETTINGS)
    assert min(above) > 800
    below = next_temperatures(bracket(tried, ["melted"] * 3), tried, SETTINGS)
    assert min(below) > 0
    assert max(below) < 400
    nothing = bracket(tried, ["undecided"] * 3)
    assert nothing.point is None
    assert next_temperatures(nothing, tried, SETTINGS) == []


def test_contradictions_widen_the_bracket_and_end_the_search():
    found = bracket([400, 500, 600, 700], ["froze", "melted", "froze", "melted"])
    assert found.contradiction
    assert (found.low, found.high) == (400, 700)
    assert next_temperatures(found, [400, 500, 600, 700], SETTINGS) == []


def test_rates_cross_zero_at_the_melting_point():
    t = np.array([650.0, 700.0, 750.0])
    assert zero_of_rates(t, (690 - t) / 1000, Bracket(650, 700, False)) == pytest.approx(690)
    assert zero_of_rates(t, (t - 690) / 1000, Bracket(650, 700, False)) is None
    assert zero_of_rates(t[:2], t[:2], Bracket(650, 700, False)) is None


def test_vectors_of_each_run_are_its_own():
    one = bulk("Al", cubic=True)
    vectors = torch.from_numpy(lattice_vectors(one))
    larger = one.copy()
    larger.set_cell(one.cell * 1.1, scale_atoms=True)
    batch = concatenate([Structures.from_ase(one.repeat(3)), Structures.from_ase(larger.repeat(3))])
    assert float(crystal_order(batch, torch.stack([vectors, 1.1 * vectors])).min()) == 1.0
    assert float(crystal_order(batch, torch.stack([vectors, 0.7 * vectors]))[108:].mean()) < 0.5


def test_members_that_are_scaled_melt_in_proportion():
    """At no pressure the melting point of a potential that is multiplied by a number is multiplied by it."""
    rng, scales = np.random.default_rng(0), np.array([0.9, 1.0, 1.1])
    parts = [np.linspace(0.4, 0.1, 20), np.linspace(0.5, 0.9, 30)]
    mean = [offset - 0.01 * f + 1e-4 * rng.normal(size=len(f)) for offset, f in zip((-0.05, -0.06), parts, strict=True)]
    energies = [scales[:, None] * e for e in mean]
    volumes = [40 - 4 * f for f in parts]
    assert points_of_members(80.0, parts, energies, volumes, 0.0) == pytest.approx(80 * scales)
    squeezed = points_of_members(80.0, parts, energies, volumes, 1e-3)  # heat of fusion 0.01 + 0.004 eV/atom
    assert squeezed == pytest.approx(80 * (1 + (scales - 1) * 0.01 / 0.014), rel=0.01)
    assert points_of_members(80.0, [f * 0 for f in parts], energies, volumes, 0.0) is None
    assert points_of_members(80.0, parts, [-e for e in energies], volumes, 0.0) is None
