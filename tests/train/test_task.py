"""`rutile train` from a file to a model that can be used."""

import csv
import signal

import numpy as np
import pytest
import torch
import yaml
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

from rutile.core.errors import FileError, LabelError, SettingsError
from rutile.core.reporting import SilentReporter
from rutile.data.frames import batch_frames
from rutile.data.reading import read_frames
from rutile.data.settings import ReadSettings
from rutile.potentials.evaluate import evaluate
from rutile.potentials.save import load_model
from rutile.structures.surroundings import Surroundings
from rutile.tasks.train import TrainTaskSettings, run
from rutile.testing.strategies import random_structure
from rutile.testing.toys import make_toy

TEACHER = make_toy(seed=3)


def images(n, *, stress=True):
    """Frames labelled by a toy, energies far from 0 as in DFT."""
    out = []
    for k in range(n):
        s = random_structure(k, [22, 8, 8])
        p = evaluate(TEACHER, s)
        atoms = Atoms([22, 8, 8], s.positions.numpy(), cell=s.cell[0].numpy(), pbc=True)
        labels = {"energy": float(p.energy[0]) - 2500.0, "forces": p.forces.numpy()}
        if stress:
            labels["stress"] = p.stress[0].numpy()[(0, 1, 2, 1, 0, 0), (0, 1, 2, 2, 2, 1)]
        atoms.calc = SinglePointCalculator(atoms, **labels)
        atoms.info["config_type"] = "random"
        out.append(atoms)
    return out


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "frames.extxyz"
    write(path, images(14))
    return path


def settings(data, out, **changes):
    base = {
        "data": [data],
        "out": out,
        "potential": {"name": "behler", "hidden": [5]},
        "split": {"valid": 0.25},
        "epochs": 3,
        "batch_size": 4,
        "tensorboard": False,
        "precision": "float64",
    }
    return TrainTaskSettings.model_validate(base | changes)


def weights(model):
    return torch.cat([p.detach().reshape(-1) for potential in model.potentials for p in potential.parameters()])


@pytest.mark.slow
def test_one_file_is_enough(data, tmp_path):
    reporter = SilentReporter()
    result = run(settings(data, tmp_path / "run"), reporter)
    assert result.stopped == "epochs"
    assert {e.part for e in result.errors} == {"train", "valid"}
    for name in ("model.rutile", "report.html", "metrics.csv", "settings.yaml", "checkpoint.safetensors"):
        assert (tmp_path / "run" / name).stat().st_size > 0
    assert len(list(csv.DictReader((tmp_path / "run" / "metrics.csv").read_text().splitlines()))) == 3
    again = yaml.safe_load((tmp_path / "run" / "settings.yaml").read_text())
    assert TrainTaskSettings.model_validate(again) == settings(data, tmp_path / "run")
    assert any(str(result.model.resolve()) in text for text in reporter.messages)
    assert any("reference energies" in text for text in reporter.warnings)


@pytest.mark.slow
def test_saved_model_has_the_errors_that_are_reported(data, tmp_path):
    split = {"valid_files": [str(data)]}  # every frame is a validation frame
    extra = tmp_path / "more.extxyz"
    write(extra, images(20)[14:])
    result = run(settings(extra, tmp_path / "run", split=split), SilentReporter())
    model = load_model(result.model)
    batch = batch_frames(list(read_frames([data], ReadSettings(), SilentReporter())))
    p = evaluate(model.members(torch.float64)[0], batch.structures)
    energy = ((p.energy - batch.energy) / 3).square().mean().sqrt().item()
    force = (p.forces - batch.forces).square().mean().sqrt().item()
    stress = (p.stress - batch.stress).square().mean().sqrt().item()
    reported = {e.quantity: e.rmse for e in result.errors if e.part == "valid"}
    assert energy == pytest.approx(reported["energy"], rel=1e-6)
    assert force == pytest.approx(reported["force"], rel=1e-6)
    assert 0.5 < stress / reported["stress"] < 2  # six components there, nine here
    assert model.info.metrics["valid"]["force_rmse"] == pytest.approx(force, rel=1e-6)
    assert model.info.elements == (8, 22)
    learned = list(read_frames([extra], ReadSettings(), SilentReporter()))
    assert model.surroundings == Surroundings.of(learned)  # of what was learned, not of the validation frames


