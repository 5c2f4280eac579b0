"""Rows that are kept in a file as they are made: what is read is what was added, or nothing."""

import errno
import gc
import os
import shutil
import threading

import numpy as np
import pytest

from rutile.core.reporting import SilentReporter
from rutile.data import growing
from rutile.data.growing import GrowingRows

LAYOUT = {"ij": ("<i4", (2,)), "x": ("<f4", (3, 2))}
FRAMES = 20


def row(k, n=None):
    rng = np.random.default_rng(k)
    n = k % 4 if n is None else n
    return {"ij": rng.integers(0, 99, (n, 2)).astype(np.int32), "x": rng.random((n + 1, 3, 2), np.float32)}


def opened(folder, most=1e9, reporter=None):
    return GrowingRows(folder, LAYOUT, FRAMES, most, reporter or SilentReporter())


def holds(rows, ids):
    """Whether exactly these frames are kept, each with its rows."""
    found = rows.read(np.arange(FRAMES))
    assert [k for k, one in enumerate(found) if one is not None] == sorted(ids)
    assert len(rows) == len(ids)
    for k in ids:
        for name, array in row(k).items():
            assert found[k][name].dtype == array.dtype
            assert np.array_equal(found[k][name], array)
    return True


@pytest.mark.slow
def test_what_was_added_is_read_again_and_in_the_next_process(tmp_path):
    rows = opened(tmp_path / "g")
    rows.add([3, 0, 7], [row(3), row(0), row(7)])
    rows.add([19], [row(19)])
    assert holds(rows, [0, 3, 7, 19])
    del rows
    gc.collect()
    again = opened(tmp_path / "g")
    assert holds(again, [0, 3, 7, 19])
    again.add([1], [row(1)])
    assert holds(again, [0, 1, 3, 7, 19])


def test_what_was_not_safe_when_a_process_was_killed_is_made_again(tmp_path):
    rows = opened(tmp_path / "g")
    rows.add([3, 4], [row(3), row(4)])
    rows.save()
    rows.add([5], [row(5)])
    shutil.copytree(tmp_path / "g", tmp_path / "killed")
    after = opened(tmp_path / "killed")
    assert holds(after, [3, 4])
    after.add([6, 5], [row(6), row(5)])
    assert holds(after, [3, 4, 5, 6])
    (tmp_path / "g/index-0.npy").write_bytes(b"no array")
    shutil.copytree(tmp_path / "g", tmp_path / "damaged")
    assert holds(opened(tmp_path / "damaged"), [])
    with (tmp_path / "killed/rows-0.bin").open("r+b") as file:
        file.truncate(10)
    shutil.copytree(tmp_path / "killed", tmp_path / "short")
    assert holds(opened(tmp_path / "short"), [])


@pytest.mark.parametrize("at", [0, 8, 20, -1])
def test_a_damaged_record_is_not_read(tmp_path, at):
    rows = opened(tmp_path / "g")
    rows.add([2, 3], [row(2), row(3)])
    start, size = rows._index[2].tolist()
    with (tmp_path / "g/rows-0.bin").open("r+b") as file:
        file.seek(start + at % size)
        byte = file.read(1)
        file.seek(start + at % size)
        file.write(bytes([byte[0] ^ 1]))
    assert rows.read(np.array([2, 3]))[0] is None
    assert holds(rows, [3])
    rows.add([2], [row(2)])
    assert holds(rows, [2, 3])


def test_each_process_has_a_file_of_its_own(tmp_path):
    one, two = opened(tmp_path / "g"), opened(tmp_path / "g")
    one.add([1], [row(1)])
    two.add([2], [row(2)])
    assert holds(one, [1])
    assert holds(two, [2])
    assert sorted(p.name for p in (tmp_path / "g").iterdir()) == ["rows-0.bin", "rows-1.bin"]


def test_nothing_is_kept_beyond_the_limit(tmp_path):
    reporter = SilentReporter()
    rows = opened(tmp_path / "g", most=400, reporter=reporter)
    for k in range(10):
        rows.add([k], [row(k)])
    assert holds(rows, [0, 1, 2])
    assert (tmp_path / "g/rows-0.bin").stat().st_size <= 400
    assert len(reporter.messages) == 1
    assert "cache_disk" in reporter.messages[0]


@pytest.mark.slow
def test_a_full_disk_costs_a_warning(tmp_path, monkeypatch):
    reporter = SilentReporter()
    rows = opened(tmp_path / "g", reporter=reporter)
    rows.add([1], [row(1)])
    write = os.pwrite

    def full(file, data, start):
        if len(data) > 10:
            return write(file, data[:10], start)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", full)
    rows.add([2], [row(2, 0)])
    rows.add([3], [row(3)])
    assert holds(rows, [1])
    assert len(reporter.warnings) == 1
    assert "No space left" in reporter.warnings[0]
    monkeypatch.undo()
    del rows
    gc.collect()
    again = opened(tmp_path / "g")
    again.add([2], [row(2)])
    assert holds(again, [1, 2])


def test_a_folder_that_cannot_be_made_costs_a_warning(tmp_path):
    (tmp_path / "file").write_text("")
    reporter = SilentReporter()
    rows = opened(tmp_path / "file/g", reporter=reporter)
    rows.add([1], [row(1)])
    rows.save()
    assert holds(rows, [])
    assert len(reporter.warnings) == 1


def test_threads_add_and_read_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(growing, "SAFE_SECONDS", 0.0)
    rows = opened(tmp_path / "g")

    def work(first):
        for k in range(first, FRAMES, 4):
            rows.add([k], [row(k)])
            rows.read(np.arange(FRAMES))

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert holds(rows, list(range(FRAMES)))
