"""`rutile analyse`: from trajectories of `rutile md` and of others to tables and pages."""

import csv
import json

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.io import write

from rutile.core.errors import DataError, FileError, SettingsError
from rutile.core.reporting import SilentReporter
from rutile.simulate.md.h5md import TIMES, H5mdFile, frame_values
from rutile.tasks.analyse import TASK, AnalyseSettings
from rutile.tasks.md import TASK as MD


def walk(path, rate, seed, steps=400):
    """Lithium that hops, in a frame of gold that does not; a frame every 10 fs."""
    rng = np.random.default_rng(seed)
    start = rng.random((60, 3)) * 20.0
    hops = 2.0 * rng.choice([-1.0, 1.0], size=(steps, 60, 3)) * (rng.random((steps, 60, 3)) < rate / 3)
    hops[:, 20:] = 0.0
    images = []
    for k, positions in enumerate(start + hops.cumsum(axis=0)):
        images.append(Atoms("Li20Au40", positions=positions, cell=[20.0] * 3, pbc=True, info={"time": 10.0 * k}))
        images[-1].wrap()
    write(path, images)
    return path


def run(**given):
    return TASK.run(AnalyseSettings(**given), SilentReporter())


@pytest.mark.slow
def test_hopping_at_three_temperatures(tmp_path):
    kelvin, energy = [600.0, 800.0, 1200.0], 0.15
    rates = [2.0 * np.exp(-energy / (8.617333e-5 * t)) for t in kelvin]
    files = [walk(tmp_path / f"{t:.0f}.extxyz", rate, k) for k, (t, rate) in enumerate(zip(kelvin, rates, strict=True))]
    result = run(trajectories=files, temperatures=kelvin, charges={"Li": 1.0}, frames=10, out=tmp_path / "out")
    rows = {(row.element, row.temperature): row for row in result.diffusion}
    for t, rate in zip(kelvin, rates, strict=True):
        expected = rate / 10.0 * 2.0**2 / 6 * 0.1
        assert rows["Li", t].diffusion == pytest.approx(expected, rel=0.25)
        assert abs(rows["Li", t].diffusion - expected) < 5 * rows["Li", t].diffusion_error
        assert rows["Au", t].diffusion < 0.05 * expected
    fit = next(fit for fit in result.activation if fit.element == "Li")
    assert abs(fit.energy - energy) < 4 * fit.energy_error
    assert fit.energy_error < 0.05
    sigma = 20 / 8000e-30 * 1.602e-19**2 * rows["Li", 800.0].diffusion * 1e-4 / (1.380649e-23 * 800)
    assert result.conductivity[str(files[1])] == pytest.approx(sigma, rel=1e-3)
    with (tmp_path / "out/msd.csv").open() as file:
        assert {row["element"] for row in csv.DictReader(file)} == {"Li", "Au"}
    page = result.report.read_text()
    assert "Diffusion of Li" in page
    assert json.loads((tmp_path / "out/result.json").read_text())["activation"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["extxyz", "hdf5"])
def test_a_folder_of_dynamics(tmp_path, kind):
    if kind == "hdf5":
        pytest.importorskip("h5py", reason="trajectories in HDF5 need h5py: pip install 'rutile[hdf5]'")
    write(tmp_path / "cu.extxyz", bulk("Cu", cubic=True).repeat(2))
    MD.run(
        MD.settings(structures=[tmp_path / "cu.extxyz"], model="emt", time=0.6, timestep=5.0, every=1, trajectory=kind,
                    ensemble={"name": "nve", "temperature": 300.0}, out=tmp_path / "md"),
        SilentReporter(),
    )  # fmt: skip
    result = run(trajectories=[tmp_path / "md"], skip=0.05, frames=20, out=tmp_path / "out")
    (row,) = result.diffusion
    assert 50 < row.temperature < 400
    assert row.diffusion is None or abs(row.diffusion) < 1e-5  # a crystal
    (shell,) = result.shells
    assert shell.coordination == pytest.approx(12.0, abs=0.3)
    assert shell.radius == pytest.approx(3.1, abs=0.3)
    with (tmp_path / "out/vibrations.csv").open() as file:
        spectrum = [(float(r["wave_number"]), float(r["density"])) for r in csv.DictReader(file)]
    assert 80 < max(spectrum, key=lambda point: point[1])[0] < 300  # phonons of copper end near 250/cm


