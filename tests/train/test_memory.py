"""Steps in parts: asked for, or because memory is short; sums of many atoms."""

import pytest
import torch
from test_fit import examples, run, settings, weights
from toy import ToyDescriptors

from rutile.core.errors import TrainingError
from rutile.core.reporting import SilentReporter
from rutile.potentials.evaluate import sum_by_system
from rutile.train import settings as s
from rutile.train.fit import fit

HOW = {"reweight": s.ReweightSettings(gamma=0.5), "ema": 0.9}


@pytest.mark.slow
def test_accumulated_parts_give_the_large_batch(store, tmp_path):
    whole, one = run(store, tmp_path / "a", settings(**HOW))
    parts, two = run(store, tmp_path / "b", settings(**HOW, accumulate=3))
    assert one.steps == two.steps
    assert float((weights(whole) - weights(parts)).abs().max()) < 1e-12
    assert two.history[-1]["train_loss"] == pytest.approx(one.history[-1]["train_loss"], rel=1e-12)
    fewer, three = run(store, tmp_path / "c", settings(**HOW, batch_size=2))
    assert three.steps > two.steps
    assert float((weights(whole) - weights(fewer)).abs().max()) > 1e-4


def short_of_memory(store, folder, most):
    """A run whose predictions of more than `most` structures fail as on a full GPU, in the middle of a step."""
    folder.mkdir()
    potential, reporter = ToyDescriptors(seed=1), SilentReporter()
    train, valid = examples(store, potential)
    batch, failures = train.batch, []

    def limited(ids):
        labelled, predict = batch(ids)

        def fail(training):
            failures.append(len(ids))
            raise torch.OutOfMemoryError("CUDA out of memory")

        return labelled, fail if len(ids) > most else predict

    train.batch = limited
    fit(potential, train, valid, settings(**HOW, accumulate=2, batch_size=9), folder, reporter)
    return potential, reporter, failures


@pytest.mark.slow
def test_batch_is_halved_where_memory_is_short(store, tmp_path):
    whole, _ = run(store, tmp_path / "a", settings(**HOW, batch_size=9))
    halved, reporter, failures = short_of_memory(store, tmp_path / "b", most=4)  # parts of 5 and 4
    assert failures == [5]  # smaller parts from then on
    assert float((weights(whole) - weights(halved)).abs().max()) < 1e-12
    assert len(reporter.warnings) == 1
    assert "step 1: memory is short; batches are computed in 4 parts from now on" in reporter.warnings[0]


def test_structure_that_never_fits_is_named(store, tmp_path):
    with pytest.raises(TrainingError, match=r"too little memory for toy\.extxyz#\d+ alone"):
        short_of_memory(store, tmp_path / "a", most=0)


def test_energies_of_many_atoms_in_float32_are_summed_in_float64():
    values = torch.full((200_000,), -7.3)
    system = torch.arange(200_000) // 100_000
    exact = values.double().view(2, -1).sum(1)
    error = (sum_by_system(values, system, 2).double() - exact).abs() / exact.abs()
    assert sum_by_system(values, system, 2).dtype == torch.float32
    assert float(error.max()) < 1e-7
    in_order = torch.zeros(2).index_add(0, system, values)
    assert float(((in_order.double() - exact).abs() / exact.abs()).max()) > 1e-5  # what it would be
