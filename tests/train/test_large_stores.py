"""What is made on demand for a large store is what the caches of a small one hold; a store is read where it is."""

import errno
import os
import pickle
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from toy import teacher_frames, teacher_store

import rutile
from rutile.core.errors import LabelError, SettingsError
from rutile.core.reporting import SilentReporter
from rutile.data import growing, kept
from rutile.data.frames import Frame
from rutile.data.reading import to_atoms
from rutile.data.store import build_store, is_store
from rutile.structures import io
from rutile.tasks.catalogue import load_task
from rutile.train import assess, examples, figures, ondemand
from rutile.train.caches import cache_edges
from rutile.train.checkpoint import CHECKPOINT_FILE
from rutile.train.fit import TIMINGS

pytestmark = pytest.mark.slow

QUICK = {"epochs": 2, "tensorboard": False, "threads": 1, "potential": {"name": "schnet"}}


@pytest.fixture(autouse=True)
def _no_drawing(monkeypatch):
    """The report is written, but drawing would take most of the time."""
    monkeypatch.setattr(figures, "svg", lambda figure: "<svg/>")


def train(data, out, **more):
    task = load_task("train")
    reporter = SilentReporter()
    return task.run(task.settings.model_validate(QUICK | {"data": data, "out": out} | more), reporter), reporter


def rows(folder):
    lines = (folder / "metrics.csv").read_text().splitlines()
    names = lines[0].split(",")
    keep = [k for k, name in enumerate(names) if name not in TIMINGS]
    return [[line.split(",")[k] for k in keep] for line in lines]


def test_neighbours_on_demand_are_those_of_the_cache(tmp_path):
    store = teacher_store(tmp_path, 9)
    cache, demand = cache_edges(store, 4.0), ondemand.EdgesOnDemand(store, 4.0)
    for ids in ([3, 1, 7], [0], [8, 8]):
        for name in ("ij", "shift"):
            for a, b in zip(cache.get(name, np.array(ids)), demand.get(name, np.array(ids)), strict=True):
                assert a.dtype == b.dtype
                assert np.array_equal(a, b)
    assert demand.sizes("ij").tolist() == cache.sizes("ij").tolist()


@pytest.mark.parametrize(("name", "batch"), [("schnet", {"batch_edges": 200}), ("behler", {"batch_size": 4})])
def test_a_large_store_trains_as_a_small_one(tmp_path, monkeypatch, name, batch):
    """Same losses but for rounding, whether caches are made before or nothing is."""
    folder = teacher_store(tmp_path, 24).folder
    how = {"potential": {"name": name}} | batch
    small, _ = train([folder], tmp_path / "small", **how)
    for module in (kept, ondemand, examples):
        monkeypatch.setattr(module, "LARGE", 10)
    large, _ = train([folder], tmp_path / "large", **how)
    assert any("copies" in p.name for p in (folder / "derived").iterdir())
    assert not (tmp_path / "large/store").exists()
    assert [p.name[:7] for p in (tmp_path / "large/cache").iterdir()] == ["growing"]
    for a, b in zip(small.errors, large.errors, strict=True):
        assert (a.part, a.quantity) == (b.part, b.quantity)
        assert a.rmse == pytest.approx(b.rmse, rel=2e-3)


def test_a_store_is_read_where_it_is(tmp_path):
    """Bit for bit the run that files give; nothing is written into the store or beside it."""
    frames = teacher_frames(20)
    io.write_frames(tmp_path / "a.extxyz", [to_atoms(f) for f in frames])
    train([tmp_path / "a.extxyz"], tmp_path / "one")
    store = tmp_path / "one/store"
    before = sorted((p.name, p.stat().st_mtime_ns) for p in store.iterdir())
    assert is_store(store)
    assert not is_store(tmp_path / "a.extxyz")
    train([store], tmp_path / "two")
    assert not (tmp_path / "two/store").exists()
    assert sorted((p.name, p.stat().st_mtime_ns) for p in store.iterdir()) == before
    assert rows(tmp_path / "one") == rows(tmp_path / "two")
    again, _ = train([store], tmp_path / "one")
    assert again.epochs == 2, "a store inside the run's folder is not removed"
    train([store, tmp_path / "a.extxyz"], tmp_path / "both")
    assert len(list((tmp_path / "both/store").iterdir())) == 17


def test_what_a_store_does_not_allow(tmp_path):
    store = teacher_store(tmp_path, 6).folder
    with pytest.raises(SettingsError, match="chosen when it was made"):
        train([store], tmp_path / "r", read={"energy_key": "E"})
    with pytest.raises(SettingsError, match="is a store; name the files"):
        train([store], tmp_path / "r", split={"valid_files": [store]})
    without = [Frame(f.numbers, f.positions, f.cell, f.pbc, f.energy) for f in teacher_frames(6)]
    with pytest.raises(LabelError, match=r"loss\.force\.start=0"):
        train([build_store(without, tmp_path / "bare").folder], tmp_path / "r")


def test_errors_of_a_large_store_are_those_of_a_sample_and_said_so(tmp_path, monkeypatch):
    folder = teacher_store(tmp_path, 24).folder
    for module in (kept, ondemand, examples, assess):
        monkeypatch.setattr(module, "LARGE", 10)
    monkeypatch.setattr(assess, "ASSESSED", 5)
    result, reporter = train([folder], tmp_path / "large")
    assert any("errors on training structures: of 5 of 2" in text for text in reporter.messages), reporter.messages
    assert {e.part for e in result.errors} == {"train", "valid"}
    assert not list((folder / "derived").glob("neighbours*")), "nothing is counted for all frames"