def test_frames_that_are_not_evenly_spaced_are_refused_in_hdf5_too(tmp_path):
    h5py = pytest.importorskip("h5py", reason="trajectories in HDF5 need h5py: pip install 'rutile[hdf5]'")
    atoms = bulk("Cu", cubic=True)
    file = H5mdFile(tmp_path / "cu.h5", atoms.numbers, atoms.get_masses(), atoms.pbc, 4, ())
    for k in range(4):
        frame = frame_values(k, 2.0 * k, atoms.positions + 0.01 * k, atoms.cell.array, 0.0)
        file.write(k, frame)
    file.flush()
    with h5py.File(tmp_path / "cu.h5", "r+") as trajectory:
        trajectory[TIMES[1]][2] = 5.0
    with pytest.raises(DataError, match="not evenly spaced in time: 2 fs at first, 3 fs after frame 1"):
        run(trajectories=[tmp_path / "cu.h5"], out=tmp_path / "out")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "says"), [("rattles", "not diffusive yet"), ("leaps", "not positive beyond its error")]
)
def test_nothing_follows_from_atoms_that_do_not_diffuse(tmp_path, kind, says):
    rng, start, files = np.random.default_rng(3), np.random.default_rng(2).random((12, 3)) * 20.0, []
    for k in range(3):
        moves = rng.normal(scale=0.1, size=(400, 12, 3))
        if kind == "leaps":  # one atom flies off in the last of five blocks: D is no larger than its error
            moves = np.zeros((400, 12, 3))
            moves[320:, :1] = 0.3
            moves = moves.cumsum(axis=0)
        images = [
            Atoms("Li12", start + m, cell=[20.0] * 3, pbc=True, info={"time": 10.0 * n}) for n, m in enumerate(moves)
        ]
        files.append(tmp_path / f"{k}.extxyz")
        write(files[-1], images)
    kelvin = [600.0, 800.0, 1200.0]
    reporter = SilentReporter()
    given = AnalyseSettings(
        trajectories=files, temperatures=kelvin, charges={"Li": 1.0}, frames=2, out=tmp_path / "out"
    )
    result = TASK.run(given, reporter)
    assert all(says in row.note for row in result.diffusion)
    assert not result.conductivity
    assert not result.activation
    page = result.report.read_text()
    assert "no conductivity: Li is not seen to diffuse" in page
    assert "conductivity (S/m)" not in page
    assert says in result.table.read_text()


def test_molecules_move_but_have_no_radial_distribution(tmp_path):
    images = [Atoms("Ar2", positions=[(0, 0, 0), (4 + 0.01 * k, 0, 0)]) for k in range(20)]
    write(tmp_path / "pair.extxyz", images)
    reporter = SilentReporter()
    given = AnalyseSettings(trajectories=[tmp_path / "pair.extxyz"], interval=1.0, out=tmp_path / "out")
    result = TASK.run(given, reporter)
    assert any("three directions" in text for text in reporter.warnings)
    assert "too few" in result.diffusion[0].note
    assert not result.shells


def test_wrong_input_is_said(tmp_path):
    with pytest.raises(FileError, match="no such file"):
        run(trajectories=[tmp_path / "nothing.extxyz"], out=tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileError, match="no folder of a finished"):
        run(trajectories=[tmp_path / "empty"], out=tmp_path / "out")
    path = walk(tmp_path / "w.extxyz", 0.5, 0, steps=3)
    with pytest.raises(SettingsError, match="one for each"):
        run(trajectories=[path], temperatures=[300.0, 400.0], out=tmp_path / "out")
    with pytest.raises(SettingsError, match="Xx"):
        run(trajectories=[path], temperatures=[300.0], charges={"Xx": 1.0}, frames=1, out=tmp_path / "out")
    with pytest.raises(DataError, match="nothing after"):
        run(trajectories=[path], skip=5.0, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
