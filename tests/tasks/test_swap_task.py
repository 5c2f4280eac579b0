"""`rutile swap`."""

import csv
import json

import numpy as np
import pytest
from ase.build import bulk
from ase.cluster import Icosahedron
from ase.io import read, write

from rutile.core.errors import ElementError, SettingsError
from rutile.core.reporting import SilentReporter
from rutile.tasks import kept_swaps
from rutile.tasks.swap import TASK, SwapTaskSettings

FIVE = {"composition": {"Cu": 1, "Ni": 1, "Pd": 1, "Ag": 1, "Pt": 1}, "shape": "icosahedron", "atoms": 55}
TWO = {"composition": {"Cu": 1, "Au": 1}, "shape": "icosahedron", "atoms": 13}


def settings(tmp_path, **more):
    return SwapTaskSettings(**{"model": "emt", "out": tmp_path / "out", "steps": 10, "observe_every": 2} | more)


@pytest.mark.slow
def test_a_particle_of_five_metals_end_to_end(tmp_path):
    given = settings(tmp_path, particles=FIVE, steps=60, temperatures=(300, 1500), fmax=0.1)
    result = TASK.run(given, SilentReporter())
    cold, hot = result.runs
    assert [row.temperature for row in result.runs] == [300, 1500]
    assert cold.outcome == hot.outcome == "done"
    assert cold.acceptance < hot.acceptance
    assert cold.gain > 0.01
    assert 2.5 < cold.cohesive < 4.5
    first, second = read(result.best_structures, ":")
    assert sorted(first.numbers) == sorted(second.numbers)
    assert cold.best == pytest.approx(first.info["total_energy"] / 55)
    with (tmp_path / "out/profile.csv").open() as file:
        profile = list(csv.DictReader(file))
    for run in ("0", "1"):
        whole = sum(float(r["share"]) * float(r["atoms"]) for r in profile if r["run"] == run)
        assert whole == pytest.approx(55)
        outer = {r["element"]: float(r["share"]) for r in profile if r["run"] == run and r["shell"] == "0"}
        assert sum(outer.values()) == pytest.approx(1)
    with (tmp_path / "out/energies.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 2 * 61
    with (tmp_path / "out/order.csv").open() as file:
        assert {r["i"] for r in csv.DictReader(file)} == {"Cu", "Ni", "Pd", "Ag", "Pt"}
    page = result.report.read_text()
    assert page.count("<svg") >= 5
    assert page.count("Pd-Ag") == 2
    assert json.loads((tmp_path / "out/result.json").read_text())["units"]["table.csv"]["best"] == "eV/atom"
    assert not (tmp_path / "out/.state.npz").exists()


@pytest.mark.slow
def test_a_run_that_was_killed_goes_on_to_the_same_bits(tmp_path, monkeypatch):
    more = {"particles": TWO | {"count": 2}, "steps": 12, "keep_every": 3, "md_every": 5, "md_time": 0.02}
    whole = TASK.run(settings(tmp_path, out=tmp_path / "whole", **more), SilentReporter())
    write_kept, times = kept_swaps.KeptSwaps.write, []

    def stop(self, state, seen):
        write_kept(self, state, seen)
        times.append(state.step)
        if state.step == 9:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(kept_swaps.KeptSwaps, "write", stop)
        with pytest.raises(KeyboardInterrupt):
            TASK.run(settings(tmp_path, **more), SilentReporter())
    assert times == [0, 3, 6, 9]
    with pytest.raises(SettingsError, match="other runs"):
        TASK.run(settings(tmp_path, **more | {"seed": 1}), SilentReporter())
    reporter = SilentReporter()
    result = TASK.run(settings(tmp_path, **more), reporter)
    assert any("going on after 9 of 12 steps" in text for text in reporter.messages)
    for name in ("table.csv", "energies.csv", "profile.csv", "order.csv", "best.extxyz", "last.extxyz"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    assert result.runs == whole.runs


@pytest.mark.slow
def test_crystals_on_their_lattice(tmp_path):
    atoms = bulk("Cu", cubic=True) * (2, 2, 2)
    atoms.numbers[::4] = 79
    write(tmp_path / "alloy.extxyz", atoms)
    given = settings(tmp_path, structures=[tmp_path / "alloy.extxyz"], relax="never", steps=30)
    (row,) = TASK.run(given, SilentReporter()).runs
    assert row.surface == ""
    assert row.order.startswith("Cu-Au")
    last = read(tmp_path / "out/last.extxyz")
    assert np.allclose(last.positions, atoms.positions)
    assert sorted(last.numbers) == sorted(atoms.numbers)


@pytest.mark.parametrize(
    ("more", "kind", "match"),
    [
        ({}, SettingsError, "no particles"),
        ({"particles": {"composition": {"Cu": 99, "Au": 1}, "atoms": 13}}, SettingsError, "no atom of Au"),
        ({"particles": {"composition": {"Cu": 1, "Ir": 1}, "atoms": 13}}, ElementError, "Ir"),
    ],
)
def test_bad_input_of_swap_is_one_line(tmp_path, more, kind, match):
    with pytest.raises(kind, match=match):
        TASK.run(settings(tmp_path, **more), SilentReporter())


def test_a_pure_particle_has_nothing_to_exchange(tmp_path):
    pure = Icosahedron("Cu", 2)
    pure.info.clear()
    write(tmp_path / "pure.extxyz", pure)
    with pytest.raises(SettingsError, match="Cu only"):
        TASK.run(settings(tmp_path, structures=[tmp_path / "pure.extxyz"]), SilentReporter())
