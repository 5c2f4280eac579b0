"""`rutile compress` from a model file to a faster one that behaves like any other, but is not trained."""

import json

import pytest
import torch
from ase import Atoms
from ase.io import write

from rutile import load, starter
from rutile.cli.main import main
from rutile.core.errors import FileError, SettingsError
from rutile.core.reporting import SilentReporter
from rutile.potentials.catalogue import make
from rutile.potentials.combine import Sum
from rutile.potentials.model import Model, ModelInfo
from rutile.potentials.settings import BehlerSettings, DeepPotSESettings, ZBLSettings
from rutile.tasks import compress

SETTINGS = DeepPotSESettings(cutoff=4.0, embedding=(4, 8), axis=3, fitting=(8,), n_c=10.0)


@pytest.fixture
def frames(tmp_path):
    images = [Atoms("TiO2", [(0, 0, 0), (r, 0.2, 0), (-1.5, 0.8, 0.2)]) for r in (1.6, 2.1, 2.9)]
    write(tmp_path / "frames.extxyz", images)
    return tmp_path / "frames.extxyz"


@pytest.fixture
def model(tmp_path):
    Model([make(SETTINGS, (8, 22), seed) for seed in (0, 1)], ModelInfo(elements=(8, 22))).save(tmp_path / "m.rutile")
    return tmp_path / "m.rutile"


@pytest.mark.slow
def test_a_committee_is_compressed_and_compared(tmp_path, model, frames, capsys):
    out = tmp_path / "fast.rutile"
    assert main(["compress", str(model), f"out={out}", f"check={frames}", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["members"] == 2
    assert result["structures"] == 3
    assert 0 < result["force_difference"] < 1e-7
    assert 0 < result["energy_difference"] < 1e-8
    fast = load(out)
    assert [p.settings.tables is not None for p in fast.potentials] == [True, True]
    atoms = Atoms("TiO2", [(0, 0, 0), (1.7, 0.2, 0), (-1.5, 0.8, 0.2)])
    forces = []
    for one in (load(model), fast):
        atoms.calc = one.calculator()
        forces.append(torch.from_numpy(atoms.get_forces()))
    assert forces[0].abs().max() > 1e-3
    torch.testing.assert_close(*forces, rtol=0, atol=1e-8)


def test_what_exists_stays(tmp_path, model):
    with pytest.raises(FileError, match="overwrite=true"):
        compress.run(compress.CompressSettings(model=model, out=model), SilentReporter())


def test_a_sum_keeps_its_other_terms_and_its_references(tmp_path, frames):
    whole = Sum.of([make(SETTINGS, (8, 22), 0), make(ZBLSettings(), (8, 22))])
    whole.set_reference_energies({8: -3.0, 22: -5.0})
    Model([whole], ModelInfo(elements=(8, 22))).save(tmp_path / "sum.rutile")
    out = tmp_path / "fast.rutile"
    done = compress.run(
        compress.CompressSettings(model=tmp_path / "sum.rutile", out=out, check=[frames]), SilentReporter()
    )
    assert done.energy_difference < 1e-8
    fast = load(out).potentials[0]
    assert [term.name for term in fast.terms] == ["deeppot_se", "zbl"]
    assert fast.reference.by_element() == {8: -3.0, 22: -5.0}
    assert fast.frozen == fast.terms[0].frozen != ""


def test_other_potentials_are_refused(tmp_path):
    made = make(BehlerSettings.model_validate({"auto": {"cutoff": 4.0}, "hidden": [4]}), (8, 22))
    Model([made], ModelInfo(elements=(8, 22))).save(tmp_path / "b.rutile")
    with pytest.raises(SettingsError, match=r"holds behler: only deeppot_se"):
        compress.run(compress.CompressSettings(model=tmp_path / "b.rutile", out=tmp_path / "x"), SilentReporter())


@pytest.mark.slow
def test_training_from_a_compressed_model_is_refused_with_the_reason(tmp_path, model, capsys):
    single = tmp_path / "one.rutile"
    Model([load(model).potentials[0].compressed()], ModelInfo(elements=(8, 22))).save(single)
    write(tmp_path / "data.extxyz", starter.frames()[:6])
    code = main(["train", str(tmp_path / "data.extxyz"), f"start_from={single}", f"out={tmp_path / 'run'}", "epochs=1"])
    assert code == 2
    assert "cannot be trained: it is compressed" in capsys.readouterr().err
