"""`rutile calibrate` from files to error bars: in the model file, the calculator, `rutile predict`, and the page."""

import json
import re

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import PropertyNotImplementedError
from ase.io import read, write

from rutile import load
from rutile.cli.main import main
from rutile.core.errors import DataError, LabelError, ModelFileError
from rutile.core.reporting import SilentReporter
from rutile.potentials import calibration, save
from rutile.potentials.catalogue import make
from rutile.potentials.combine import mean, spread
from rutile.potentials.model import Model, ModelInfo
from rutile.potentials.settings import AnataseSettings, BehlerSettings, SchNetSettings
from rutile.tasks import compress
from rutile.tasks.calibrate import CalibrateSettings, _doubts, run
from rutile.train.calibration import Scores, check, fit

SMALL = BehlerSettings.model_validate({"auto": {"cutoff": 4.0}, "hidden": [4]})
INFO = ModelInfo(elements=(8, 12))


def structures(n: int, seed: int) -> list[Atoms]:
    rng = np.random.default_rng(seed)
    out = []
    for k in range(n):
        atoms = bulk("MgO", "rocksalt", a=4.2) * (1 + k % 2, 1, 1)
        atoms.positions += rng.normal(0, rng.uniform(0.01, 0.25), atoms.positions.shape)
        atoms.info["config_type"] = f"run{k % 4}"
        out.append(atoms)
    return out


def labelled(path, model: Model, n: int, seed: int, alpha: float = 2.0, mode: str | None = None):
    """Frames whose labels lie `alpha` spreads, times normal numbers, from the prediction."""
    images, rng = structures(n, seed), np.random.default_rng(seed + 1000)
    predictions = model.evaluate_members(images, mode=mode)
    middle, std = mean(predictions), spread(predictions)
    ends = np.cumsum([len(a) for a in images])
    for k, atoms in enumerate(images):
        part = slice(ends[k] - len(atoms), ends[k])
        if mode is not None:
            atoms.info["calc_mode"] = mode
        atoms.info["REF_energy"] = float(middle.energy[k] + alpha * std.energy[k] * rng.normal())
        size = std.forces[part].norm(dim=1, keepdim=True).numpy() / np.sqrt(3)
        noise = alpha * size * rng.normal(size=(len(atoms), 3))
        atoms.arrays["REF_forces"] = middle.forces[part].numpy() + noise
    write(path, images)
    return path


@pytest.fixture(scope="module")
def model() -> Model:
    return Model([make(SMALL, (8, 12), seed) for seed in range(4)], INFO)


@pytest.fixture
def here(tmp_path, model):
    model.save(tmp_path / "model.rutile")
    labelled(tmp_path / "valid.extxyz", model, 80, seed=1)
    labelled(tmp_path / "test.extxyz", model, 80, seed=2)
    return tmp_path


def calibrate(here, reporter=None, **settings):
    given = {"model": here / "model.rutile", "data": [here / "valid.extxyz"], "out": here / "out", **settings}
    return run(CalibrateSettings(**given), reporter or SilentReporter())


@pytest.mark.slow
def test_known_errors_give_their_scale_and_bars_that_hold(here):
    result = calibrate(here, test=[here / "test.extxyz"])
    assert result.members == 4
    for found, frames in ((result.energy, 80), (result.forces, 80)):
        assert found.fitted == found.frames == frames
        assert found.scale == pytest.approx(2.0, rel=0.15)
        assert abs(found.measured - 0.9) < 3 * found.noise
    assert result.forces.values == 40 * 2 + 40 * 4
    assert not [text for text in result.warnings if "hardly related" not in text]  # their energies spread alike
    assert json.loads((here / "out" / "calibration.json").read_text())["forces"]["scale"] == result.forces.scale
    page = result.report.read_text()
    assert page.count("<svg") == 6
    for text in ("Energy coverage", "Forces", "miscalibration area", "picked at random"):
        assert text in page
    assert not re.findall(r'(?:src|href)="(?!#|data:)', page)
    assert sorted(p.name for p in (here / "out").iterdir()) == ["calibration.json", "report.html"]


