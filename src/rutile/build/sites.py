"""Places on a surface: above atoms, on bridges and in hollows, and which of them symmetry makes equal.

Surfaces are the upper sides of slabs whose first two cell vectors lie in the plane of x and y.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import spglib
from ase import Atoms
from scipy.spatial import Delaunay, QhullError

from rutile.build.surface import SAME_PLANE, with_vacuum
from rutile.core.elements import formula

LONG_EDGE = 1.2
"""Two atoms of a surface farther apart than this times the nearest two have no bridge."""
NARROW = 0.35
"""Sites nearer to each other (Angstrom, along the surface) are one."""
EQUAL = 0.15
"""Symmetry makes sites equal if it takes one so near to the other (Angstrom)."""
SYMPREC = 0.05
"""Atoms so near to symmetric places (Angstrom) count as being there: slabs are relaxed, and not to the end."""
BELOW = 0.6
"""An atom so near to a line down from a hollow (Angstrom) lies below it."""
KINDS = ("top", "bridge", "hollow")


@dataclass(frozen=True)
class Site:
    """One place, or one of those that symmetry makes equal."""

    name: str
    """Such as "top Cu", "bridge Cu2", "hollow Cu3 fcc"."""
    place: np.ndarray
    """Above the middle of its atoms and as high as they are in the mean, [3] (Angstrom)."""
    held_by: np.ndarray
    """Positions of its atoms beside it (images, perhaps), [M, 3] (Angstrom)."""
    numbers: np.ndarray
    """Their atomic numbers, [M]."""
    equal: int
    """Places in the cell that symmetry makes equal to it."""


@dataclass(frozen=True)
class Sites:
    """All places of one slab."""

    different: tuple[Site, ...]
    """One of each set that symmetry makes equal."""
    places: np.ndarray
    """Every place in the cell, along the surface, [P, 2] (Angstrom)."""
    kind: np.ndarray
    """To which of the different ones each is equal, [P]."""
    cell: np.ndarray
    """Of the surface, [2, 2] (Angstrom)."""

    def nearest(self, place: np.ndarray) -> tuple[Site, float]:
        """The site nearest to a place [2 or 3] along the surface, and how far it is (Angstrom)."""
        d = lateral(self.places - np.asarray(place)[:2], self.cell)
        k = int(d.argmin())
        return self.different[int(self.kind[k])], float(d[k])


def lateral(vectors: np.ndarray, cell: np.ndarray) -> np.ndarray:
    """Lengths of the shortest images of vectors [P, 2] in a cell of the surface [2, 2]."""
    steps = np.array([(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)]) @ cell
    fractions = vectors @ np.linalg.inv(cell)
    home = (fractions - np.round(fractions)) @ cell
    return np.asarray(np.linalg.norm(home[:, None] + steps[None], axis=2).min(axis=1))


def top_plane(atoms: Atoms, depth: float | None = None) -> np.ndarray:
    """Which atoms are in the highest plane, or so deep below the highest atom (Angstrom), [N] bool."""
    heights = atoms.positions[:, 2]
    if depth is not None:
        return np.asarray(heights >= heights.max() - depth)
    z = np.sort(heights)[::-1]
    gaps = np.flatnonzero(-np.diff(z) > SAME_PLANE)
    lowest = z[gaps[0]] if len(gaps) else z[-1]
    return np.asarray(heights >= lowest - 1e-9)


def sites_of(slab: Atoms, kinds: Sequence[str] = KINDS, depth: float | None = None) -> Sites:
    """Every place on a slab, and which symmetry makes equal.

    Args:
        slab: its first two cell vectors lie in the plane of x and y.
        kinds: of top, bridge, hollow.
        depth: atoms so deep below the highest one make the surface (Angstrom); None: the highest plane.
    """
    cell = slab.cell.array[:2, :2]
    places, of_kind = np.zeros((0, 2)), list[str]()
    rng = np.random.default_rng(0)  # of random places only
    for kind in KINDS:  # in this order, so that a hollow on a bridge is a bridge
        if kind in kinds:
            for place in sites(slab, kind, rng, depth):
                if not len(places) or lateral(places - place, cell).min() > NARROW:
                    places, of_kind = np.vstack([places, place]), [*of_kind, kind]
    classes = _classes(places, of_kind, slab)
    different = []
    for number in range(classes.max(initial=-1) + 1):
        first = int(np.flatnonzero(classes == number)[0])
        different.append(_site(slab, of_kind[first], places[first], depth, int((classes == number).sum())))
    return Sites(tuple(_told_apart(different)), places, classes, cell)


def operations(slab: Atoms) -> list[tuple[np.ndarray, np.ndarray]]:
    """Symmetry operations that leave the upper side of a slab above: rotation [2, 2] and shift [2] of fractions."""
    whole = with_vacuum(slab, 10.0)
    found = spglib.get_symmetry((whole.cell.array, whole.get_scaled_positions(), whole.numbers), symprec=SYMPREC)
    if found is None:
        return [(np.eye(2, dtype=int), np.zeros(2))]
    out = []
    for w, t in zip(found["rotations"], found["translations"], strict=True):
        if w[2, 2] == 1 and not w[2, :2].any() and not w[:2, 2].any() and abs(t[2] - round(t[2])) < 1e-2:
            out.append((w[:2, :2], t[:2]))
    return out


def _classes(places: np.ndarray, kinds: Sequence[str], slab: Atoms) -> np.ndarray:
    """Numbers of the sets of equal places, [P]."""
    cell, out = slab.cell.array[:2, :2], np.full(len(places), -1)
    inverse, number = np.linalg.inv(cell), 0
    turns = operations(slab)
    same = np.array([[a == b for b in kinds] for a in kinds], dtype=bool).reshape(len(places), len(places))
    for first in range(len(places)):
        if out[first] >= 0:
            continue
        for w, t in turns:
            image = ((places[first] @ inverse) @ w.T + t) @ cell
            out[(lateral(places - image, cell) < EQUAL) & same[first] & (out < 0)] = number
        out[first] = number
        number += 1
    return out


def _site(slab: Atoms, kind: str, place: np.ndarray, depth: float | None, equal: int) -> Site:
    """A place with the atoms that hold it, and its name."""
    cell, top = slab.cell.array[:2, :2], np.flatnonzero(top_plane(slab, depth))
    steps = np.array([(i, j, 0) for i in (-2, -1, 0, 1, 2) for j in (-2, -1, 0, 1, 2)]) @ slab.cell.array
    every = (slab.positions[None, top] + steps[:, None]).reshape(-1, 3)
    numbers = np.tile(slab.numbers[top], len(steps))
    d = np.linalg.norm(every[:, :2] - place, axis=1)
    near = d < 1.1 * d.min() + 0.05
    name = f"{kind} {formula(numbers[near].tolist())}"
    if kind == "hollow" and near.sum() == 3 and _even(every[near, :2]):
        name += _stacking(slab, place, cell)
    high = float(every[near, 2].mean())
    return Site(name, np.array([*place, high]), every[near], numbers[near], equal)


def _even(corners: np.ndarray) -> bool:
    """Whether the sides of a triangle [3, 2] are about as long."""
    sides = np.linalg.norm(corners - np.roll(corners, 1, axis=0), axis=1)
    return bool(sides.max() < 1.1 * sides.min())


def _stacking(slab: Atoms, place: np.ndarray, cell: np.ndarray) -> str:
    """Whether an atom of the second plane lies below a hollow of three atoms (hcp) or none (fcc)."""
    z = slab.positions[:, 2]
    order = np.argsort(-z, kind="stable")
    planes = np.empty(len(z), dtype=int)
    planes[order] = np.concatenate([[0], np.cumsum(-np.diff(z[order]) > SAME_PLANE)])
    below = lateral(slab.positions[:, :2] - place, cell) < BELOW
    return " hcp" if 1 in planes[below] else " fcc"


def _told_apart(found: Sequence[Site]) -> list[Site]:
    """The same with names that differ."""
    often, seen = Counter(s.name for s in found), Counter[str]()
    out = []
    for site in found:
        seen[site.name] += 1
        out.append(replace(site, name=f"{site.name} ({seen[site.name]})") if often[site.name] > 1 else site)
    return out


def sites(slab: Atoms, kind: str, rng: np.random.Generator, depth: float | None = None) -> np.ndarray:
    """Places of one kind on the highest plane of a slab, [M, 2] (Angstrom).

    top: above its atoms. bridge: between two neighbours. hollow: centres of the circles through three neighbours (of
    the fourfold hollow of a square lattice, too). random: one place anywhere.

    Args:
        slab: its first two cell vectors lie in the plane of x and y.
        kind: top, bridge, hollow or random.
        rng: of random places.
        depth: atoms so deep below the highest one make the surface (Angstrom); None: the highest plane.
    """
    cell = slab.cell.array[:2, :2]
    atoms = slab.positions[top_plane(slab, depth)][:, :2]
    if kind == "random":
        return np.asarray(rng.random((1, 2)) @ cell)
    if kind == "top":
        return np.asarray(atoms)
    shifts = np.array([(i, j) for i in range(-2, 3) for j in range(-2, 3)]) @ cell
    every = (atoms[None] + shifts[:, None]).reshape(-1, 2)
    try:
        triangles = Delaunay(every).simplices
    except QhullError:  # all in one line
        return np.zeros((0, 2))
    corners = every[triangles]
    if kind == "bridge":
        edges = np.unique(np.sort(np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [0, 2]]])
                                  ), axis=0)  # fmt: skip
        ends = every[edges]
        length = np.linalg.norm(ends[:, 0] - ends[:, 1], axis=1)
        found = ends[length < LONG_EDGE * length.min()].mean(axis=1)
    else:
        found = _circumcentres(corners)
    return _within(found, cell)


def _circumcentres(corners: np.ndarray) -> np.ndarray:
    """Of triangles [M, 3, 2]; flat ones are left out."""
    a, b, c = corners[:, 0], corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    d = 2 * (b[:, 0] * c[:, 1] - b[:, 1] * c[:, 0])
    good = np.abs(d) > 1e-3
    a, b, c, d = a[good], b[good], c[good], d[good]
    bb, cc = (b**2).sum(axis=1), (c**2).sum(axis=1)
    x = (c[:, 1] * bb - b[:, 1] * cc) / d
    y = (b[:, 0] * cc - c[:, 0] * bb) / d
    return np.asarray(a + np.stack([x, y], axis=1))


def _within(points: np.ndarray, cell: np.ndarray) -> np.ndarray:
    """Different points in the cell at the origin."""
    fractions = points @ np.linalg.inv(cell)
    inside = ((fractions > -1e-6) & (fractions < 1 - 1e-6)).all(axis=1)
    return np.asarray(np.unique(np.round(fractions[inside], 6), axis=0) @ cell)
