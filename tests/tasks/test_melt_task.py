"""`rutile melt`: rounds of runs, kept in folders, to a bracket."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from ase.build import bulk
from ase.io import write

from rutile.core.errors import DataError, GeometryError, SettingsError
from rutile.core.reporting import SilentReporter
from rutile.potentials.evaluate import evaluate
from rutile.potentials.lennard_jones import LennardJones
from rutile.structures.structures import Structures
from rutile.tasks.melt import TASK, MeltTaskSettings
from rutile.tasks.melt_round import Grown, _seen

ARGON = {"model": "lennard_jones", "expansion": 0.15, "compressibility": 0.5, "timestep": 5.0}
SHORT = {"lowest": 40.0, "highest": 130.0, "runs": 2, "rounds": 1, "atoms": 108, "crystal_time": 1.0, "melt_time": 4.0,
         "time": 3.0, "look": 0.25}  # fmt: skip


def argon(folder, **more):
    write(folder / "ar.extxyz", bulk("Ar", cubic=True, a=5.4))
    return MeltTaskSettings(structures=[folder / "ar.extxyz"], out=folder / "melt", **ARGON | SHORT | more)


@pytest.mark.slow
def test_cold_crystal_grows_hot_liquid_grows(tmp_path):
    result = TASK.run(argon(tmp_path, time=12.0), SilentReporter())
    (row,) = result.structures
    cold, hot = result.runs
    assert (cold.verdict, hot.verdict) == ("froze", "melted")
    assert 0.2 < cold.start < 0.8
    assert row.low == 40.0
    assert row.high == 130.0
    assert row.melting_point == 85.0
    told = json.loads((tmp_path / "melt/result.json").read_text())
    assert told["structures"][0]["error"] == 45.0
    assert "svg" in result.report.read_text()
    again = TASK.run(argon(tmp_path, time=12.0), SilentReporter())
    assert again == result


def test_members_of_a_committee_look_at_some_frames_of_a_run(tmp_path):
    images = [bulk("Ar", cubic=True, a=5.2 + 0.01 * k) for k in range(50)]
    write(tmp_path / "run.extxyz", images)
    part = np.linspace(0.5, 0.2, 50)
    grown = Grown(80.0, 4, np.arange(50.0), part, "melted", "")
    members = [LennardJones(epsilon=e) for e in (0.0100, 0.0106)]
    seen = _seen(grown, tmp_path / "run.extxyz", members)
    assert seen.energies.shape == (2, 20)
    assert (seen.part[0], seen.part[-1]) == (0.5, 0.2)
    np.testing.assert_allclose(seen.energies[1], 1.06 * seen.energies[0], rtol=1e-9)
    assert seen.volume[-1] == pytest.approx(5.69**3 / 4)
    alone = evaluate(members[0], Structures.from_ase([images[-1]])).energy.item() / 4
    assert seen.energies[0, -1] == pytest.approx(alone)
    assert _seen(dataclasses.replace(grown, part=part[:1]), tmp_path / "run.extxyz", members) is None


@pytest.mark.long
def test_killed_and_run_again_it_is_as_if_nothing_had_happened(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir()
    killed.mkdir()
    TASK.run(argon(whole), SilentReporter())
    settings = argon(killed)
    words = [str(settings.structures[0]), f"out={settings.out}", "checkpoint_seconds=0"]
    words += [f"{k}={v}" for k, v in (ARGON | SHORT).items()]
    command = [sys.executable, "-m", "rutile", "melt", *words]
    for stage in ("half", "coexistence"):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        seen = settings.out / "000_Ar4/round-0" / stage / "checkpoint.safetensors"
        end = time.monotonic() + 120
        while not seen.exists() and process.poll() is None and time.monotonic() < end:
            time.sleep(0.05)
        time.sleep(0.3)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    TASK.run(settings, SilentReporter())
    for name in ("table.csv", "growth.csv"):
        a, b = ((folder / "melt" / name).read_text().replace(str(folder), "") for folder in (whole, killed))
        assert a == b


def test_what_cannot_be_is_said(tmp_path):
    with pytest.raises(SettingsError, match="lowest=200 K is not below highest=130 K"):
        TASK.run(argon(tmp_path, lowest=200.0), SilentReporter())
    write(tmp_path / "skew.extxyz", bulk("Ar", a=5.4))
    skew = argon(tmp_path).model_copy(update={"structures": [tmp_path / "skew.extxyz"], "out": tmp_path / "skew"})
    with pytest.raises(GeometryError, match="upright"):
        TASK.run(skew, SilentReporter())


@pytest.mark.slow
def test_a_half_that_does_not_melt_is_said(tmp_path):
    cold = argon(tmp_path, lowest=10.0, highest=20.0, hot=1.5, crystal_time=0.5, melt_time=0.5)
    with pytest.raises(DataError, match=r"to melt at 30 K, but its order is .*melt longer or hotter"):
        TASK.run(cold, SilentReporter())
    other = argon(tmp_path, lowest=10.0, highest=20.0, hot=1.5, crystal_time=0.5, melt_time=0.5, timestep=4.0)
    with pytest.raises(SettingsError, match=r"timestep was 5\.0, now 4\.0"):
        TASK.run(other, SilentReporter())
