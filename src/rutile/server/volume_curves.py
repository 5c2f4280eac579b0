"""Energy by volume of one crystal, found among the structures of a data set: what a calculation of an EOS leaves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from ase.formula import Formula

from rutile.core.elements import formula_of
from rutile.core.errors import GeometryError
from rutile.jobs.shelf import Picture, Shelf
from rutile.simulate.birch_murnaghan import BirchMurnaghan, fit_birch_murnaghan

FEWEST = 5
"""Volumes of a curve: one more than its equation has numbers."""
MOST_FRAMES, MOST_CURVES = 5000, 200
"""Structures that are looked at, and curves that they are told apart into."""
SAME_SHAPE = 2e-3
"""Difference of shapes of cells of volume 1, and of fractions of the cell, of structures that are one crystal."""


@dataclass(frozen=True)
class VolumeCurve:
    """One crystal at several volumes."""

    frames: np.ndarray
    """Numbers of its structures, by volume, [K]."""
    volume: np.ndarray
    """Å³/atom, [K]."""
    energy: np.ndarray
    """eV/atom, [K]."""
    fit: BirchMurnaghan
    """Of one atom."""


@dataclass
class _Crystal:
    """What structures are compared with, and those that are the same but for the volume."""

    numbers: np.ndarray
    mode: str
    shape: np.ndarray
    places: np.ndarray
    points: list[tuple[int, float, float]]


def reduced(formula: str) -> str:
    """A composition by its smallest numbers: Ti2O4 is TiO2."""
    return str(Formula(formula).reduce()[0].format("hill"))


def frames_of(shelf: Shelf, formula: str) -> np.ndarray:
    """Numbers of the structures of a reduced composition that have an energy."""
    compositions = [formula_of({z: n for z, n in one}) for one in shelf.compositions]
    fits = np.array([*(bool(one) and reduced(one) == formula for one in compositions), False])
    return np.flatnonzero(fits[shelf.column("composition")] & np.isfinite(shelf.column("energy_per_atom")))


def volume_curves(shelf: Shelf, formula: str) -> list[VolumeCurve]:
    """Curves of all crystals of a composition that are there at five volumes or more and have a minimum.

    Two structures are one crystal where atoms are as many and of the same elements in the same order, cell and
    positions differ by a factor alone, and the calc mode is the same.

    Args:
        shelf: the structures; its first 5000 of this composition are looked at.
        formula: reduced, such as TiO2.
    """
    crystals: list[_Crystal] = []
    for k in frames_of(shelf, formula)[:MOST_FRAMES].tolist():
        picture = shelf.frame(k)
        if picture.energy is not None and picture.pbc.all() and abs(np.linalg.det(picture.cell)) > 1e-3:
            _sort_in(crystals, k, picture, picture.energy)
    return list(_curves(crystals))


def _sort_in(crystals: list[_Crystal], k: int, picture: Picture, energy: float) -> None:
    cell, atoms = np.asarray(picture.cell, float), len(picture.numbers)
    volume = abs(float(np.linalg.det(cell)))
    shape = cell @ cell.T / volume ** (2 / 3)
    places = np.linalg.solve(cell.T, np.asarray(picture.positions, float).T).T
    places = places - places[0]
    point = (k, volume / atoms, energy / atoms)
    for one in crystals:
        if _same(one, picture, shape, places):
            one.points.append(point)
            return
    if len(crystals) < MOST_CURVES:
        crystals.append(_Crystal(np.asarray(picture.numbers), picture.mode, shape, places, [point]))


def _same(one: _Crystal, picture: Picture, shape: np.ndarray, places: np.ndarray) -> bool:
    if one.mode != picture.mode or not np.array_equal(one.numbers, picture.numbers):
        return False
    away = places - one.places
    return bool(np.abs(one.shape - shape).max() < SAME_SHAPE and np.abs(away - np.round(away)).max() < SAME_SHAPE)


def _curves(crystals: list[_Crystal]) -> Iterator[VolumeCurve]:
    for one in crystals:
        frames, volume, energy = (
            np.array(column) for column in zip(*sorted(one.points, key=lambda p: p[1]), strict=True)
        )
        if len(np.unique(volume.round(4))) < FEWEST:
            continue
        try:
            yield VolumeCurve(frames, volume, energy, fit_birch_murnaghan(volume, energy))
        except GeometryError:
            continue
