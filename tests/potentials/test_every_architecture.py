"""Every architecture of the catalogue under the same commands: train, go on, save, load, evaluate, use in ASE."""

import numpy as np
import pytest
import torch
from ase.io import write

from rutile import starter
from rutile.core.config import load
from rutile.core.errors import SettingsError
from rutile.core.reporting import SilentReporter
from rutile.potentials.catalogue import POTENTIALS
from rutile.potentials.save import load_model
from rutile.tasks import evaluate, train

SMALL = {
    "anatase": {"channels": 4, "cutoffs": [3.5, 3.5], "radial": 4, "sources": 4, "hidden": 8, "readout": 8},
    "ani": {"hidden": [8]},
    "behler": {"auto": {"cutoff": 4.0}, "hidden": [6]},
    "cgcnn": {"cutoff": 3.5, "channels": 8, "layers": 2, "spacing": 0.4, "hidden": [8]},
    "deepmd": {"cutoff": 4.0, "full_cutoff": 3.0, "hidden": [8, 8]},
    "deeppot_se": {"cutoff": 4.0, "embedding": [4, 8], "axis": 2, "fitting": [8, 8]},
    "megnet": {"cutoff": 3.5, "channels": 6, "blocks": 2, "gaussians": 8, "hidden": [8], "readout": [8]},
    "painn": {"cutoff": 3.5, "features": 8, "interactions": 2, "radial": 6},
    "schnet": {"cutoff": 3.5, "features": 8, "interactions": 2, "radial": 8},
    "sum": {
        "terms": [
            {"name": "behler", "auto": {"cutoff": 4.0}, "hidden": [6]},
            {"name": "zbl"},
            {"name": "d3", "cutoff": 6.0, "cn_cutoff": 5.0},
        ]
    },
    "teanet": {"cutoffs": [3.0, 3.5], "channels": 6, "bond_channels": 4, "hidden": 8, "n_radial": 4},
}
"""Settings of each, small enough for seconds."""
FIXED = {"d3", "zbl"}
"""Have nothing to train; are terms of the sum above."""


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Twelve small frames of the starter set."""
    frames = sorted(starter.frames(), key=len)[:12]
    path = tmp_path_factory.mktemp("data") / "tio2.extxyz"
    write(path, frames)
    return path


def weights(model):
    return torch.cat([p.detach().reshape(-1) for p in model.potentials[0].parameters()])


def run(name, data, out, **changes):
    settings = {
        "data": [data], "out": out, "potential": {"name": name, **SMALL.get(name, {})}, "split": {"valid": 0.25},
        "batch_size": 3, "threads": 1, "precision": "float64", "tensorboard": False, "schedule": {"name": "constant"},
        "keep": "last",
    }  # fmt: skip
    return train.run(train.TrainTaskSettings.model_validate(settings | changes), SilentReporter())


def test_every_name_of_the_catalogue_is_here():
    assert set(SMALL) | FIXED == set(POTENTIALS)
    assert {t["name"] for t in SMALL["sum"]["terms"]} > FIXED


@pytest.mark.parametrize("name", sorted(FIXED))
def test_what_has_nothing_to_train_says_so(name, data, tmp_path):
    with pytest.raises(SettingsError, match=f"{name!r} has nothing to train: .*sum"):
        run(name, data, tmp_path / "run", potential={"name": name}, epochs=1)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::rutile.potentials.calculator.NotSmoothWarning")
@pytest.mark.parametrize("name", sorted(SMALL))
def test_trains_goes_on_evaluates_and_moves_atoms(name, data, tmp_path):
    first = run(name, data, tmp_path / "run", epochs=1)
    begun = weights(load_model(first.model))
    second = run(name, data, tmp_path / "run", epochs=2)
    model = load_model(second.model)
    assert (first.epochs, second.epochs, second.stopped) == (1, 2, "epochs")
    assert torch.isfinite(weights(model)).all()
    assert not torch.equal(weights(model), begun)
    assert model.info.elements == (8, 22)

    settings = evaluate.EvaluateSettings(model=second.model, data=[data], out=tmp_path / "evaluation")
    found = evaluate.run(settings, SilentReporter())
    whole = {e.quantity: e.rmse for e in found.errors if e.subset == "all" and e.unit != "GPa"}
    assert {"energy", "force", "stress"} <= set(whole)
    for quantity, error in whole.items():  # that of all frames is between those of the two parts
        parts = [e.rmse for e in second.errors if e.quantity == quantity]
        assert min(parts) * (1 - 1e-9) <= error <= max(parts) * (1 + 1e-9)

    atoms = starter.frames()[0]
    atoms.calc = model.calculator()
    assert np.isfinite(atoms.get_potential_energy())
    assert np.linalg.norm(atoms.get_forces(), axis=1).max() > 1e-6
    assert np.isfinite(atoms.get_stress()).all()
    np.testing.assert_allclose(atoms.get_forces().sum(0), 0.0, atol=1e-9)


@pytest.mark.parametrize("name", sorted(set(SMALL) - {"sum"}))
def test_what_suits_it_holds_beside_what_is_given(name):
    """One number of a group changes that number; another name takes that one's own defaults."""

    def optimizer(*words):
        return load(train.TrainTaskSettings, [], ["data=[x.extxyz]", f"architecture={name}", *words]).optimizer

    usual = optimizer()
    assert optimizer("optimizer.learning_rate=0.0123") == usual.model_copy(update={"learning_rate": 0.0123})
    assert optimizer("optimizer=asgd") == optimizer("optimizer.name=asgd") != usual
