"""The store gives back what was put in, and says which file is damaged."""

import json
import os
import re
import resource
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from store_frames import some_frames

from rutile.core.errors import DataError, FileError, LabelError
from rutile.data.frames import Frame, batch_frames
from rutile.data.store import Store, build_store

FIELDS = ("numbers", "positions", "cell", "pbc", "energy", "forces", "stress", "group", "calc_mode", "weight", "source")


@pytest.fixture
def frames():
    return some_frames()


@pytest.fixture
def store(frames, tmp_path):
    return build_store(iter(frames), tmp_path / "store")


def same(a, b):
    return a == b if isinstance(a, (str, float, type(None))) else np.array_equal(a, b)


def test_every_frame_comes_back_bit_for_bit(store, frames):
    assert len(store) == len(frames)
    for got, put in zip(store, frames, strict=True):
        for name in FIELDS:
            assert same(getattr(got, name), getattr(put, name)), name
        assert got.numbers.dtype == np.int64


def test_summary(store, frames):
    assert store.elements == (8, 22)
    assert store.sizes.tolist() == [len(f.numbers) for f in frames]
    assert store.n_atoms == sum(len(f.numbers) for f in frames)
    assert store.groups.tolist() == [f.group for f in frames]
    assert store.calc_modes == ("PBE", "PBE+U")


@pytest.mark.parametrize("ids", [[0], [3, 1, 7], [2, 2, 4], list(range(12)), []])
def test_batch_equals_batch_of_frames(store, frames, ids):
    got, want = store.batch(ids), batch_frames([frames[k] for k in ids], ids)
    for name in ("energy", "forces", "stress", "has_energy", "has_forces", "has_stress", "weight", "index"):
        a, b = getattr(got, name), getattr(want, name)
        assert a.dtype == b.dtype, name
        assert torch.equal(torch.nan_to_num(a.double(), nan=-7.0), torch.nan_to_num(b.double(), nan=-7.0)), name
    for name in ("numbers", "positions", "cell", "pbc", "system"):
        a, b = getattr(got.structures, name), getattr(want.structures, name)
        assert a.dtype == b.dtype, name
        assert torch.equal(a, b), name


def test_absent_labels_are_nan_and_masked(store):
    batch = store.batch(range(len(store)))
    assert torch.equal(batch.energy.isfinite(), batch.has_energy)
    assert torch.equal(batch.stress.isfinite().all((1, 2)), batch.has_stress)
    assert torch.equal(batch.forces.isfinite().all(1), batch.has_forces[batch.structures.system])
    for mask in (batch.has_energy, batch.has_forces, batch.has_stress):
        assert 0 < mask.sum() < len(mask)


def test_batch_is_a_copy(store):
    store.batch([0]).structures.positions.zero_()
    assert store.batch([0]).structures.positions.abs().sum() > 0
    store[0].positions[:] = 0
    assert np.abs(store[0].positions).sum() > 0


def test_hash_tells_content(frames, tmp_path, store):
    assert build_store(frames, tmp_path / "again").hash == store.hash
    assert build_store(frames[::-1], tmp_path / "reversed").hash != store.hash
    assert build_store(frames[:-1], tmp_path / "fewer").hash != store.hash
    assert Store.open(tmp_path / "store", verify=True).hash == store.hash


@pytest.mark.parametrize("k", [12, -13])
def test_frame_out_of_range(store, k):
    with pytest.raises(IndexError, match=rf"frame {k} of a store of 12 frames"):
        store[k]
    with pytest.raises(IndexError, match=r"of a store of 12 frames"):
        store.batch([0, k])


def array_files(folder):
    return sorted(p.name for p in folder.glob("*.bin"))


def test_each_truncated_file_is_named(store, tmp_path):
    files = array_files(store.folder)
    assert len(files) == 16
    for name in files:
        path = store.folder / name
        data = path.read_bytes()
        path.write_bytes(data[:-1])
        with pytest.raises(FileError, match=rf"{name}.*truncated"):
            Store.open(store.folder)
        path.unlink()
        with pytest.raises(FileError, match=name):
            Store.open(store.folder)
        path.write_bytes(data)
    Store.open(store.folder, verify=True)


def test_each_altered_byte_is_found_on_request(store):
    for name in array_files(store.folder):
        path = store.folder / name
        data = path.read_bytes()
        middle = len(data) // 2
        path.write_bytes(data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :])
        Store.open(store.folder)
        with pytest.raises(FileError, match=rf"{name}.*altered"):
            Store.open(store.folder, verify=True)
        path.write_bytes(data)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m | {"frames": 5}, "altered"),
        (lambda m: m | {"version": 99}, "version 99"),
        (lambda m: m | {"format": "other"}, "not the manifest"),
        (lambda m: [m], "not the manifest"),
    ],
)
def test_altered_manifest(store, change, message):
    path = store.folder / "manifest.json"
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    with pytest.raises(FileError, match=message):
        Store.open(store.folder)


def test_manifest_not_json_or_missing(store, tmp_path):
    with pytest.raises(FileError, match="no rutile-store here"):
        Store.open(tmp_path / "nowhere")
    (store.folder / "manifest.json").write_bytes(b"\xff\x00{")
    with pytest.raises(FileError, match=r"manifest\.json: cannot be read"):
        Store.open(store.folder)


