"""Energy by volume of one crystal, found among the structures of a data set: what a calculation of an EOS leaves."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase.formula import Formula

from rutile.core.elements import number
from rutile.core.errors import GeometryError
from rutile.jobs.shelf import Shelf
from rutile.simulate.birch_murnaghan import BirchMurnaghan, fit_birch_murnaghan

FEWEST = 5
"""Volumes of a curve: one more than its equation has numbers."""
THINNEST = 1e-3
"""Volume (Å³) of a cell that is none."""
ATOMS_AT_ONCE = 500_000
"""Atoms that are compared at a time: some 50 MB."""
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


def reduced(formula: str) -> str:
    """A composition by its smallest numbers: Ti2O4 is TiO2."""
    return str(Formula(formula).reduce()[0].format("hill"))


def frames_of(shelf: Shelf, formula: str) -> np.ndarray:
    """Numbers of the structures of a reduced composition that have an energy."""
    wanted = sorted((number(element), n) for element, n in Formula(formula).count().items())
    fits = np.array([*(_reduces_to(one, wanted) for one in shelf.compositions), False])
    return np.flatnonzero(fits[shelf.column("composition")] & np.isfinite(shelf.column("energy_per_atom")))


def _reduces_to(composition: list[list[int]], wanted: list[tuple[int, int]]) -> bool:
    """Whether numbers of atoms by element, in the order of the elements, are a multiple of the wanted ones."""
    if len(composition) != len(wanted):
        return False
    times = composition[0][1] // wanted[0][1]
    return times > 0 and all(z == y and n == times * m for (z, n), (y, m) in zip(composition, wanted, strict=True))


def volume_curves(shelf: Shelf, formula: str) -> list[VolumeCurve]:
    """Curves of all crystals of a composition that are there at five volumes or more and have a minimum.

    Two structures are one crystal where atoms are as many and of the same elements in the same order, cell and
    positions differ by a factor alone, and the calc mode is the same.

    Args:
        shelf: the structures; its first 5000 of this composition are looked at.
        formula: reduced, such as TiO2.
    """
    return list(_known_curves(shelf.folder, formula))


@functools.lru_cache(100)
def _known_curves(folder: Path, formula: str) -> tuple[VolumeCurve, ...]:
    """Curves of a shelf; its folder is named by the SHA-256 of its content."""
    shelf = Shelf(folder)
    frames = frames_of(shelf, formula)[:MOST_FRAMES]
    crystals = _Crystals(shelf, frames)
    return tuple(_curves(frames, crystals))


class _Crystals:
    """Structures of one composition, told apart into crystals."""

    def __init__(self, shelf: Shelf, frames: np.ndarray) -> None:
        self.shelf, self.of = shelf, shelf.geometries(frames)
        self.atoms, self.mode = self.of.end - self.of.start, shelf.column("mode")[frames]
        self.volume = np.abs(np.linalg.det(self.of.cell))
        self.energy = self.of.energy / self.atoms
        self.usable = self.of.pbc.all(axis=1) & (self.volume > THINNEST)
        safe = np.where(self.usable[:, None, None], self.of.cell, np.eye(3))
        self.inverse = np.linalg.inv(safe)
        self.shape = safe @ safe.swapaxes(1, 2) / np.abs(np.linalg.det(safe))[:, None, None] ** (2 / 3)
        ends = np.stack([self.of.start, self.of.end - 1], axis=1)
        self.last = self._from_first(np.arange(len(frames)), ends)[1][:, 1]

    def told_apart(self) -> Iterator[np.ndarray]:
        """Members of each crystal, as places among the frames: the first that is left, and all that are like it."""
        left = np.flatnonzero(self.usable)
        for _ in range(MOST_CURVES):
            if not len(left):
                return
            like = self._like(left[0], left)
            yield left[like]
            left = left[~like]

    def _like(self, one: int, others: np.ndarray) -> np.ndarray:
        """Which others are the same crystal; all atoms are compared only where cell and last atom are the same."""
        away = self.last[others] - self.last[one]
        out: np.ndarray = (self.atoms[others] == self.atoms[one]) & (self.mode[others] == self.mode[one])
        out &= np.abs(self.shape[others] - self.shape[one]).max(axis=(1, 2)) < SAME_SHAPE
        out &= np.abs(away - np.round(away)).max(axis=1) < SAME_SHAPE
        near = np.flatnonzero(out)
        numbers, places = self._whole(np.array([one]))
        step = max(1, ATOMS_AT_ONCE // int(self.atoms[one]))
        for k in range(0, len(near), step):
            part = near[k : k + step]
            theirs, there = self._whole(others[part])
            away = there - places
            out[part] = (theirs == numbers).all(axis=1) & (
                np.abs(away - np.round(away)).max(axis=(1, 2), initial=0.0) < SAME_SHAPE
            )
        return out

    def _whole(self, which: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Atomic numbers [K, N] and positions [K, N, 3] of all atoms of structures that have as many."""
        return self._from_first(which, self.of.start[which, None] + np.arange(self.atoms[which[0]]))

    def _from_first(self, which: np.ndarray, atoms: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Atomic numbers, and positions in parts of the cell, counted from the first of these atoms."""
        numbers, positions = self.shelf.atoms_at(atoms)
        places = positions @ self.inverse[which]
        return numbers, places - places[:, :1]


def _curves(frames: np.ndarray, crystals: _Crystals) -> Iterator[VolumeCurve]:
    per_atom = crystals.volume / crystals.atoms
    for members in crystals.told_apart():
        order = members[np.argsort(per_atom[members], kind="stable")]
        volume, energy = per_atom[order], crystals.energy[order]
        if len(np.unique(volume.round(4))) < FEWEST:
            continue
        try:
            yield VolumeCurve(frames[order], volume, energy, fit_birch_murnaghan(volume, energy))
        except GeometryError:
            continue
