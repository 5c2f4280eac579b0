"""Metrics to services: stand-ins for their packages, the same run after a resume, faults that do not end a training."""

import csv
import json
import sys
import types

import pytest
from test_fit import run, settings, stop_after

from rutile.core.errors import MissingPackageError, SettingsError, TrainingError
from rutile.core.reporting import SilentReporter
from rutile.train import loggers
from rutile.train.log import MetricsLog
from rutile.train.loggers import require_loggers
from rutile.train.settings import MlflowSettings, TrainSettings, WandbSettings


class Service:
    """What stand-ins have heard; run name -> rows by epoch, settings, how it ended."""

    def __init__(self):
        self.rows, self.begun, self.config, self.ends = {}, [], {}, {}
        self.down_after = 10**9

    def hear(self, name, epoch, numbers):
        if epoch >= self.down_after:
            raise ConnectionError("no route to host\nlong text")
        self.rows.setdefault(name, {})[epoch] = numbers


def module(monkeypatch, name, **content):
    found = types.ModuleType(name)
    found.__spec__ = types.SimpleNamespace(origin="here", loader=None)
    vars(found).update(content)
    monkeypatch.setitem(sys.modules, name, found)
    return found


@pytest.fixture
def wandb(monkeypatch):
    service = Service()

    class Run:
        def __init__(self, name):
            self.id = name

        def log(self, numbers, step):
            service.hear(self.id, step, numbers)

        def finish(self, exit_code):
            service.ends[self.id] = exit_code

    def init(**words):
        if words["mode"] != "offline":
            raise RuntimeError("No API key configured.")
        name = words["id"] or f"w{len(service.begun)}"
        service.begun.append(words | {"id": name})
        service.config[name] = words["config"]
        return Run(name)

    module(monkeypatch, "wandb", init=init, Settings=lambda **words: words)
    return service


class Client:
    service: Service

    def __init__(self, tracking_uri):
        if tracking_uri == "http://nowhere":
            raise ConnectionError("refused")

    def get_experiment_by_name(self, name):
        return None

    def create_experiment(self, name):
        return name

    def create_run(self, experiment, run_name):
        name = f"m{len(self.service.begun)}"
        self.service.begun.append((experiment, run_name))
        return types.SimpleNamespace(info=types.SimpleNamespace(run_id=name))

    def update_run(self, name, status):
        self.service.begun.append((name, status))

    def log_param(self, name, key, value):
        self.service.config.setdefault(name, {})[key] = value

    def log_batch(self, name, metrics):
        self.service.hear(name, metrics[0].step, {m.key: m.value for m in metrics})

    def set_terminated(self, name, status):
        self.service.ends[name] = status


@pytest.fixture
def mlflow(monkeypatch):
    service = Service()

    class Its(Client):
        pass

    Its.service = service

    def metric(key, value, timestamp, step):
        return types.SimpleNamespace(key=key, value=value, step=step)

    module(monkeypatch, "mlflow")
    module(monkeypatch, "mlflow.tracking", MlflowClient=Its)
    module(monkeypatch, "mlflow.entities", Metric=metric)
    return service


BOTH = {"wandb": WandbSettings(mode="offline", project="oxides"), "mlflow": MlflowSettings(name="first")}


def test_both_services_get_every_epoch_and_all_settings(store, tmp_path, wandb, mlflow):
    _, result = run(store, tmp_path / "a", settings(**BOTH), identity={"data": "abc"})
    assert json.loads((tmp_path / "a" / "loggers.json").read_text()) == {"wandb": "w0", "mlflow": "m0"}
    for service, name in ((wandb, "w0"), (mlflow, "m0")):
        assert sorted(service.rows[name]) == [0, 1, 2, 3]
        for row in result.history:
            heard = service.rows[name][row["epoch"]]
            assert heard["valid_loss"] == row["valid_loss"]
            assert heard["prefactor_force"] == 1.0
    assert wandb.begun[0]["project"] == "oxides"
    assert wandb.begun[0]["name"] == str(tmp_path / "a")
    assert wandb.config["w0"]["train"]["epochs"] == 4
    assert mlflow.config["m0"]["train.epochs"] == "4"
    assert mlflow.config["m0"]["data"] == "abc"
    assert mlflow.begun == [("rutile", "first")]
    assert wandb.ends == {"w0": 0}
    assert mlflow.ends == {"m0": "FINISHED"}


