"""Whatever breaks, a training says what, loses nothing, and the same command goes on to the same end, bit for bit."""

import csv
import errno
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from test_fit import Spoilt
from test_task import images, settings
from toy import ToyDescriptors

import rutile
from rutile.cli.main import main
from rutile.core.errors import FileError, LabelError, TrainingError
from rutile.core.lock import alone_in
from rutile.core.reporting import SilentReporter
from rutile.structures.formats import extxyz
from rutile.structures.io import write_frames
from rutile.tasks import retrain
from rutile.tasks.train import run
from rutile.train import examples, figures
from rutile.train import settings as s
from rutile.train.checkpoint import CHECKPOINT_FILE, read_checkpoint
from rutile.train.examples import LinearisedExamples
from rutile.train.fit import TIMINGS, fit

SCRIPT = Path(__file__).with_name("run_killed.py")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "frames.extxyz"
    write_frames(path, images(12))
    return path


@pytest.fixture(autouse=True)
def _no_figures(monkeypatch):
    """Drawing takes most of the time of a small training."""
    monkeypatch.setattr(figures, "svg", lambda figure: "<svg/>")


def contents(folder):
    """What must be equal at the end of two runs: the model byte by byte, the metrics but for the times, the files."""
    rows = list(csv.DictReader((folder / "metrics.csv").read_text().splitlines()))
    metrics = [{k: v for k, v in row.items() if k not in TIMINGS} for row in rows]
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))
    return (folder / "model.rutile").read_bytes(), metrics, names


@pytest.mark.slow
@pytest.mark.parametrize("kills", [15, pytest.param(50, marks=pytest.mark.long)])
def test_killed_at_random_instants_each_run_ends_bit_for_bit_as_one_that_was_not(data, tmp_path, kills):
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(rutile.__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(tmp_path), str(data), str(kills), "5"],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    assert found["killed"] == kills
    assert found["lost"] == 0
    assert set(found["codes"]) == {0}
    straight = contents(tmp_path / "straight")
    assert len(straight[1]) == 5
    for folder in found["runs"]:
        assert contents(Path(folder)) == straight, folder
    last = max(found["steps"])
    assert found["steps"].count(-1) >= kills // 10  # before there was a checkpoint
    assert sum(0 <= step < last for step in found["steps"]) >= kills // 10  # in the middle of the training
    assert found["half"] >= kills // 5  # while a file was being written


def job(data, out, **changes):
    """A training that keeps its caches in files and writes a checkpoint after each step."""
    return settings(data, out, **({"cache_memory": 0.01, "checkpoint_seconds": 0, "keep": "last"} | changes))


@pytest.fixture(scope="module")
def straight(data, tmp_path_factory):
    """What a training without a fault ends with."""
    out = tmp_path_factory.mktemp("straight") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures, "svg", lambda figure: "<svg/>")
        run(job(data, out), SilentReporter())
    return contents(out)


def command(how):
    """The same as words for the command line."""
    values = how.model_dump(mode="json", exclude={"data"}, exclude_defaults=True)
    return ["train", *map(str, how.data), *(f"{key}={json.dumps(value)}" for key, value in values.items())]


def one_line(how, capsys):
    """Train; the line of the error."""
    capsys.readouterr()
    code = main(command(how))
    last = capsys.readouterr().err.splitlines()[-1]
    assert code == 2
    assert last.startswith("rutile train: error: ")
    return last


FULL = [
    (".store.", 1, "store"),
    ("/cache/.", 3, "cache"),
    (".settings.yaml.", 1, "settings.yaml"),
    (".metrics.csv.", 1, "metrics.csv"),
    (".checkpoint.", 1, CHECKPOINT_FILE),
    (".checkpoint.", 5, CHECKPOINT_FILE),
    (".metrics.csv.", 1, "metrics.csv"),
    (".checkpoint.", 6, CHECKPOINT_FILE),
    (".model.rutile.", 1, "model.rutile"),
    (".report.html.", 1, "report.html"),
]
"""Part of the temporary name of a file, which one of that name cannot be written, and what the message names."""


