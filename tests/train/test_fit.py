import csv
import math

import numpy as np
import pytest
import torch
from toy import ToyDescriptors, teacher_store

from rutile.core.errors import FileError, SettingsError, TrainingError
from rutile.core.reporting import SilentReporter
from rutile.train import settings as s
from rutile.train.checkpoint import CHECKPOINT_FILE, read_checkpoint, write_checkpoint
from rutile.train.examples import LinearisedExamples
from rutile.train.fit import TIMINGS, fit
from rutile.train.optimizers import WeightAverage, make_optimizer

OPTIMIZERS = {
    "adadelta": s.Adadelta(learning_rate=3.0),
    "adam": s.Adam(learning_rate=0.02),
    "adamw": s.AdamW(learning_rate=0.02),
    "adamax": s.Adamax(learning_rate=0.02),
    "asgd": s.Asgd(learning_rate=0.02),
    "sgd": s.Sgd(learning_rate=0.01, momentum=0.5),
    "rprop": s.Rprop(learning_rate=0.01),
    "rmsprop": s.RmsProp(learning_rate=0.005),
    "lbfgs": s.Lbfgs(iterations=5),
    "muon": s.Muon(learning_rate=0.02, other_learning_rate=0.02),
}
LOSS = s.LossSettings(energy=s.Prefactor(start=1, limit=1), force=s.Prefactor(start=1, limit=1))


def settings(**changes):
    base = {
        "loss": LOSS,
        "optimizer": OPTIMIZERS["adam"],
        "schedule": s.Constant(),
        "epochs": 4,
        "batch_size": 4,
        "tensorboard": False,
        "checkpoint_seconds": 1e6,
        "precision": "float64",
        "ema": None,
    }
    return s.TrainSettings(**(base | changes))


def examples(store, potential):
    train = LinearisedExamples(store, np.arange(9), potential)
    return train, LinearisedExamples(store, np.arange(9, 12), potential, cache=train.cache)


def run(store, folder, settings, *, seed=1, **more):
    folder.mkdir(exist_ok=True)
    potential = ToyDescriptors(seed=seed)
    result = fit(potential, *examples(store, potential), settings, folder, SilentReporter(), **more)
    return potential, result


def stop_after(steps):
    """A `stop` that speaks after so many steps."""
    count = iter(range(1, 10**9))
    return lambda: "SIGTERM" if next(count) >= steps else None


def weights(potential):
    return torch.cat([p.detach().reshape(-1) for p in potential.parameters()])


@pytest.mark.slow
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_lowers_the_loss(store, tmp_path, name):
    _, result = run(store, tmp_path, settings(optimizer=OPTIMIZERS[name], epochs=12))
    losses = [row["train_loss"] for row in result.history]
    assert losses[-1] < 0.7 * losses[0], losses


@pytest.mark.slow
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_resume_in_the_middle_of_an_epoch_is_bit_identical(store, tmp_path, name):
    how = settings(optimizer=OPTIMIZERS[name], schedule=s.Plateau(patience=1, threshold=0.5), ema=0.9)
    straight, one = run(store, tmp_path / "a", how)
    at = 2 if name in ("rprop", "lbfgs") else 5  # 3 steps in an epoch; one for full-batch optimizers
    _, first = run(store, tmp_path / "b", how, stop=stop_after(at))
    assert first.stopped == "SIGTERM"
    assert first.steps == at
    resumed, second = run(store, tmp_path / "b", how, resume=True, seed=7)
    assert torch.equal(weights(straight), weights(resumed))
    a, b = (read_checkpoint(tmp_path / x / CHECKPOINT_FILE) for x in "ab")
    for key in ("potential", "average", "best", "optimizer", "schedule"):
        assert repr(a[key]) == repr(b[key])
        assert same(a[key], b[key]), key
    rows = [[{k: v for k, v in row.items() if k not in TIMINGS} for row in r.history] for r in (one, second)]
    assert rows[0] == rows[1]


def same(a, b):
    """Equal nests, tensors bit for bit."""
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return a == b


