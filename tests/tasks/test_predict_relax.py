"""`rutile predict` and `rutile relax` from files to files, through the command line where it matters."""

import csv

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from ase.io import read, write

from rutile import load
from rutile.cli.main import main
from rutile.core.errors import DataError, ElementError
from rutile.core.reporting import SilentReporter
from rutile.potentials.catalogue import make
from rutile.potentials.evaluate import evaluate
from rutile.potentials.model import Model, ModelInfo
from rutile.potentials.settings import BehlerSettings
from rutile.simulate.settings import RelaxSettings
from rutile.structures.structures import Structures
from rutile.structures.surroundings import Surroundings
from rutile.tasks import predict, relax
from rutile.tasks.apply import MOST_NOTED

SMALL = BehlerSettings.model_validate(
    {"auto": {"cutoff": 4.0}, "hidden": [4], "activation": "tanh", "scaling": "standard"}
)


def potential(seed=0):
    """Random networks on scaled functions: smooth and bounded, so with minima."""
    made = make(SMALL, (8, 12), seed)
    structures = Structures.from_ase([rattled(s) for s in range(4)])
    described = []
    from rutile.potentials.evaluate import evaluate_members

    evaluate_members([made], structures, watch=lambda _, d: described.append(d))
    made.fit_scaling([(described[0], structures.numbers)])
    made.set_energy_scale(0.2)
    return made


def rattled(seed):
    atoms = bulk("MgO", "rocksalt", a=4.2)
    atoms.positions += np.random.default_rng(seed).normal(0, 0.05, atoms.positions.shape)
    return atoms


@pytest.fixture
def model(tmp_path):
    Model([potential()], ModelInfo(elements=(8, 12))).save(tmp_path / "model.rutile")
    return tmp_path / "model.rutile"


def test_predict_writes_what_the_calculator_says(tmp_path, model, capsys):
    images = [rattled(10), Atoms("MgO", [[0, 0, 0], [1.9, 0, 0]]), rattled(11).repeat((2, 1, 1))]
    write(tmp_path / "in.extxyz", images)
    code = main(
        [
            "predict",
            f"model={model}",
            f"structures={tmp_path / 'in.extxyz'}",
            f"out={tmp_path / 'out.extxyz'}",
            "batch_atoms=3",
        ]
    )
    assert code == 0, capsys.readouterr()
    out = read(tmp_path / "out.extxyz", ":")
    assert len(out) == 3
    for given, found in zip(read(tmp_path / "in.extxyz", ":"), out, strict=True):
        np.testing.assert_allclose(found.positions, given.positions, atol=1e-8)
        given.calc = load(model).calculator()
        with pytest.warns(match="extrapolating") if found.arrays["extrapolating"].any() else _quiet():
            energy = given.get_potential_energy()
        assert found.get_potential_energy() == pytest.approx(energy, abs=1e-9)
        np.testing.assert_allclose(found.get_forces(), given.get_forces(), atol=1e-9)
        np.testing.assert_allclose(found.get_potential_energies().sum(), energy, atol=1e-9)
        if given.pbc.all():
            np.testing.assert_allclose(found.get_stress(), given.get_stress(), atol=1e-9)
        else:
            assert "stress" not in found.calc.results
    assert out[0].info["source"].endswith("in.extxyz#0")
    assert out[1].arrays["extrapolating"].min() > 0


def _quiet():
    import contextlib

    return contextlib.nullcontext()


def test_a_committee_writes_its_spread(tmp_path):
    members = [potential(s) for s in range(3)]
    Model(members, ModelInfo(elements=(8, 12))).save(tmp_path / "model.rutile")
    write(tmp_path / "in.extxyz", rattled(12))
    settings = predict.PredictSettings(
        model=tmp_path / "model.rutile", structures=[tmp_path / "in.extxyz"], out=tmp_path / "out.extxyz"
    )
    predict.run(settings, SilentReporter())
    out = read(tmp_path / "out.extxyz")
    singles = [evaluate(m, Structures.from_ase(read(tmp_path / "in.extxyz"))) for m in members]
    assert out.info["energy_std"] == pytest.approx(np.std([s.energy.item() for s in singles]), rel=1e-6)
    expected = torch.stack([s.forces for s in singles]).std(0, correction=0)
    np.testing.assert_allclose(out.arrays["forces_std"], expected, rtol=1e-6)


def test_it_is_said_where_a_potential_must_extrapolate(tmp_path):
    met = Surroundings.of(rattled(seed) for seed in range(4))
    Model([potential()], ModelInfo(elements=(8, 12)), surroundings=met).save(tmp_path / "model.rutile")
    pressed = rattled(0)
    pressed.set_cell(pressed.cell * 0.8, scale_atoms=True)
    for atoms, told in ((rattled(2), 0), (pressed, 1)):
        write(tmp_path / "in.extxyz", [atoms] * 5)
        reporter = SilentReporter()
        given = predict.PredictSettings(
            model=tmp_path / "model.rutile", structures=[tmp_path / "in.extxyz"], out=tmp_path / f"{told}.extxyz"
        )
        predict.TASK.run(given, reporter)
        lines = [one for one in reporter.warnings if "trained on" in one]
        assert len(lines) == told * (MOST_NOTED + 1)
    assert lines[0].endswith("what it says of them may be far off")
    assert "2 of 2 atoms are unlike all that the potential was trained on" in lines[0]
    assert lines[-1].startswith("2 more structures")


