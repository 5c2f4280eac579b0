"""`rutile evaluate` from files to numbers, tables and page."""

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from ase.io import read, write
from pydantic import TypeAdapter

from rutile.core.errors import ElementError, LabelError
from rutile.core.reporting import SilentReporter
from rutile.potentials.catalogue import make
from rutile.potentials.evaluate import evaluate
from rutile.potentials.model import Model, ModelInfo
from rutile.potentials.save import save_model
from rutile.potentials.settings import BehlerSettings, PotentialSettings
from rutile.structures.structures import Structures
from rutile.tasks.evaluate import EvaluateSettings, run

SMALL = BehlerSettings.model_validate({"auto": {"cutoff": 4.0}, "hidden": [4]})


def model_file(path: Path, members: int = 1) -> Model:
    model = Model([make(SMALL, (12, 8), seed) for seed in range(members)], ModelInfo(elements=(8, 12)))
    save_model(path, model)
    return model


def structures(n: int = 6) -> list[Atoms]:
    rng = np.random.default_rng(0)
    out = []
    for k in range(n):
        atoms = bulk("MgO", "rocksalt", a=4.2) * (1 + k % 2, 1, 1)
        atoms.positions += rng.normal(0, 0.05, atoms.positions.shape)
        atoms.info["config_type"] = ("small", "large")[k % 2]
        out.append(atoms)
    return out


def label(images: list[Atoms], model: Model, energy_shift: float, force_shift: float) -> None:
    """Labels whose errors are known: the model's own values, shifted (eV/atom and eV/Angstrom)."""
    for atoms in images:
        p = evaluate(model.potential, Structures.from_ase(atoms))
        atoms.info["REF_energy"] = float(p.energy[0]) + energy_shift * len(atoms)
        atoms.arrays["REF_forces"] = p.forces.detach().numpy() + force_shift
        atoms.info["REF_stress"] = p.stress[0].detach().numpy()


@pytest.mark.slow
def test_known_errors_come_out(tmp_path):
    model, images = model_file(tmp_path / "model.rutile"), structures()
    label(images, model, energy_shift=0.25, force_shift=-0.5)
    images[3].arrays["REF_forces"] += 2.0
    write(tmp_path / "data.extxyz", images)
    settings = EvaluateSettings(
        model=tmp_path / "model.rutile", data=[tmp_path / "data.extxyz"], out=tmp_path / "out", predictions=True,
        force_limit=100.0, batch_atoms=5, worst=2, title="<b>My & set</b>",
    )  # fmt: skip
    result = run(settings, SilentReporter())
    row = {(r.quantity, r.unit, r.subset, r.name): r for r in result.errors}
    assert result.frames == 6
    assert row["energy", "eV/atom", "all", "all"].mae == pytest.approx(0.25)
    assert row["force", "eV/Å", "group", "small"].rmse == pytest.approx(0.5)
    assert row["force", "eV/Å", "element", "O"].max == pytest.approx(1.5)
    assert row["stress", "GPa", "all", "all"].max == pytest.approx(0.0, abs=1e-6)
    assert row["force", "eV/Å", "limit", "max |F| < 100 eV/Å"].count == 3 * sum(map(len, images))
    assert result.worst[0].frame == f"{tmp_path / 'data.extxyz'}#3"
    assert result.worst[0].force_rmse == pytest.approx(1.5)
    assert result.worst[0].force_max == pytest.approx(1.5 * 3**0.5)
    assert len(result.worst) == 2

    stored = json.loads((tmp_path / "out/metrics.json").read_text())
    assert stored["frames"] == 6
    with (tmp_path / "out/metrics.csv").open() as file:
        assert len(list(csv.DictReader(file))) == len(result.errors)
    with (tmp_path / "out/frames.csv").open() as file:
        frames = list(csv.DictReader(file))
    assert [f["frame"] for f in frames] == [f"{tmp_path / 'data.extxyz'}#{k}" for k in range(6)]
    assert float(frames[4]["energy"]) == pytest.approx(images[4].info["REF_energy"] / len(images[4]))
    assert float(frames[4]["energy_error"]) == pytest.approx(-0.25)
    largest = np.linalg.norm(images[4].arrays["REF_forces"], axis=1).max()
    assert float(frames[4]["force"]) == pytest.approx(largest)
    assert [f["mode"] for f in frames] == [""] * 6
    assert float(frames[3]["stress_rmse"]) == pytest.approx(0.0, abs=1e-6)
    with (tmp_path / "out/parity.csv").open() as file:
        pairs = list(csv.DictReader(file))
    forces = [p for p in pairs if p["quantity"] == "force"]
    assert len(forces) == 3 * sum(map(len, images))
    of_last = [float(p["reference"]) for p in forces if p["frame"] == "5"]
    np.testing.assert_allclose(of_last, images[5].arrays["REF_forces"].ravel(), rtol=1e-7)
    assert {p["element"] for p in forces} == {s for a in images for s in a.symbols}
    shift = [float(p["predicted"]) - float(p["reference"]) for p in pairs if p["quantity"] == "energy"]
    np.testing.assert_allclose(shift, [-0.25] * 6, atol=1e-6)
    assert result.speed > 0
    assert result.device not in (None, "", "cpu")
    assert result.threads == torch.get_num_threads()
    predicted = read(tmp_path / "out/predictions.extxyz", ":")
    assert predicted[2].get_potential_energy() == pytest.approx(images[2].info["REF_energy"] - 0.25 * len(images[2]))
    np.testing.assert_allclose(predicted[3].get_forces(), images[3].arrays["REF_forces"] - 1.5, atol=1e-7)

    page = result.report.read_text()
    assert "250" in page
    assert "&lt;b&gt;My &amp; set&lt;/b&gt;" in page
    assert "<b>My" not in page
    assert page.count("<svg") == 10


