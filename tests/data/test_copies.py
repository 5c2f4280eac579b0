"""Frames of the same geometry are found in whole batches as one by one."""

import numpy as np
from store_frames import some_frames

from rutile.data import copies, kept
from rutile.data.copies import COMPARED, connected, duplicate_classes, exact_copies
from rutile.data.duplicates import LIKE, SAME, SAME_ENERGY, close_pairs, geometry_sums
from rutile.data.frames import Frame
from rutile.data.store import Store, build_store


def rotated(frame: Frame, rng) -> Frame:
    q, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    order = rng.permutation(len(frame.numbers))
    positions = (frame.positions @ q.T)[order] + 1.0
    return Frame(frame.numbers[order], positions, frame.cell @ q.T, frame.pbc, frame.energy)


def with_copies(n=60):
    """Frames of which some are copies, rotated copies, and rotated copies with another energy."""
    rng = np.random.default_rng(4)
    frames = some_frames(n, seed=3, smallest=2)
    frames += [frames[k] for k in (3, 4, 3)]
    frames += [rotated(frames[k], rng) for k in range(0, n, 5)]
    frames += [Frame(f.numbers, f.positions + 2e-6, f.cell, f.pbc, 99.0) for f in frames[:8]]
    return [frames[k] for k in rng.permutation(len(frames))]


def one_by_one(store: Store) -> np.ndarray:
    """The same classes from the definition."""
    names = [repr((f.numbers, np.rint(f.positions / 1e-4) + 0, np.rint(f.cell / 1e-4) + 0, f.pbc)) for f in store]
    exact = np.array([names.index(name) for name in names])
    labels = exact.copy()
    ids = np.flatnonzero(exact == np.arange(len(store)))
    sums = []
    for k in ids:
        frame = store[int(k)]
        pairs = close_pairs(frame)
        sums.append((np.nan,) * 4 if frame.pbc.any() and not len(pairs[2]) else geometry_sums(frame, pairs))
    sums = np.array(sums)
    what = [repr(sorted(store[int(k)].numbers.tolist())) for k in ids]
    order = np.lexsort((sums[:, 0], what))
    energy = store.array("energy")
    for place, a in enumerate(order):
        for b in order[place + 1 : place + 1 + COMPARED]:
            apart = np.abs(sums[a] - sums[b]) / np.maximum(np.abs(sums[a]), 1e-3)
            if what[a] != what[b] or not apart[0] <= LIKE:
                break
            same_energy = abs(energy[ids[a]] - energy[ids[b]]) <= SAME_ENERGY
            if apart.max() <= (LIKE if same_energy else SAME):
                labels[ids[b]] = labels[ids[a]]
                break
    return connected([exact, labels])


def test_batches_find_what_pairs_find(tmp_path, monkeypatch):
    store = build_store(with_copies(), tmp_path / "s")
    want = one_by_one(store)
    classes = len(np.unique(want))
    assert classes < len(np.unique(exact_copies(store))) < len(store), "the case must hold both kinds of copies"
    assert duplicate_classes(store).tolist() == want.tolist()
    monkeypatch.setattr(copies, "TOGETHER", 100)  # many small batches
    assert duplicate_classes(store).tolist() == want.tolist()


def test_sums_of_molecules(tmp_path):
    frames = [f for f in some_frames(40, smallest=2) if not f.pbc.any() and len(f.numbers) == 5]
    store = build_store(frames, tmp_path / "s")
    got = copies._molecule_sums(store, np.arange(len(frames)), 5)
    assert len(frames) >= 2
    assert np.allclose(got, [geometry_sums(f, close_pairs(f)) for f in frames], rtol=1e-13)


def test_an_array_of_a_large_store_is_kept(tmp_path, monkeypatch):
    store = build_store(some_frames(), tmp_path / "s")
    calls = []

    def compute():
        calls.append(1)
        return np.arange(len(store))

    kept.kept(store, "x", compute)
    assert not (store.folder / "derived").exists(), "a small store keeps nothing"
    monkeypatch.setattr(kept, "LARGE", 5)
    for _ in range(2):
        assert kept.kept(store, "x", compute, 1.5).tolist() == list(range(12))
    assert len(calls) == 2
    kept.kept(store, "x", compute, 2.5)
    assert len(calls) == 3, "other settings, another array"
    for file in (store.folder / "derived").iterdir():
        file.write_bytes(file.read_bytes()[:-20])
    assert kept.kept(store, "x", compute, 1.5).tolist() == list(range(12))
    assert len(calls) == 4, "a damaged file is made again"
    Store.open(store.folder, verify=True)
