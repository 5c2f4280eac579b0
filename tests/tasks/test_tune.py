"""A search for settings: its space, pruning, failures, going on after a stop and after a kill, several processes."""

import csv
import importlib.util
import signal
import subprocess
import sys
import time

import pytest
import yaml

from rutile.core.config import load
from rutile.core.errors import FileError, MissingPackageError, SettingsError, TrainingError
from rutile.core.reporting import SilentReporter
from rutile.tasks import train, tune
from rutile.tasks.tune import TuneSettings
from rutile.train.space import Dimension, read_space, with_values

needs_optuna = pytest.mark.skipif(importlib.util.find_spec("optuna") is None, reason="optuna is an extra")
QUICK = ["epochs=3", "threads=1", "split.valid=0.25", "potential.hidden=[3]", "potential.auto.cutoff=4", "batch_size=4",
         "precision=float64", "checkpoint_seconds=0"]  # fmt: skip
SPACE = ["space.optimizer.learning_rate=log:1e-3:1e-1", "space.batch_size=2:6", "space.potential.hidden=[[3],[4,4]]"]


def words(data, out, *more):
    return [f"data=[{data}]", f"out={out}", *QUICK, *more]


def search(data, out, *more, reporter=None):
    return tune.run(load(TuneSettings, pairs=words(data, out, *more)), reporter or SilentReporter())


def trials(result):
    return {row.trial: (row.state, row.value, tuple(row.values.items())) for row in result.best_trials}


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory):
    """A search of seven trials that nothing interrupted."""
    pytest.importorskip("optuna")
    out = tmp_path_factory.mktemp("finished") / "out"
    return search(data, out, "trials=7", *SPACE), out


@pytest.mark.slow
@needs_optuna
def test_the_best_settings_train_the_best_trial_again(finished, tmp_path):
    result, _ = finished
    complete = [row for row in result.best_trials if row.state == "complete"]
    assert sum(result.trials.values()) == 7
    assert result.value == min(row.value for row in complete)
    assert result.best_trials[0].trial == result.trial
    best = {row.setting: row.best for row in result.settings}
    kept = yaml.safe_load(result.best.read_text())
    assert kept["optimizer"]["learning_rate"] == best["optimizer.learning_rate"]
    assert kept["potential"]["hidden"] == yaml.safe_load(best["potential.hidden"])
    settings = load(train.TrainTaskSettings, files=[result.best], pairs=[f"out={tmp_path / 'run'}"])
    again = train.run(settings, SilentReporter())
    rows = list(csv.DictReader((tmp_path / "run" / "metrics.csv").read_text().splitlines()))
    assert min(float(row["valid_loss"]) for row in rows) == result.value
    same = train.TrainTaskSettings.model_validate(kept)
    assert same.model_dump(exclude={"out"}) == settings.model_dump(exclude={"out"})
    from rutile.potentials.save import load_model

    one, other = (load_model(path).potentials[0].state_dict() for path in (again.model, result.model))
    assert all((one[name] == other[name]).all() for name in one)


@pytest.mark.slow
@needs_optuna
def test_values_stay_in_the_space_and_little_is_kept(finished):
    result, out = finished
    for row in result.best_trials:
        values = row.values
        assert 1e-3 <= values["optimizer.learning_rate"] <= 1e-1
        assert values["batch_size"] in range(2, 7)
        assert values["potential.hidden"] in ("[3]", "[4, 4]")
    assert len({row.values["optimizer.learning_rate"] for row in result.best_trials}) == 7
    for k in range(7):
        names = {path.name for path in (out / f"trial-{k:04d}").iterdir()}
        assert names == {"metrics.csv", "settings.yaml"}
    assert not list(out.glob("worker-*"))
    assert not list(out.rglob("checkpoint*"))
    page = result.report.read_text()
    for word in ("optimizer.learning_rate", "History", "trial", "<svg"):
        assert word in page


@pytest.mark.slow
@needs_optuna
def test_a_stopped_search_makes_the_same_trials(data, tmp_path, finished, monkeypatch):
    asked = []

    def stop_now():
        asked.append(0)
        return "SIGTERM" if len(asked) == 25 else None

    class Signals:
        def __enter__(self):
            return stop_now

        def __exit__(self, *_):
            return False

    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr("rutile.train.signals.remember_signals", Signals)
        with pytest.raises(SystemExit):
            search(data, out, "trials=7", *SPACE)
    assert len(list(out.rglob("checkpoint.safetensors"))) == 1  # in the middle of a trial
    assert trials(search(data, out, "trials=7", *SPACE)) == trials(finished[0])


