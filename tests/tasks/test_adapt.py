"""`rutile adapt` from its plan to its files: a poor first potential, and the labeler's minimum at the end."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from ase.build import bulk, molecule
from ase.io import read

from rutile.core.config import load
from rutile.core.errors import LabelError, ModeError, RutileError, SettingsError, TrainingError
from rutile.core.executors.executor import Lost
from rutile.core.reporting import SilentReporter
from rutile.label.labeler import Failure
from rutile.label.selfcheck import Verdict
from rutile.label.work import close_all
from rutile.search.adaptive_items import Answer, Asked, Lesson, Question, Trained
from rutile.search.adaptive_work import Asker, Ending
from rutile.search.fingerprint import fingerprint
from rutile.search.individual import Candidate
from rutile.search.molecules import joined
from rutile.tasks.adapt import AdaptSettings, _adaptive, _identity, _initial, run
from rutile.tasks.adapt_results import rows_of
from rutile.tasks.adapt_train import Teacher, stop_file
from rutile.testing.adaptive_plan import QUICK

PLANS = Path(__file__).parents[2] / "plans"


def plan(**more):
    return AdaptSettings.model_validate(QUICK | more)


@pytest.mark.slow
def test_a_poor_potential_is_taught_until_it_finds_the_minimum_of_the_labeler(tmp_path):
    out = tmp_path / "out"
    reporter = SilentReporter()
    result = run(plan(out=out, at_once=False), reporter)
    best = result.structures[0]
    assert best.name in ("fcc", "hcp", "dhcp")
    assert best.relaxed
    assert best.energy == pytest.approx(-0.007, abs=0.01)  # fcc copper by EMT: -0.0070 eV
    assert result.labels <= 30 + 2 * 25
    kept = [v for v in result.versions if not v.rejected]
    assert len(kept) >= 2
    assert kept[-1].new_energy_before > 0
    assert [r.energy for r in result.structures] == sorted(r.energy for r in result.structures)
    images = read(result.best, ":")
    assert len(images) == len(result.structures)
    labels = read(result.labelled, ":")
    assert {a.info["config_type"] for a in labels} >= {"first", "best"}
    assert all("structure" in a.info for a in labels)
    page = result.report.read_text()
    assert "Versions of the potential" in page
    assert "Who worked when" in page
    told = json.loads((out / "result.json").read_text())
    assert told["units"]["versions.csv"]["new_energy"] == "eV/atom"
    assert (out / "versions.csv").read_text().count("\n") == len(result.versions) + 1

    again = run(plan(out=out, at_once=False), SilentReporter())  # nothing is left to do
    assert again == result
    with pytest.raises(SettingsError, match="seed"):
        run(plan(out=out, seed=4), SilentReporter())


@pytest.mark.slow
def test_it_goes_on_after_a_kill_with_all_three_at_once(tmp_path):
    words = tmp_path / "plan.yaml"
    words.write_text(yaml.safe_dump(QUICK | {"stop": {"labels": 14}, "final": 1, "final_steps": 4}))
    command = [sys.executable, "-m", "rutile", "adapt", str(words), f"out={tmp_path / 'out'}"]
    log = tmp_path / "out" / "adapt.jsonl"
    first = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    for _ in range(1200):
        if first.poll() is not None or (log.exists() and b'"kind": "search"' in log.read_bytes()):
            break
        time.sleep(0.1)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    before = [line for line in log.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = log.read_bytes().splitlines(keepends=True)
    assert lines[: len(before)] == before
    events = [json.loads(line) for line in lines[1:]]
    came = [(e["came"]["kind"], e["came"]["number"]) for e in events if "came" in e and "lost" not in e["came"]]
    assert len(came) == len(set(came))  # nothing came twice
    labels = [e["gave"]["label"] for e in events if "gave" in e and e["gave"]["kind"] == "label"]
    assert set(range(14)) <= set(labels)


@pytest.mark.slow
def test_bad_plans_are_told_in_a_line(tmp_path):
    with pytest.raises(SettingsError, match="nothing to learn"):
        run(plan(begin=0, out=tmp_path / "a"), SilentReporter())
    with pytest.raises(RutileError, match="missing"):
        run(plan(initial=[tmp_path / "missing.extxyz"], out=tmp_path / "b"), SilentReporter())
    with pytest.raises(RutileError, match="Qq"):
        run(plan(formula="Qq2", out=tmp_path / "c"), SilentReporter())
    with pytest.raises(SettingsError, match="operators"):
        run(plan(operators={"magic": 1}, out=tmp_path / "d"), SilentReporter())
    other = tmp_path / "other.extxyz"
    other.write_text(
        '1\nLattice="3 0 0 0 3 0 0 0 3" Properties=species:S:1:pos:R:3:REF_forces:R:3 REF_energy=1 calc_mode=other\n'
        "Cu 0 0 0 0 0 0\n"
    )
    with pytest.raises(ModeError, match="other"):
        run(plan(initial=[other], begin=0, out=tmp_path / "e"), SilentReporter())


def test_structures_with_broken_molecules_are_refused(tmp_path):
    ice = {"name": "crystal", "molecules": {"H2O": 2}, "units": [1]}
    whole = joined([molecule("H2O"), molecule("H2O")], np.eye(3) * 9)
    whole.positions[3:] += 4.0
    broken = whole.copy()
    broken.positions[1] += 1.0
    refuse, keep = (_adaptive(plan(formula="", structure=ice | {"broken": b}), None) for b in ("refuse", "keep"))
    assert not refuse.guard(whole)
    assert "broken" in refuse.guard(broken)
    assert not keep.guard(broken)


def test_no_final_structures_where_they_get_no_steps():
    assert _adaptive(plan(final_steps=0), None).settings.final == 0


@pytest.mark.slow
def test_the_table_keeps_a_label_below_that_of_its_final_relaxation():
    search = _adaptive(plan(), None)
    crystal = bulk("Cu")
    search.known[3] = Candidate(3, crystal, "new", ()), None, None
    question = Question(0, 3, crystal, "first", None, 0.0)
    search.marks.append(fingerprint(crystal, search.search.problem.distance))
    search.asked.append(Asked(question, Answer(crystal, -1.0, 0.1, "")))
    for energy, relaxed in ((-0.9, False), (float("nan"), False), (-1.1, True)):
        search.finals[0] = Asked(question, Answer(crystal, energy, 0.1, ""))
        ((row, _),) = rows_of(plan(), search)
        assert row.relaxed == relaxed
        assert row.energy == (energy if relaxed else -1.0)


def test_other_initial_structures_make_another_search(tmp_path):
    first, other = tmp_path / "first.extxyz", tmp_path / "other.extxyz"
    for path, energy in ((first, 1), (other, 2)):
        path.write_text(
            '1\nLattice="3 0 0 0 3 0 0 0 3" Properties=species:S:1:pos:R:3:REF_forces:R:3 '
            f"REF_energy={energy} calc_mode=m\nCu 0 0 0 0 0 0\n"
        )
    told = []
    for path in (first, first, other):
        settings = plan(initial=[path], out=tmp_path / "out")
        _initial(settings, "m", SilentReporter())
        told.append(_identity(settings, "m")["initial"])
    assert told[0] == told[1] != told[2]


def test_a_lesson_whose_new_labels_are_all_for_validation_is_trained_on_the_old_ones(tmp_path):
    teacher = Teacher(tmp_path, plan().committee, plan().retrain, None, 0, 0.0)
    every = round(1 / plan().committee.valid)
    frames = tuple(bulk("Cu", a=3.5 + 0.1 * k) for k in range(every))
    lesson = Lesson(1, 0, "version-000/model", (every - 1,), tuple(range(every - 1)), frames[-1:] + frames[:-1])
    new, old, valid = teacher._files(lesson, tmp_path)
    assert not old
    assert len(read(*new, ":")) == every - 1
    assert len(read(*valid, ":")) == 1


@pytest.mark.slow
def test_it_says_when_the_labeler_labels_nothing(tmp_path):
    with pytest.raises(LabelError, match="emt does not know U"):
        run(plan(formula="CuU", begin=2, self_check=False, out=tmp_path / "out"), SilentReporter())
    assert b'"gave"' not in (tmp_path / "out" / "adapt.jsonl").read_bytes()


@pytest.mark.slow
def test_an_engine_whose_forces_are_no_derivatives_labels_nothing(tmp_path, monkeypatch):
    verdict = Verdict(Failure("self-check", "forces differ from finite differences"), False, 0.3, None, "they differ")
    monkeypatch.setattr("rutile.label.campaign.judge_check", lambda *words: verdict)
    with pytest.raises(LabelError, match=r"finite differences \(self_check=false"):
        run(plan(out=tmp_path / "out"), SilentReporter())
    assert b'"gave"' not in (tmp_path / "out" / "adapt.jsonl").read_bytes()


def lesson_of(model, version=1):
    return Lesson(version, 0 if model else None, model, (0,), (), (bulk("Cu"),))


def test_a_training_that_diverges_keeps_the_old_version(tmp_path, monkeypatch):
    def diverge(*words, **more):
        raise TrainingError("step 3:\nNaN")

    monkeypatch.setattr("rutile.tasks.adapt_train.train_committee", diverge)
    teacher = Teacher(tmp_path, plan().committee, plan().retrain, None, 0, 0.0)
    assert teacher(lesson_of("version-000/model")) == Trained("", 0, failure="step 3: NaN")
    with pytest.raises(TrainingError):  # there is no version to go on with
        teacher(lesson_of(""))


def test_a_training_ends_when_nobody_wants_it_any_more(tmp_path, monkeypatch):
    seen = []

    def long(committee, how, data, seed, start, out, reporter, report):
        for epoch in reporter.track(range(100), "epochs"):
            seen.append(epoch)
            if epoch == 2:
                stop_file(tmp_path, 1).touch()

    monkeypatch.setattr("rutile.tasks.adapt_train.train_committee", long)
    teacher = Teacher(tmp_path, plan().committee, plan().retrain, None, 0, 0.0)
    for _ in range(2):  # the second time it begins anew: the search goes on
        seen.clear()
        assert isinstance(teacher(lesson_of("version-000/model")), Lost)
        assert seen == [0, 1, 2]


@pytest.mark.slow
def test_labels_that_are_known_cost_nothing(tmp_path):
    settings = plan()
    asker = Asker(settings.engine, "1", tmp_path, 0.0, Ending(4, 0.01, cell=True))
    copper = bulk("Cu", a=3.7)
    question = Question(0, 0, copper, "best", 0, 0.0)
    final = Question(0, 0, copper, "final", 0, 0.0)
    try:
        assert [asker(question).cost for _ in range(2)] == [1, 0]
        costs = [asker(final).cost for _ in range(2)]
    finally:
        close_all()
    assert 0 < costs[0] <= 3  # its first step is known
    assert costs[1] == 0


@pytest.mark.parametrize("name", ["tio2_adaptive.yaml", "silicon_adaptive_gpaw.yaml"])
def test_plans_that_ship_can_be_read(name):
    settings = load(AdaptSettings, [PLANS / name])
    assert settings.formula in ("TiO2", "Si")


@pytest.mark.dft
@pytest.mark.skipif("RUTILE_GPAW_PYTHON" not in os.environ, reason="see docs/label.md, then RUTILE_GPAW_PYTHON=...")
def test_silicon_by_gpaw_ends_in_diamond(tmp_path):
    words = [f"engine.python={os.environ.get('RUTILE_GPAW_PYTHON')}", "stop.labels=40", "final=2", "final_steps=8"]
    settings = load(AdaptSettings, [PLANS / "silicon_adaptive_gpaw.yaml"], [*words, f"out={tmp_path / 'out'}"])
    best = run(settings, SilentReporter()).structures[0]
    assert best.name == "diamond"
    assert best.volume == pytest.approx(20.5, abs=0.3)
