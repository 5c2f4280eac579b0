"""Optimizers side by side: equal budgets, tuned rates, divergence, going on after a stop and after a kill."""

import json
import math
import signal
import subprocess
import sys
import time

import pytest
import torch

from rutile.core.config import load
from rutile.core.errors import FileError, SettingsError, TrainingError
from rutile.core.reporting import SilentReporter
from rutile.potentials.settings import training_defaults
from rutile.tasks import compare_optimizers
from rutile.tasks.compare_optimizers import CompareOptimizersSettings
from rutile.train import contest, contestants, job
from rutile.train import settings as s
from rutile.train.contest import Contest, Run
from rutile.train.gradient import Gradient

QUICK = ["epochs=4", "repeats=2", "rates=3", "screening=0.5", "threads=1", "split.valid=0.25", "potential.hidden=[3]",
         "potential.auto.cutoff=4", "batch_size=4", "precision=float64"]  # fmt: skip


def settings(data, out, *words):
    return load(CompareOptimizersSettings, pairs=[f"data=[{data}]", f"out={out}", *QUICK, *words])


def compare(data, out, *words, reporter=None):
    return compare_optimizers.run(settings(data, out, *words), reporter or SilentReporter())


def runs_of(out):
    kept = json.loads((out / contest.RUNS_FILE).read_text())["runs"]
    return {contest.key(run): run for run in map(Run.model_validate, kept)}


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory):
    """A comparison of two optimizers."""
    out = tmp_path_factory.mktemp("finished") / "out"
    return compare(data, out, "optimizers=[adam,lbfgs]"), out


@pytest.mark.slow
def test_the_best_comes_first_and_its_rate_has_worse_neighbours_with_the_whole_budget(finished):
    result, out = finished
    assert {row.optimizer for row in result.optimizers} == {"adam", "lbfgs"}
    assert result.best == result.optimizers[0].optimizer
    losses = [row.loss for row in result.optimizers]
    assert losses == sorted(losses)
    runs = runs_of(out)
    for row in result.optimizers:
        whole = {k: r for (name, k, seed, passes), r in runs.items() if (name, seed, passes) == (row.optimizer, 0, 4)}
        best = min(whole, key=lambda k: whole[k].best)
        assert {best - 1, best + 1} <= set(whole) or len(whole) > contest.WIDEST
        seeds = {seed for (name, k, seed, passes) in runs if (name, k, passes) == (row.optimizer, best, 4)}
        assert len(seeds) == 2
        final = [r.best for (name, k, seed, passes), r in runs.items() if (name, k, passes) == (row.optimizer, best, 4)]
        assert row.loss == pytest.approx(sum(final) / 2, rel=1e-3)
        assert row.worst == pytest.approx(max(final), rel=1e-3)
        assert row.runs == sum(name == row.optimizer for (name, *_) in runs)


@pytest.mark.slow
def test_the_page_has_table_curves_and_published_losses(finished):
    result, _ = finished
    page = result.report.read_text()
    for word in ("lbfgs", "passes over the data", "learning rate", "0.0072", "0.0139", "half decades", "<svg"):
        assert word in page


@pytest.mark.slow
def test_no_run_takes_more_gradients_than_its_budget(data, tmp_path, monkeypatch):
    counted = []
    real = Gradient._backward

    def backward(self, ids, *args, **kwargs):
        counted.append(len(ids) / len(self.train))
        return real(self, ids, *args, **kwargs)

    monkeypatch.setattr(Gradient, "_backward", backward)
    trained = []
    train = Contest._train

    def one(self, *args):
        counted.clear()
        trained.append((train(self, *args), sum(counted)))
        return trained[-1][0]

    monkeypatch.setattr(Contest, "_train", one)
    compare(data, tmp_path / "out", "optimizers=[adam,lbfgs]", "epochs=12", "repeats=1")
    compare(data, tmp_path / "rprop", "optimizers=[rprop]", "epochs=2", "repeats=1")
    for run, gradients in trained:
        assert run.at[-1] <= run.passes
        if run.optimizer == "lbfgs":
            assert gradients <= run.passes + 25 * 10 / 8  # the step that went beyond it is not validated
            assert len(run.at) >= 2
            assert run.at[0] >= 2  # the gradient at its start, and that of a line search
        else:
            assert gradients == pytest.approx(run.passes)
            assert run.at == list(range(1, run.passes + 1))