def test_a_run_that_goes_on_is_the_same_run(store, tmp_path, wandb, mlflow):
    run(store, tmp_path / "a", settings(**BOTH), stop=stop_after(5))
    run(store, tmp_path / "a", settings(**BOTH), resume=True)
    assert list(wandb.rows) == ["w0"]
    assert list(mlflow.rows) == ["m0"]
    assert sorted(mlflow.rows["m0"]) == [0, 1, 2, 3]
    assert wandb.begun[1]["id"] == "w0"
    assert mlflow.begun[1] == ("m0", "RUNNING")


@pytest.mark.slow
def test_a_service_that_comes_later_gets_the_earlier_epochs_and_a_new_run_a_new_name(store, tmp_path, wandb, mlflow):
    run(store, tmp_path / "a", settings(mlflow=BOTH["mlflow"]), stop=stop_after(7))
    run(store, tmp_path / "a", settings(**BOTH), resume=True)
    assert sorted(wandb.rows["w0"]) == [0, 1, 2, 3]
    run(store, tmp_path / "b", settings(**BOTH))
    assert list(mlflow.rows) == ["m0", "m2"]


def test_a_service_that_fails_does_not_end_the_training(store, tmp_path, mlflow):
    mlflow.down_after = 2
    reporter = SilentReporter()
    with MetricsLog(tmp_path, [], settings(mlflow=MlflowSettings()), reporter, {}) as log:
        for epoch in range(5):
            log.add({"epoch": epoch, "valid_loss": 1.0})
    assert len(list(csv.DictReader((tmp_path / "metrics.csv").read_text().splitlines()))) == 5
    assert sorted(mlflow.rows["m0"]) == [0, 1]
    (warning,) = reporter.warnings
    assert "no route to host;" in warning
    assert "metrics.csv" in warning


def test_a_training_that_fails_is_marked(tmp_path, wandb, mlflow):
    with pytest.raises(TrainingError), MetricsLog(tmp_path, [], settings(**BOTH), SilentReporter(), {}):
        raise TrainingError("loss is not finite")
    assert wandb.ends == {"w0": 1}
    assert mlflow.ends == {"m0": "FAILED"}


def test_what_cannot_begin_says_the_remedy_in_one_line(tmp_path, wandb, mlflow):
    for changed, word in (
        ({"wandb": WandbSettings()}, "wandb.mode=offline"),
        ({"mlflow": MlflowSettings(uri="http://nowhere")}, "sqlite:///mlflow.db"),
    ):
        with pytest.raises(SettingsError, match=word) as found:
            MetricsLog(tmp_path, [], settings(**changed), SilentReporter(), {})
        assert "\n" not in str(found.value)


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_missing_package_is_said_before_any_work(name, monkeypatch, tmp_path):
    chosen = TrainSettings.model_validate({name: {}})
    monkeypatch.setattr(loggers.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(MissingPackageError, match=rf"pip install 'rutile\[{name}\]'"):
        require_loggers(chosen)
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "rutile_no_package").mkdir()
    assert not loggers.installed("rutile_no_package")  # a folder is no package


def test_services_are_left_alone_without_settings(store, tmp_path, wandb, mlflow):
    run(store, tmp_path / "a", settings())
    assert wandb.begun == mlflow.begun == []
    assert not (tmp_path / "a" / "loggers.json").exists()


def test_tensorboard_on_a_full_disk_does_not_keep_the_training_from_beginning(tmp_path, monkeypatch):
    pytest.importorskip("tensorboard")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(loggers, "TensorBoardLog", full)
    reporter = SilentReporter()
    assert loggers.make_loggers(tmp_path, [], TrainSettings(), reporter, {}) == []
    assert "No space left on device" in reporter.warnings[0]
