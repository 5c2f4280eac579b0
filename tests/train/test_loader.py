"""Batches prepared ahead change nothing but the time that the loop waits."""

import threading
import time

import numpy as np
import pytest
import torch
from toy import ToyDescriptors, teacher_store

from rutile.core.errors import FileError
from rutile.core.reporting import SilentReporter
from rutile.train import fit as fit_module
from rutile.train import settings as s
from rutile.train.examples import LinearisedExamples
from rutile.train.fit import fit
from rutile.train.loader import Loader


class Slow:
    """Examples whose batches are their numbers, made in a while; notes who made them."""

    def __init__(self, seconds=0.0, fails_at=None):
        self.seconds, self.fails_at, self.made = seconds, fails_at, []

    def batch(self, ids):
        if ids[0] == self.fails_at:
            raise FileError("row 7 cannot be read")
        time.sleep(self.seconds)
        self.made.append((int(ids[0]), threading.current_thread() is threading.main_thread()))
        return ids, None


GROUPS = [[np.array([k]), np.array([k + 100])] for k in range(8)]


def test_every_step_gets_its_batches_once_and_in_order():
    examples = Slow()
    loader = Loader(examples)
    for group in loader.steps(GROUPS):
        for ids in group:
            assert loader.batch(ids)[0] is ids
            assert loader.batch(ids)[0] is ids, "a second look needs no second batch"
    assert sorted(k for k, _ in examples.made) == sorted(k for pair in GROUPS for k in (pair[0][0], pair[1][0]))
    assert not any(in_main for _, in_main in examples.made)
    assert loader.batch(np.array([5]))[0].tolist() == [5], "others are made when they are asked for"
    assert examples.made[-1] == (5, True)


def test_the_wait_is_measured(monkeypatch):
    """A clock that says 1 s for each wait and 3 s for each step."""
    clock = iter(np.cumsum([0, 1, 3] * len(GROUPS)).tolist())
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    loader = Loader(Slow())
    for _ in loader.steps(GROUPS):
        pass
    assert loader.wait() == 0.25
    assert loader.wait() is None


def test_an_error_reaches_the_loop_at_its_step():
    seen = []
    with pytest.raises(FileError, match="row 7"):
        seen.extend(group[0][0] for group in Loader(Slow(fails_at=3)).steps(GROUPS))
    assert seen == [0, 1, 2]


def test_no_thread_remains_when_the_loop_stops():
    before = threading.active_count()
    steps = Loader(Slow()).steps(GROUPS)
    next(steps)
    assert threading.active_count() > before
    steps.close()
    assert threading.active_count() == before


@pytest.mark.slow
@pytest.mark.parametrize("edges", [None, 150])
def test_weights_are_bit_identical_with_and_without(tmp_path, monkeypatch, edges):
    store = teacher_store(tmp_path, 20)
    how = s.TrainSettings(epochs=3, batch_size=3, batch_edges=edges, tensorboard=False, checkpoint_seconds=1e6)
    found = []
    for ahead in (0, 1, 3):
        monkeypatch.setattr(fit_module, "AHEAD", ahead)
        folder = tmp_path / str(ahead)
        folder.mkdir()
        potential = ToyDescriptors(seed=1)
        train = LinearisedExamples(store, np.arange(15), potential, dtype=torch.float32)
        valid = LinearisedExamples(store, np.arange(15, 20), potential, dtype=torch.float32, cache=train.cache)
        result = fit(potential, train, valid, how, folder, SilentReporter())
        found.append(torch.cat([p.detach().reshape(-1) for p in potential.parameters()]))
        assert ("loader_wait" in result.history[0]) == (ahead > 0)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])
