"""The cache of ragged arrays."""

import numpy as np
import pytest

from rutile.core.errors import FileError
from rutile.data.ragged import RaggedStore, build_ragged, open_or_build


def some_rows(n=9, seed=0):
    rng = np.random.default_rng(seed)
    sizes = rng.integers(0, 6, size=n)
    return [
        {
            "i": rng.integers(0, 99, size=s),
            "d": rng.normal(size=(s + 1, 3, 2)).astype(np.float32),
            "empty": np.zeros((0, 4)),
        }
        for s in sizes
    ]


@pytest.fixture
def cache(tmp_path):
    return build_ragged(iter(some_rows()), tmp_path / "cache", "abc", label="test")


@pytest.mark.parametrize("ids", [[0], [5, 1, 1, 8], list(range(9)), []])
def test_rows_come_back(cache, ids):
    rows = some_rows()
    for name in ("i", "d", "empty"):
        got, sizes = cache.get(name, ids)
        assert got.dtype == rows[0][name].dtype
        assert sizes.tolist() == [len(rows[k][name]) for k in ids]
        want = np.concatenate([rows[k][name] for k in ids]) if ids else rows[0][name][:0]
        assert np.array_equal(got, want)
        assert got.shape[1:] == rows[0][name].shape[1:]
        assert got.flags.writeable
    assert cache.sizes("i").tolist() == [len(r["i"]) for r in rows]
    assert len(cache) == 9
    assert set(cache.names) == {"i", "d", "empty"}


def test_key_and_damage(cache):
    assert RaggedStore.open(cache.folder, "abc", verify=True).key == "abc"
    with pytest.raises(FileError, match="other data or settings"):
        RaggedStore.open(cache.folder, "other")
    path = cache.folder / "d.bin"
    data = path.read_bytes()
    path.write_bytes(data[:-4])
    with pytest.raises(FileError, match=r"d\.bin.*truncated"):
        RaggedStore.open(cache.folder, "abc")
    path.write_bytes(bytes([data[0] ^ 1]) + data[1:])
    with pytest.raises(FileError, match=r"d\.bin.*altered"):
        RaggedStore.open(cache.folder, "abc", verify=True)


def test_frame_out_of_range(cache):
    with pytest.raises(IndexError, match="frame 9 of a cache of 9"):
        cache.get("i", [9])


def test_built_once(tmp_path):
    calls = []

    def rows():
        calls.append(1)
        return some_rows()

    first = open_or_build(tmp_path / "caches", "key1", rows, label="test")
    again = open_or_build(tmp_path / "caches", "key1", rows, label="test")
    assert len(calls) == 1
    assert np.array_equal(first.get("d", [3])[0], again.get("d", [3])[0])
    open_or_build(tmp_path / "caches", "key2", rows, label="test")
    assert len(calls) == 2


def test_nothing_half_written(tmp_path):
    def rows():
        yield from some_rows()
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        build_ragged(rows(), tmp_path / "cache", "abc", label="test")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "row", [{"i": np.zeros(2)}, {"i": np.zeros((2, 2), np.int64)}, {"j": np.zeros(2, np.int64)}, {}]
)
def test_rows_of_another_kind_are_refused(tmp_path, row):
    with pytest.raises(ValueError, match=r"i|first frame"):
        build_ragged([{"i": np.zeros(2, np.int64)}, row], tmp_path / "cache", "abc", label="test")
    assert list(tmp_path.iterdir()) == []


def test_no_frames(tmp_path):
    assert len(build_ragged([], tmp_path / "cache", "abc", label="test")) == 0
