"""A store made by several processes, or in several attempts, is the one that a single pass makes."""

import fcntl
import multiprocessing
import os
import signal
from pathlib import Path

import numpy as np
import pytest
from store_frames import some_frames

from rutile.core.errors import DataError, FileError, LabelError
from rutile.core.reporting import SilentReporter
from rutile.data import making
from rutile.data.making import make_store
from rutile.data.reading import read_frames, to_atoms
from rutile.data.settings import ReadSettings
from rutile.data.store import Store, build_store
from rutile.structures import io

SKIP = ReadSettings(on_bad="skip", closest=0.0)
LOOSE = ReadSettings(closest=0.0)


@pytest.fixture(autouse=True)
def small_units(monkeypatch):
    monkeypatch.setattr(making, "UNIT", 7)
    monkeypatch.setattr(making, "SAFE_SECONDS", 0.0)


def atoms_of(n, seed, **more):
    return [to_atoms(f) for f in some_frames(n, seed=seed, **more)]


@pytest.fixture
def files(tmp_path) -> list[Path]:
    """Extended XYZ, aselmdb and DeePMD, each of several units, and small files; labels are absent here and there."""
    io.write_frames(tmp_path / "a.extxyz", atoms_of(40, 1))
    pytest.importorskip("lmdb")
    io.write_frames(tmp_path / "b.aselmdb", atoms_of(16, 2))
    io.write_frames(tmp_path / "c", [a for a in atoms_of(90, 3, elements=(8,)) if a.pbc.all()], "deepmd")
    for k, atoms in enumerate(atoms_of(5, 4)):
        io.write_frames(tmp_path / f"d{k}.extxyz", [atoms])
    return [tmp_path / "a.extxyz", tmp_path / "b.aselmdb", tmp_path / "c", *sorted(tmp_path.glob("d*.extxyz"))]


def plain(files, folder, settings=LOOSE):
    reporter = SilentReporter()
    return build_store(read_frames(files, settings, reporter), folder), reporter


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_equals_a_single_pass(files, tmp_path, workers):
    want, _ = plain(files, tmp_path / "want")
    store, tally = make_store(files, tmp_path / "got", LOOSE, SilentReporter(), workers)
    assert len(list(making._units(io.expand(files), LOOSE))) > 12, "there must be something to divide"
    assert store.hash == want.hash
    assert tally.frames == len(want) > 70
    assert 0 < tally.labels["stress"] < tally.labels["energy"]
    Store.open(tmp_path / "got", verify=True)
    assert sorted(p.name for p in (tmp_path / "got").iterdir()) == sorted(p.name for p in want.folder.iterdir())
    assert not list(tmp_path.glob(".got*"))


def disturbed(text: str) -> str:
    """Blank lines between frames, a wrong number of atoms, an unknown element, and an end within a frame."""
    lines = text.splitlines()
    heads = [k for k, line in enumerate(lines) if line.strip().isdigit()]
    lines[heads[30] + 2] = "Qq" + lines[heads[30] + 2][2:]
    lines[heads[13] - 1] += "\nO 0 0 0 0 0 0\nO 1 1 1 0 0 0"
    lines[heads[20] - 1] += "\n\n   \n"
    return "\n".join(lines[:-1])


def test_damaged_files_are_read_as_in_a_single_pass(tmp_path):
    io.write_frames(tmp_path / "a.extxyz", atoms_of(40, 1, smallest=3))
    (tmp_path / "a.extxyz").write_text(disturbed((tmp_path / "a.extxyz").read_text()))
    want, told = plain([tmp_path / "a.extxyz"], tmp_path / "want", SKIP)
    reporter = SilentReporter()
    store, tally = make_store([tmp_path / "a.extxyz"], tmp_path / "got", SKIP, reporter, 1)
    assert len(told.warnings) == 4
    assert reporter.warnings == told.warnings
    assert (store.hash, tally.skipped) == (want.hash, 3)
    with pytest.raises(DataError, match=r"frame 12: .*2 more lines follow"):
        make_store([tmp_path / "a.extxyz"], tmp_path / "other", LOOSE, SilentReporter(), 1)
    assert not list(tmp_path.glob(".other*")), "what cannot be finished is not kept"


