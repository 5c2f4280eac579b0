"""`rutile barrier`: from files to barriers, going on after a kill, and what it refuses."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from ase.build import add_adsorbate, fcc100
from ase.constraints import FixAtoms
from ase.io import read, write

from rutile.core.errors import GeometryError, SettingsError
from rutile.core.reporting import SilentReporter
from rutile.tasks.barrier import TASK, BarrierSettings


@pytest.fixture
def ends(tmp_path):
    """Two hops of gold on aluminium, along x and along y."""
    slab = fcc100("Al", size=(2, 2, 3))
    add_adsorbate(slab, "Au", 1.7, "hollow")
    slab.info = {}
    slab.center(axis=2, vacuum=4.0)
    others = []
    for axis in (0, 1):
        other = slab.copy()
        other.positions[-1, axis] += other.cell[axis, axis] / 2
        others.append(other)
    write(tmp_path / "start.extxyz", [slab, slab])
    write(tmp_path / "end.extxyz", others)
    return [tmp_path / "start.extxyz", tmp_path / "end.extxyz"]


def settings(ends, **more):
    out = ends[0].parent / "out"
    given = {"model": "emt", "structures": ends, "fixed_below": 6.1, "images": 3, "fmax": 0.02, "out": out} | more
    return BarrierSettings(**given)


@pytest.mark.slow
def test_two_hops_in_one_run(ends):
    result = TASK.run(settings(ends), SilentReporter())
    for row in result.paths:
        assert row.outcome == "done"
        assert row.barrier == pytest.approx(0.3744, abs=2e-3)
        assert row.imaginary == 1
        assert row.wave_number < -20
    images = read(result.images, ":")
    assert [a.info["image"] for a in images] == [0, 1, 2, 3, 4] * 2
    assert images[2].info["relative_energy"] == pytest.approx(result.paths[0].barrier)
    low = images[0].positions[:, 2] < 6.1
    assert np.array_equal(images[2].positions[low], images[0].positions[low])
    with result.table.open() as file:
        rows = list(csv.DictReader(file))
    assert float(rows[1]["barrier"]) == pytest.approx(result.paths[1].barrier)
    page = result.report.read_text()
    assert page.count("<svg") == 2
    assert "<th>imaginary</th>" in page


@pytest.mark.slow
def test_more_steps_go_on_from_where_it_stopped(ends):
    reporter = SilentReporter()
    short = TASK.run(settings(ends, max_steps=5, check=False), reporter)
    assert "not converged after 5 steps" in short.paths[0].outcome
    assert reporter.warnings
    on = TASK.run(settings(ends, max_steps=500, check=False), reporter)
    assert any("going on" in text for text in reporter.messages)
    assert on.paths[0].outcome == "done"
    other = TASK.run(settings(ends, fmax=0.03, check=False), fresh := SilentReporter())
    assert not fresh.messages  # another question begins anew
    assert other.paths[0].outcome == "done"


@pytest.mark.slow
def test_another_question_in_the_same_folder_does_not_write_over_the_paths_of_the_first(ends):
    out = ends[0].parent / "out"
    TASK.run(settings(ends, max_steps=1, check=False), SilentReporter())
    (first,) = out.glob("kept-*.json")
    before = first.read_text()
    TASK.run(settings(ends, images=2, max_steps=1, check=False), SilentReporter())
    assert first.read_text() == before
    assert len(list(out.glob("kept-*.json"))) == 2


@pytest.mark.slow
def test_a_killed_run_goes_on(ends):
    words = [f"structures=[{ends[0]}, {ends[1]}]", "model=emt", "fixed_below=6.1", "images=3", "fmax=1e-9",
             "keep_every=1", "max_steps=100000", f"out={ends[0].parent / 'out'}"]  # fmt: skip
    out = ends[0].parent / "out"
    process = subprocess.Popen([sys.executable, "-m", "rutile", "barrier", *words], env=os.environ)
    first, deadline = "", time.monotonic() + 120
    while time.monotonic() < deadline:
        for kept in out.glob("kept-*.json"):
            first = first or kept.read_text()
        if first and kept.read_text() != first:
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    last = json.loads(kept.read_text())["paths"][0]["positions"]
    assert last != json.loads(first)["paths"][0]["positions"]
    reporter = SilentReporter()
    result = TASK.run(settings(ends, fmax=1e-9, max_steps=0, check=False), reporter)
    assert any("going on" in text for text in reporter.messages)
    images = read(result.images, ":5")
    np.testing.assert_allclose(np.concatenate([a.positions for a in images]), last, atol=1e-7)


@pytest.mark.slow
def test_constraints_in_files_hold(ends):
    for path in ends:
        images = read(path, ":")
        for atoms in images:
            atoms.set_constraint(FixAtoms(mask=atoms.positions[:, 2] < 6.1))
        write(path, images)
    result = TASK.run(settings(ends, fixed_below=None, check=False), SilentReporter())
    images = read(result.images, ":5")
    low = images[0].positions[:, 2] < 6.1
    assert low.sum() == 8
    assert np.array_equal(images[2].positions[low], images[0].positions[low])
    assert result.paths[0].barrier == pytest.approx(0.3744, abs=2e-3)
    for path in ends:
        images = read(path, ":")
        for atoms in images:
            atoms.set_constraint(FixAtoms(mask=atoms.positions[:, 2] < 5.0))
        write(path, images)
    TASK.run(settings(ends, fixed_below=None, check=False), fresh := SilentReporter())
    assert not fresh.messages  # other atoms stay: the kept paths are of another question


def test_what_makes_no_path_is_said(ends, tmp_path):
    with pytest.raises(SettingsError, match="as many ends as beginnings"):
        TASK.run(settings([ends[0], _one(ends[1])]), SilentReporter())
    with pytest.raises(SettingsError, match="has no atom 99"):
        TASK.run(settings(ends, fixed=[99]), SilentReporter())
    with pytest.raises(SettingsError, match="nothing can move"):
        TASK.run(settings(ends, fixed_below=100.0), SilentReporter())
    with pytest.raises(GeometryError, match=r"start.extxyz#0 to .*the same structure"):
        TASK.run(settings([ends[0], ends[0]]), SilentReporter())
    write(tmp_path / "less.extxyz", read(ends[1], 0)[:-1])
    with pytest.raises(GeometryError, match=r"one.extxyz#0 to .*less.extxyz#0: the ends hold 13 and 12 atoms"):
        TASK.run(settings([_one(ends[0]), tmp_path / "less.extxyz"]), SilentReporter())
    squeezed = read(ends[0])
    squeezed.positions[-1] = squeezed.positions[-2] + 0.2
    write(tmp_path / "squeezed.extxyz", squeezed)
    with pytest.raises(GeometryError, match="does not relax"):
        TASK.run(settings([tmp_path / "squeezed.extxyz", _one(ends[1])]), SilentReporter())


def _one(path: Path) -> Path:
    """A file of the first structure only."""
    write(path.parent / "one.extxyz", read(path, 0))
    return path.parent / "one.extxyz"
