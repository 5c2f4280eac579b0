"""Energies by volume in a data set: which structures are one crystal, told by comparing them one by one."""

import numpy as np
import pytest

from rutile.jobs.shelf import Picture, Shelf, write_shelf
from rutile.server import volume_curves as room
from rutile.server.volume_curves import FEWEST, SAME_SHAPE, frames_of, volume_curves

RUTILE = np.array([[0, 0, 0], [0.5, 0.5, 0.5], [0.3, 0.3, 0], [0.7, 0.7, 0], [0.2, 0.8, 0.5], [0.8, 0.2, 0.5]])
TIO2 = np.array([22, 22, 8, 8, 8, 8])
CELL = np.diag([4.6, 4.6, 2.96])
LARGE = np.concatenate([(RUTILE + np.array([0, 0, k])) * [1, 1, 0.5] for k in (0, 1)])
KINDS = [
    (TIO2, RUTILE, CELL, "pbe"), (TIO2, RUTILE, CELL, "r2scan"), (TIO2[::-1], RUTILE[::-1], CELL, "pbe"),
    (TIO2, RUTILE, np.diag([4.6, 4.6, 3.1]), "pbe"), (np.tile(TIO2, 2), LARGE, CELL * [1, 1, 2], "pbe"),
    (TIO2, RUTILE + 0.02 * np.eye(6, 3, -2), CELL, "pbe"),
]  # fmt: skip
"""Differ by calc mode, order, shape of the cell, number of atoms, and an atom in the middle."""


def pictures():
    """The kinds at many volumes, moved and wrapped; vibrating atoms, a slab, no energy, another composition."""
    rng = np.random.default_rng(1)
    for _ in range(80):
        numbers, places, cell, mode = KINDS[rng.integers(len(KINDS))]
        size = rng.uniform(0.9, 1.1)
        energy = len(numbers) * (-8 + (size - 1) ** 2 + 1e-4 * rng.normal())
        moved = places + rng.random(3) + rng.integers(-1, 2, places.shape)
        yield Picture(numbers, moved @ cell * size, cell * size, np.ones(3, bool), energy, mode=mode)
    for k in range(20):
        shaken = RUTILE + 0.02 * rng.normal(size=RUTILE.shape)
        yield Picture(TIO2, shaken @ CELL, CELL, np.array([1, 1, k > 4], bool), None if k < 8 else -48.0)
    yield Picture(np.array([22, 8]), np.array([[0, 0, 0], [2, 0, 0.0]]), 4 * np.eye(3), np.ones(3, bool), -10.0)


def one_by_one(shelf):
    """Members of crystals: each structure beside the first of every crystal."""
    crystals = []
    for k in frames_of(shelf, "O2Ti").tolist():
        one = shelf.frame(k)
        if not one.pbc.all():
            continue
        shape = one.cell @ one.cell.T / abs(np.linalg.det(one.cell)) ** (2 / 3)
        places = one.positions @ np.linalg.inv(one.cell)
        for numbers, mode, its, there, members in crystals:
            if (numbers.tolist(), mode) == (one.numbers.tolist(), one.mode) and abs(its - shape).max() < SAME_SHAPE:
                away = places - places[0] - there
                if abs(away - np.round(away)).max() < SAME_SHAPE:
                    members.append(k)
                    break
        else:
            crystals.append((np.array(one.numbers), one.mode, shape, places - places[0], [k]))
    return [members for *_, members in crystals if len(members) >= FEWEST]


@pytest.fixture
def shelf(tmp_path):
    write_shelf(pictures(), tmp_path / "shelf")
    return Shelf(tmp_path / "shelf")


def test_structures_are_told_apart_as_if_each_was_compared_with_each(shelf, monkeypatch):
    expected = one_by_one(shelf)
    assert len(expected) == len(KINDS)
    monkeypatch.delattr(Shelf, "frame")  # they are read many at a time
    monkeypatch.setattr(room, "ATOMS_AT_ONCE", 20)  # in several parts
    curves = volume_curves(shelf, "O2Ti")
    assert [sorted(one.frames.tolist()) for one in curves] == expected
    for one in curves:
        assert (np.diff(one.volume) > 0).all()
        assert one.energy == pytest.approx(shelf.column("energy_per_atom")[one.frames])


def test_curves_of_a_content_are_found_once(shelf, monkeypatch):
    first = volume_curves(shelf, "O2Ti")
    monkeypatch.delattr(room, "fit_birch_murnaghan")
    assert volume_curves(Shelf(shelf.folder), "O2Ti") == first
    assert volume_curves(shelf, "O") == []


def test_a_composition_is_known_by_any_multiple(shelf):
    assert len(frames_of(shelf, "O2Ti")) == 80 + 12
    assert len(frames_of(shelf, "OTi")) == 1
    assert len(frames_of(shelf, "O")) == len(frames_of(shelf, "O3Ti2")) == 0
