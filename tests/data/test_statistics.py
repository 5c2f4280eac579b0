"""Reference energies against known answers; statistics against NumPy on everything at once."""

import dataclasses

import numpy as np
import pytest
from store_frames import some_frames

from rutile.core.errors import LabelError
from rutile.core.reporting import SilentReporter
from rutile.data import statistics as room
from rutile.data.frames import Frame
from rutile.data.settings import ReferenceSettings
from rutile.data.statistics import reference_energies, reference_sums, statistics
from rutile.data.store import build_store

E0 = {8: -432.1, 22: -1604.7}
FIT = ReferenceSettings(method="least_squares")


def frame(numbers, energy, cell=0.0, seed=0):
    rng = np.random.default_rng(seed)
    return Frame(
        np.array(numbers), rng.normal(size=(len(numbers), 3)), np.eye(3) * cell, np.array([cell > 0] * 3), energy
    )


def additive(compositions, noise=0.0):
    rng = np.random.default_rng(1)
    return [frame(c, sum(E0[z] for z in c) + len(c) * noise * rng.normal()) for c in compositions]


@pytest.fixture(params=[3, 100_000])
def block(request, monkeypatch):
    monkeypatch.setattr(room, "BLOCK", request.param)


VARIED = [[8, 8, 22], [8, 22], [8], [22, 22, 8, 8, 8], [8, 8, 8, 8, 22]]


@pytest.mark.usefixtures("block")
def test_least_squares_finds_exact_energies(tmp_path):
    reporter = SilentReporter()
    store = build_store(additive(VARIED), tmp_path / "s")
    got = reference_energies(store, range(len(store)), FIT, reporter)
    assert got == pytest.approx(E0, abs=1e-8)
    assert len(reporter.warnings) == 1
    assert "fitted by least squares: O -432.1000 eV, Ti -1604.7000 eV" in reporter.warnings[0]


@pytest.mark.usefixtures("block")
def test_least_squares_minimises_errors_per_atom(tmp_path):
    frames = additive(VARIED * 3, noise=0.3)
    got = reference_energies(build_store(frames, tmp_path / "s"), range(len(frames)), FIT)
    share = np.array([[np.mean(f.numbers == z) for z in (8, 22)] for f in frames])
    want, *_ = np.linalg.lstsq(share, np.array([f.energy / len(f.numbers) for f in frames]), rcond=None)
    assert list(got.values()) == pytest.approx(want.tolist(), abs=1e-9)


def test_only_the_frames_asked_for_count(tmp_path):
    frames = [*additive(VARIED), frame([8, 22], 1e6)]
    store = build_store(frames, tmp_path / "s")
    assert reference_energies(store, range(5), FIT) == pytest.approx(E0, abs=1e-8)


def test_collinear_compositions_keep_the_sum_and_warn(tmp_path):
    reporter = SilentReporter()
    store = build_store(additive([[8, 8, 22], [8, 8, 8, 8, 22, 22]] * 3), tmp_path / "s")
    got = reference_energies(store, range(6), ReferenceSettings(), reporter)
    assert 2 * got[8] + got[22] == pytest.approx(2 * E0[8] + E0[22], abs=1e-8)
    assert got[8] == pytest.approx(2 * got[22])  # smallest norm: along the composition
    assert any("O, Ti cannot be told apart" in w for w in reporter.warnings)


def test_one_known_energy_settles_collinear_compositions(tmp_path):
    reporter = SilentReporter()
    store = build_store(additive([[8, 8, 22]] * 3), tmp_path / "s")
    got = reference_energies(store, range(3), ReferenceSettings(energies={"O": E0[8]}), reporter)
    assert got == pytest.approx(E0, abs=1e-8)
    assert not any("told apart" in w for w in reporter.warnings)
    assert any("given: O" in w for w in reporter.warnings)
    assert any("least squares: Ti" in w for w in reporter.warnings)