@pytest.mark.slow
def test_the_calculator_reports_bars_and_the_potentials_stay(here, model):
    with pytest.raises(PropertyNotImplementedError, match=r"forces_error: .*run `rutile calibrate"):
        load(here / "model.rutile").calculator().get_property("forces_error", structures(1, 3)[0])
    calibrate(here, test=[here / "test.extxyz"], coverage=0.8)
    back = load(here / "model.rutile")
    assert back.info == INFO
    for a, b in zip(model.potentials, back.potentials, strict=True):
        assert all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))
    bars, atoms = back.calibration, structures(2, 3)[1]
    assert bars.coverage == 0.8
    assert bars.energy.quantile == pytest.approx(2.0 * 1.2816, rel=0.25)
    atoms.calc = back.calculator()
    forces_std = atoms.calc.get_property("forces_std", atoms)
    radius = np.linalg.norm(forces_std, axis=1)
    np.testing.assert_allclose(atoms.calc.get_property("forces_error", atoms), bars.forces.quantile * radius)
    energy_std = atoms.calc.get_property("energy_std", atoms)
    assert atoms.calc.get_property("energy_error", atoms) == pytest.approx(bars.energy.quantile * energy_std)
    assert atoms.calc.get_property("error_coverage", atoms) == 0.8
    assert back.calculator(head_spread=False).calibration == bars  # a committee of single networks: the same members
    rotated = atoms.copy()
    rotated.rotate(40, (1, 2, 3), rotate_cell=True)
    rotated.calc = back.calculator()
    np.testing.assert_allclose(
        rotated.calc.get_property("forces_error", rotated), atoms.calc.results["forces_error"], rtol=1e-6
    )


def test_a_calculator_of_single_potentials_and_of_the_mean_of_heads_has_no_bars():
    heads = make(AnataseSettings(channels=4, cutoffs=(3.0,), hidden=4, heads=3), (8, 12), 0)
    scale = calibration.BarScale(scale=1.0, quantile=2.0, floor=1e-3, frames=10)
    bars = calibration.Calibration(coverage=0.9, members=3, forces=scale)
    model, atoms = Model([heads], INFO, bars), structures(1, 0)[0]
    whole, mean_alone = model.calculator(), model.calculator(head_spread=False)
    assert len(whole.get_property("forces_error", atoms)) == 2
    with pytest.raises(PropertyNotImplementedError, match="not calibrated for it"):
        whole.get_property("energy_error", atoms)
    with pytest.raises(PropertyNotImplementedError, match=r"no spread.*members=4"):
        mean_alone.get_property("forces_error", atoms)
    mean_alone.get_property("forces", atoms)
    assert "forces_error" not in mean_alone.results


def test_a_spread_below_the_floor_counts_as_the_floor():
    scale = calibration.BarScale(scale=1.0, quantile=2.0, floor=0.25, frames=10)
    bars = calibration.Calibration(coverage=0.9, members=2, forces=scale, energy=scale)
    np.testing.assert_allclose(bars.forces_error(np.array([[0.0, 0, 0], [3.0, 0, 4]])), [0.5, 10.0])
    np.testing.assert_allclose(bars.energy_error(np.array([0.0, 8.0]), np.array([4, 4])), [2.0, 16.0])


@pytest.mark.slow
def test_predict_writes_the_bars(here):
    calibrate(here, test=[here / "test.extxyz"], save=here / "calibrated.rutile")
    assert load(here / "model.rutile").calibration is None
    write(here / "in.extxyz", structures(3, 5))
    given = ["predict", str(here / "in.extxyz"), f"model={here / 'calibrated.rutile'}", f"out={here / 'out.extxyz'}"]
    assert main(given) == 0
    calculator = load(here / "calibrated.rutile").calculator()
    for atoms in read(here / "out.extxyz", ":"):
        assert atoms.info["error_coverage"] == 0.9
        bare = atoms.copy()
        assert atoms.info["energy_error"] == pytest.approx(calculator.get_property("energy_error", bare), rel=1e-5)
        found = calculator.get_property("forces_error", bare)
        np.testing.assert_allclose(atoms.arrays["forces_error"], found, rtol=1e-5)