@pytest.mark.slow
@needs_optuna
def test_a_killed_search_goes_on_and_makes_the_same_trials(data, tmp_path, finished):
    out = tmp_path / "out"
    command = [sys.executable, "-m", "rutile", "tune", *words(data, out, "trials=7", *SPACE)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    for _ in range(6000):
        if (out / "trial-0003" / "checkpoint.safetensors").exists():
            break
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert trials(search(data, out, "trials=7", *SPACE)) == trials(finished[0])
    assert not list(out.glob("worker-*"))


@pytest.mark.slow
@needs_optuna
def test_two_processes_share_a_search(data, tmp_path):
    out = tmp_path / "out"
    command = [sys.executable, "-m", "rutile", "tune", *words(data, out, "trials=5", *SPACE)]
    both = [subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) for _ in range(2)]
    for process in both:
        _, said = process.communicate(timeout=300)
        assert process.returncode == 0, said
    result = search(data, out, "trials=5", *SPACE)
    assert sum(result.trials.values()) == 5
    assert len({row.values["optimizer.learning_rate"] for row in result.best_trials}) == 5


@pytest.mark.slow
@needs_optuna
def test_a_trial_that_another_process_ends_meanwhile_is_left_alone(data, tmp_path, monkeypatch):
    import optuna

    from rutile.train import search as room

    out = tmp_path / "out"
    search(data, out, "trials=1", "epochs=1", *SPACE)
    other = optuna.load_study(study_name="search", storage=f"sqlite:///{out / room.STUDY_FILE}")
    running, hold = other.ask(), room.Worker._hold

    def hold_after_its_end(worker, folder, held):
        if folder.name == "trial-0001" and other.trials[1].state == optuna.trial.TrialState.RUNNING:
            other.tell(running, state=optuna.trial.TrialState.FAIL)
        return hold(worker, folder, held)

    monkeypatch.setattr(room.Worker, "_hold", hold_after_its_end)
    result = search(data, out, "trials=3", "epochs=1", *SPACE)
    assert result.trials == {"complete": 2, "failed": 1}


@pytest.mark.slow
@needs_optuna
def test_failures_are_recorded_and_not_the_end(data, tmp_path, monkeypatch):
    from rutile.train import search as room

    real, begun = room.fit, []

    def fit(*args, **kwargs):
        begun.append(0)
        if len(begun) == 1:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory\nmore lines")
        return real(*args, **kwargs)

    monkeypatch.setattr(room, "fit", fit)
    reporter = SilentReporter()
    space = ["space.optimizer.nesterov=true,false", "space.optimizer.momentum=0,0.5"]
    result = search(data, tmp_path / "out", "trials=8", "optimizer=sgd", "optimizer.momentum=0.5", "epochs=1", *space,
                    "goal=force", "pruner=none", reporter=reporter)  # fmt: skip
    wrong = [w for w in reporter.warnings if "nesterov needs a momentum" in w]
    assert "trial 0: DefaultCPUAllocator: can't allocate memory" in reporter.warnings
    assert wrong
    assert result.trials == {"failed": 1 + len(wrong), "complete": 7 - len(wrong)}
    page = result.report.read_text()
    assert "nesterov needs a momentum" in page
    assert "allocate memory" in page


@pytest.mark.slow
@needs_optuna
def test_where_every_trial_fails_the_reason_is_told(data, tmp_path):
    with pytest.raises(TrainingError, match=r"none of 2 trials came to its end; trial 0: .*not finite"):
        search(data, tmp_path / "out", "trials=2", "optimizer=sgd", "space.optimizer.learning_rate=1e6:1e7")


@pytest.mark.slow
@needs_optuna
def test_a_goal_without_labels_is_told(data, tmp_path):
    with pytest.raises(TrainingError, match="trial 0: goal=virial: the validation structures have no such labels"):
        search(data, tmp_path / "out", "trials=1", "epochs=1", "goal=virial")


@pytest.mark.slow
@needs_optuna
def test_pruned_trials_end_early(data, tmp_path, monkeypatch):
    from rutile.train import search as room

    monkeypatch.setattr(room, "PATIENT", 1)
    result = search(data, tmp_path / "out", "trials=8", "epochs=6", "optimizer=sgd", "clip_norm=1",
                    "space.optimizer.learning_rate=log:1e-7:1e-2")  # fmt: skip
    assert result.trials["pruned"] >= 1
    pruned = [row for row in result.best_trials if row.state == "pruned"]
    assert all(row.epochs < 6 for row in pruned)
    assert all(row.epochs == 6 for row in result.best_trials if row.state == "complete")


@pytest.mark.slow
@needs_optuna
def test_more_trials_go_on_and_other_settings_are_refused(data, finished):
    _, out = finished
    more = search(data, out, "trials=8", *SPACE)
    assert sum(more.trials.values()) == 8
    with pytest.raises(SettingsError, match=r"another search: batch_size was 4, now 5|another search: "):
        search(data, out, "trials=8", *SPACE, "schedule=cosine")
    with pytest.raises(SettingsError, match="holds another search: space"):
        search(data, out, "trials=8", *SPACE[:2])
    (out / "study.db").write_bytes(b"no database")
    with pytest.raises(FileError, match=r"study\.db: cannot read the search"):
        search(data, out, "trials=8", *SPACE)


