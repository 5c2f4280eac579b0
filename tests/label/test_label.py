"""Labelling with engines that cost nothing and with engines that go wrong."""

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.io import read

from rutile.cli.main import main
from rutile.core.config import load
from rutile.core.errors import FileError, LabelError, MissingPackageError, SettingsError
from rutile.core.executors.executor import Lost
from rutile.core.reporting import SilentReporter
from rutile.data.reading import read_frames
from rutile.data.settings import ReadSettings
from rutile.label.cache import LabelCache
from rutile.label.campaign import Campaign
from rutile.label.labeler import Label
from rutile.label.run import from_here
from rutile.label.work import Work
from rutile.structures.io import write_frames
from rutile.tasks import label

FAKES = Path(__file__).with_name("fake_calculators.py")


def copper(count=4, **info):
    out = []
    for seed in range(count):
        atoms = bulk("Cu", cubic=True)
        atoms.rattle(0.1, seed=seed)
        atoms.info |= info
        out.append(atoms)
    return out


def moody(*moods):
    """Copper that makes `Moody` do something: x of the first atom."""
    out = []
    for number, mood in enumerate(moods):
        atoms = bulk("Cu", cubic=True)
        atoms.rattle(0.05, seed=number)
        atoms.positions[:, 0] += mood - atoms.positions[0, 0]
        out.append(atoms)
    return out


@pytest.fixture
def run(tmp_path):
    """Label structures with some words on the command line."""

    def do(structures, *words, reporter=None):
        path = tmp_path / "in.extxyz"
        write_frames(path, structures)
        pairs = [f"structures={path}", f"out={tmp_path / 'out.extxyz'}", f"cache={tmp_path / 'cache'}", *words]
        return label.run(load(label.LabelSettings, pairs=pairs), reporter or SilentReporter())

    return do


def fake(name, **arguments):
    return ["engine=ase", f"engine.calculator={FAKES}:{name}", f"engine.arguments={json.dumps(arguments)}"]


def calculations(path):
    return len(path.read_text().splitlines()) if path.exists() else 0


@pytest.mark.slow
def test_labels_are_those_of_the_engine_and_can_be_trained_on(run, tmp_path):
    given = copper(3, config_type="rattled", parent="fcc", REF_energy=99.0)
    result = run(given, "engine=emt")
    assert (result.structures, result.labelled, result.failed, result.isolated_atoms) == (3, 3, 0, 1)
    frames = read(result.out, ":")
    for atoms, frame in zip(given, frames[:3], strict=True):
        atoms.calc = EMT()
        assert frame.info["REF_energy"] == pytest.approx(atoms.get_potential_energy(), abs=1e-12)
        assert np.allclose(frame.arrays["REF_forces"], atoms.get_forces(), atol=1e-12)
        assert np.allclose(frame.info["REF_stress"].reshape(3, 3), atoms.get_stress(voigt=False), atol=1e-12)
        assert (frame.info["parent"], frame.info["calc_mode"]) == ("fcc", result.calc_mode)
        assert frame.info["code"].startswith("ASE EMT ")
    loaded = list(read_frames([result.out], ReadSettings(), SilentReporter()))
    assert [f.group for f in loaded] == ["rattled"] * 3 + ["isolated_atom"]
    assert {f.calc_mode for f in loaded} == {result.calc_mode}
    assert loaded[0].stress is not None


@pytest.mark.slow
def test_a_slab_among_crystals_does_not_cost_them_their_stress(run):
    slab, crystal = copper(1)[0], copper(2)[1].repeat((2, 1, 1))
    slab.pbc = (True, True, False)
    slab.center(vacuum=4.0, axis=2)
    result = run([slab, crystal], "engine=emt", "isolated_atoms=false")
    assert "stress within" in result.self_check
    assert ["REF_stress" in frame.info for frame in read(result.out, ":")] == [False, True]


@pytest.mark.slow
def test_the_same_structure_is_never_computed_twice(run, tmp_path):
    log = tmp_path / "log"
    words = [*fake("Counts", log=str(log)), "self_check=false", "isolated_atoms=false"]
    given = copper(3)
    first = run([*given, given[0]], *words)
    assert (first.computed, first.known, calculations(log)) == (3, 0, 3)
    again = run([*given, *copper(4)[3:]], *words)
    assert (again.computed, again.known, calculations(log)) == (1, 3, 4)
    moved = given[0].copy()
    moved.positions[0, 0] += 1e-5
    run([moved], *words)
    assert calculations(log) == 5


