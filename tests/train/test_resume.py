"""A killed run goes on as if nothing had happened; signals end a run in order."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from toy import ToyDescriptors

import rutile
from rutile.core.reporting import SilentReporter
from rutile.core.seeds import stream
from rutile.train import settings as s
from rutile.train.checkpoint import CHECKPOINT_FILE, read_checkpoint
from rutile.train.examples import LinearisedExamples
from rutile.train.fit import fit
from rutile.train.signals import remember_signals

SCRIPT = Path(__file__).with_name("run_toy.py")
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(rutile.__file__).parents[1])}


def train(store, folder, optimizer, kill_at=None):
    """Run the toy in a process; SIGKILL it when it has told `kill_at` steps."""
    command = [sys.executable, str(SCRIPT), str(store.folder), str(folder), optimizer]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=ENVIRONMENT, text=True) as process:
        for told, _ in enumerate(process.stdout, 1):
            if told == kill_at:
                process.kill()
        process.wait()
    return process.returncode


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
def test_killed_at_a_random_step_a_resumed_run_equals_an_uninterrupted_one(store, tmp_path, optimizer):
    for name in ("straight", "killed"):
        (tmp_path / name).mkdir()
    assert train(store, tmp_path / "straight", optimizer) == 0
    at = int(stream(11, "kill", optimizer).integers(2, 8))
    assert train(store, tmp_path / "killed", optimizer, kill_at=at) == -signal.SIGKILL
    before = read_checkpoint(tmp_path / "killed" / CHECKPOINT_FILE)["step"]
    assert train(store, tmp_path / "killed", optimizer) == 0
    a, b = (read_checkpoint(tmp_path / name / CHECKPOINT_FILE) for name in ("straight", "killed"))
    assert 0 < before < a["step"] == b["step"] == 12
    for key, value in a["potential"].items():
        assert torch.equal(value, b["potential"][key]), key
    for x, y in zip(
        a["best"]["weights"] + a["average"]["weights"], b["best"]["weights"] + b["average"]["weights"], strict=True
    ):
        assert torch.equal(x, y)


class Interrupting(SilentReporter):
    """Sends a signal to its own process after the second epoch."""

    def __init__(self, number):
        super().__init__()
        self.number = number

    def metrics(self, row):
        if row["epoch"] == 1:
            os.kill(os.getpid(), self.number)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_ends_the_run_with_a_checkpoint_and_handlers_come_back(store, tmp_path, number):
    before = [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)]
    potential = ToyDescriptors(seed=1)
    examples = LinearisedExamples(store, np.arange(12), potential)
    settings = s.TrainSettings(epochs=50, tensorboard=False, checkpoint_seconds=1e6, batch_size=4, precision="float64")
    with remember_signals() as stop:
        result = fit(potential, examples, examples, settings, tmp_path, Interrupting(number), stop=stop)
    assert result.stopped == number.name
    assert result.steps == 7  # two epochs of three steps, and the one in which the signal was seen
    assert read_checkpoint(tmp_path / CHECKPOINT_FILE)["step"] == 7
    assert [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)] == before


def test_a_second_signal_acts_at_once():
    with remember_signals() as stop:
        signal.raise_signal(signal.SIGINT)
        assert stop() == "SIGINT"
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
