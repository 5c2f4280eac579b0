"""`rutile md`: files that belong together, killed and gone on, refused and broken off."""

import csv
import json
import os
import re
import resource
import signal
import subprocess
import sys
import time

import ase.io
import numpy as np
import pytest
from ase.build import bulk

from rutile.cli.main import main
from rutile.core.errors import FileError, GeometryError, SettingsError
from rutile.core.reporting import SilentReporter
from rutile.simulate.md.h5md import read_h5md
from rutile.tasks.md import TASK

SHORT = {"timestep": 2.0, "time": 0.04, "every": 5, "log_every": 2}


@pytest.fixture
def copper(tmp_path):
    path = tmp_path / "cu.extxyz"
    atoms = bulk("Cu", "fcc", a=3.6, cubic=True)
    ase.io.write(path, [atoms, atoms * (2, 1, 1)])
    return path


def md(path, out, reporter=None, **more):
    given = {"model": "emt", "structures": [path], "out": out, **SHORT, **more}
    return TASK.run(TASK.settings.model_validate(given), reporter or SilentReporter())


def log(result):
    with result.log.open() as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
@pytest.mark.parametrize("form", ["extxyz", "hdf5"])
def test_runs_leave_a_log_trajectories_and_means(copper, tmp_path, form):
    result = md(copper, tmp_path / "md", trajectory=form, temperatures=[300, 900], forces=True)
    assert (result.done, result.stopped, len(result.runs)) == (4, 0, 4)
    rows = log(result)
    assert [r["step"] for r in rows if r["run"] == "3"] == [str(k) for k in range(0, 21, 2)]
    mine = [float(r["temperature_K"]) for r in rows if r["run"] == "1" and float(r["time_fs"]) >= 8]
    assert result.runs[1].temperature == pytest.approx(np.mean(mine))
    assert result.runs[1].temperature > result.runs[0].temperature
    assert "<svg" in result.report.read_text()
    if form == "hdf5":
        got = read_h5md(result.trajectories[2])
        assert got["step"].tolist() == [0, 5, 10, 15, 20]
        assert got["position"].shape == got["velocity"].shape == got["force"].shape == (5, 8, 3)
        assert got["time"][-1] == 40.0
        assert set(got["numbers"].tolist()) == {29}
        energies = got["energy"]
    else:
        frames = ase.io.read(result.trajectories[2], ":")
        assert [a.info["step"] for a in frames] == [0, 5, 10, 15, 20]
        assert all(a.get_forces().shape == (8, 3) for a in frames)
        kelvin = 2 * frames[-1].get_kinetic_energy() / (24 * 8.617333e-5)
        assert kelvin == pytest.approx(float(next(r for r in rows[::-1] if r["run"] == "2")["temperature_K"]), rel=1e-5)
        energies = [a.get_potential_energy() for a in frames]
    at = {int(r["step"]): float(r["potential_eV"]) for r in rows if r["run"] == "2"}
    assert energies[2] == pytest.approx(at[10], abs=1e-6)


@pytest.mark.slow
def test_formats_hold_the_same(copper, tmp_path):
    text, binary = (md(copper, tmp_path / form, trajectory=form) for form in ("extxyz", "hdf5"))
    frames, got = ase.io.read(text.trajectories[1], ":"), read_h5md(binary.trajectories[1])
    np.testing.assert_allclose([a.positions for a in frames], got["position"], atol=1e-5)
    np.testing.assert_allclose([a.cell.array for a in frames], got["cell"], atol=1e-12)


@pytest.mark.slow
def test_other_settings_are_refused_and_more_time_is_not(copper, tmp_path):
    out = tmp_path / "md"
    first = md(copper, out, trajectory="hdf5")
    with pytest.raises(SettingsError, match=r"belongs to another run: timestep was 2.0, now 1.0\. Restore"):
        md(copper, out, trajectory="hdf5", timestep=1.0)
    with pytest.raises(SettingsError, match="model was '"):
        md(copper, out, trajectory="hdf5", model="lennard_jones")
    assert md(copper, out, trajectory="hdf5") == first
    longer = md(copper, out, trajectory="hdf5", time=0.08)
    whole = md(copper, tmp_path / "whole", trajectory="hdf5", time=0.08)
    assert longer.log.read_bytes() == whole.log.read_bytes()
    a, b = (read_h5md(r.trajectories[1]) for r in (longer, whole))
    assert all(np.array_equal(a[name], b[name]) for name in b)


