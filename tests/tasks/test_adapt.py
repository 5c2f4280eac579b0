"""`rutile adapt` from its plan to its files: a poor first potential, and the labeler's minimum at the end."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from ase.io import read

from rutile.core.config import load
from rutile.core.errors import LabelError, ModeError, RutileError, SettingsError
from rutile.core.reporting import SilentReporter
from rutile.tasks.adapt import AdaptSettings, run

PLANS = Path(__file__).parents[2] / "plans"
PLAN = {
    "formula": "Cu", "structure": {"name": "crystal", "units": [1, 2]}, "engine": {"name": "emt"}, "begin": 8,
    "batch": 8, "rest": 32,
    "pool": {"size": 8, "elite": 2}, "first": 8, "fmax": 0.1, "smax": 1.0, "max_steps": 60, "final": 2,
    "ask": {"per_version": 5, "after": 16}, "teach": {"after": 4}, "stop": {"labels": 30, "versions": 2},
    "committee": {
        "potential": {
            "name": "behler", "hidden": [6],
            "auto": {"cutoff": 4.5, "n_radial": 4, "angular_etas": [0.01], "zetas": [1.0]},
        },
        "members": 2, "workers": 1, "threads": 1, "epochs": 4, "validate_every": 4, "keep": "last",
        "optimizer": {"name": "lbfgs"}, "schedule": {"name": "constant"},
    },
    "retrain": {"name": "warm", "epochs": 3, "rate": 1.0},
}  # fmt: skip


def plan(**more):
    return AdaptSettings.model_validate(PLAN | more)


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
    words.write_text(yaml.safe_dump(PLAN | {"stop": {"labels": 14}, "final": 1, "final_steps": 4}))
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


def test_it_says_when_the_labeler_labels_nothing(tmp_path):
    with pytest.raises(LabelError, match="first labels"):
        run(
            plan(formula="CuU", structure={"name": "crystal", "units": [1]}, begin=2, out=tmp_path / "out"),
            SilentReporter(),
        )


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