@pytest.mark.slow
def test_only_what_makes_the_numbers_counts(run, tmp_path):
    log = tmp_path / "log"
    words = [*fake("Counts", log=str(log)), "self_check=false", "isolated_atoms=false"]
    given = copper(1)
    run(given, *words)
    run(given, *words, "engine.version=v2")  # other settings, other numbers
    assert calculations(log) == 2
    run(given, *words, "engine.time_limit=77", "workers=2")  # the same numbers
    assert calculations(log) == 2


@pytest.mark.slow
def test_a_damaged_file_of_the_cache_is_computed_again(run, tmp_path):
    words = ["engine=emt", "self_check=false", "isolated_atoms=false"]
    before = run(copper(1), *words)
    (file,) = (tmp_path / "cache").rglob("*.json")
    for text in ("", "{", "[]", '{"energy": 1}', "null"):
        file.write_text(text)
        after = run(copper(1), *words)
        assert after.computed == 1
        assert read(after.out, 0).info["REF_energy"] == read(before.out, 0).info["REF_energy"]


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 3])
def test_failures_are_classified_and_the_rest_goes_on(run, tmp_path, workers):
    reporter = SilentReporter()
    silicon = bulk("Si")
    given = [*moody(0, 1, 2, 3, 4, 5, 6, 0), silicon]
    words = [*fake("Moody", seconds=60), "engine.safer={careful: true}", "engine.time_limit=6", f"workers={workers}"]
    result = run(given, *words, "self_check=false", "isolated_atoms=false", reporter=reporter)
    assert (result.labelled, result.failed) == (3, 6)
    assert {f.kind: f.structures for f in result.failures} == {
        "time limit": 1, "crashed": 1, "not converged": 1, "garbage": 2, "unsuitable": 1,
    }  # fmt: skip
    rows = [json.loads(line) for line in result.failure_list.read_text().splitlines()]
    by_kind = {row["kind"]: row for row in rows}
    assert any("no end in sight" in line for line in by_kind["time limit"]["last_lines"])
    assert any("segmentation fault comes now" in line for line in by_kind["crashed"]["last_lines"])
    assert "also with safer settings" in by_kind["not converged"]["reason"]
    assert [row["structure"].rsplit("#")[1] for row in rows] == ["1", "2", "3", "4", "6", "8"]
    frames = read(result.out, ":")
    assert len(frames) == 3
    assert [f.info.get("tries", 1) for f in frames] == [1, 2, 1]  # the fifth worked with safer settings
    assert len(reporter.warnings) == len(result.failures)


@pytest.mark.slow
def test_failures_are_kept_until_they_are_to_be_tried_again(run, tmp_path):
    log = tmp_path / "log"
    words = [*fake("Moody", log=str(log)), "self_check=false", "isolated_atoms=false"]
    run(moody(0, 3), *words)
    assert run(moody(0, 3), *words).computed == 0
    assert run(moody(0, 3), *words, "retry_failed=true").computed == 1
    assert run(moody(0, 3), *words, "engine.time_limit=55").computed == 1


@pytest.mark.slow
def test_the_self_check_refuses_wrong_forces(run):
    with pytest.raises(LabelError, match=r"none of 2 structures has a label: self-check .*forces differ"):
        run(copper(2), *fake("WrongForces"))


@pytest.mark.slow
def test_the_self_check_refuses_a_wrong_stress_alone(run):
    reporter = SilentReporter()
    wrong = run(copper(2), *fake("WrongStress"), reporter=reporter)
    assert (wrong.labelled, wrong.with_stress) == (2, 0)
    assert any("labels will have no stress" in text for text in reporter.warnings)
    right = run(copper(2), "engine=emt")
    assert (right.labelled, right.with_stress) == (2, 2)
    none = run(copper(2), *fake("NoStress"))
    assert (none.labelled, none.with_stress) == (2, 0)
    trusted = run(copper(2), *fake("WrongStress"), "self_check=false")
    assert trusted.with_stress == 2


@pytest.mark.slow
def test_every_label_missing_is_an_error_that_says_why(run):
    with pytest.raises(LabelError, match=r"none of 1 structures has a label: emt does not know Si"):
        run([bulk("Si")], "engine=emt", "isolated_atoms=false")