@pytest.mark.slow
def test_calibrations_of_other_versions_and_members_are_refused_and_old_files_load(here):
    calibrate(here, test=[here / "test.extxyz"])
    path = here / "model.rutile"
    tensors, description = save.read_tensors(path)
    without = {k: v for k, v in description.items() if k != "calibration"}
    save.write_tensors(path, tensors, without)
    assert load(path).calibration is None
    for change, message in (
        ({"version": 3}, "calibration of version 3.*upgrade rutile"),
        ({"members": 3}, "of 3 members and the model has 4"),
        ({"coverage": 1.5}, "calibration is damaged"),
    ):
        save.write_tensors(path, tensors, without | {"calibration": description["calibration"] | change})
        with pytest.raises(ModelFileError, match=message):
            load(path)


@pytest.mark.slow
def test_each_calc_mode_has_its_own_bars(tmp_path):
    """Errors of 2 and of 6 spreads: each mode gets its own scale and coverage; a mode of few frames those of all."""
    small = SchNetSettings(cutoff=3.0, features=4, interactions=1, radial=4)
    model = Model([make(small, (8, 12), seed, ("pbe", "scan", "hse")) for seed in range(3)], INFO)
    model.save(tmp_path / "model.rutile")
    alphas, sizes = {"pbe": 2.0, "scan": 6.0, "hse": 4.0}, {"pbe": 60, "scan": 60, "hse": 5}
    for seed, side in enumerate(("valid", "test")):
        parts = [labelled(tmp_path / f"{side}-{m}.extxyz", model, sizes[m], 7 * seed, alphas[m], m) for m in alphas]
        write(tmp_path / f"{side}.extxyz", [atoms for part in parts for atoms in read(part, ":")])
    result = calibrate(tmp_path, test=[tmp_path / "test.extxyz"])
    assert set(result.modes) == {"pbe", "scan"}
    for mode, checks in result.modes.items():
        assert [s.quantity for s in checks] == ["energy", "force"]
        for s in checks:
            assert s.scale == pytest.approx(alphas[mode], rel=0.3)
            assert s.fitted == s.frames == 60
            assert abs(s.measured - 0.9) < 3 * s.noise + 0.02
    for pbe, scan in zip(result.modes["pbe"], result.modes["scan"], strict=True):
        assert scan.scale == pytest.approx(3 * pbe.scale, rel=0.02)  # the same random numbers in both modes
    assert sum("hse: 5 validation frames" in text for text in result.warnings) == 2
    bars = load(tmp_path / "model.rutile").calibration
    assert bars.of("pbe").forces.quantile < bars.forces.quantile < bars.of("scan").forces.quantile
    assert bars.of("hse") == bars
    for mode in alphas:
        calculator = load(tmp_path / "model.rutile").calculator(mode=mode)
        atoms, inside, total = None, 0, 0
        for atoms in read(tmp_path / f"test-{mode}.extxyz", ":20"):
            radius = calculator.get_property("forces_error", atoms)
            off = np.linalg.norm(calculator.get_property("forces", atoms) - atoms.arrays["REF_forces"], axis=1)
            inside, total = inside + int((off <= radius).sum()), total + len(atoms)
            std = np.linalg.norm(calculator.get_property("forces_std", atoms), axis=1)
            np.testing.assert_allclose(radius, bars.of(mode).forces.quantile * std, rtol=1e-6)
        assert mode == "hse" or abs(inside / total - 0.9) < 0.15
    page = result.report.read_text()
    assert "Calc modes" in page
    given = ["predict", str(tmp_path / "test-scan.extxyz"), f"model={tmp_path / 'model.rutile'}", "mode=scan"]
    assert main([*given, f"out={tmp_path / 'out.extxyz'}"]) == 0
    out = read(tmp_path / "out.extxyz", "0")
    found = load(tmp_path / "model.rutile").calculator(mode="scan").get_property("energy_error", out.copy())
    assert out.info["energy_error"] == pytest.approx(found, rel=1e-5)