@pytest.mark.parametrize("cell", [0.0, 10.0])
def test_isolated_atoms_in_the_data(tmp_path, cell):
    reporter = SilentReporter()
    frames = [frame([8], -431.0, cell), frame([22], -1600.0, cell), *additive(VARIED[:2]), frame([8], -7.0, cell=3.0)]
    store = build_store(frames, tmp_path / "s")
    for method in ("auto", "isolated_atoms"):
        got = reference_energies(store, range(5), ReferenceSettings(method=method), reporter)
        assert got == {8: -431.0, 22: -1600.0}  # the atom in the small cell has neighbours: its own images
        assert "from isolated atoms in the data" in reporter.warnings[-1]


def test_slab_and_skewed_cells_of_single_atoms(tmp_path):
    skewed = np.array([[9.0, 0, 0], [8.0, 2.0, 0], [0, 0, 9.0]])  # lattice planes 2 Å apart
    thin = Frame(np.array([8]), np.zeros((1, 3)), skewed, np.ones(3, bool), -1.0)
    flat = dataclasses.replace(thin, cell=np.diag([9.0, 9.0, 1.0]), pbc=np.array([True, True, False]), energy=-5.0)
    store = build_store([thin, flat], tmp_path / "s")
    assert reference_energies(store, range(2), ReferenceSettings(method="isolated_atoms")) == {8: -5.0}


def test_auto_needs_every_element(tmp_path):
    reporter = SilentReporter()
    store = build_store([*additive(VARIED[:2]), frame([8], -431.0)], tmp_path / "s")
    reference_energies(store, range(3), ReferenceSettings(), reporter)
    assert "least squares" in reporter.warnings[-1]
    with pytest.raises(LabelError, match="no isolated atom of Ti"):
        reference_energies(store, range(3), ReferenceSettings(method="isolated_atoms"))


def test_nothing_to_fit(tmp_path):
    store = build_store([frame([8], None), frame([22], None, seed=1)], tmp_path / "s")
    with pytest.raises(LabelError, match="no frame has an energy"):
        reference_energies(store, range(2), FIT)
    store = build_store([frame([8, 8], -3.0), frame([22], None, seed=1)], tmp_path / "t")
    with pytest.raises(LabelError, match="Ti: no training frame"):
        reference_energies(store, range(2), FIT)


@pytest.mark.usefixtures("block")
def test_statistics(tmp_path):
    frames = some_frames(40, seed=5)
    ids = [k for k in range(40) if k % 7]
    got = statistics(build_store(frames, tmp_path / "s"), ids, E0)
    used = [frames[k] for k in ids]
    energy = np.array(
        [(f.energy - sum(E0[z] for z in f.numbers)) / len(f.numbers) for f in used if f.energy is not None]
    )
    force = np.concatenate([f.forces for f in used if f.forces is not None])
    stress = np.stack([f.stress for f in used if f.stress is not None])
    numbers = np.concatenate([f.numbers for f in used])
    assert (got.n_frames, got.n_atoms) == (len(ids), len(numbers))
    assert got.atoms == {8: (numbers == 8).sum(), 22: (numbers == 22).sum()}
    assert (got.n_energy, got.n_stress) == (len(energy), len(stress))
    assert got.n_forces == sum(f.forces is not None for f in used)
    assert got.energy_mean == pytest.approx(energy.mean(), rel=1e-12)
    assert got.energy_std == pytest.approx(energy.std(), rel=1e-10)
    assert got.force_rms == pytest.approx(np.sqrt((force**2).mean()), rel=1e-12)
    assert got.force_max == np.abs(force).max()
    assert got.stress_rms == pytest.approx(np.sqrt((stress**2).mean()), rel=1e-12)


def test_statistics_without_labels(tmp_path):
    got = statistics(build_store([frame([8], None)], tmp_path / "s"), [0], {8: 0.0})
    assert (got.n_energy, got.n_forces, got.n_stress) == (0, 0, 0)
    assert np.isnan([got.energy_mean, got.energy_std, got.force_rms, got.force_max, got.stress_rms]).all()


@pytest.mark.usefixtures("block")
def test_reference_sums(tmp_path):
    frames = some_frames(20)
    got = reference_sums(build_store(frames, tmp_path / "s"), E0)
    assert got == pytest.approx([sum(E0[z] for z in f.numbers) for f in frames], rel=1e-14)
    assert reference_sums(build_store(frames, tmp_path / "t"), {8: 1.0}).tolist() == [
        (f.numbers == 8).sum() for f in frames
    ]