@pytest.mark.slow
def test_learns_a_noise_free_teacher(tmp_path):
    store = teacher_store(tmp_path, 40, seed=3)
    potential = ToyDescriptors(seed=5, hidden=12)
    train = LinearisedExamples(store, np.arange(34), potential)
    valid = LinearisedExamples(store, np.arange(34, 40), potential, cache=train.cache)
    how = settings(optimizer=s.Lbfgs(iterations=20), epochs=20)
    (tmp_path / "run").mkdir()
    result = fit(potential, train, valid, how, tmp_path / "run", SilentReporter())
    begin, end = result.history[0], result.history[-1]
    assert end["valid_energy_rmse"] < 2e-3
    assert end["valid_force_rmse"] < 2e-2
    assert end["valid_virial_rmse"] < 2e-2  # not trained on, follows from the physics
    assert end["train_loss"] < 1e-3 * begin["train_loss"]


def test_prefactors_and_learning_rate_reach_the_step(store, tmp_path):
    how = settings(epochs=2, schedule=s.Exponential(steps=3, rate=0.5), optimizer=s.Adam(learning_rate=0.01))
    _, result = run(store, tmp_path, how)
    assert [row["learning_rate"] for row in result.history] == [0.01, 0.005]


@pytest.mark.slow
@pytest.mark.parametrize("keep", ["best", "last"])
def test_the_weights_asked_for_are_kept(store, tmp_path, keep):
    how = settings(optimizer=s.Sgd(learning_rate=0.01, momentum=0.9), epochs=25, batch_size=1, keep=keep)
    potential, result = run(store, tmp_path, how)
    scores = [row["valid_loss"] for row in result.history]
    assert result.best_score == min(scores) < scores[-1], "the case must tell the two apart"
    assert result.best_epoch == scores.index(min(scores))
    _, valid = examples(store, potential)
    from rutile.train.loss import Prefactors, errors, structure_losses

    labelled, predict = valid.batch(np.arange(3))
    again = structure_losses(errors(predict(False), labelled), Prefactors(1, 1, 0), LOSS).mean().item()
    assert again == pytest.approx(result.best_score if keep == "best" else scores[-1], rel=1e-10)


def test_early_stopping_waits_as_long_as_told(store, tmp_path):
    how = settings(optimizer=s.Sgd(learning_rate=1e-300), epochs=50, patience=3)  # nothing moves
    _, result = run(store, tmp_path, how)
    assert result.stopped == "patience"
    assert (result.best_epoch, result.epochs) == (0, 4)


@pytest.mark.slow
def test_stops_when_time_is_up_and_can_go_on(store, tmp_path):
    _, result = run(store, tmp_path, settings(max_seconds=1e-9, epochs=50))
    assert (result.stopped, result.steps) == ("time", 1)
    _, result = run(store, tmp_path, settings(epochs=50), resume=True)
    assert (result.stopped, result.epochs) == ("epochs", 50)


@pytest.mark.slow
def test_validates_as_often_as_told_and_at_the_end(store, tmp_path):
    _, result = run(store, tmp_path, settings(epochs=5, validate_every=2))
    assert ["valid_loss" in row for row in result.history] == [False, True, False, True, True]


def test_gradient_clipping_shortens_to_the_norm(store, tmp_path):
    start = weights(ToyDescriptors(seed=1))
    how = settings(optimizer=s.Sgd(learning_rate=1.0), clip_norm=1e-3, epochs=1, batch_size=9)
    moved = weights(run(store, tmp_path, how)[0]) - start
    assert moved.norm().item() == pytest.approx(1e-3, rel=1e-5)


def test_average_of_weights_by_hand():
    p = torch.nn.Parameter(torch.tensor([1.0], dtype=torch.float64))
    average = WeightAverage([p], 0.9)
    expected = 1.0
    for step in range(1, 40):
        p.data.fill_(math.sin(step))
        average.update()
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * math.sin(step)
    assert average.average[0].item() == pytest.approx(expected, rel=1e-12)
    raw = p.item()
    average.swap()
    assert p.item() == pytest.approx(expected, rel=1e-12)
    average.swap()
    assert p.item() == raw


def test_average_is_validated_and_saved_but_raw_weights_go_on(store, tmp_path):
    plain, _ = run(store, tmp_path / "a", settings(epochs=2))
    averaged, _ = run(store, tmp_path / "b", settings(epochs=2, ema=0.99))
    raw = [read_checkpoint(tmp_path / x / CHECKPOINT_FILE) for x in "ab"]
    assert same(raw[0]["potential"], raw[1]["potential"])
    assert same(raw[1]["best"]["weights"], raw[1]["average"]["weights"])
    assert not torch.equal(weights(plain), weights(averaged))


