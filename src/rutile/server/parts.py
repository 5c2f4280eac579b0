"""Data sets as sets of frames: divided for training, and compared frame by frame."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from rutile.core.seeds import stream
from rutile.jobs.shelf import Picture, Shelf

SIDES = ("train", "validation", "test")


def divided(shelf: Shelf, by: str, valid: float, test: float, seed: int) -> np.ndarray:
    """Place in `SIDES` of each frame, [F], as training would divide them: copies stay together.

    Args:
        shelf: the frames.
        by: frames, groups or stratified, as in the settings of training.
        valid: fraction for validation.
        test: fraction for the test.
        seed: of the order.
    """
    from rutile.data.copies import connected
    from rutile.data.split import divide

    copy, groups = shelf.column("copy"), shelf.column("group").astype(np.int64)
    first = np.where(copy >= 0, copy, np.arange(len(shelf)))
    units = connected([groups, first]) if by == "groups" else connected([first])
    strata = groups if by == "stratified" else np.zeros(len(shelf), np.int64)
    return divide(units, strata, np.array([1 - valid - test, valid, test]), stream(seed, "split"))


@dataclass(frozen=True)
class Differences:
    """Numbers of frames that two versions do not share."""

    same: int
    """So many of the first are in the second, labels and all."""
    relabelled: list[int]
    """In the second: the first has them with other labels."""
    removed: list[int]
    """In the first."""
    added: list[int]
    """In the second."""


def differences(first: Shelf, second: Shelf) -> Differences:
    """Compare frame by frame, wherever each lies."""
    known = dict(_hashes(first))
    fresh = dict(_hashes(second))
    same = [key for key in fresh if key in known]
    others = [(key, k) for key, k in fresh.items() if key not in known]
    shapes = {key[0] for key in known if key not in fresh}
    relabelled = [k for key, k in others if key[0] in shapes]
    now = {key[0] for key, _ in others}
    return Differences(
        same=len(same), relabelled=relabelled, added=[k for key, k in others if key[0] not in shapes],
        removed=[k for key, k in known.items() if key not in fresh and key[0] not in now],
    )  # fmt: skip


def _hashes(shelf: Shelf) -> Iterator[tuple[tuple[bytes, bytes, int], int]]:
    """Hashes of geometry and labels of each frame, with how often that came before, and its number."""
    seen: dict[tuple[bytes, bytes], int] = {}
    for k in range(len(shelf)):
        one = shelf.frame(k)
        key = _digest(one.numbers, one.positions, one.cell, one.pbc), _labels(one)
        seen[key] = seen.get(key, 0) + 1
        yield (*key, seen[key]), k


def _labels(one: Picture) -> bytes:
    there = [x for x in (one.energy, one.forces, one.stress) if x is not None]
    return _digest(*(np.asarray(x) for x in there), np.frombuffer(one.mode.encode(), np.uint8))


def _digest(*arrays: np.ndarray) -> bytes:
    """Of numbers to six decimals: files have eight, or so."""
    out = hashlib.blake2b(digest_size=16)
    for array in arrays:
        out.update((np.round(np.asarray(array, float), 6) + 0.0).tobytes())
    return out.digest()
