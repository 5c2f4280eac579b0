"""Runs side by side: what differs, which is best, runs that are not finished, folders that are no runs."""

import csv
import io
import shutil

import pytest
import yaml
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

from rutile.cli.terminal import show
from rutile.core.errors import FileError
from rutile.core.reporting import SilentReporter
from rutile.potentials.evaluate import evaluate
from rutile.potentials.save import load_model
from rutile.tasks import train
from rutile.tasks.compare import CompareSettings, run
from rutile.testing.strategies import random_structure
from rutile.testing.toys import make_toy
from rutile.train.runs import comparable, differing, read_runs, short_text

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder with the runs a, b (wider, slower rate), c (a committee with another split) and stock data."""
    folder, teacher = tmp_path_factory.mktemp("runs"), make_toy(seed=3)
    images = []
    for k in range(12):
        s = random_structure(k, [22, 8, 8])
        p = evaluate(teacher, s)
        images.append(Atoms([22, 8, 8], s.positions.numpy(), cell=s.cell[0].numpy(), pbc=True))
        images[-1].calc = SinglePointCalculator(images[-1], energy=float(p.energy[0]), forces=p.forces.numpy())
    write(folder / "frames.extxyz", images)
    base = {"data": [folder / "frames.extxyz"], "epochs": 3, "split": {"valid": 0.25}, "tensorboard": False}
    changes = {
        "a": {},
        "b": {"potential": {"name": "behler", "hidden": [7]}, "optimizer": {"name": "sgd", "learning_rate": 1e-9}},
        "c": {"members": 2, "epochs": 2, "split": {"valid": 0.5}},
    }
    for name, changed in changes.items():
        settings = base | {"potential": {"name": "behler", "hidden": [5]}} | changed | {"out": folder / name}
        train.run(train.TrainTaskSettings.model_validate(settings), SilentReporter())
    return folder


def compare(folder, *names):
    reporter = SilentReporter()
    return run(CompareSettings(runs=[folder / n for n in names], out=folder / "page"), reporter), reporter


def test_only_what_differs_is_shown_and_the_best_is_named(runs):
    result, reporter = compare(runs, "a", "b")
    shown = {row.setting: row.values for row in result.settings}
    assert shown["potential.hidden"] == {"a": "5", "b": "7"}
    assert shown["optimizer.name"] == {"a": "adam", "b": "sgd"}
    assert shown["optimizer.momentum"]["a"] == "–"  # Adam has none
    assert not {"epochs", "seed", "out", "batch_size", "split.valid"} & set(shown)
    assert result.same_structures
    assert not reporter.warnings
    for row in result.errors:
        assert row.values[row.best] == min(row.values.values())
    force = next(r for r in result.errors if (r.structures, r.quantity, r.kind) == ("valid", "force", "rmse"))
    model = load_model(runs / "b" / "model.rutile")
    assert force.values["b"] == model.info.metrics["valid"]["force_rmse"]
    a, b = result.runs
    assert (a.state, a.epochs, b.parameters) == (
        "finished",
        3,
        sum(p.numel() for p in model.potentials[0].parameters()),
    )
    rows = list(csv.DictReader((runs / "b" / "metrics.csv").read_text().splitlines()))
    assert b.best_epoch == 1 + min(range(3), key=lambda k: float(rows[k]["valid_loss"]))


def test_the_page_holds_every_table_and_the_curves_of_all_runs(runs):
    result, _ = compare(runs, "a", "b")
    page = result.report.read_text()
    for word in ("potential.hidden", "Settings that differ", "training time (s)", "<strong>", "Learning rate"):
        assert word in page
    assert "batch_size" not in page


def test_different_divisions_of_the_data_are_told(runs):
    result, reporter = compare(runs, "a", "c")
    assert not result.same_structures
    assert "different structures" in reporter.warnings[0]
    assert result.runs[1].epochs == 2
    a, c = read_runs([runs / "a", runs / "c"], SilentReporter())
    assert c.members == 2
    assert c.parameters == 2 * a.parameters
    tables = [(runs / "c" / f"member-{m}" / "metrics.csv").read_text().splitlines() for m in (1, 2)]
    losses = [float(list(csv.DictReader(table))[1]["valid_loss"]) for table in tables]
    assert c.history[1]["valid_loss"] == pytest.approx(sum(losses) / 2)


def test_the_terminal_has_a_column_for_each_run(runs):
    result, _ = compare(runs, "a", "b")
    stream = io.StringIO()
    show(result, stream)
    lines = stream.getvalue().splitlines()
    assert lines[lines.index("settings:") + 1].split() == ["setting", "a", "b"]
    assert ["potential.hidden", "5", "7"] in [line.split() for line in lines]


def test_runs_that_are_not_finished(runs, tmp_path):
    shutil.copytree(runs / "a", tmp_path / "going")
    (tmp_path / "going" / "model.rutile").unlink()
    table = tmp_path / "going" / "metrics.csv"
    table.write_text(table.read_text() + "3,99")  # half a line: it is being written
    (tmp_path / "new" / "store").mkdir(parents=True)
    reporter = SilentReporter()
    result = run(
        CompareSettings(runs=[runs / "a", tmp_path / "going", tmp_path / "new"], out=tmp_path / "page"), reporter
    )
    finished, going, new = result.runs
    assert (going.state, going.epochs, going.parameters) == ("unfinished", 3, finished.parameters)
    assert (new.state, new.epochs, new.parameters) == ("begun", 0, None)
    assert result.settings == []
    best = min(
        csv.DictReader((runs / "a" / "metrics.csv").read_text().splitlines()), key=lambda r: float(r["valid_loss"])
    )
    force = next(r for r in result.errors if (r.structures, r.quantity, r.kind) == ("valid", "force", "rmse"))
    assert force.values["going"] == float(best["valid_force_rmse"])
    assert force.values["new"] is None
    shutil.copy(runs / "a" / "settings.yaml", tmp_path / "new")
    alone = run(CompareSettings(runs=[tmp_path / "new"], out=tmp_path / "page"), reporter)
    assert "No run has" in alone.report.read_text()


def test_a_checkpoint_newer_than_the_model_means_that_the_run_goes_on(runs, tmp_path):
    shutil.copytree(runs / "a", tmp_path / "a")
    (tmp_path / "a" / "checkpoint.safetensors").touch()
    (again,) = read_runs([tmp_path / "a"], SilentReporter())
    assert again.state == "unfinished"


def test_a_damaged_model_is_told_and_the_rest_is_shown(runs, tmp_path):
    shutil.copytree(runs / "a", tmp_path / "a")
    (tmp_path / "a" / "model.rutile").write_bytes(b"x")
    reporter = SilentReporter()
    (found,) = read_runs([tmp_path / "a"], reporter)
    assert found.epochs == 3
    assert "model.rutile" in reporter.warnings[0]


@pytest.mark.parametrize(
    ("names", "word"),
    [
        (["a", "none"], "no such folder"),
        (["frames.extxyz"], "no folder of a training run"),
        (["."], "no folder of a training run"),
        (["a", "./a"], "given twice"),
        (["odd"], "not the settings"),
    ],
)
def test_folders_that_are_no_runs(runs, names, word):
    (runs / "odd").mkdir(exist_ok=True)
    (runs / "odd" / "settings.yaml").write_text("garbage")
    with pytest.raises(FileError, match=word) as found:
        read_runs([runs / name for name in names], SilentReporter())
    assert "\n" not in str(found.value)


def test_runs_of_equal_names_keep_their_paths_and_seeds_divide_the_data(runs, tmp_path):
    shutil.copytree(runs / "a", tmp_path / "a")
    path = tmp_path / "a" / "settings.yaml"
    settings = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump(settings | {"seed": 7}))
    both = read_runs([runs / "a", tmp_path / "a"], SilentReporter())
    assert [r.name for r in both] == [str(runs / "a"), str(tmp_path / "a")]
    assert list(differing(both)) == ["seed"]
    assert not comparable(both)
    for r in both:
        r.settings["split.valid_files"] = ["v.extxyz"]
    assert comparable(both)


def test_long_settings_stay_different():
    first, second = list(range(100)), [*range(99), 7]
    assert short_text(first) != short_text(second)
    assert len(short_text(first)) < 70
    assert short_text(None) == "null"