class Spoilt(LinearisedExamples):
    """Predicts NaN for one frame of the store from some step on."""

    frame, calls, after = 4, 0, 3

    def batch(self, ids):
        labelled, predict = super().batch(ids)
        self.calls += 1
        if self.calls > self.after:
            labelled.energy[labelled.index == self.frame] = float("nan")
        return labelled, predict


def test_nan_names_the_structure_and_keeps_the_last_good_state(store, tmp_path):
    potential = ToyDescriptors(seed=1)
    train, valid = examples(store, potential)
    bad = Spoilt(store, np.arange(9), potential, cache=train.cache)
    with pytest.raises(TrainingError, match=r"toy\.extxyz#4") as caught:
        fit(potential, bad, valid, settings(checkpoint_seconds=0), tmp_path, SilentReporter())
    assert str(caught.value).count("toy.extxyz#") == 1
    state = read_checkpoint(tmp_path / CHECKPOINT_FILE)
    assert 3 <= state["step"] <= 5
    good = ToyDescriptors()
    good.load_state_dict(state["potential"])
    assert bool(torch.isfinite(weights(good)).all())
    assert torch.equal(weights(good), weights(potential))  # the bad step was not taken


@pytest.mark.slow
def test_other_settings_are_refused_by_name_and_more_epochs_are_not(store, tmp_path):
    run(store, tmp_path, settings(epochs=2))
    with pytest.raises(SettingsError, match=r"train\.batch_size was 4, now 5"):
        run(store, tmp_path, settings(batch_size=5), resume=True)
    with pytest.raises(SettingsError, match="data was None, now 'y'"):
        run(store, tmp_path, settings(), resume=True, identity={"data": "y"})
    _, result = run(store, tmp_path, settings(epochs=6, patience=99), resume=True)
    assert result.epochs == 6


def test_a_run_is_not_overwritten(store, tmp_path):
    run(store, tmp_path, settings(epochs=1))
    with pytest.raises(FileError, match="resume that run"):
        run(store, tmp_path, settings(epochs=1))


def test_metrics_file_has_every_epoch_once_after_a_resume(store, tmp_path):
    how = settings(epochs=4)
    run(store, tmp_path, how, stop=stop_after(8))
    run(store, tmp_path, how, resume=True)
    rows = list(csv.DictReader((tmp_path / "metrics.csv").read_text().splitlines()))
    assert [int(row["epoch"]) for row in rows] == [0, 1, 2, 3]
    assert all(float(row["valid_force_rmse"]) > 0 for row in rows)


@pytest.mark.slow
def test_tensorboard_events(store, tmp_path):
    pytest.importorskip("tensorboard")
    run(store, tmp_path, settings(epochs=2, tensorboard=True))
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [e.step for e in events.Scalars("valid_force_rmse")] == [0, 1]


@pytest.mark.slow
def test_same_seed_same_potential_other_seed_other_order(store, tmp_path):
    one, two, three = (
        run(store, tmp_path / str(k), settings(seed=seed, epochs=2))[0] for k, seed in enumerate((1, 1, 2))
    )
    assert torch.equal(weights(one), weights(two))
    assert not torch.equal(weights(one), weights(three))


def test_reweighter_sees_unweighted_losses_and_its_weights_count(store, tmp_path):
    class Only:
        """Weight 1 for one structure, 0 for the others."""

        def __init__(self):
            self.seen = {}
            self.epochs = 0

        def weights(self, ids):
            return (ids == 2).double()

        def observe(self, ids, losses):
            self.seen |= dict(zip(ids.tolist(), losses.tolist(), strict=True))

        def end_epoch(self):
            self.epochs += 1
            return torch.zeros(0, dtype=torch.int64)

        def state(self):
            return {}

        def restore(self, state):
            pass

    hook = Only()
    potential = ToyDescriptors(seed=1)
    train, valid = examples(store, potential)
    only = LinearisedExamples(store, np.array([2]), potential, cache=train.cache)
    fit(potential, train, valid, settings(epochs=1, batch_size=9, optimizer=s.Sgd(learning_rate=0.09)), tmp_path,
        SilentReporter(), reweighter=hook)  # fmt: skip
    assert sorted(hook.seen) == list(range(9))
    assert min(hook.seen.values()) > 0
    assert hook.epochs == 1
    # 1/9 of the loss of structure 2 with a rate of 0.09 is one step on it alone with a rate of 0.01
    other = ToyDescriptors(seed=1)
    only.potential = other
    (tmp_path / "b").mkdir()
    fit(other, only, only, settings(epochs=1, optimizer=s.Sgd(learning_rate=0.01)), tmp_path / "b", SilentReporter())
    assert torch.allclose(weights(potential), weights(other), rtol=1e-12, atol=1e-14)


