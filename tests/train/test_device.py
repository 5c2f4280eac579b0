"""Training on another device than the CPU; see `pretend`."""

import copy
import sys
from pathlib import Path

import pytest
import torch
from pretend import PLACE, Pretend, There

sys.path.append(str(Path(__file__).parents[1] / "potentials"))
from test_every_architecture import SMALL, data  # noqa: F401

from rutile.core.errors import SettingsError
from rutile.core.reporting import SilentReporter
from rutile.potentials.placement import chosen, usable_device
from rutile.tasks.train import TrainTaskSettings
from rutile.train import fit as loop
from rutile.train import settings as s
from rutile.train.assess import compare_examples
from rutile.train.fit import fit
from rutile.train.job import prepare
from rutile.train.members import division, own_devices

COMMON = {
    "split": {"valid": 0.25}, "batch_size": 3, "threads": 1, "precision": "float64", "tensorboard": False,
    "schedule": {"name": "constant"}, "keep": "last", "checkpoint_seconds": 0,
}  # fmt: skip


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    """Batches are made when they are needed."""
    monkeypatch.setattr(loop, "AHEAD", 0)


def prepared(name, data, out, **changes):  # noqa: F811
    """Settings and what is trained on what."""
    potential = {"name": name, **SMALL.get(name, {})}
    settings = TrainTaskSettings.model_validate({"data": [data], "potential": potential} | COMMON | changes)
    out.mkdir()
    return settings, prepare(settings, [0], out, SilentReporter())


def trained(settings, job, folder, *, resume=False, **changes):
    """The potential after a training that begins with the job's."""
    potential = copy.deepcopy(job.potentials[0])
    for side in job.examples.values():
        side.potential = potential
    folder.mkdir(exist_ok=True)
    fields = {name: getattr(settings, name) for name in s.TrainSettings.model_fields}
    how = s.TrainSettings(**(fields | changes))
    train, valid = job.examples["train"], job.examples["valid"]
    result = fit(potential, train, valid, how, folder, SilentReporter(), resume=resume)
    return potential, result


@pytest.fixture(scope="module")
def begun(data, tmp_path_factory):  # noqa: F811
    """A small network at its start."""
    return prepared("behler", data, tmp_path_factory.mktemp("begun") / "job", epochs=1)


def flat(potential):
    return torch.cat([p.detach().cpu().reshape(-1) for p in potential.parameters()])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::rutile.potentials.calculator.NotSmoothWarning")
@pytest.mark.parametrize("name", sorted(SMALL))
def test_every_architecture_trains_there_as_on_the_cpu(name, data, tmp_path):  # noqa: F811
    settings, job = prepared(name, data, tmp_path / "job", epochs=1)
    here, first = trained(settings, job, tmp_path / "here", device="cpu")
    with Pretend():
        there, second = trained(settings, job, tmp_path / "there", device="pretend")
        assert all(isinstance(t, There) for t in [*there.parameters(), *there.buffers()])
        (compared, *_) = compare_examples([there], job.store, job.examples["valid"], "errors", SilentReporter())
        forces = compared.prediction.forces
        assert forces.device == PLACE
        assert compared.labelled.forces.device.type == "cpu"
        forces = forces.cpu()
    assert float((flat(here) - flat(there)).abs().max()) < 1e-9
    assert second.history[-1]["valid_loss"] == pytest.approx(first.history[-1]["valid_loss"], rel=1e-9)
    job.examples["valid"].potential = here
    (compared, *_) = compare_examples([here], job.store, job.examples["valid"], "errors", SilentReporter())
    assert float((compared.prediction.forces - forces).abs().max()) < 1e-9


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["adam", "asgd", "lbfgs", "muon", "rmsprop"])
def test_a_run_goes_on_on_another_device(optimizer, begun, tmp_path):
    settings, job = begun
    how = {"optimizer": {"name": optimizer}, "epochs": 3, "ema": 0.9, "reweight": {"gamma": 0.5}}
    whole, _ = trained(settings, job, tmp_path / "whole", device="cpu", **how)
    for first, second in (("cpu", "pretend"), ("pretend", "cpu")):
        folder = tmp_path / first
        with Pretend():
            trained(settings, job, folder, device=first, **(how | {"epochs": 1}))
            parts, result = trained(settings, job, folder, device=second, resume=True, **how)
            assert isinstance(next(parts.parameters()), There) == (second == "pretend")
        assert result.epochs == 3
        assert float((flat(parts) - flat(whole)).abs().max()) < 1e-8


def test_a_device_that_is_not_there_is_refused_in_one_line(begun, tmp_path):
    settings, job = begun
    for name in ("cuda:99", "gpu", "meta", "cpu:7:1", "mps"):
        text = ": say cpu, cuda, cuda:1" if name in ("gpu", "cpu:7:1") else " cannot be used: .*; use device=cpu"
        with pytest.raises(SettingsError, match=f"device '{name}'{text}") as error:
            trained(settings, job, tmp_path / "run", device=name)
        assert "\n" not in str(error.value)
    assert usable_device("cpu") == torch.device("cpu")


def test_auto_takes_a_gpu_where_there_is_one(monkeypatch):
    assert chosen("auto") == ("cuda" if torch.cuda.is_available() else "cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert (chosen("auto"), chosen("cpu"), chosen("cuda:1")) == ("cuda", "cpu", "cuda:1")
    assert own_devices("auto", 3) == ["cuda:0", "cuda:1", "cuda:0"]
    assert own_devices("cuda:1", 2) == ["cuda:1", "cuda:1"]
    assert division(4, None, 1, "auto") == (2, 1)
    assert division(4, 3, 1, "auto") == (3, 1)
    assert division(4, None, 1, "cuda:0") == (1, 1)


def test_the_pretended_device_has_the_manners_of_a_gpu():
    with Pretend():
        a = torch.ones(3, device="pretend")
        for wrong in (
            lambda: a + torch.ones(3),
            lambda: torch.ones(3)[a.long()],
            lambda: torch.cat([a, torch.ones(1)]),
        ):
            with pytest.raises(RuntimeError, match="same device"):
                wrong()
        with pytest.raises(TypeError, match="numpy"):
            a.numpy()
        assert (a * torch.tensor(2.0))[torch.tensor([0, 2])].tolist() == [2.0, 2.0]