@pytest.mark.slow
def test_page_loads_nothing_from_outside(tmp_path):
    model, images = model_file(tmp_path / "model.rutile"), structures(2)
    label(images, model, 0.1, 0.1)
    write(tmp_path / "data.extxyz", images)
    settings = EvaluateSettings(model=tmp_path / "model.rutile", data=[tmp_path / "data.extxyz"], out=tmp_path / "out")
    page = run(settings, SilentReporter()).report.read_text()
    assert not re.findall(r'(?:src|href)="(?!#|data:)', page)
    assert "url(http" not in page
    assert "@import" not in page
    assert "<script" not in page


@pytest.mark.slow
def test_committee_shows_its_spread(tmp_path):
    model, images = model_file(tmp_path / "committee.rutile", members=3), structures(3)
    label(images, model, 0.0, 0.3)
    write(tmp_path / "data.extxyz", images)
    settings = EvaluateSettings(
        model=tmp_path / "committee.rutile", data=[tmp_path / "data.extxyz"], out=tmp_path, predictions=True
    )
    result = run(settings, SilentReporter())
    assert "committee std" in result.report.read_text()
    first = read(tmp_path / "predictions.extxyz", 0)
    energies = [float(evaluate(p, Structures.from_ase(images[0])).energy) for p in model.potentials]
    assert first.info["energy_std"] == pytest.approx(np.std(energies), rel=1e-6)
    assert first.arrays["forces_std"].shape == (len(images[0]), 3)


def test_refuses_unlabelled_data_and_strange_elements(tmp_path):
    model_file(tmp_path / "model.rutile")
    write(tmp_path / "bare.extxyz", structures(1))
    write(tmp_path / "copper.extxyz", bulk("Cu"))
    settings = EvaluateSettings(model=tmp_path / "model.rutile", data=[tmp_path / "bare.extxyz"], out=tmp_path / "out")
    with pytest.raises(LabelError, match=r"no frame of .*bare.extxyz has energy"):
        run(settings, SilentReporter())
    strange = settings.model_copy(update={"data": [tmp_path / "copper.extxyz"]})
    with pytest.raises(ElementError, match=r"copper.extxyz#0: the model was not trained on Cu .*O, Mg"):
        run(strange, SilentReporter())
    assert not (tmp_path / "out/report.html").exists()


@pytest.mark.slow
def test_float32_agrees(tmp_path):
    model, images = model_file(tmp_path / "model.rutile"), structures(2)
    label(images, model, 0.25, 0.5)
    write(tmp_path / "data.extxyz", images)
    settings = EvaluateSettings(
        model=tmp_path / "model.rutile", data=[tmp_path / "data.extxyz"], out=tmp_path, precision="float32"
    )
    rows = run(settings, SilentReporter()).errors
    assert rows[0].mae == pytest.approx(0.25, rel=1e-4)
    assert torch.get_default_dtype() == torch.float32


def evaluated(tmp_path, potential: dict, **changes):
    """Evaluation of random weights of a strong network on two frames, and the warnings."""
    network = make(TypeAdapter(PotentialSettings).validate_python(potential), (8, 12), 1)
    network.set_energy_scale(10.0)
    save_model(tmp_path / "model.rutile", Model([network], ModelInfo(elements=(8, 12))))
    images = structures(2)
    for atoms in images:
        atoms.info["REF_energy"] = 0.0
    write(tmp_path / "data.extxyz", images)
    settings = EvaluateSettings(
        model=tmp_path / "model.rutile", data=[tmp_path / "data.extxyz"], out=tmp_path, **changes
    )
    reporter = SilentReporter()
    return run(settings, reporter), reporter


SCHNET = {"name": "schnet", "cutoff": 4.0, "features": 6, "interactions": 2, "radial": 6}


@pytest.mark.slow
def test_dimers_of_a_model_with_a_core_are_repulsive(tmp_path):
    result, reporter = evaluated(tmp_path, SCHNET)
    assert (result.dimers.pairs, result.dimers.repulsive, result.dimers.holes) == (3, 3, [])
    assert "dimers: 3 of 3 pairs repulsive below 0.7 bond lengths" in reporter.messages
    assert not reporter.warnings
    page = result.report.read_text()
    assert "<h2>Dimers</h2>" in page
    assert "3 of 3 pairs are repulsive" in page


@pytest.mark.slow
def test_dimers_with_a_hole_are_told(tmp_path):
    result, reporter = evaluated(tmp_path, SCHNET | {"zbl": False})
    holes = result.dimers.holes
    assert result.dimers.repulsive == 3 - len(holes) < 3
    assert 0.0 < holes[0].distance <= 0.7 * holes[0].bond + 1e-9
    (warning,) = reporter.warnings
    assert f"{holes[0].pair} at {holes[0].distance:.2f} Å" in warning
    assert "Pairs with a hole" in result.report.read_text()
    stored = json.loads((tmp_path / "metrics.json").read_text())["dimers"]
    assert stored["holes"][0]["pair"] == holes[0].pair


@pytest.mark.slow
def test_dimers_can_be_left_out(tmp_path):
    result, reporter = evaluated(tmp_path, SCHNET | {"zbl": False}, dimers=False)
    assert result.dimers is None
    assert not reporter.warnings
    assert "Dimers" not in result.report.read_text()