def test_float32_trains_in_float32(store, tmp_path):
    tmp_path.mkdir(exist_ok=True)
    potential = ToyDescriptors(seed=1)
    train = LinearisedExamples(store, np.arange(12), potential, dtype=torch.float32)
    result = fit(potential, train, train, settings(precision="float32", epochs=8), tmp_path, SilentReporter())
    assert weights(potential).dtype == torch.float32
    assert result.history[-1]["train_loss"] < result.history[0]["train_loss"]


def test_edges_limit_batches(store, tmp_path):
    potential = ToyDescriptors(seed=1)
    train, valid = examples(store, potential)
    limit = int(train.costs.max())
    result = fit(potential, train, valid, settings(batch_edges=limit, epochs=1), tmp_path, SilentReporter())
    assert 3 <= result.steps <= 9


@pytest.mark.slow
def test_with_a_budget_of_edges_structures_count_by_their_weights_in_whatever_batch(store, tmp_path):
    """Steps too small to change the gradient: alone in its step or among others, a structure pulls alike."""
    moved = []
    for how in ({"batch_edges": 1}, {"batch_edges": 10**9}, {"batch_size": 100}):
        folder = tmp_path / str(len(moved))
        folder.mkdir()
        potential = ToyDescriptors(seed=1)
        train, valid = examples(store, potential)
        train.weights[:] = torch.arange(1, 10)
        before = weights(potential).detach().clone()
        tiny = settings(optimizer=s.Sgd(learning_rate=1e-9), epochs=1, keep="last", **how)
        result = fit(potential, train, valid, tiny, folder, SilentReporter())
        moved.append((weights(potential).detach() - before) / result.steps)
    for other in moved[1:]:
        torch.testing.assert_close(other, moved[0], rtol=1e-4, atol=1e-15)


def test_parts_of_a_step_give_its_gradient(store, tmp_path, monkeypatch):
    """Taken apart by neighbours or not: the same weights after the same number of steps."""
    ends = []
    for pads in (False, True):
        folder = tmp_path / str(pads)
        folder.mkdir()
        potential = ToyDescriptors(seed=1)
        potential.pads_neighbours = pads
        train, valid = examples(store, potential)
        monkeypatch.setattr("rutile.train.fit.alike", lambda atoms, edges: [np.arange(4), np.arange(4, len(atoms))])
        calls = []
        monkeypatch.setattr(train, "batch", lambda ids, plain=train.batch, calls=calls: calls.append(ids) or plain(ids))
        result = fit(potential, train, valid, settings(batch_edges=10**9, epochs=3), folder, SilentReporter())
        ends.append((weights(potential).detach(), result.steps, len(calls)))
    (a, *one), (b, *two) = ends
    assert (one, two) == ([3, 3], [3, 6])
    torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


def test_checkpoint_round_trip_of_a_nest(tmp_path):
    state = {
        "a": [1, 2.5, None, True, "text", (0.9, 0.999)],
        "b": {0: {"exp": torch.tensor([1.0, float("nan")]), "inf": math.inf}, "x": -math.inf},
        "t": torch.arange(3, dtype=torch.uint8),
    }
    write_checkpoint(tmp_path / "c", state)
    back = read_checkpoint(tmp_path / "c")
    assert torch.equal(back["b"][0].pop("exp").isnan(), state["b"][0].pop("exp").isnan())
    assert same(back, state)
    assert isinstance(back["a"][5], tuple)


def test_optimizer_state_survives_in_its_precision():
    p = torch.nn.Parameter(torch.ones(3, dtype=torch.float64))
    optimizer = make_optimizer(s.Asgd(), [p])
    p.grad = torch.ones_like(p)
    optimizer.step(lambda: 0.0)
    before = {k: v.dtype for k, v in optimizer.parts[0].state[p].items()}
    other = make_optimizer(s.Asgd(), [p])
    other.restore(optimizer.state())
    assert {k: v.dtype for k, v in other.parts[0].state[p].items()} == before