def begin_and_kill(words, out, frames):
    """Start the command, and kill it (SIGKILL) when its log has so many rows."""
    process = subprocess.Popen(
        [sys.executable, "-m", "rutile", *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    until = time.monotonic() + 300
    path = out / "log.csv"
    while time.monotonic() < until and process.poll() is None:
        if path.exists() and path.read_text().count("\n") > frames:
            process.send_signal(signal.SIGKILL)
            break
        time.sleep(0.01)
    assert process.wait() == -signal.SIGKILL


@pytest.mark.slow
@pytest.mark.parametrize(("form", "ensemble"), [("extxyz", "csvr"), ("hdf5", "cell_rescale")])
def test_killed_and_gone_on_equals_never_interrupted(copper, tmp_path, form, ensemble):
    words = ["md", str(copper), "model=emt", "time=0.3", "timestep=1", "every=3", "log_every=2"]
    words += [f"trajectory={form}", "checkpoint_seconds=0.05", f"ensemble.name={ensemble}"]
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert main([*words, f"out={whole}"]) == 0
    for rows in (20, 150):
        begin_and_kill([*words, f"out={broken}"], broken, rows)
        for k in range(2):  # readable as it was left, before anybody repairs it
            path = broken / f"trajectory-00{k}.{'h5' if form == 'hdf5' else 'extxyz'}"
            there = read_h5md(path)["step"] if form == "hdf5" else [a.info["step"] for a in ase.io.read(path, ":")]
            assert list(there) == list(range(0, 3 * len(there), 3))
            assert len(there) > 2
    assert main([*words, f"out={broken}"]) == 0
    names = sorted(p.name for p in whole.iterdir() if p.suffix in {".csv", ".extxyz"})
    assert [(broken / n).read_bytes() for n in names] == [(whole / n).read_bytes() for n in names]
    if form == "hdf5":
        for k in range(2):
            a, b = (read_h5md(folder / f"trajectory-00{k}.h5") for folder in (whole, broken))
            assert all(np.array_equal(a[name], b[name]) for name in a)


@pytest.mark.slow
def test_the_structure_that_ended_a_run_is_kept(copper, tmp_path):
    reporter = SilentReporter()
    frames = ase.io.read(copper, ":")
    frames[1].positions[3] = frames[1].positions[0] + [0, 0, 1.2]
    ase.io.write(copper, frames)
    result = md(copper, tmp_path / "md", reporter, watch={"closest": 1.5})
    assert (result.done, result.stopped) == (1, 1)
    assert "two atoms are 1.20 Å apart" in result.runs[1].outcome
    assert any("run 1 (" in w and "ended after 0 fs" in w for w in reporter.warnings)
    (broken,) = ase.io.read(tmp_path / "md" / "offender.extxyz", ":")
    np.testing.assert_allclose(broken.positions, frames[1].positions)
    assert broken.info["why"] == result.runs[1].outcome
    assert len(ase.io.read(result.trajectories[0], ":")) == 5
    again = md(copper, tmp_path / "md", watch={"closest": 1.5})
    assert again == result


def test_a_run_that_ended_between_two_rows_of_the_log_says_when(tmp_path):
    """Two atoms that attract each other meet long before the second row."""
    path = tmp_path / "pair.extxyz"
    ase.io.write(path, ase.Atoms("Cu2", [(0, 0, 0), (2.6, 0, 0)]))
    nve = {"name": "nve", "temperature": 0.0}
    result = md(path, tmp_path / "md", time=0.2, log_every=100, ensemble=nve, watch={"closest": 2.5, "hottest": 5e4})
    (row,) = result.runs
    (offender,) = ase.io.read(tmp_path / "md" / "offender.extxyz", ":")
    assert "apart" in row.outcome
    assert row.time == pytest.approx(offender.info["time"] / 1000)
    assert 0.002 < row.time < 0.1


@pytest.mark.slow
def test_a_full_disk_leaves_what_was_written(copper, tmp_path):
    out = tmp_path / "md"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, hard))  # every file is full there
    try:
        with pytest.raises(FileError, match=r"cannot write .* make room, and run the same command again"):
            md(copper, out, time=0.4, every=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    frames = ase.io.read(out / "trajectory-001.extxyz", ":")
    assert len(frames) > 5
    result = md(copper, out, time=0.4, every=1)
    assert [a.info["step"] for a in ase.io.read(result.trajectories[1], ":")] == list(range(201))


@pytest.mark.slow
def test_a_full_disk_is_said_before_the_first_step_of_hdf5(copper, tmp_path):
    pytest.importorskip("h5py", reason="trajectories in HDF5 need h5py: pip install 'rutile[hdf5]'")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(FileError) as raised:
            md(copper, tmp_path / "md", time=0.4, every=1, trajectory="hdf5")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert re.fullmatch(r"cannot write \S+\.h5: File too large; make room, .* to go on", str(raised.value))
    assert md(copper, tmp_path / "md", time=0.4, every=1, trajectory="hdf5").runs[0].outcome == "done"


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"ensemble": {"temperature": 1e6}}, "temperature = 1000000.0: expected number > 0, <= 100000.0 (K)"),
        ({"timestep": 5000}, "timestep = 5000: expected number > 0, <= 100 (fs)"),
        ({"temperatures": [0]}, "needs temperatures above 0"),
        ({"temperatures": [300], "ensemble": {"temperature_end": 500}}, "temperature_end, too"),
        ({"fixed": [7]}, "has no atom 7"),
        ({"fixed": [0, 1, 2, 3]}, "all 4 atoms are fixed"),
        ({"fixed_below": 9.0}, "all 4 atoms are fixed"),
        ({"model": "rigid_ion"}, "Cu"),
        ({"ensemble": {"name": "cell_rescale"}, "fixed": [0]}, "cu.extxyz#0 has some), or take"),
        ({"temperatures": [1e6]}, "temperatures.0 = 1000000.0: expected number >= 0, <= 100000.0 (K)"),
        ({"temperatures": ["hot"]}, "temperatures.0 = 'hot': expected number >= 0, <= 100000.0 (K)"),
    ],
)
def test_bad_settings_are_one_clear_line(copper, tmp_path, capsys, more, message):
    words = [f"{k}={json.dumps(v)}" for k, v in ({"model": "emt"} | more).items()]
    assert main(["md", str(copper), *words, f"out={tmp_path / 'md'}"]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert message in said[-1]


@pytest.mark.slow
def test_atoms_below_a_height_stay(copper, tmp_path):
    result = md(copper, tmp_path / "md", time=0.02, every=1, fixed_below=1.0)
    first, *_, last = ase.io.read(result.trajectories[0], ":")
    low = first.positions[:, 2] < 1.0
    assert 0 < low.sum() < len(low)
    np.testing.assert_array_equal(last.positions[low], first.positions[low])
    assert (last.positions[~low] != first.positions[~low]).all()


def test_a_run_too_short_for_curves_says_so(copper, tmp_path):
    page = md(copper, tmp_path / "md", time=0.002).report.read_text()
    assert "No curves" in page
    assert "<svg" not in page


def test_bad_structures_are_one_clear_line(tmp_path, capsys):
    flat = bulk("Cu", cubic=True)
    flat.cell[2] = flat.cell[0]
    path = tmp_path / "flat.extxyz"
    ase.io.write(path, flat)
    assert main(["md", str(path), "model=emt", f"out={tmp_path / 'md'}"]) == 2
    assert "flat.extxyz" in capsys.readouterr().err
    molecule = bulk("Cu", cubic=True)
    molecule.pbc = False
    ase.io.write(path, [bulk("Cu", cubic=True), molecule])
    with pytest.raises(GeometryError, match=r"flat.extxyz#1 is not periodic in three directions"):
        md(path, tmp_path / "md2", ensemble={"name": "parrinello_rahman"})


@pytest.mark.slow
def test_an_atom_alone_moves_on(tmp_path):
    """One atom in vacuum: its velocity is all there is, and it is kept in checkpoints like that of others."""
    path = tmp_path / "one.extxyz"
    ase.io.write(path, ase.Atoms("Cu"))
    result = md(path, tmp_path / "md")
    assert result.done == 1
    assert (tmp_path / "md" / "trajectory.extxyz").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["csvr", "cell_rescale", "nose_hoover"])
