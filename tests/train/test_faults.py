"""Whatever breaks, a training says what, loses nothing, and the same command goes on to the same end, bit for bit."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from test_task import images

import rutile
from rutile.structures.io import write_frames
from rutile.train import figures
from rutile.train.fit import TIMINGS

SCRIPT = Path(__file__).with_name("run_killed.py")
KILLS = 50


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "frames.extxyz"
    write_frames(path, images(12))
    return path


@pytest.fixture
def _no_figures(monkeypatch):
    """Drawing takes most of the time of a small training."""
    monkeypatch.setattr(figures, "_svg", lambda figure: "<svg/>")


def contents(folder):
    """What must be equal at the end of two runs: the model byte by byte, the metrics but for the times, the files."""
    rows = list(csv.DictReader((folder / "metrics.csv").read_text().splitlines()))
    metrics = [{k: v for k, v in row.items() if k not in TIMINGS} for row in rows]
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))
    return (folder / "model.rutile").read_bytes(), metrics, names


@pytest.mark.slow
def test_killed_fifty_times_at_random_instants_each_run_ends_bit_for_bit_as_one_that_was_not(data, tmp_path):
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(rutile.__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(tmp_path), str(data), str(KILLS), "5"],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    assert found["killed"] == KILLS
    assert found["lost"] == 0
    assert set(found["codes"]) == {0}
    straight = contents(tmp_path / "straight")
    assert len(straight[1]) == 5
    for folder in found["runs"]:
        assert contents(Path(folder)) == straight, folder
    last = max(found["steps"])
    assert found["steps"].count(-1) >= 5  # before there was a checkpoint
    assert sum(0 <= step < last for step in found["steps"]) >= 5  # in the middle of the training
    assert found["half"] >= 10  # while a file was being written
