"""Training on another device than the CPU; see `pretend`."""

import copy

import pytest
import torch
from pretend import PLACE, Pretend, There
from test_every_architecture import SMALL, data, run, weights  # noqa: F401

from rutile.core.reporting import SilentReporter
from rutile.tasks.train import TrainTaskSettings
from rutile.train import fit as loop
from rutile.train import settings as s
from rutile.train.assess import compare_examples
from rutile.train.fit import fit
from rutile.train.job import prepare

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