def test_nothing_half_written_when_frames_fail(frames, tmp_path):
    def broken():
        yield from frames[:5]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_store(broken(), tmp_path / "store")
    assert list(tmp_path.iterdir()) == []


def test_existing_folder_is_refused_and_kept(store, frames):
    before = store.hash
    with pytest.raises(FileError, match="exists already"):
        build_store(frames[:2], store.folder)
    assert Store.open(store.folder).hash == before


def test_no_frames(tmp_path):
    with pytest.raises(DataError, match="no frames"):
        build_store([], tmp_path / "store")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_unwritable_folder(frames, tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(FileError, match="cannot be written"):
        build_store(frames, tmp_path / "store")


def test_parent_is_a_file(frames, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(FileError, match="cannot be written"):
        build_store(frames, tmp_path / "file" / "store")


GOOD = {
    "numbers": np.array([8, 22]),
    "positions": np.zeros((2, 3)) + np.arange(2)[:, None],
    "cell": np.zeros((3, 3)),
    "pbc": np.zeros(3, dtype=bool),
    "source": "a.extxyz#3",
}


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"numbers": np.zeros(0, int), "positions": np.zeros((0, 3))}, DataError, "no atoms"),
        ({"numbers": np.array([8, 119])}, DataError, "atomic number 119"),
        ({"numbers": np.array([0, 8])}, DataError, "atomic number 0"),
        ({"positions": np.zeros((3, 3))}, DataError, r"positions of shape \(3, 3\)"),
        ({"positions": np.full((2, 3), np.nan)}, DataError, "positions holds NaN"),
        ({"cell": np.full((3, 3), np.inf)}, DataError, "cell holds NaN"),
        ({"weight": np.nan}, DataError, "weight holds NaN"),
        ({"energy": np.nan}, LabelError, "energy holds NaN"),
        ({"forces": np.full((2, 3), np.nan)}, LabelError, "forces holds NaN"),
        ({"forces": np.zeros((3, 3))}, LabelError, "forces of shape"),
        ({"stress": np.zeros(6)}, LabelError, "stress of shape"),
    ],
)
def test_bad_frames_are_named(tmp_path, change, error, message):
    with pytest.raises(error, match=rf"frame 1 \(a\.extxyz#3\).*{message}"):
        build_store([Frame(**GOOD), Frame(**(GOOD | change))], tmp_path / "store")
    assert list(tmp_path.iterdir()) == []


def test_format_is_documented(store):
    """The table of docs/store.md has every array with its dtype, in a form that other programs can rely on."""
    page = (Path(__file__).parents[2] / "docs" / "store.md").read_text(encoding="utf-8")
    lines = [line for line in page.splitlines() if line.startswith("| `")]
    rows = [[cell.strip(" `").replace("\\", "") for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    entries = json.loads((store.folder / "manifest.json").read_text())["arrays"]
    sizes = {"F": len(store), "F + 1": len(store) + 1, "N": store.n_atoms, "3": 3, "bytes": len(store.array("source"))}
    assert {name: (dtype, [sizes[s] for s in shape.split(", ")]) for name, dtype, shape, _ in rows} == {
        name: (e["dtype"], e["shape"]) for name, e in entries.items()
    }


LABELS = st.floats(-1e6, 1e6)
FRAMES = st.lists(
    st.builds(
        lambda numbers, energy, group, source, weight, scale: Frame(
            numbers=np.array(numbers),
            positions=np.arange(3.0 * len(numbers)).reshape(-1, 3) * scale,
            cell=np.zeros((3, 3)),
            pbc=np.zeros(3, bool),
            energy=energy,
            forces=None if energy is None else np.full((len(numbers), 3), energy),
            group=group,
            weight=weight,
            source=source,
        ),
        st.lists(st.integers(1, 118), min_size=1, max_size=5),
        st.none() | LABELS,
        st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
        st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
        LABELS,
        LABELS,
    ),
    min_size=1,
    max_size=5,
)


@pytest.mark.slow
@settings(derandomize=True, database=None, deadline=None, max_examples=15)
@given(FRAMES, st.data())
def test_any_frames_come_back(frames, data):
    with tempfile.TemporaryDirectory() as folder:
        store = build_store(frames, Path(folder) / "store")
        for got, put in zip(store, frames, strict=True):
            assert all(same(getattr(got, name), getattr(put, name)) for name in FIELDS)
        ids = data.draw(st.lists(st.integers(0, len(frames) - 1), max_size=6))
        batch = store.batch(ids)
        assert batch.structures.counts.tolist() == [len(frames[k].numbers) for k in ids]
        assert batch.structures.numbers.tolist() == [z for k in ids for z in frames[k].numbers]


@pytest.fixture
def small_files():
    """Files may not grow beyond 4 kB: stands for a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.usefixtures("small_files")
def test_full_disk_leaves_nothing(tmp_path):
    with pytest.raises(FileError, match=r"store: cannot be written: File too large"):
        build_store(some_frames(300), tmp_path / "store")
    assert list(tmp_path.iterdir()) == []