def test_nothing_behind_a_break_is_read(tmp_path):
    """Lines that are no frame in the middle: a single pass stops there, and so does every worker."""
    io.write_frames(tmp_path / "a.extxyz", atoms_of(40, 1, smallest=3))
    data = (tmp_path / "a.extxyz").read_bytes().split(b"\n")
    data[100] += b"\0"
    (tmp_path / "a.extxyz").write_bytes(b"\n".join(data))
    want, told = plain([tmp_path / "a.extxyz"], tmp_path / "want", SKIP)
    reporter = SilentReporter()
    store, _ = make_store([tmp_path / "a.extxyz"], tmp_path / "got", SKIP, reporter, 1)
    assert reporter.warnings == told.warnings
    assert len(store) == len(want) < 30
    assert store.hash == want.hash


def attempt(files, folder, at, name):
    """Make the store and be killed at the `at`-th call of a function of `making`, before it is done; 0: never."""
    calls = []

    def deadly(function):
        def called(*args, **more):
            calls.append(1)
            if len(calls) == at:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*args, **more)

        return called

    owner = making.StoreWriter if name in ("add", "finish", "state") else making
    setattr(owner, name, deadly(getattr(owner, name)))
    make_store(files, folder, LOOSE, SilentReporter(), 1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "moments"),
    [("add", (1, 4, 9)), ("write_atomically", (1, 5)), ("state", (3,)), ("finish", (1,)), ("check_keys_exist", (1,))],
)
def test_goes_on_after_a_kill(files, tmp_path, name, moments):
    """Several attempts, each killed: the result is that of one, and the later ones read less."""
    want, _ = plain(files, tmp_path / "want")
    folder = tmp_path / "got"
    for at in moments:
        process = multiprocessing.get_context("fork").Process(target=attempt, args=(files, folder, at, name))
        process.start()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        assert not folder.exists()
    reporter = SilentReporter()
    store, tally = make_store(files, folder, LOOSE, reporter, 1)
    if (name, moments) != ("write_atomically", (1, 5)):
        assert any("goes on behind" in text for text in reporter.messages)
    assert (store.hash, tally.frames) == (want.hash, len(want))
    Store.open(folder, verify=True)
    assert not list(tmp_path.glob(".got*"))


@pytest.mark.slow
def test_other_files_begin_again(files, tmp_path):
    process = multiprocessing.get_context("fork").Process(target=attempt, args=(files, tmp_path / "got", 9, "add"))
    process.start()
    process.join()
    io.write_frames(tmp_path / "a.extxyz", atoms_of(41, 7))
    reporter = SilentReporter()
    store, _ = make_store(files, tmp_path / "got", LOOSE, reporter, 1)
    assert not any("goes on behind" in text for text in reporter.messages)
    assert store.hash == plain(files, tmp_path / "want")[0].hash


def test_one_process_at_a_time(files, tmp_path):
    partial = tmp_path / ".got.partial"
    partial.mkdir()
    with (partial / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(FileError, match="another process"):
            make_store(files, tmp_path / "got", LOOSE, SilentReporter(), 1)


@pytest.mark.slow
def test_a_lost_worker_is_named_and_nothing_is_lost(files, tmp_path, monkeypatch):
    monkeypatch.setattr(making, "read_unit", lethal)
    with pytest.raises(FileError, match="run the same command again"):
        make_store(files, tmp_path / "got", LOOSE, SilentReporter(), 2)
    monkeypatch.undo()
    store, _ = make_store(files, tmp_path / "got", LOOSE, SilentReporter(), 1)
    assert store.hash == plain(files, tmp_path / "want")[0].hash


def lethal(*_):
    os.kill(os.getpid(), signal.SIGKILL)


def test_what_is_refused(files, tmp_path):
    with pytest.raises(LabelError, match="mistaken"):
        make_store(files, tmp_path / "got", LOOSE.model_copy(update={"energy_key": "mistaken"}), SilentReporter(), 1)
    (tmp_path / "empty.extxyz").write_text("")
    with pytest.raises(DataError, match=r"empty\.extxyz: no usable frame: empty"):
        make_store([tmp_path / "empty.extxyz"], tmp_path / "got", LOOSE, SilentReporter(), 1)
    (tmp_path / "got").mkdir()
    with pytest.raises(FileError, match="exists already"):
        make_store(files, tmp_path / "got", LOOSE, SilentReporter(), 1)


def test_labels_of_the_store_are_those_of_the_files(files, tmp_path):
    store, _ = make_store(files[:1], tmp_path / "got", LOOSE, SilentReporter(), 1)
    for got, put in zip(store, some_frames(40, seed=1), strict=True):
        assert got.energy == put.energy
        assert (got.forces is None) == (put.forces is None)
        assert got.forces is None or np.array_equal(got.forces, put.forces)
        assert (got.stress is None) == (put.stress is None)