@pytest.mark.slow
def test_an_engine_that_is_not_there(run):
    with pytest.raises(MissingPackageError, match=r"engine gpaw: .*no_such_package|engine gpaw: .*gpaw.*install"):
        run(copper(1), "engine=gpaw")
    with pytest.raises(MissingPackageError, match="/no/such/python"):
        run(copper(1), "engine=emt", "engine.python=/no/such/python")
    with pytest.raises(MissingPackageError, match=r"no_such_pw\.x.*apt install quantum-espresso"):
        run(copper(1), "engine=espresso", "engine.command=no_such_pw.x")
    with pytest.raises(MissingPackageError, match=r"no module named no_such_module|No module named"):
        run(copper(1), "engine=ase", "engine.calculator=no_such_module:X")
    with pytest.raises(SettingsError, match="did you mean gpaw"):
        run(copper(1), "engine=gpwa")


@pytest.mark.slow
def test_an_engine_is_found_where_the_user_stands(run, tmp_path, monkeypatch):
    """Though its process begins in another folder."""
    (tmp_path / "bin").mkdir()
    python = tmp_path / "bin" / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    assert run(copper(1), "engine=emt", "engine.python=bin/python", "isolated_atoms=false").labelled == 1
    assert from_here("bin/python") == str(python)
    assert [from_here(word) for word in ("pw.x", "-in", "bin/none")] == ["pw.x", "-in", "bin/none"]


@pytest.mark.slow
def test_a_place_that_cannot_be_written(run, tmp_path):
    (tmp_path / "taken").write_text("x")
    with pytest.raises(FileError, match="taken"):
        run(copper(1), "engine=emt", f"cache={tmp_path / 'taken'}/x")
    with pytest.raises(FileError, match="no file format"):
        run(copper(1), "engine=emt", f"out={tmp_path / 'x.qqq'}")


@pytest.mark.slow
def test_given_isolated_atoms_are_the_isolated_atoms(run):
    given = [Atoms("Ar", info={"config_type": "isolated_atom"}), Atoms("Ar2", positions=[(0, 0, 0), (0, 0, 3.8)])]
    result = run(given, "engine=lennard_jones", "self_check=false")
    frames = read(result.out, ":")
    assert [len(f) for f in frames] == [1, 2]
    assert (result.labelled, result.isolated_atoms) == (2, 1)


@pytest.mark.slow
def test_lennard_jones_pair(run):
    pair = Atoms("Ar2", positions=[(0, 0, 0), (0, 0, 3.4 * 2 ** (1 / 6))])
    result = run([pair], "engine=lennard_jones", "isolated_atoms=false")
    assert read(result.out, 0).info["REF_energy"] == pytest.approx(-0.0104, abs=2e-5)


def test_a_crystal_is_refused_by_engines_of_molecules(run):
    from rutile.label.settings import XtbSettings
    from rutile.label.suits import unsuitable

    failure = unsuitable(XtbSettings(), bulk("Si"))
    assert failure.kind == "unsuitable"
    assert "no k-points" in failure.reason
    assert unsuitable(XtbSettings(), molecule("H2O")) is None


def test_ten_thousand_atoms_are_refused_with_the_cost():
    from rutile.label.cost import estimate, refuse_cost
    from rutile.label.settings import EspressoSettings, GpawSettings, PyscfSettings, XtbSettings

    large = bulk("Si", cubic=True) * (11, 11, 11)
    assert len(large) > 10_000
    for settings in (GpawSettings(), EspressoSettings()):
        failure = refuse_cost(settings, large)
        assert failure.kind == "too large"
        assert "years" in failure.reason
        assert refuse_cost(settings, bulk("Si")) is None
    drop = Atoms("H" * 20000, positions=np.random.default_rng(0).random((20000, 3)) * 60)
    for settings in (PyscfSettings(), XtbSettings()):
        assert refuse_cost(settings, drop).kind == "too large"
        assert refuse_cost(settings, molecule("C6H6")) is None
    assert 1.0 < estimate(GpawSettings(protocol="precise"), bulk("Si", cubic=True)) < 1000.0


@pytest.mark.slow
def test_two_processes_at_once_give_the_bits_of_one(run, tmp_path):
    one = run(copper(6), "engine=emt", "self_check=false", f"cache={tmp_path / 'a'}")
    first = [(a.info["REF_energy"], a.arrays["REF_forces"].tobytes()) for a in read(one.out, ":")]
    two = run(copper(6), "engine=emt", "self_check=false", f"cache={tmp_path / 'b'}", "workers=2")
    assert [(a.info["REF_energy"], a.arrays["REF_forces"].tobytes()) for a in read(two.out, ":")] == first


