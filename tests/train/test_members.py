"""Members of a committee in processes of their own: the same bits, stopped together, lost alone."""

import multiprocessing
import os
import signal

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write
from pydantic import ValidationError

from rutile.core.errors import SettingsError, TrainingError
from rutile.core.reporting import SilentReporter
from rutile.potentials.evaluate import evaluate
from rutile.potentials.save import load_model
from rutile.tasks.train import TrainTaskSettings, run
from rutile.testing.strategies import random_structure
from rutile.testing.toys import make_toy
from rutile.train import members as module
from rutile.train.checkpoint import CHECKPOINT_FILE, read_checkpoint
from rutile.train.members import LOG_FILE, division, shares


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    teacher, frames = make_toy(seed=3), []
    for k in range(14):
        s = random_structure(k, [22, 8, 8])
        p = evaluate(teacher, s)
        atoms = Atoms([22, 8, 8], s.positions.numpy(), cell=s.cell[0].numpy(), pbc=True)
        atoms.calc = SinglePointCalculator(atoms, energy=float(p.energy[0]), forces=p.forces.numpy())
        frames.append(atoms)
    path = tmp_path_factory.mktemp("data") / "frames.extxyz"
    write(path, frames)
    return path


def settings(data, out, **changes):
    base = {
        "data": [data],
        "out": out,
        "potential": {"name": "behler", "hidden": [5]},
        "split": {"valid": 0.25},
        "epochs": 4,
        "batch_size": 4,
        "tensorboard": False,
        "precision": "float64",
        "threads": 1,
        "members": 3,
        "diversity": "bootstrap",
        "workers": 2,
        "checkpoint_seconds": 0,
    }
    return TrainTaskSettings.model_validate(base | changes)


@pytest.fixture(scope="module")
def serial(data, tmp_path_factory):
    """The weights of each member, trained one after another."""
    return members(run(settings(data, tmp_path_factory.mktemp("serial") / "run", workers=1), SilentReporter()))


def members(result):
    return [[p.detach() for p in potential.parameters()] for potential in load_model(result.model).potentials]


def same(a, b):
    return all(torch.equal(x, y) for one, other in zip(a, b, strict=True) for x, y in zip(one, other, strict=True))


class Watching(SilentReporter):
    """Keeps the rows; does something after the second epoch of member 1."""

    def __init__(self, then=lambda: None):
        super().__init__()
        self.rows, self.then = [], then

    def metrics(self, row):
        self.rows.append(row)
        if (row["member"], row["epoch"]) == (1, 1):
            self.then()


def dying(content, to, threads):
    """The work of a process, of which that of member 1 is killed after its second epoch."""
    tell = module._Telling.metrics

    def metrics(self, row):
        tell(self, row)
        if row["epoch"] == 1 and "member-1" in self.log.name:
            os.kill(os.getpid(), signal.SIGKILL)

    module._Telling.metrics = metrics
    module._work(content, to, threads)


@pytest.mark.slow
def test_lost_member_is_reported_others_go_on_and_the_next_run_ends_with_the_bits_of_serial_training(
    data, tmp_path, serial, monkeypatch
):
    reporter = Watching()
    lines = r"member 1: its process was lost \(SIGKILL(.|\n)*epoch 1,(.|\n)*members 2, 3 are kept"
    monkeypatch.setattr(module, "_work", dying)
    with pytest.raises(TrainingError, match=lines):
        run(settings(data, tmp_path / "run"), reporter)
    monkeypatch.undo()
    assert any("member 1 failed" in text for text in reporter.warnings)
    assert {row["member"] for row in reporter.rows} == {1, 2, 3}
    for m in (2, 3):
        assert read_checkpoint(tmp_path / "run" / f"member-{m}" / CHECKPOINT_FILE)["epoch"] == 4
    reporter = Watching()
    result = run(settings(data, tmp_path / "run"), reporter)
    assert same(members(result), serial)
    assert {row["member"] for row in reporter.rows} == {1}
    assert (tmp_path / "run" / "member-3" / LOG_FILE).stat().st_size > 0
    assert not multiprocessing.active_children()


@pytest.mark.slow
def test_signal_stops_all_with_checkpoints(data, tmp_path):
    reporter = Watching(lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(SystemExit, match="143"):
        run(settings(data, tmp_path / "run", members=2, epochs=100_000), reporter)
    for m in (1, 2):
        assert 0 < read_checkpoint(tmp_path / "run" / f"member-{m}" / CHECKPOINT_FILE)["step"] < 300_000
    assert not multiprocessing.active_children()
    assert len(load_model(tmp_path / "run").potentials) == 2


def test_members_differ_in_what_they_learn_from():
    bootstrap = shares(200, 3, "bootstrap", 0)
    assert all(len(places) == 200 for places in bootstrap)
    assert all(0.55 < len(np.unique(places)) / 200 < 0.72 for places in bootstrap)  # 1 - 1/e
    assert not np.array_equal(bootstrap[0], bootstrap[1])
    folds = shares(10, 3, "folds", 0)
    left_out = [np.setdiff1d(np.arange(10), places) for places in folds]
    assert sorted(np.concatenate(left_out)) == list(range(10))
    assert all(np.array_equal(places, np.arange(10)) for places in shares(10, 3, "seeds", 0))
    with pytest.raises(SettingsError, match="at least 2 members"):
        shares(2, 3, "folds", 0)


def test_one_potential_cannot_differ_from_itself(data, tmp_path):
    with pytest.raises(ValidationError, match="members=4"):
        settings(data, tmp_path, members=1)


def test_division_of_cores(monkeypatch):
    monkeypatch.setattr(module, "cores", lambda: 8)
    assert division(4, None, None) == (4, 2)
    assert division(16, None, None) == (8, 1)
    assert division(4, None, 4) == (2, 4)
    assert division(4, 1, None) == (1, 8)
    assert division(4, None, 16) == (1, 16)