@pytest.mark.slow
def test_all_begin_with_the_same_weights(data, tmp_path, monkeypatch):
    seen = {}
    real = contest.fit

    def fit(potential, train, valid, given, *args, **kwargs):
        state = torch.cat([p.detach().flatten() for p in potential.parameters()])
        seen.setdefault(given.seed, []).append(state.clone())
        return real(potential, train, valid, given, *args, **kwargs)

    monkeypatch.setattr(contest, "fit", fit)
    compare(data, tmp_path / "out", "optimizers=[adam,rprop]", "epochs=2")
    assert len(seen) == 2
    first, other = seen.values()
    assert all(torch.equal(state, first[0]) for state in first)
    assert len(first) > 6
    assert not torch.equal(first[0], other[0])


@pytest.mark.slow
def test_an_optimizer_that_always_diverges_is_told_and_not_the_end(data, tmp_path, monkeypatch):
    hot = contestants.Contestant("sgd", s.Sgd(), 24)
    monkeypatch.setitem(contestants.CONTESTANTS, "sgd", hot)
    result = compare(data, tmp_path / "out", "optimizers=[sgd,adam]")
    row = result.optimizers[-1]
    assert (row.optimizer, row.loss, row.rate) == ("sgd", None, None)
    assert row.diverged == row.runs == 3 + contest.WIDEST
    assert "diverged" in result.report.read_text()
    assert result.best == "adam"
    with pytest.raises(TrainingError, match="every training diverged"):
        compare(data, tmp_path / "sgd", "optimizers=[sgd]")


@pytest.mark.slow
def test_a_rate_at_which_another_seed_diverges_is_not_taken(data, tmp_path, monkeypatch):
    usual = contestants.CONTESTANTS["adam"].usual

    def one(self, who, rate, seed, passes):
        """The higher the better; the highest that is stable for the first seed is not for the second."""
        given = {"optimizer": who.name, "half_decades": rate, "seed": seed, "passes": passes}
        if rate > usual or (rate == usual and seed != self.plan.seeds[0]):
            return Run(**given, at=[], losses=[], problem="loss is not finite")
        return Run(**given, at=[passes], losses=[2.0 + usual - rate], energy_rmse=0.1, force_rmse=0.1)

    monkeypatch.setattr(Contest, "_train", one)
    (row,) = compare(data, tmp_path / "out", "optimizers=[adam]").optimizers
    assert row.rate == pytest.approx(contestants.rate_of(usual - 1))
    assert (row.loss, row.worst) == (3.0, 3.0)
    assert row.diverged == 3  # the rate above in both stages, and the second seed
    assert row.runs == len(runs_of(tmp_path / "out"))


@pytest.mark.slow
def test_a_stopped_comparison_goes_on_and_repeats_nothing(data, tmp_path, finished, monkeypatch):
    words = ["optimizers=[adam,lbfgs]", "checkpoint_seconds=0"]
    asked = []

    def stop_now():
        asked.append(0)
        return "SIGTERM" if len(asked) == 30 else None

    class Signals:
        def __enter__(self):
            return stop_now

        def __exit__(self, *_):
            return False

    monkeypatch.setattr("rutile.train.signals.remember_signals", Signals)
    reporter = SilentReporter()
    with pytest.raises(SystemExit):
        compare(data, tmp_path / "out", *words, reporter=reporter)
    assert "run the same command again" in reporter.messages[-1]
    before = runs_of(tmp_path / "out")
    assert list((tmp_path / "out" / contest.NOW).glob("*/checkpoint.safetensors"))  # stopped in the middle of a run
    resumed = []
    real = contest.fit
    monkeypatch.setattr(
        contest, "fit", lambda *args, **kwargs: (resumed.append(kwargs["resume"]), real(*args, **kwargs))[1]
    )
    result = compare(data, tmp_path / "out", *words)
    whole, after = runs_of(finished[1]), runs_of(tmp_path / "out")
    assert resumed == [True] + [False] * (len(whole) - len(before) - 1)
    assert {k: (r.at, r.losses, r.steps) for k, r in after.items()} == {
        k: (r.at, r.losses, r.steps) for k, r in whole.items()
    }
    assert result.best == finished[0].best
    assert not (tmp_path / "out" / contest.NOW).exists()


