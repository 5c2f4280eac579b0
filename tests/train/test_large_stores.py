"""What is made on demand for a large store is what the caches of a small one hold; a store is read where it is."""

import numpy as np
import pytest
import torch
from toy import ToyDescriptors, teacher_frames, teacher_store

from rutile.core.errors import LabelError, SettingsError
from rutile.core.reporting import SilentReporter
from rutile.data import kept
from rutile.data.frames import Frame
from rutile.data.reading import to_atoms
from rutile.data.store import build_store, is_store
from rutile.structures import io
from rutile.tasks.catalogue import load_task
from rutile.train import assess, examples, ondemand
from rutile.train.caches import cache_descriptors, cache_edges
from rutile.train.fit import TIMINGS

pytestmark = pytest.mark.slow

QUICK = {"epochs": 2, "tensorboard": False, "threads": 1, "potential": {"name": "schnet"}}


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
    cache, demand = cache_edges(store, 4.0), ondemand.edges_on_demand(store, 4.0)
    for ids in ([3, 1, 7], [0], [8, 8]):
        for name in ("ij", "shift"):
            for a, b in zip(cache.get(name, np.array(ids)), demand.get(name, np.array(ids)), strict=True):
                assert a.dtype == b.dtype
                assert np.array_equal(a, b)
    assert demand.sizes("ij").tolist() == cache.sizes("ij").tolist()


def test_descriptors_on_demand_are_those_of_the_cache(tmp_path):
    store, potential = teacher_store(tmp_path, 9), ToyDescriptors()
    cache = cache_descriptors(store, potential, torch.float64)
    demand = ondemand.descriptors_on_demand(store, potential, torch.float64)
    for name in ("pairs", "descriptors", "d_pair", "d_strain"):
        (a, n), (b, m) = (x.get(name, np.array([5, 2, 8])) for x in (cache, demand))
        assert n.tolist() == m.tolist()
        assert np.allclose(a, b, rtol=0, atol=1e-14), name


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
    assert not (tmp_path / "large/cache").exists()
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