def bad_file(path):
    nan = rattled(0)
    nan.positions[0, 0] = np.nan
    write(path, [rattled(1), nan, bulk("NaCl", "rocksalt", a=5.6), rattled(2)])
    return path


def test_bad_structures_are_refused_by_file_and_frame(tmp_path, model, capsys):
    path = bad_file(tmp_path / "bad.extxyz")
    out = tmp_path / "out.extxyz"
    settings = {"model": model, "structures": [path], "out": out}
    with pytest.raises(DataError, match=r"bad\.extxyz#1|bad\.extxyz.*frame 1"):
        predict.run(predict.PredictSettings(**settings), SilentReporter())
    assert not out.exists()
    write(path, [rattled(1), bulk("NaCl", "rocksalt", a=5.6)])
    with pytest.raises(ElementError, match=r"bad\.extxyz#1: holds Na, Cl, .*trained on: O, Mg"):
        predict.run(predict.PredictSettings(**settings), SilentReporter())
    assert not out.exists()
    assert main(["predict", f"model={model}", f"structures={path}", f"out={out}"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "Na, Cl" in error


def test_bad_structures_can_be_skipped_and_are_listed(tmp_path, model):
    path = bad_file(tmp_path / "bad.extxyz")
    reporter = SilentReporter()
    settings = predict.PredictSettings(model=model, structures=[path], out=tmp_path / "out.extxyz", on_bad="skip")
    result = predict.run(settings, reporter)
    assert result.structures == 2
    assert [a.info["source"][-1] for a in read(tmp_path / "out.extxyz", ":")] == ["0", "3"]
    assert sum("skipped:" in w for w in reporter.warnings) == 2


@pytest.mark.slow
def test_relax_writes_structures_and_table(tmp_path, model, capsys):
    write(tmp_path / "in.extxyz", [rattled(20), rattled(21)])
    out = tmp_path / "out.extxyz"
    code = main(
        ["relax", f"model={model}", f"structures={tmp_path / 'in.extxyz'}", f"out={out}", "cell=none", "fmax=0.02"]
    )
    assert code == 0, capsys.readouterr()
    relaxed = read(out, ":")
    with out.with_suffix(".csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [r["outcome"] for r in rows] == ["converged", "converged"]
    for atoms, row, start in zip(relaxed, rows, [rattled(20), rattled(21)], strict=True):
        assert np.linalg.norm(atoms.get_forces(), axis=1).max() <= 0.02
        assert atoms.info["outcome"] == "converged"
        assert float(row["energy"]) * 2 == pytest.approx(atoms.get_potential_energy(), abs=1e-9)
        assert float(row["gain"]) > 0
        np.testing.assert_array_equal(atoms.cell.array, start.cell.array)
        again = evaluate(load(model).potential, Structures.from_ase(atoms))
        assert again.energy.item() == pytest.approx(atoms.get_potential_energy(), abs=1e-7)


@pytest.mark.slow
def test_relax_tells_what_did_not_converge(tmp_path, model):
    write(tmp_path / "in.extxyz", [rattled(20), Atoms("MgO", [[0, 0, 0], [0.45, 0, 0]], cell=[9, 9, 9], pbc=True)])
    settings = relax.RelaxTaskSettings(
        model=model, structures=[tmp_path / "in.extxyz"], out=tmp_path / "out.extxyz", max_steps=1, fmax=1e-9
    )
    reporter = SilentReporter()
    result = relax.run(settings, reporter)
    assert (result.converged, result.failed) == (0, 1)
    assert result.structures[0].outcome == "not converged after 1 steps"
    assert result.structures[1].outcome.startswith("failed: two atoms are 0.45 Å apart at step 0")
    assert sum("in.extxyz#" in w for w in reporter.warnings) == 2
    images = read(tmp_path / "out.extxyz", ":")
    assert images[1].calc is None
    assert "failed" in images[1].info["outcome"]


def test_relax_settings_are_those_of_the_driver():
    assert set(RelaxSettings.model_fields) < set(relax.RelaxTaskSettings.model_fields)


def test_a_cell_of_negative_volume_is_said_and_has_the_energy_of_its_mirror_image(tmp_path):
    cell = [[3.6, 0, 0], [0, 3.6, 0], [0.4, 0, 3.6]]
    right = Atoms("Cu2", scaled_positions=[(0, 0, 0), (0.5, 0.5, 0.4)], cell=cell, pbc=True)
    left = Atoms("Cu2", scaled_positions=[(0, 0, 0), (0.5, 0.5, 0.4)], cell=[cell[1], cell[0], cell[2]], pbc=True)
    write(tmp_path / "both.extxyz", [right, left])
    reporter = SilentReporter()
    given = predict.PredictSettings(structures=[tmp_path / "both.extxyz"], model="emt", out=tmp_path / "out.extxyz")
    predict.run(given, reporter)
    (said,) = reporter.warnings
    assert "both.extxyz#1" in said
    assert "left-handed (volume -46.66" in said
    a, b = (atoms.get_potential_energy() for atoms in read(tmp_path / "out.extxyz", ":"))
    assert a == pytest.approx(b, abs=1e-9)