def test_a_missing_package_is_named(data, tmp_path, monkeypatch):
    monkeypatch.setattr("rutile.train.loggers.installed", lambda package: False)
    with pytest.raises(MissingPackageError, match=r"pip install 'rutile\[tune\]'"):
        search(data, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@needs_optuna
def test_a_missing_file_leaves_nothing_behind(tmp_path):
    with pytest.raises(FileError, match=r"absent\.extxyz: no such file"):
        search(tmp_path / "absent.extxyz", tmp_path / "out", "trials=1", *SPACE)
    assert not (tmp_path / "out").exists()


def space_of(*given, goal="loss", **base):
    settings = load(TuneSettings, pairs=["data=[a.extxyz]", *given])
    return read_space(settings.space, {"data": ["a.extxyz"], **base}, goal)


def test_the_space_is_read():
    assert space_of("space.optimizer.learning_rate=log:1e-3:1e-1") == [
        Dimension("optimizer.learning_rate", 1e-3, 1e-1, log=True)
    ]
    assert space_of("space.batch_size=2:8") == [Dimension("batch_size", 2, 8, whole=True)]
    assert space_of("space.reweight.gamma=0:2") == [Dimension("reweight.gamma", 0, 2)]
    assert space_of("space.ema=null,0.9,0.99")[0].choices == (None, 0.9, 0.99)
    assert space_of("space.architecture=behler,schnet") == [Dimension("potential.name", choices=("behler", "schnet"))]
    lists = space_of("space.potential.hidden=[[15],[15, 15]]")[0]
    assert lists.choices == ([15], [15, 15])
    assert lists.labels == ["[15]", "[15, 15]"]
    assert space_of("space={optimizer: {beta1: 0.8:0.99}, warmup: '0,50'}")[1].choices == (0, 50)


def test_the_usual_space_surrounds_what_would_hold():
    usual = {d.key: d for d in space_of(optimizer={"name": "adam", "learning_rate": 0.01}, batch_size=5)}
    assert (usual["optimizer.learning_rate"].low, usual["optimizer.learning_rate"].high) == (0.001, 0.1)
    assert usual["batch_size"].choices == (2, 5, 10)
    assert usual["loss.energy.start"].log
    muon = {d.key: d for d in space_of(potential={"name": "anatase"})}
    assert muon["optimizer.learning_rate"].high == pytest.approx(0.3)  # of what suits that potential
    assert {d.key for d in space_of(optimizer={"name": "lbfgs"})} == {"optimizer.learning_rate", "loss.energy.start"}
    assert space_of("space.loss.energy.limit=1,10", goal="force")[0].key == "loss.energy.limit"


def test_what_suits_an_architecture_goes_with_it():
    values = {"potential.name": "anatase"}
    assert with_values({"data": ["a.extxyz"]}, values).optimizer.name == "muon"
    given = {"data": ["a.extxyz"], "optimizer": {"name": "adam"}}
    assert with_values(given, values).optimizer.name == "adam"
    assert given == {"data": ["a.extxyz"], "optimizer": {"name": "adam"}}


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("space.optimizer.learning_rat=log:1e-3:1", r"space\.optimizer\.learning_rat: unknown setting; did you mean"),
        ("space.optimizer.learning_rate=-1:1", r"space\.optimizer\.learning_rate = -1.*expected number > 0"),
        ("space.optimizer.learning_rate=log:0:1", "above 0"),
        ("space.optimizer.learning_rate=1:0.1", "first bound must be below the second"),
        ("space.optimizer.learning_rate=log:1e-3", "write low:high, log:low:high, or choices a,b,c"),
        ("space.optimizer.learning_rate=a:b", "write low:high"),
        ("space.optimizer.learning_rate=0.01", r"no choice; set optimizer\.learning_rate="),
        ("space.batch_size=1.5:4", "whole numbers are needed"),
        ("space.optimizer.name=1:2", "bounds are for numbers"),
        ("space.optimizer.name=adam,adamm", r"space\.optimizer = 'adamm': unknown"),
        ("space.seed=1,2", "luck is no setting"),
        ("space.split.valid=0.1:0.5", "changes the validation structures"),
        ("space.loss.force.limit=1:10", r"search loss\.energy\.start, or set goal=force"),
        ("space.potential.channels=16,32", r"space\.potential\.channels: unknown setting"),
        ("trials=0", "trials"),
    ],
)
def test_a_wrong_space_is_one_line(data, tmp_path, word, message):
    with pytest.raises(SettingsError, match=message) as error:
        load_and_read(data, tmp_path / "out", word)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


def load_and_read(data, out, word):
    settings = load(TuneSettings, pairs=words(data, out, word))
    read_space(settings.space, {"data": ["a.extxyz"]}, settings.goal)
