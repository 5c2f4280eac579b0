"""`rutile smoothness`, and the places where a potential with jumps says so."""

import json

import pytest
import torch
from ase.io import write

from rutile import load
from rutile.cli.main import main
from rutile.core.reporting import SilentReporter
from rutile.graph.graph import build_graph
from rutile.graph.neighbors import find_edges
from rutile.potentials.calculator import NotSmoothWarning
from rutile.potentials.catalogue import make
from rutile.potentials.model import Model, ModelInfo
from rutile.potentials.settings import BehlerSettings, DeepMDSettings
from rutile.structures.structures import concatenate
from rutile.tasks import predict, smoothness
from rutile.testing.strategies import random_structure


def packing(seed=0):
    return random_structure(seed, [8, 22, 8] * 5)


@pytest.fixture
def rough(tmp_path):
    potential = make(DeepMDSettings(cutoff=4.0, full_cutoff=3.0, hidden=(8,)), (8, 22))
    batch = concatenate(packing(s) for s in range(4))
    potential.learn_statistics([build_graph(batch, find_edges(batch, 4.0))])
    Model([potential], ModelInfo(elements=(8, 22))).save(tmp_path / "rough.rutile")
    write(tmp_path / "in.extxyz", packing().to_ase())
    return tmp_path / "rough.rutile"


def fine(tmp_path, seed, **settings):
    potential = make(BehlerSettings(auto={"cutoff": 4.0}, hidden=(5,), activation="tanh", **settings), (8, 22), seed)
    potential.set_energy_scale(0.1)
    Model([potential], ModelInfo(elements=(8, 22))).save(tmp_path / "fine.rutile")
    return tmp_path / "fine.rutile"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::rutile.potentials.deepmd.SlotOverflowWarning")
def test_jumps_are_reported(rough, tmp_path, capsys):
    words = [f"model={rough}", f"structures=['{tmp_path / 'in.extxyz'}']", "events=4", "duration=0.01", "--json"]
    assert main(["smoothness", *words]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["stated_smooth"], result["continuous"]) == (False, False)
    assert len(result["jumps"]) == 3
    for row in result["jumps"]:
        assert row["tried"] == 4
        assert row["jumping"] >= 3
        assert row["force"] > 1e-2
        assert "in.extxyz#0, atom" in row["worst"]
    assert [row["time_step"] for row in result["dynamics"]] == [0.5, 0.25]
    # Jumps do not shrink with the step: the scatter stays where that of continuous forces falls to a quarter.
    coarse, half = (row["scatter"] for row in result["dynamics"])
    assert half > 0.5 * coarse > 1e-6


@pytest.mark.slow
def test_a_smooth_model_on_its_own_cluster(tmp_path):
    reporter = SilentReporter()
    settings = smoothness.SmoothnessSettings(model=fine(tmp_path, 6), events=5, duration=0.02)
    result = smoothness.run(settings, reporter)
    assert result.stated_smooth
    assert result.continuous
    assert [(row.tried, row.jumping) for row in result.jumps] == [(5, 0)] * 3
    assert all(row.energy < 1e-8 and row.force < 1e-6 for row in result.jumps)
    coarse, half = result.dynamics
    assert coarse.outcome == half.outcome == "done"
    assert 3 < coarse.scatter / half.scatter < 5
    assert coarse.structure.startswith("cluster (Ti")
    assert coarse.atoms == 27
    assert not reporter.warnings


def test_a_cluster_that_collapses_is_told(tmp_path):
    reporter = SilentReporter()
    settings = smoothness.SmoothnessSettings(model=fine(tmp_path, 0, zbl=False), events=1)
    assert smoothness.run(settings, reporter).dynamics == []
    (warning,) = reporter.warnings
    assert "cluster cannot be relaxed" in warning
    assert "give structures" in warning


def test_a_model_that_overstates_itself_is_told(rough, tmp_path, monkeypatch):
    monkeypatch.setattr("rutile.potentials.deepmd.DeepMD.smooth", True)
    reporter = SilentReporter()
    settings = smoothness.SmoothnessSettings(model=rough, structures=[tmp_path / "in.extxyz"], events=2, duration=0)
    result = smoothness.run(settings, reporter)
    assert result.dynamics == []
    assert any("says it is smooth, and it is not" in warning for warning in reporter.warnings)


def test_using_a_model_with_jumps_warns(rough, tmp_path):
    reporter = SilentReporter()
    settings = predict.PredictSettings(model=rough, structures=[tmp_path / "in.extxyz"], out=tmp_path / "out.extxyz")
    predict.run(settings, reporter)
    assert any("is not smooth" in warning for warning in reporter.warnings)
    with pytest.warns(NotSmoothWarning, match="rutile smoothness"):
        load(rough).calculator()


@pytest.mark.slow
def test_training_a_potential_with_jumps_warns_and_the_model_carries_the_note(tmp_path):
    from ase.calculators.singlepoint import SinglePointCalculator

    images = []
    for seed in range(6):
        atoms = packing(seed).to_ase()[0]
        forces = torch.randn(len(atoms), 3, generator=torch.Generator().manual_seed(seed)).double().numpy()
        atoms.calc = SinglePointCalculator(atoms, energy=-100.0 - seed, forces=forces)
        images.append(atoms)
    write(tmp_path / "train.extxyz", images)
    words = ["architecture=deepmd", "potential.cutoff=4", "potential.hidden=[8]", "epochs=1", f"out={tmp_path / 'run'}"]
    with pytest.MonkeyPatch.context() as patch:
        warned = []
        patch.setattr("rutile.cli.terminal.RichReporter.warn", lambda _, text: warned.append(text))
        assert main(["train", str(tmp_path / "train.extxyz"), *words]) == 0
    assert any("is not smooth" in text for text in warned)
    model = load(tmp_path / "run")
    assert "is not smooth" in model.info.notes[0]
    assert set(model.potentials[0].settings.sel_full) == {"O", "Ti"}