@pytest.mark.slow
def test_calibrations_of_version_1_hold_in_all_modes(here):
    calibrate(here, test=[here / "test.extxyz"])
    path = here / "model.rutile"
    tensors, description = save.read_tensors(path)
    before = load(path).calibration
    old = {k: v for k, v in description["calibration"].items() if k != "by_mode"} | {"version": 1}
    save.write_tensors(path, tensors, description | {"calibration": old})
    assert load(path).calibration == before
    assert before.of("anything") == before


@pytest.mark.slow
def test_without_test_files_a_part_is_held_out_the_same_for_the_same_seed(here):
    first = calibrate(here, seed=3, save=here / "a.rutile")
    other = calibrate(here, seed=4, save=here / "c.rutile")
    assert first.energy.fitted + first.energy.frames == 80
    in_batches = calibrate(here, seed=3, save=here / "b.rutile", batch_atoms=10)
    assert in_batches.forces.measured == first.forces.measured
    assert in_batches.forces.noise == pytest.approx(first.forces.noise, rel=1e-6)
    assert in_batches.forces.fitted == first.forces.fitted
    assert first.energy.scale != other.energy.scale
    by_groups = calibrate(here, by="groups", save=here / "d.rutile", test_fraction=0.25)
    assert (by_groups.energy.fitted, by_groups.energy.frames) == (60, 20)


@pytest.mark.slow
def test_doubtful_data_are_told(here, model):
    labelled(here / "other.extxyz", model, 80, seed=4, alpha=5.0)
    reporter = SilentReporter()
    calibrate(here, reporter, test=[here / "other.extxyz"])
    told = "\n".join(reporter.warnings)
    assert re.search(r"energy: \d\d.*too short", told)
    assert re.search(r"force: \d\d.*too short", told)
    reporter = SilentReporter()
    calibrate(here, reporter, test=[here / "valid.extxyz"])
    assert any("80 of 80 test frames are among the validation frames" in text for text in reporter.warnings)
    few = read(here / "valid.extxyz", ":12")
    write(here / "few.extxyz", few)
    reporter = SilentReporter()
    result = calibrate(here, reporter, data=[here / "few.extxyz"], test=[here / "test.extxyz"])
    assert any("12 validation frames are few" in text for text in reporter.warnings)
    assert result.warnings == reporter.warnings


def test_a_spread_that_errors_do_not_follow_is_told():
    rng = np.random.default_rng(0)
    spread = np.exp(rng.normal(0, 1, 4000))
    halves = []
    for power in (1.0, 0.2):
        error = np.abs(rng.normal(size=4000)) * spread**power
        scores = [Scores(error[k::2], spread[k::2], np.arange(2000), 1) for k in (0, 1)]
        halves.append(_doubts(check("energy", *scores, fit(scores[0], 0.9, "energy"), 0.9)))
    assert halves[0] == []
    assert len(halves[1]) == 1
    assert re.search(r"spread near 0\.\d+ eV/atom only [1-7]\d.* are within", halves[1][0])


