"""Potentials on descriptors learn what the core repulsion leaves to them, and are judged and kept with it."""

from pathlib import Path

import pytest
import torch
from ase.io import write

from rutile import starter
from rutile.core.errors import SettingsError
from rutile.core.reporting import SilentReporter
from rutile.potentials.save import load_model
from rutile.tasks import evaluate, train
from rutile.train.identity import require_same

KINDS = {"behler": {"auto": {"cutoff": 4.0}, "hidden": [4], "zbl_end": 0.8}, "ani": {"hidden": [4], "zbl_end": 0.8}}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Training and validation frames, some of them so small that titanium atoms feel each other's cores."""
    frames = [a.copy() for a in sorted(starter.frames(), key=len)[:10]]
    folder = tmp_path_factory.mktemp("data")
    for atoms in frames[::2]:
        atoms.set_cell(0.8 * atoms.cell.array, scale_atoms=True)
    write(folder / "train.extxyz", frames[:7])
    write(folder / "valid.extxyz", frames[7:])
    return folder


def run(data, out, kind="behler", **changes):
    settings = {
        "data": [data / "train.extxyz", data / "valid.extxyz"], "split": {"valid_files": [data / "valid.extxyz"]},
        "out": out, "potential": {"name": kind, **KINDS[kind]}, "epochs": 4, "batch_size": 3, "threads": 1,
        "precision": "float64", "tensorboard": False,
        "schedule": {"name": "constant"}, "keep": "last", "write_report": False, "resume": True,
    }  # fmt: skip
    return train.run(train.TrainTaskSettings.model_validate(settings | changes), SilentReporter())


def weights(result):
    return torch.cat([p.detach().reshape(-1) for m in load_model(result.model).potentials for p in m.parameters()])


def errors(result, part):
    return {e.quantity: e.rmse for e in result.errors if e.part == part and e.frames == "all"}


@pytest.mark.slow
@pytest.mark.parametrize("kind", sorted(KINDS))
def test_however_it_is_kept_training_is_the_same(kind, data, tmp_path):
    """In memory, in files, computed anew in every step; stopped on the way; reported errors are those of `evaluate`."""
    first = run(data, tmp_path / "memory", kind)
    kept = run(data, tmp_path / "files", kind, cache_memory=0.01)
    assert any((tmp_path / "files" / "cache").iterdir())
    assert torch.equal(weights(kept), weights(first))
    anew = run(data, tmp_path / "anew", kind, cache_memory=0.01, cache_disk=1e-6)
    torch.testing.assert_close(weights(anew), weights(first), rtol=1e-6, atol=1e-8)
    run(data, tmp_path / "stopped", kind, epochs=2)
    assert torch.equal(weights(run(data, tmp_path / "stopped", kind)), weights(first))

    asked = evaluate.EvaluateSettings(model=first.model, data=[data / "valid.extxyz"], out=tmp_path / "judged")
    found = evaluate.run(asked, SilentReporter()).errors
    judged = {e.quantity: e.rmse for e in found if e.subset == "all" and e.unit != "GPa"}
    for quantity, error in errors(first, "valid").items():
        assert error == pytest.approx(judged[quantity], rel=1e-8)
    without = run(data, tmp_path / "without", kind, potential={"name": kind, **KINDS[kind], "zbl": False})
    assert errors(first, "valid")["force"] > 1.01 * errors(without, "valid")["force"]  # the labels know no squeezing


@pytest.mark.slow
def test_a_committee_goes_on_with_what_it_has(data, tmp_path):
    """Fine-tuned, a model keeps its core repulsion, or that it has none, whatever the default is."""
    for zbl in (True, False):
        first = run(data, tmp_path / f"first-{zbl}", potential={"name": "behler", **KINDS["behler"], "zbl": zbl},
                    members=2, workers=1)  # fmt: skip
        tuned = run(data, tmp_path / f"tuned-{zbl}", members=2, workers=1, epochs=1, start_from=first.model)
        assert [e.rmse for e in tuned.before] == pytest.approx([e.rmse for e in first.errors if e.part == "valid"])
        assert [m.settings.zbl for m in load_model(tuned.model).potentials] == [zbl] * 2


def test_a_run_from_before_goes_on_without_core_repulsion_if_that_is_said():
    """Its checkpoint says nothing of it."""
    old = {"potential": {"name": "behler", "hidden": [4]}, "data": "0"}
    now = {"potential": {"name": "behler", "hidden": [4], "zbl": True, "zbl_end": 0.6}, "data": "0"}
    with pytest.raises(SettingsError, match=r"potential\.zbl was False, now True\. Restore"):
        require_same(old, now, Path("run"))
    now["potential"]["zbl"] = False
    require_same(old, now, Path("run"))
    require_same({"data": "0"}, {"data": "0"}, Path("run"))


def test_a_run_from_before_goes_on_with_equal_waves_if_that_is_said():
    old = {"potential": {"name": "anatase", "waves": 8}, "data": "0"}
    now = {"potential": {"name": "anatase", "waves": 8, "wave_decay": 1.0}, "data": "0"}
    with pytest.raises(SettingsError, match=r"potential\.wave_decay was 0\.0, now 1\.0\. Restore"):
        require_same(old, now, Path("run"))
    now["potential"]["wave_decay"] = 0.0
    require_same(old, now, Path("run"))
