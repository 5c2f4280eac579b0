"""`rutile saddles`: the hop of gold on aluminium from one side, one row for equal saddles, going on, and refusals."""

import csv
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import add_adsorbate, bulk, fcc100
from ase.io import read, write

from rutile.core.errors import GeometryError, SettingsError
from rutile.core.reporting import SilentReporter
from rutile.simulate.saddle_search import Minima, alike, farthest, neighbourhoods
from rutile.structures.structures import Structures
from rutile.tasks.saddles import TASK, SaddleTaskSettings

GOLD = 12
FOUR_WAYS = [(1, 0, 0), (0, 1, 0), (-1, 0, 0), (0, -1, 0)]


@pytest.fixture
def adatom(tmp_path):
    """Gold in a hollow of Al(100)."""
    slab = fcc100("Al", size=(2, 2, 3))
    add_adsorbate(slab, "Au", 1.7, "hollow")
    slab.info = {}
    slab.center(axis=2, vacuum=4.0)
    write(tmp_path / "start.extxyz", slab)
    return tmp_path / "start.extxyz"


def settings(adatom, **more):
    given = {
        "structures": [adatom],
        "model": "emt",
        "fixed_below": 6.1,
        "centres": [GOLD],
        "out": adatom.parent / "out",
    }
    return SaddleTaskSettings(**(given | more))


@pytest.mark.slow
def test_four_equal_hops_are_one_saddle(adatom):
    result = TASK.run(settings(adatom, directions=FOUR_WAYS), SilentReporter())
    assert (result.searches, result.converged, result.failures) == (4, 4, {})
    (row,) = result.saddles
    assert (row.outcome, row.found, row.imaginary, row.joins) == ("done", 4, 1, "0 - 0'")
    assert row.barrier == pytest.approx(0.3744, abs=1e-3)  # as by ASE's elastic band
    assert row.reverse_barrier == pytest.approx(row.barrier, abs=1e-3)
    assert row.wave_number < -20
    saddle, minimum = read(result.structures), read(result.minima, 0)
    low = minimum.positions[:, 2] < 6.1
    assert np.array_equal(saddle.positions[low], minimum.positions[low])
    bridge = saddle.positions[GOLD] - minimum.positions[GOLD]
    assert sorted(np.abs(bridge[:2])) == pytest.approx([0, 2.86 / 2], abs=0.03)
    with result.table.open() as file:
        assert float(next(csv.DictReader(file))["barrier"]) == pytest.approx(row.barrier)
    assert "<svg" in result.report.read_text()


@pytest.mark.slow
def test_random_directions_find_the_hop_and_others(adatom):
    result = TASK.run(settings(adatom, tries=8), SilentReporter())
    assert result.searches == 8
    good = [row for row in result.saddles if row.outcome == "done"]
    assert good[0].barrier == pytest.approx(0.3744, abs=1e-3)
    assert all(row.imaginary == 1 for row in good)
    assert sum(row.found for row in result.saddles) == result.converged
    barriers = [row.barrier for row in result.saddles]
    assert barriers == sorted(barriers)
    assert np.diff(barriers).min(initial=1.0) > 1e-3  # none twice


@pytest.mark.slow
def test_a_killed_run_goes_on(adatom):
    words = [str(adatom), "model=emt", "fixed_below=6.1", f"centres=[{GOLD}]", "atoms_at_once=13",
             f"directions={[list(d) for d in FOUR_WAYS]}", f"out={adatom.parent / 'out'}"]  # fmt: skip
    out = adatom.parent / "out"
    process = subprocess.Popen([sys.executable, "-m", "rutile", "saddles", *words], env=os.environ)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not list(out.glob("kept-*.json")):
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    (kept,) = out.glob("kept-*.json")
    before = json.loads(kept.read_text())["ends"]
    assert 1 <= len(before) < 4
    result = TASK.run(settings(adatom, directions=FOUR_WAYS, atoms_at_once=13), reporter := SilentReporter())
    assert any(f"going on after {len(before)} of 4" in text for text in reporter.messages)
    assert result.saddles[0].found == 4
    after = json.loads(kept.read_text())["ends"]
    assert after[: len(before)] == before


def test_what_cannot_be_searched_is_said(adatom):
    with pytest.raises(SettingsError, match="has no atom 99"):
        TASK.run(settings(adatom, centres=[99]), SilentReporter())
    with pytest.raises(SettingsError, match="all of them are fixed"):
        TASK.run(settings(adatom, centres=[0]), SilentReporter())
    with pytest.raises(SettingsError, match="all 13 atoms are fixed"):
        TASK.run(settings(adatom, fixed_below=99.0), SilentReporter())
    squeezed = read(adatom)
    squeezed.positions[-1] = squeezed.positions[-2] + 0.2
    write(adatom, squeezed)
    with pytest.raises(GeometryError, match="does not relax"):
        TASK.run(settings(adatom), SilentReporter())


def test_no_saddle_is_an_outcome(adatom):
    result = TASK.run(settings(adatom, directions=FOUR_WAYS[:1], max_steps=0), reporter := SilentReporter())
    (row,) = result.saddles
    assert (row.saddle, row.outcome) == (None, "no saddle point was found")
    assert result.failures == {"no saddle point after 0 steps": 1}
    assert any("more tries" in text for text in reporter.warnings)


@pytest.mark.slow
def test_a_committee_says_how_far_its_members_differ(tmp_path, committee):
    atoms = bulk("Cu", cubic=True)
    del atoms[0]
    write(tmp_path / "vacancy.extxyz", atoms)
    given = {"structures": [tmp_path / "vacancy.extxyz"], "model": committee, "relax": False, "out": tmp_path / "out"}
    result = TASK.run(SaddleTaskSettings(**given, tries=2, max_steps=60, fmax=0.05, same=0.05), SilentReporter())
    for row in result.saddles:
        assert (row.saddle is None) == (row.barrier_std is None)
    assert any(row.barrier_std for row in result.saddles)


def test_minima_are_known_again_wherever_they_are():
    rng = np.random.default_rng(0)
    atoms = Atoms("Cu6Au2", positions=rng.normal(0, 2.5, (8, 3)), cell=[12] * 3, pbc=True)
    turned = atoms.copy()
    turned.rotate(90, "z")
    turned.positions += [3.0, -1.0, 0.5]
    turned.wrap()
    turned = turned[[1, 0, 2, 3, 5, 4, 7, 6]]
    other = atoms.copy()
    other.positions[3] += [0.4, 0.3, 0.0]
    first, second, third = (Structures.from_ase([a]) for a in (atoms, turned, other))
    assert alike(neighbourhoods(first), neighbourhoods(second))
    assert not alike(neighbourhoods(first), neighbourhoods(third))
    minima = Minima(first, -1.0, 1e-3)
    assert minima.number(first, -1.0) == (0, True)
    assert minima.number(second, -1.0) == (0, False)
    assert minima.number(third, -1.0) == (1, True)
    assert minima.number(first, -0.9) == (2, True)
    wrapped = first.replace(positions=first.positions + torch.tensor([12.0, 0.0, 0.0]))
    assert farthest(first, wrapped) == pytest.approx(0.0, abs=1e-9)