def test_a_cell_of_one_atom_stays_cold_and_is_told_of(tmp_path, name):
    """Without its drift nothing is left to move; rounding errors are not heated."""
    ase.io.write(tmp_path / "metals.extxyz", [bulk("Cu"), bulk("Al")])
    reporter = SilentReporter()
    result = md(tmp_path / "metals.extxyz", tmp_path / "md", reporter, ensemble={"name": name}, time=0.2)
    assert [run.temperature for run in result.runs] == pytest.approx([0, 0], abs=1e-9)
    _, said = reporter.warnings
    assert "metals.extxyz#1: an atom whose drift is taken out has nothing left to move: take a supercell" in said


@pytest.mark.slow
def test_a_left_handed_cell_is_no_matter(tmp_path):
    """A cell of negative determinant is a cell like any other: its volume is positive."""
    atoms = bulk("Cu", "fcc", a=3.6, cubic=True)
    atoms.cell[0] *= -1
    path = tmp_path / "left.extxyz"
    ase.io.write(path, atoms)
    result = md(path, tmp_path / "md", ensemble={"name": "cell_rescale"})
    assert result.runs[0].volume == pytest.approx(3.6**3 / 4, rel=0.2)


@pytest.mark.slow
def test_a_long_time_step_is_warned_of(copper, tmp_path):
    reporter = SilentReporter()
    md(copper, tmp_path / "md", reporter, timestep=15.0, time=0.03)
    assert any("timestep=15 fs is long for atoms of 63.5 amu" in w for w in reporter.warnings)