@pytest.mark.slow
def test_a_disk_that_is_full_while_any_of_the_files_is_written(data, straight, tmp_path, monkeypatch, capsys):
    flush, out = os.fsync, tmp_path / "run"
    part, left = "", 0

    def fsync(handle):
        nonlocal left
        left -= part in str(Path(f"/proc/self/fd/{handle}").readlink())
        if left == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        flush(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    steps = []
    for part, left, name in FULL:  # noqa: B007
        line = one_line(job(data, out), capsys)
        assert re.search(rf"{re.escape(str(out))}/{name}.*No space left on device.*make room there", line), line
        steps.append(read_checkpoint(out / CHECKPOINT_FILE)["step"] if (out / CHECKPOINT_FILE).exists() else -1)
        assert ("the same command goes on" in line) == (steps[-1] >= 0 and name in (CHECKPOINT_FILE, "metrics.csv"))
        assert not list(tmp_path.rglob(".*"))
    assert steps == sorted(steps)
    assert steps[4:7] == [-1, 3, 3]
    left = 10**9
    run(job(data, out), SilentReporter())
    assert contents(out) == straight


@pytest.mark.slow
def test_a_disk_that_is_full_when_a_row_of_metrics_is_added(data, straight, tmp_path, monkeypatch, capsys):
    out, real = tmp_path / "run", Path.open

    def fail(path, mode="r", **how):
        if (path.name, mode) == ("metrics.csv", "a"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(path, mode, **how)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", fail)
        line = one_line(job(data, out), capsys)
    assert f"cannot write {out / 'metrics.csv'}: No space left on device; make room there" in line
    run(job(data, out), SilentReporter())
    assert contents(out) == straight


class At(SilentReporter):
    """Does something once: after the first epoch, or when so many items of a piece of work are done."""

    def __init__(self, action, label="", item=0):
        super().__init__()
        self.action, self.label, self.item = action, label, item

    def metrics(self, row):
        if not self.label and row["epoch"] == 0:
            self.action()

    def track(self, items, label, total=None):
        for k, item in enumerate(items):
            if label == self.label and k == self.item:
                self.action()
            yield item


def truncate(pattern):
    """Cut off the end of the file of that name."""

    def cut(out):
        (path,) = out.glob(pattern)
        os.truncate(path, path.stat().st_size - 8)
        return path

    return cut


@pytest.mark.slow
@pytest.mark.parametrize("pattern", ["store/positions.bin", "cache/*/d_pair.bin", "cache/*/pairs.offsets.bin"])
def test_data_that_shrink_under_a_training_are_named_before_they_are_read(
    data, straight, tmp_path, monkeypatch, pattern
):
    """Reading a mapped file behind its end would kill the process."""
    monkeypatch.setattr(examples, "TABLE_BYTES", 0)  # labels are read from the store in every step
    out, cut = tmp_path / "run", []
    with pytest.raises(FileError) as caught:
        run(job(data, out), At(lambda: cut.append(truncate(pattern)(out))))
    assert f"{cut[0]}: {cut[0].stat().st_size} bytes, but {cut[0].stat().st_size + 8} when it was opened" in str(
        caught.value
    )
    assert f"{out / CHECKPOINT_FILE} is kept" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert read_checkpoint(out / CHECKPOINT_FILE)["step"] >= 3
    run(job(data, out), SilentReporter())
    assert contents(out) == straight


@pytest.mark.slow
def test_data_that_are_removed_under_a_training_do_not_matter(data, straight, tmp_path, monkeypatch):
    monkeypatch.setattr(examples, "TABLE_BYTES", 0)
    out = tmp_path / "run"

    def remove():
        shutil.rmtree(out / "store")
        shutil.rmtree(out / "cache")

    run(job(data, out), At(remove))
    assert contents(out)[:2] == straight[:2]


@pytest.mark.slow
@pytest.mark.parametrize("pattern", ["cache/*/d_pair.bin", "store/forces.bin"])
def test_a_damaged_cache_or_store_of_a_run_is_made_again(data, straight, tmp_path, pattern):
    out = tmp_path / "run"
    run(job(data, out, epochs=2, schedule={"name": "constant"}), SilentReporter())
    damaged = truncate(pattern)(out)
    size = damaged.stat().st_size
    reporter = SilentReporter()
    run(job(data, out, epochs=3, schedule={"name": "constant"}), reporter)
    assert damaged.stat().st_size == size + 8
    assert any(str(damaged) in text for text in reporter.warnings) == pattern.startswith("cache")
    assert contents(out)[2] == straight[2]


def test_a_folder_that_is_no_store_is_not_removed(data, tmp_path):
    (tmp_path / "run" / "store").mkdir(parents=True)
    (tmp_path / "run" / "store" / "mine").write_text("x")
    with pytest.raises(FileError, match=r"store is no store"):
        run(job(data, tmp_path / "run"), SilentReporter())
    assert (tmp_path / "run" / "store" / "mine").read_text() == "x"


def test_a_data_file_that_vanishes_while_another_is_read(data, tmp_path):
    first, second = (shutil.copy(data, tmp_path / name) for name in ("a.extxyz", "b.extxyz"))
    how = job(first, tmp_path / "run").model_copy(update={"data": [first, second]})
    with pytest.raises(FileError, match=r"b\.extxyz: no such file"):
        run(how, At(second.unlink, "building the store", 1))
    assert not (tmp_path / "run").exists()


def test_a_disk_that_fails_in_the_middle_of_a_data_file(data, tmp_path, monkeypatch):
    lines, told = extxyz._frame_lines, []

    def fail(*where):
        told.append(where)
        if len(told) == 6:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return lines(*where)

    monkeypatch.setattr(extxyz, "_frame_lines", fail)
    with pytest.raises(FileError, match=r"frames\.extxyz: frame 5: cannot be read: Input/output error"):
        run(job(data, tmp_path / "run"), SilentReporter())
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_data_file_cut_off_in_the_middle_of_a_frame(data, tmp_path):
    path = tmp_path / "cut.extxyz"
    path.write_text("".join(data.read_text().splitlines(keepends=True)[: 7 * 5 + 3]))
    with pytest.raises(FileError, match=r"cut\.extxyz: frame 7: "):
        run(job(path, tmp_path / "run"), SilentReporter())
    reporter = SilentReporter()
    run(job(path, tmp_path / "run", read={"on_bad": "skip"}), reporter)
    assert any("1 of 8 frames were skipped" in text for text in reporter.warnings)


@pytest.mark.slow
@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
@pytest.mark.parametrize("label", ["energy", "force", "stress"])
def test_labels_that_are_not_finite_are_named_before_anything_is_trained(data, tmp_path, label, value):
    lines = data.read_text().splitlines()
    comment = 7 * 5 + 1
    if label == "force":
        lines[comment + 2] = " ".join([*lines[comment + 2].split()[:-1], value])
    else:
        lines[comment], n = re.subn(rf'(\b{label}="?)[^ "]+', rf"\g<1>{value}", lines[comment])
        assert n == 1
    path = tmp_path / "bad.extxyz"
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(LabelError, match=rf"bad\.extxyz: frame 7: .*{label} is not finite"):
        run(job(path, tmp_path / "run"), SilentReporter())
    assert not (tmp_path / "run").exists()
    if (label, value) == ("force", "nan"):
        reporter = SilentReporter()
        run(job(path, tmp_path / "run", read={"on_bad": "skip"}), reporter)
        assert any("1 of 12 frames were skipped" in text for text in reporter.warnings)


def test_after_nan_in_the_loss_the_best_model_so_far_can_be_had(store, tmp_path):
    """With as many epochs as were complete the run ends at once and keeps the best weights."""
    potential = ToyDescriptors(seed=1)
    train = LinearisedExamples(store, list(range(9)), potential)
    valid = LinearisedExamples(store, list(range(9, 12)), potential, cache=train.cache)
    bad = Spoilt(store, list(range(9)), potential, cache=train.cache)
    how = s.TrainSettings(epochs=9, batch_size=4, tensorboard=False, precision="float64", checkpoint_seconds=0)
    with pytest.raises(TrainingError, match="in epoch 1"):
        fit(potential, bad, valid, how, tmp_path, SilentReporter())
    again = ToyDescriptors(seed=2)
    result = fit(again, train, valid, how.model_copy(update={"epochs": 1}), tmp_path, SilentReporter(), resume=True)
    assert (result.stopped, result.epochs, result.best_epoch) == ("epochs", 1, 0)
    best = read_checkpoint(tmp_path / CHECKPOINT_FILE)["best"]["weights"]
    assert all(torch.equal(p, w) for p, w in zip(again.parameters(), best, strict=True))


def test_weights_that_are_not_finite_are_never_put_into_the_checkpoint(store, tmp_path):
    potential = ToyDescriptors(seed=1)
    train = LinearisedExamples(store, list(range(9)), potential.float(), dtype=torch.float32)
    how = s.TrainSettings(
        optimizer=s.Adam(learning_rate=1e39), precision="float32", tensorboard=False, checkpoint_seconds=0
    )
    with pytest.raises(TrainingError, match="weights are not finite after step 1"):
        fit(potential, train, train, how, tmp_path, SilentReporter())
    state = read_checkpoint(tmp_path / CHECKPOINT_FILE)
    assert state["step"] == 0
    assert all(bool(torch.isfinite(w).all()) for w in state["potential"].values())


@pytest.mark.slow
def test_a_second_training_in_the_folder_is_refused_and_reading_is_not(data, tmp_path, capsys):
    out = tmp_path / "run"
    run(job(data, out), SilentReporter())
    before = contents(out)
    with alone_in(out, SilentReporter()):
        line = one_line(job(data, out, epochs=9), capsys)
        assert f"{out}: process {os.getpid()} on " in line
        how = retrain.RetrainSettings(model=out / "model.rutile", new=[data], old=[data], out=out)
        with pytest.raises(FileError, match="at work here"):
            retrain.run(how, SilentReporter())
        assert main(["inspect", str(out / "model.rutile")]) == 0
        assert main(["compare", str(out), f"out={tmp_path / 'compared'}"]) == 0
    assert contents(out) == before
    assert run(job(data, out, epochs=4), SilentReporter()).epochs == 4


@pytest.mark.slow
def test_a_member_whose_folder_is_still_in_use_is_told_and_goes_on_later(data, tmp_path):
    """As after SIGKILL of the process that started it, until its step has ended."""
    out = tmp_path / "run"
    (out / "member-1").mkdir(parents=True)
    how = job(data, out, members=2, workers=2, threads=1, epochs=1)
    with (
        alone_in(out / "member-1", SilentReporter()),
        pytest.raises(FileError, match=rf"member-1: process {os.getpid()} on .* is at work here"),
    ):
        run(how, SilentReporter())
    assert (out / "member-2" / CHECKPOINT_FILE).exists()
    assert run(how, SilentReporter()).epochs == 1
    assert not list(out.rglob(".*"))


@pytest.mark.slow
def test_a_damaged_checkpoint_says_what_to_do(data, tmp_path):
    out = tmp_path / "run"
    run(job(data, out), SilentReporter())
    whole = (out / CHECKPOINT_FILE).read_bytes()
    (out / CHECKPOINT_FILE).write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(FileError, match=r"damaged.*or remove it to train from the start"):
        run(job(data, out), SilentReporter())