@pytest.mark.slow
def test_killed_at_any_moment_it_goes_on_where_it_was(tmp_path):
    log, out = tmp_path / "log", tmp_path / "out.extxyz"
    write_frames(tmp_path / "in.extxyz", [*moody(*[0] * 6), *moody(1)])
    words = [
        sys.executable, "-m", "rutile", "label", str(tmp_path / "in.extxyz"), f"out={out}", "self_check=false",
        f"cache={tmp_path / 'cache'}", "isolated_atoms=false", *fake("Moody", log=str(log), seconds=600),
    ]  # fmt: skip
    process = subprocess.Popen(words, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    for _ in range(6000):
        if len(list((tmp_path / "cache").rglob("*.json"))) == 6:
            break
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)  # while the seventh hangs
    process.wait()
    assert not out.exists()
    assert calculations(log) == 6
    write_frames(tmp_path / "in.extxyz", moody(*[0] * 6))
    done = subprocess.run(words, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert calculations(log) == 6
    assert len(read(out, ":")) == 6


@pytest.mark.slow
def test_killed_with_its_processes_it_goes_on_where_it_was(tmp_path):
    """Workers and engines end with the driver; what was done is known."""
    log, cache = tmp_path / "log", tmp_path / "cache"
    write_frames(tmp_path / "in.extxyz", moody(*[0] * 6, 1))
    words = [
        sys.executable, "-m", "rutile", "label", str(tmp_path / "in.extxyz"), f"out={tmp_path / 'out.extxyz'}",
        f"cache={cache}", "self_check=false", "isolated_atoms=false", "workers=2", "executor=local",
        *fake("Moody", log=str(log), seconds=600),
    ]  # fmt: skip
    process = subprocess.Popen(words, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    for _ in range(6000):
        if len(list(cache.rglob("*.json"))) == 6:
            break
        time.sleep(0.02)
    family = psutil.Process(process.pid).children(recursive=True)
    assert len(family) >= 4  # workers and their engines
    process.send_signal(signal.SIGKILL)  # while one hangs
    process.wait()
    _, alive = psutil.wait_procs(family, timeout=60)
    assert not alive
    assert calculations(log) == 6
    write_frames(tmp_path / "in.extxyz", moody(*[0] * 6))
    done = subprocess.run(words, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert calculations(log) == 6
    assert len(read(tmp_path / "out.extxyz", ":")) == 6


def test_the_work_on_a_structure_can_be_sent():
    work = Work(load(label.LabelSettings, pairs=["structures=x", "engine=gpaw", "engine.cutoff=500"]).engine)
    assert pickle.loads(pickle.dumps(work)) == work


class Loses:
    """An executor that loses its workers over the second item."""

    def each(self, work, items):
        for k, item in enumerate(items):
            yield k, Lost("3 workers were lost") if k == 1 else work(item)


@pytest.mark.slow
def test_a_structure_over_which_workers_are_lost_is_a_failure(tmp_path):
    engine = load(label.LabelSettings, pairs=["structures=x", "engine=emt"]).engine
    campaign = Campaign(engine, LabelCache(tmp_path), Loses(), SilentReporter())
    found = campaign.run(copper(3), self_check=False, isolated_atoms=False).outcomes
    assert [isinstance(o, Label) for o in found] == [True, False, True]
    assert (found[1].kind, found[1].reason) == ("crashed", "3 workers were lost")


def test_the_engine_ends_when_nobody_waits_for_it(tmp_path):
    """Standard input closes: the watched program is killed with all it started."""
    from rutile.label.outside import watch

    script = "import os,time,pathlib; pathlib.Path('pid').write_text(str(os.getpid())); time.sleep(600)"
    command = [sys.executable, str(Path(watch.__file__)), "600", sys.executable, "-c", script]
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    env = os.environ | {watch.SCRATCH: str(scratch)}
    guard = subprocess.Popen(command, stdin=subprocess.PIPE, cwd=tmp_path, env=env)
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
        time.sleep(0.01)
    guard.stdin.close()
    assert guard.wait(timeout=60) == watch.OVER_TIME
    assert not scratch.exists()
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


@pytest.mark.slow
def test_the_command_ends_with_0_and_counts_what_failed(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_frames("in.extxyz", [*copper(1), bulk("Si")])
    assert main(["label", "in.extxyz", "engine=emt"]) == 0
    captured = capsys.readouterr()
    assert "1 of 2 failed (unsuitable)" in captured.err
    assert main(["label", "in.extxyz", "engine=emt", "engine.time_limit=-1"]) == 2