def test_a_sample_holds_every_element(tmp_path, monkeypatch):
    frames = teacher_frames(60)
    rare = frames[37]
    frames[37] = Frame(np.full(len(rare.numbers), 1), rare.positions, rare.cell, rare.pbc, rare.energy, rare.forces)
    store = build_store(frames, tmp_path / "s")
    ids = np.arange(5, 60)
    assert ondemand.sample(store, ids).tolist() == list(range(55))
    monkeypatch.setattr(ondemand, "LARGE", 10)
    chosen = ondemand.sample(store, ids, most=4)
    assert 4 <= len(chosen) <= 5
    assert 32 in chosen
    assert chosen.tolist() == ondemand.sample(store, ids, most=4).tolist()


def test_neighbours_that_were_kept_are_those_that_are_made(tmp_path):
    store = teacher_store(tmp_path, 9)
    cache = cache_edges(store, 4.0)
    kept_there = ondemand.EdgesOnDemand(store, 4.0, None, tmp_path / "c", 1e9)
    again = pickle.loads(pickle.dumps(kept_there))
    for edges in (kept_there, again):
        for ids in ([3, 1, 7], [1, 2, 3], [7, 1], [8, 8, 0]):
            for name in ("ij", "shift"):
                for a, b in zip(cache.get(name, np.array(ids)), edges.get(name, np.array(ids)), strict=True):
                    assert a.dtype == b.dtype
                    assert np.array_equal(a, b)
    assert not ondemand.EdgesOnDemand(store, 5.0, None, tmp_path / "c", 1e9)._kept.read(np.arange(9))[3]


def test_a_large_store_ends_bit_for_bit_however_much_was_kept(tmp_path, monkeypatch):
    """Nothing kept, all of it, what a stopped run left, a part of that, damage, a disk that is full."""
    folder = teacher_store(tmp_path, 24).folder
    for module in (kept, ondemand, examples):
        monkeypatch.setattr(module, "LARGE", 10)
    how = {"potential": {"name": "behler", "hidden": [3]}, "batch_size": 4, "schedule": {"name": "constant"}}

    def run(name, **more):
        _, reporter = train([folder], tmp_path / name, **how | more)
        return rows(tmp_path / name), reporter

    plain, _ = run("plain", cache_disk=0)
    assert not (tmp_path / "plain/cache").exists()
    assert run("kept")[0] == plain
    (file,) = (tmp_path / "kept/cache").glob("growing-*/rows-0.bin")
    whole = file.stat().st_size
    small, reporter = run("small", cache_disk=whole / 3 / 1e9)
    assert small == plain
    assert any("cache_disk" in text for text in reporter.messages)
    for name in ("stopped", "part", "damage"):
        run(name, epochs=1)
        (left,) = (tmp_path / name / "cache").glob("growing-*")
        if name == "part":
            (left / "index-0.npy").unlink()
        if name == "damage":
            with (left / "rows-0.bin").open("r+b") as handle:
                handle.seek(whole // 2)
                handle.write(b"\xff" * 64)
        assert run(name)[0] == plain, name
    monkeypatch.setattr(growing, "_write", full)
    found, reporter = run("full")
    assert found == plain
    assert any("No space left" in text for text in reporter.warnings)


def full(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_descriptors_without_room_are_computed_in_every_step(tmp_path):
    """Said beforehand; the errors are those of kept descriptors but for rounding; a run cannot change over."""
    folder = teacher_store(tmp_path, 24).folder
    how = {"potential": {"name": "behler"}, "cache_memory": 0.01, "precision": "float64"}
    small, reporter = train([folder], tmp_path / "kept", **how)
    assert any("kept in" in text for text in reporter.messages)
    large, reporter = train([folder], tmp_path / "step", cache_disk=1e-6, **how)
    assert any("descriptors of 24 frames would need about 0.00" in text for text in reporter.messages)
    for a, b in zip(small.errors, large.errors, strict=True):
        assert a.rmse == pytest.approx(b.rmse, rel=1e-6)
    with pytest.raises(SettingsError, match="descriptors was 'computed in every step', now None"):
        train([folder], tmp_path / "step", epochs=3, **how)


def test_killed_at_random_a_large_store_ends_bit_for_bit(tmp_path):
    folder = teacher_store(tmp_path, 24).folder
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    assert _in_a_process(folder, straight).wait() == 0
    draw = random.Random(1)
    for _ in range(2):
        process = _in_a_process(folder, killed)
        while process.poll() is None and not (killed / CHECKPOINT_FILE).exists():
            time.sleep(0.01)
        time.sleep(draw.uniform(0, 0.5))
        process.kill()
        process.wait()
    assert _in_a_process(folder, killed).wait() == 0
    assert rows(killed) == rows(straight)


def _in_a_process(store, out):
    code = f"""
from pathlib import Path
from rutile.data import growing, kept
from rutile.train import examples, ondemand
kept.LARGE = ondemand.LARGE = examples.LARGE = 10
growing.SAFE_SECONDS = 0.0
from rutile.cli.main import main
raise SystemExit(main(["train", {str(store)!r}, "out={out}", "epochs=15", "batch_size=4", "potential.hidden=[3]",
    "checkpoint_seconds=0", "tensorboard=false", "keep=last", "threads=1"]))
"""
    here = os.environ | {"PYTHONPATH": str(Path(rutile.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", code], env=here, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
