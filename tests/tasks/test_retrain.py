"""`rutile retrain`: learns the new, keeps the old, and says so where it does not."""

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

from rutile.cli.main import main
from rutile.core.errors import ForgettingError, SettingsError
from rutile.core.reporting import SilentReporter
from rutile.potentials.save import load_model
from rutile.potentials.settings.stored import stored_members
from rutile.tasks.retrain import RetrainSettings, run
from rutile.tasks.train import TrainTaskSettings
from rutile.tasks.train import run as train
from rutile.train.job import prepare
from rutile.train.settings import JobSettings

pytestmark = pytest.mark.slow

POTENTIAL = {"name": "behler", "hidden": [8]}


def images(n, first, stretch=1.0, sign=1.0):
    """Rattled and strained copper with EMT's labels, or with their opposite; some have 8 atoms instead of 4."""
    out = []
    for k in range(first, first + n):
        atoms = bulk("Cu", "fcc", a=3.6 * stretch, cubic=True).repeat((1 + k % 2, 1, 1))
        atoms.set_cell(atoms.cell * np.random.default_rng(k).uniform(0.97, 1.03, 3), scale_atoms=True)
        atoms.rattle(0.08, seed=k)
        atoms.calc = EMT()
        labels = {"energy": sign * atoms.get_potential_energy(), "forces": sign * atoms.get_forces()}
        atoms.calc = SinglePointCalculator(atoms, **labels)
        out.append(atoms)
    return out


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Old frames, new ones that are denser, wrong ones with the opposite forces, and a model of the old."""
    folder = tmp_path_factory.mktemp("retrain")
    write(folder / "old.extxyz", images(30, 0))
    write(folder / "new.extxyz", images(12, 100, stretch=0.94))
    write(folder / "wrong.extxyz", images(12, 100, sign=-1.0))
    job = {
        "data": [folder / "old.extxyz"],
        "out": folder / "run",
        "potential": POTENTIAL,
        "epochs": 200,
        "seed": 1,
        "optimizer": {"name": "adam", "learning_rate": 0.01},
    }
    train(TrainTaskSettings.model_validate(job | {"tensorboard": False}), SilentReporter())
    return folder


def settings(files, out, new="new", **more):
    base = {
        "model": files / "run",
        "new": [files / f"{new}.extxyz"],
        "old": [files / "old.extxyz"],
        "out": out,
        "tensorboard": False,
        "split": {"valid": 0.25},
    }
    return RetrainSettings.model_validate(base | more)


def test_new_structures_are_learned_and_old_ones_kept(files, tmp_path):
    result = run(settings(files, tmp_path / "re", tolerance=1.0), SilentReporter())  # on three small frames
    rows = {(c.structures, c.quantity): c for c in result.changes}
    assert set(rows) == {(s, q) for s in ("old", "new") for q in ("energy", "force")}
    assert rows["new", "force"].after < 0.7 * rows["new", "force"].before


FORGETFUL = {"replay_fraction": 0.05, "epochs": 60, "optimizer": {"name": "adam", "learning_rate": 0.03}}


def test_forgetting_is_no_success(files, tmp_path, capsys):
    with pytest.raises(ForgettingError, match=r"old structures.*force RMSE.*10 % worse.*replay_fraction"):
        run(settings(files, tmp_path / "re", "wrong", **FORGETFUL), SilentReporter())
    assert not (tmp_path / "re" / "model.rutile").exists()
    assert load_model(tmp_path / "re" / "model-rejected.rutile").potentials
    words = ["epochs=60", "optimizer.name=adam", "optimizer.learning_rate=0.03", "replay_fraction=0.05"]
    given = [f"model={files / 'run'}", f"new={files / 'wrong.extxyz'}", f"old={files / 'old.extxyz'}"]
    assert main(["retrain", *given, *words, f"out={tmp_path / 'cli'}", "tensorboard=false"]) == 2
    assert "has forgotten" in capsys.readouterr().err


def test_what_may_be_forgotten_is_a_setting(files, tmp_path):
    result = run(settings(files, tmp_path / "re", "wrong", tolerance=1e6, **FORGETFUL), SilentReporter())
    old = next(c for c in result.changes if (c.structures, c.quantity) == ("old", "force"))
    assert old.after > 1.1 * old.before


def test_old_structures_weigh_more(files, tmp_path):
    def errors(name, **more):
        result = run(settings(files, tmp_path / name, "wrong", tolerance=1e6, epochs=30, **more), SilentReporter())
        return {c.structures: c.after for c in result.changes if c.quantity == "force"}

    light, heavy = errors("light", old_weight=0.02), errors("heavy", old_weight=50)
    assert heavy["old"] < light["old"]
    assert heavy["new"] > light["new"]


def test_weights_of_replayed_structures(files, tmp_path):
    job = JobSettings(data=[files / "new.extxyz"], replay=[files / "old.extxyz"], replay_weight=3.0,
                      start_from=files / "run")  # fmt: skip
    prepared = prepare(job, [0], tmp_path, SilentReporter())
    examples = prepared.examples["train"]
    old = ["old.extxyz" in examples.source(i) for i in range(len(examples))]
    assert 0 < sum(old) < len(old)
    assert [float(w) for w in examples.weights] == [3.0 if o else 1.0 for o in old]


def test_defaults_suit_the_stored_architecture(files, tmp_path):
    gentle = settings(files, tmp_path)
    assert gentle.optimizer.name == "adam"
    assert gentle.optimizer.learning_rate == pytest.approx(0.3 * 0.003)
    assert (gentle.epochs, gentle.keep, gentle.reweight.gamma) == (100, "last", 0.5)
    own = settings(files, tmp_path, epochs=7, reweight={"gamma": 0}, optimizer={"learning_rate": 0.5})
    assert (own.epochs, own.reweight.gamma, own.optimizer.learning_rate) == (7, 0, 0.5)
    potential = {"name": "anatase", "channels": 4, "cutoffs": [3.0], "hidden": 4}
    job = {"data": [files / "old.extxyz"], "out": tmp_path / "ana", "potential": potential, "epochs": 1}
    model = train(TrainTaskSettings.model_validate(job | {"tensorboard": False}), SilentReporter()).model
    assert stored_members(model) == ["anatase"]
    muon = RetrainSettings(model=model, new=[model], old=[model]).optimizer
    assert (muon.name, muon.momentum) == ("muon", 0.98)
    assert muon.learning_rate == pytest.approx(0.3 * 0.03)
    assert muon.other_learning_rate == pytest.approx(0.3 * 0.01)
    assert JobSettings(data=[model], start_from=model).optimizer.name == "muon"


def test_another_architecture_than_the_stored_one_is_refused(files, tmp_path):
    job = {"data": [files / "new.extxyz"], "out": tmp_path / "x", "start_from": files / "run"}
    with pytest.raises(SettingsError, match="'behler', not 'painn'"):
        train(TrainTaskSettings.model_validate(job | {"potential": {"name": "painn"}}), SilentReporter())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["model=nosuch", "new=n.extxyz", "old=o.extxyz"], "nosuch"),
        (["new=n.extxyz", "old=o.extxyz"], "model"),
        (["model=run", "new=n.extxyz"], "old"),
        (["model=run", "new=n.extxyz", "old=o.extxyz", "tolerance=-1"], "tolerance"),
    ],
)
def test_wrong_input(files, monkeypatch, capsys, words, said):
    monkeypatch.chdir(files)
    (files / "n.extxyz").write_bytes((files / "new.extxyz").read_bytes())
    (files / "o.extxyz").write_bytes((files / "old.extxyz").read_bytes())
    assert main(["retrain", *words]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert len(error.strip().splitlines()) <= 3