def test_lbfgs_that_was_cut_off_has_the_same_curve(data, tmp_path, monkeypatch):
    given = settings(data, tmp_path / "out", "epochs=14", "repeats=1")
    prepared = job.prepare(given, [0], tmp_path, SilentReporter())
    plan = contest.Plan(14, 7, 3, [0])
    how = s.TrainSettings(**{name: getattr(given, name) for name in s.TrainSettings.model_fields})

    def train(folder, stop):
        folder.mkdir(exist_ok=True)
        one = Contest(prepared, how, plan, folder, {}, SilentReporter(), stop)
        return one._train(contestants.CONTESTANTS["lbfgs"], 0, 0, 14)

    whole = train(tmp_path / "whole", lambda: None)
    asked = []

    def after_two():
        asked.append(0)
        return "SIGTERM" if len(asked) == 2 else None

    with pytest.raises(contest.Stopped):
        train(tmp_path / "cut", after_two)
    again = train(tmp_path / "cut", lambda: None)
    assert len(whole.at) >= 3
    assert (again.at, again.losses) == (whole.at, whole.losses)


@pytest.mark.slow
def test_a_killed_comparison_goes_on(data, tmp_path, finished):
    out = tmp_path / "out"
    words = [f"data=[{data}]", f"out={out}", *QUICK, "optimizers=[adam,lbfgs]", "checkpoint_seconds=0"]
    process = subprocess.Popen(
        [sys.executable, "-m", "rutile", "compare-optimizers", *words], stderr=subprocess.DEVNULL
    )
    for _ in range(3000):
        if (out / contest.RUNS_FILE).exists() and len(runs_of(out)) >= 3:
            break
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = runs_of(out)
    assert len(before) >= 3
    compare(data, out, "optimizers=[adam,lbfgs]", "checkpoint_seconds=0")
    after = runs_of(out)
    assert all(after[k] == r for k, r in before.items())
    assert {k: r.losses for k, r in after.items()} == {k: r.losses for k, r in runs_of(finished[1]).items()}


@pytest.mark.slow
def test_more_optimizers_may_be_added_and_other_settings_are_refused(data, finished, monkeypatch):
    _, out = finished
    trained = []
    real = contest.fit
    monkeypatch.setattr(contest, "fit", lambda *args, **kwargs: (trained.append(args[3]), real(*args, **kwargs))[1])
    result = compare(data, out, "optimizers=[adam,rprop]")
    assert {given.optimizer.name for given in trained} == {"rprop"}
    assert len(result.optimizers) == 2
    with pytest.raises(SettingsError, match=r"another comparison: settings\.batch_size was 4, now 5"):
        compare(data, out, "batch_size=5")
    (out / contest.RUNS_FILE).write_text("{}")
    with pytest.raises(FileError, match="cannot read the finished runs"):
        compare(data, out)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("optimizer=adam", "choose them by optimizers="),
        ("optimizers=[adamm]", "adamm"),
        ("optimizers=[]", "optimizers"),
        ("loss.force.start=100", r"loss\.force: start 100 and limit 1 differ.*loss\.force\.start=1"),
        ("screening=2", "screening"),
    ],
)
def test_wrong_settings_are_one_line(data, tmp_path, word, message):
    with pytest.raises(SettingsError, match=message) as error:
        compare(data, tmp_path / "out", word)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


def test_what_suits_a_potential_is_kept_but_for_the_optimizer(data):
    given = load(CompareOptimizersSettings, pairs=[f"data=[{data}]", "architecture=anatase", "epochs=7"])
    assert training_defaults("anatase")["optimizer"]["name"] == "muon"
    assert "optimizer" not in given.model_fields_set
    assert (given.ema, given.epochs, given.loss.energy.limit) == (None, 7, 1)
    assert (given.batch_size, given.warmup, given.schedule.name) == (5, 50, "cosine")


def test_medians_and_targets():
    def run(losses, problem=""):
        at = [float(k + 1) for k in range(len(losses))]
        return Run(optimizer="adam", half_decades=-4, seed=0, passes=9, at=at, losses=losses, problem=problem)

    one, two, bad = run([3.0, 1.0, 2.0]), run([3.0, 2.5, 0.5]), run([], "NaN")
    outcome = contest.Outcome("adam", [one, two, bad], [one, two, bad])
    assert outcome.loss == 1.0
    assert (outcome.reached(1.0), outcome.reached(2.6), outcome.reached(0.7)) == (3.0, 2.0, None)
    assert math.isinf(bad.best)
    assert contestants.rate_of(-5) == 0.00316
    muon = contestants.CONTESTANTS["muon"].at(-2)
    assert (muon.learning_rate, muon.other_learning_rate) == (0.1, pytest.approx(0.005))
