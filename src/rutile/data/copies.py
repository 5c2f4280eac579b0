"""Which frames of a store have the same geometry; molecules are compared in whole batches, crystals one by one.

Exact copies are found by a hash; `data.duplicates` says how the others are recognised.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

import numpy as np

from rutile.core.reporting import Reporter, SilentReporter
from rutile.core.seeds import stream
from rutile.data.arrays import gather
from rutile.data.duplicates import LIKE, SAME, SAME_ENERGY, close_pairs, geometry_sums
from rutile.data.frames import Frame
from rutile.data.store import Store
from rutile.structures.fingerprint import LARGEST_MOLECULE

ROUNDING = 1e-4
"""Geometries equal after rounding to this (Angstrom) are exact copies."""
COMPARED = 50
"""Frames of nearly the same first sum that one is compared with at most."""
TOGETHER = 2_000_000
"""Numbers of a batch."""


def duplicate_classes(store: Store, reporter: Reporter | None = None) -> np.ndarray:
    """Label of each frame, [F] int64: the first frame of the same geometry, whatever symmetry operation lies between.

    Exact copies are found first; `data.duplicates` says how the others are recognised.
    """
    exact = exact_copies(store)
    labels = exact.copy()
    ids = np.flatnonzero(exact == np.arange(len(store)))
    sums = _all_sums(store, ids, reporter or SilentReporter())
    composition = _composition_hashes(store)[ids]
    energy = np.asarray(store.array("energy"))[ids]
    order = np.lexsort((sums[:, 0], composition))
    for a, b in _alike(sums[order], composition[order], energy[order]):
        labels[ids[order[b]]] = labels[ids[order[a]]]
    return connected([exact, labels])


def _alike(sums: np.ndarray, composition: np.ndarray, energy: np.ndarray) -> list[tuple[int, int]]:
    """Each frame with the first behind it that repeats it, both as places in this order, which is by the first sum."""
    first = np.maximum(np.abs(sums[:, 0]), 1e-3)
    looking = np.arange(len(sums))
    found: list[np.ndarray] = []
    for distance in range(1, COMPARED + 1):
        looking = looking[looking + distance < len(sums)]
        other = looking + distance
        near = composition[looking] == composition[other]
        near &= np.abs(sums[looking, 0] - sums[other, 0]) / first[looking] <= LIKE  # not where one is NaN
        looking, other = looking[near], other[near]
        if not len(looking):
            break
        size = np.maximum(np.abs(sums[looking]), 1e-3)
        apart = (np.abs(sums[looking] - sums[other]) / size).max(1)
        same_energy = np.abs(energy[looking] - energy[other]) <= SAME_ENERGY  # not where one is absent (NaN)
        same = apart <= np.where(same_energy, LIKE, SAME)
        found.append(np.stack([looking[same], other[same]], 1))
        looking = looking[~same]
    pairs = np.concatenate(found) if found else np.zeros((0, 2), np.int64)
    return [(int(a), int(b)) for a, b in pairs[np.argsort(pairs[:, 0])]]


def _all_sums(store: Store, ids: np.ndarray, reporter: Reporter) -> np.ndarray:
    """The four sums of `geometry_sums` for some frames, [len(ids), 4]."""
    out = np.empty((len(ids), 4))
    sizes = store.sizes[ids]
    molecule = ~np.asarray(store.array("pbc"))[ids].any(1) & (sizes <= LARGEST_MOLECULE)
    track = reporter.track(_portions(sizes, molecule), "comparing frames")
    for places in track:
        if molecule[places[0]]:
            out[places] = _molecule_sums(store, ids[places], int(sizes[places[0]]))
        else:
            out[places] = [_sums(store[k]) for k in ids[places].tolist()]
    return out


def _portions(sizes: np.ndarray, molecule: np.ndarray) -> Iterator[np.ndarray]:
    """Places of molecules of equal size together, and of all other frames."""
    alone = np.flatnonzero(~molecule)
    yield from np.split(alone, range(100, len(alone), 100)) if len(alone) else ()
    for size in np.unique(sizes[molecule]).tolist():
        places = np.flatnonzero(molecule & (sizes == size))
        most = max(1, TOGETHER // (3 * size * size))
        yield from np.split(places, range(most, len(places), most))


def _molecule_sums(store: Store, ids: np.ndarray, n: int) -> np.ndarray:
    """`geometry_sums` of molecules of n atoms, [len(ids), 4]."""
    offsets = store.array("offsets")
    x = gather(store.array("positions"), offsets, ids).reshape(-1, n, 3)
    w = np.sqrt(gather(store.array("numbers"), offsets, ids).astype(np.float64)).reshape(-1, n)
    i, j = np.triu_indices(n, 1)
    d = np.linalg.norm(x[:, i] - x[:, j], axis=-1)
    c = 1 / (1 + d**2)
    full = np.zeros((len(ids), n, n))
    full[:, i, j] = full[:, j, i] = c
    rho = np.einsum("bij,bj->bi", full, w)
    rows = ((w * rho).sum(1), (c**2 * d).sum(1), (w * rho**2).sum(1), (w * rho**3).sum(1))
    return np.stack(rows, 1)


def _sums(frame: Frame) -> tuple[float, ...]:
    """Four sums that symmetry operations do not change, [4]; NaN, unlike any other, where atoms are too far apart."""
    pairs = close_pairs(frame)
    if frame.pbc.any() and not len(pairs[2]):
        return (np.nan,) * 4
    return geometry_sums(frame, pairs)


def _composition_hashes(store: Store) -> np.ndarray:
    """A number for the composition of each frame, [F] uint64: equal compositions, equal numbers."""
    of_element = _odd(256, "composition")
    numbers = store.array("numbers")
    out = np.empty(len(store), np.uint64)
    for frames, atoms in _ranges(store):
        starts = np.asarray(store.array("offsets"))[frames] - atoms.start
        out[frames] = np.add.reduceat(of_element[numbers[atoms]], starts)
    return out


def exact_copies(store: Store) -> np.ndarray:
    """First frame with the same numbers in order, positions, cell and pbc, of each frame, [F] int64."""
    labels = np.arange(len(store))
    _, index, counts = np.unique(geometry_hashes(store), return_inverse=True, return_counts=True)
    seen: dict[bytes, int] = {}
    offsets = store.array("offsets")
    numbers, positions, cell, pbc = (store.array(name) for name in ("numbers", "positions", "cell", "pbc"))
    for k in np.flatnonzero(counts[index] > 1).tolist():
        start, end = offsets[k : k + 2].tolist()
        digest = hashlib.blake2b(numbers[start:end].tobytes() + pbc[k].tobytes(), digest_size=16)
        for lengths in (positions[start:end], cell[k]):
            digest.update(np.rint(lengths / ROUNDING).astype(np.int64).tobytes())
        labels[k] = seen.setdefault(digest.digest(), k)
    return labels


def geometry_hashes(store: Store) -> np.ndarray:
    """A number for the rounded geometry of each frame, [F] uint64: sums of its numbers, each times its own factor.

    Frames of one geometry have equal numbers in all stores.
    """
    factors = _odd(4 * int(store.sizes.max()), "geometry").reshape(-1, 4)
    cell_factors = _odd(9, "cell")
    offsets = np.asarray(store.array("offsets"))
    out = np.empty(len(store), np.uint64)
    for frames, atoms in _ranges(store):
        starts = offsets[frames] - atoms.start
        place = np.arange(atoms.stop - atoms.start) - np.repeat(starts, store.sizes[frames])
        mixed = (_rounded(store.array("positions")[atoms]) * factors[place, :3]).sum(1, dtype=np.uint64)
        mixed += store.array("numbers")[atoms] * factors[place, 3]
        cells = _rounded(store.array("cell")[frames].reshape(-1, 9))
        out[frames] = np.add.reduceat(mixed, starts) + (cells * cell_factors).sum(1, dtype=np.uint64)
    return out


def _rounded(lengths: np.ndarray) -> np.ndarray:
    return np.rint(lengths / ROUNDING).astype(np.int64).astype(np.uint64)


def _odd(n: int, purpose: str) -> np.ndarray:
    """Random odd factors, [n] uint64."""
    return stream(0, purpose).integers(0, 2**63, n, dtype=np.uint64) * np.uint64(2) + np.uint64(1)


def _ranges(store: Store) -> Iterator[tuple[slice, slice]]:
    """All frames in order, in ranges of about TOGETHER / 4 atoms, and the atoms of each range."""
    offsets = np.asarray(store.array("offsets"))
    first = 0
    while first < len(store):
        last = int(np.searchsorted(offsets, offsets[first] + TOGETHER // 4, side="right")) - 1
        last = max(last, first + 1)
        yield slice(first, last), slice(int(offsets[first]), int(offsets[last]))
        first = last


def connected(labelings: Sequence[np.ndarray]) -> np.ndarray:
    """Finest labels [F] under which frames that share a label in any of `labelings` share one."""
    parent = np.arange(len(labelings[0]))

    def root(k: int) -> int:
        while parent[k] != k:
            parent[k] = parent[parent[k]]
            k = int(parent[k])
        return k

    for labels in labelings:
        _, first, index = np.unique(labels, return_index=True, return_inverse=True)
        earlier = first[index]
        for k in np.flatnonzero(earlier != np.arange(len(labels))).tolist():
            a, b = sorted((root(k), root(int(earlier[k]))))
            parent[b] = a
    while (parent[parent] != parent).any():
        parent = parent[parent]
    return parent