@pytest.mark.slow
def test_frames_that_the_model_was_trained_on_are_told(here, capsys):
    images = read(here / "valid.extxyz", ":")
    for atoms in images[1:]:
        atoms.positions[0] += 1e-3 * np.arange(3)  # no symmetric copies
    write(here / "train.extxyz", images)
    quick = ["epochs=1", "members=2", "potential.hidden=[3]", "potential.auto.cutoff=4", "tensorboard=false"]
    assert main(["train", str(here / "train.extxyz"), f"out={here / 'run'}", *quick, "split.valid=0.25"]) == 0
    reporter = SilentReporter()
    calibrate(here, reporter, model=here / "run", data=[here / "train.extxyz"], test=[here / "test.extxyz"])
    assert any("trained on 60 of 80 validation frames" in text for text in reporter.warnings)
    assert not any("test frames" in text and "trained" in text for text in reporter.warnings)
    result = calibrate(here, model=here / "run", data=[], coverage=0.5)  # 20 validation frames of the run
    assert result.energy.fitted + result.energy.frames == 20
    assert not [text for text in result.warnings if "trained on" in text or "among" in text]
    result = calibrate(here, model=here / "run", data=[], test=[here / "test.extxyz"])
    assert (result.energy.fitted, result.energy.frames) == (20, 80)
    alone = here / "alone.rutile"
    alone.write_bytes((here / "run" / "model.rutile").read_bytes())
    reporter = SilentReporter()
    calibrate(here, reporter, model=alone, data=[here / "train.extxyz"], test=[here / "test.extxyz"])
    assert any("validation frames are the model's own training data" in text for text in reporter.warnings)


def test_what_cannot_be_calibrated_is_refused_in_one_line(here, model, capsys):
    Model(model.potentials[:1], INFO).save(here / "single.rutile")
    given = ["calibrate", str(here / "valid.extxyz"), f"out={here / 'none'}"]
    assert main([*given, f"model={here / 'single.rutile'}"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "members=4" in error
    assert "heads=8" in error
    assert main([*given, f"model={here / 'model.rutile'}", "coverage=0.99"]) == 2
    assert "at least 99 are needed" in capsys.readouterr().err
    assert main(["calibrate", f"model={here / 'model.rutile'}", f"out={here / 'none'}"]) == 2
    assert "name files with labelled structures" in capsys.readouterr().err
    assert main([*given, f"model={here / 'model.rutile'}", "coverage=1"]) == 2
    assert "coverage" in capsys.readouterr().err
    write(here / "bare.extxyz", structures(20, 0))
    with pytest.raises(LabelError, match=r"bare\.extxyz has an energy or forces.*energy_key"):
        calibrate(here, data=[here / "bare.extxyz"], out=here / "none")
    with pytest.raises(LabelError, match="no test frame has a label of: energy, force"):
        calibrate(here, test=[here / "bare.extxyz"], out=here / "none")
    Model([model.potentials[0]] * 3, INFO).save(here / "copies.rutile")
    with pytest.raises(DataError, match="copies of one potential"):
        calibrate(here, model=here / "copies.rutile", out=here / "none")
    assert not (here / "none").exists()
    assert load(here / "model.rutile").calibration is None


@pytest.mark.slow
def test_only_the_labels_that_there_are_give_bars(here):
    images = read(here / "valid.extxyz", ":")
    for atoms in images:
        del atoms.info["REF_energy"]
        atoms.calc = None
    write(here / "forces.extxyz", images)
    result = calibrate(here, data=[here / "forces.extxyz"], test=[here / "test.extxyz"])
    assert result.energy is None
    assert result.forces.fitted == 80
    calculator = load(here / "model.rutile").calculator()
    assert "energy_error" not in calculator.implemented_properties
    assert "forces_error" in calculator.implemented_properties


def test_compressing_a_calibrated_model_says_that_the_bars_are_gone(tmp_path):
    from rutile.potentials.settings import DeepPotSESettings

    small = DeepPotSESettings(cutoff=4.0, embedding=(4, 8), axis=3, fitting=(8,), n_c=10.0)
    members = [make(small, (8, 12), seed) for seed in (0, 1)]
    scale = calibration.BarScale(scale=1.0, quantile=2.0, floor=1e-3, frames=10)
    bars = calibration.Calibration(coverage=0.9, members=2, forces=scale)
    Model(members, INFO, bars).save(tmp_path / "m.rutile")
    reporter = SilentReporter()
    compress.run(compress.CompressSettings(model=tmp_path / "m.rutile", out=tmp_path / "fast.rutile"), reporter)
    assert any("error bars" in text for text in reporter.warnings)
    assert load(tmp_path / "fast.rutile").calibration is None