@pytest.mark.slow
def test_run_again_goes_on_and_ends_where_one_run_would(data, tmp_path):
    straight = run(settings(data, tmp_path / "a", epochs=4, schedule={"name": "constant"}), SilentReporter())
    run(settings(data, tmp_path / "b", epochs=2, schedule={"name": "constant"}), SilentReporter())
    resumed = run(settings(data, tmp_path / "b", epochs=4, schedule={"name": "constant"}), SilentReporter())
    a, b = load_model(straight.model), load_model(resumed.model)
    assert torch.equal(weights(a), weights(b))
    assert resumed.epochs == 4


@pytest.mark.slow
def test_changed_settings_and_changed_data_are_refused(data, tmp_path):
    run(settings(data, tmp_path / "run"), SilentReporter())
    with pytest.raises(SettingsError, match=r"potential\.hidden"):
        run(settings(data, tmp_path / "run", potential={"name": "behler", "hidden": [6]}), SilentReporter())
    other = tmp_path / "other.extxyz"
    write(other, images(15))
    with pytest.raises(SettingsError, match="data was"):
        run(settings(other, tmp_path / "run"), SilentReporter())
    with pytest.raises(FileError, match="resume"):
        run(settings(data, tmp_path / "run", resume=False), SilentReporter())


@pytest.mark.slow
def test_retrain_from_a_model_with_another_learning_rate(data, tmp_path):
    first = run(settings(data, tmp_path / "a", epochs=2), SilentReporter())
    reporter = SilentReporter()
    tiny = {"name": "sgd", "learning_rate": 1e-30}
    second = run(settings(data, tmp_path / "b", epochs=1, start_from=first.model, optimizer=tiny), reporter)
    a, b = load_model(first.model).potentials[0].state_dict(), load_model(second.model).potentials[0].state_dict()
    assert all(torch.allclose(a[k], b[k], rtol=1e-14, atol=0) for k in a)
    assert any("begins with the weights" in text for text in reporter.messages)


@pytest.mark.slow
def test_committee_in_one_file(data, tmp_path):
    result = run(settings(data, tmp_path / "run", members=2), SilentReporter())
    model = load_model(result.model)
    one, two = ([p.detach() for p in m.parameters()] for m in model.potentials)
    assert not torch.equal(one[0], two[0])
    assert (tmp_path / "run" / "member-2" / "metrics.csv").exists()
    again = run(settings(data, tmp_path / "run", members=2), SilentReporter())
    assert torch.equal(weights(load_model(again.model)), weights(model))


def test_labels_that_the_loss_asks_for_must_be_there(tmp_path):
    write(tmp_path / "a.extxyz", images(6, stress=False))
    virial = {"virial": {"start": 1, "limit": 1}}
    with pytest.raises(LabelError, match=r"no stress in any of 6 frames.*loss\.virial\.start=0"):
        run(settings(tmp_path / "a.extxyz", tmp_path / "run", loss=virial), SilentReporter())


@pytest.mark.slow
def test_force_limit_lists_what_it_leaves_out(data, tmp_path):
    largest = [np.abs(a.get_forces()).max() for a in images(14)]
    limit = float(np.median(largest))
    reporter = SilentReporter()
    run(settings(data, tmp_path / "run", force_limit=limit), reporter)
    (text,) = [w for w in reporter.warnings if "not trained on" in w]
    named = {int(part.split("#")[1].split(",")[0].split()[0]) for part in text.split("frames.extxyz")[1:]}
    assert named
    assert all(largest[k] > limit for k in named)


def test_file_that_is_no_store_is_not_removed(data, tmp_path):
    (tmp_path / "run" / "store").mkdir(parents=True)
    (tmp_path / "run" / "store" / "thesis.txt").write_text("years of work")
    with pytest.raises(FileError):
        run(settings(data, tmp_path / "run"), SilentReporter())
    assert (tmp_path / "run" / "store" / "thesis.txt").read_text() == "years of work"


@pytest.mark.slow
@pytest.mark.parametrize(("number", "raised"), [(signal.SIGTERM, SystemExit), (signal.SIGINT, KeyboardInterrupt)])
def test_signal_leaves_a_usable_model_and_a_run_that_goes_on(data, tmp_path, number, raised):
    class Interrupting(SilentReporter):
        def metrics(self, row):
            if row["epoch"] == 1:
                signal.raise_signal(number)

    with pytest.raises(raised):
        run(settings(data, tmp_path / "run", epochs=20), Interrupting())
    assert load_model(tmp_path / "run" / "model.rutile").info.elements == (8, 22)
    assert run(settings(data, tmp_path / "run", epochs=20), SilentReporter()).epochs == 20
