"""Grain boundaries of cubic crystals.

Symmetric tilt: the second grain is the mirror image of the first at the boundary plane p, which holds the axis. The
grains are turned against each other by 180 degrees about p (times the inversion): Sigma is the least common denominator
of R = 2 p p^T / |p|^2 - 1. Twist: the second grain is turned about the normal by a rational rotation with
tan(theta/2) = (n/m) |axis|, R from the quaternion (m, n axis).

Source: H. Grimmer, W. Bollmann, D. H. Warrington, Acta Cryst. A30, 197 (1974), doi:10.1107/S056773947400043X (Sigma of
cubic lattices is the least common denominator of R).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations, product
from math import gcd, lcm

import numpy as np
import spglib
from ase import Atoms
from ase.build import make_supercell

from rutile.build import distort
from rutile.build.crystals import Parent, bare, parents
from rutile.build.recipe import Draft, Mechanics, Recipe, between, rounded
from rutile.build.settings import BoundarySettings
from rutile.core.errors import SettingsError
from rutile.structures.fingerprint import pairs_within

CUBIC = 195
"""Number of the first cubic space group."""
INDICES = 7
"""Largest index of tilt planes that are looked at."""
SEARCH = 9
"""Lattice vectors that are looked through: this many times the primitive ones."""
Rational = list[list[Fraction]]


@dataclass(frozen=True)
class Boundary:
    """Two grains as periodic cells in one frame: z is normal to the boundary, in-plane vectors are common."""

    name: str
    kind: str
    sigma: int
    axis: tuple[int, int, int]
    plane: tuple[int, int, int]
    lower: Atoms
    upper: Atoms
    volume: float
    """Of the crystal (Angstrom^3 per atom)."""
    bond: float
    """Shortest distance in the crystal (Angstrom)."""


def boundaries(settings: BoundarySettings, seed: int, mechanics: Mechanics) -> Recipe:
    """Two grains of a cubic crystal and two like boundaries in a periodic cell; others shifted against each other.

    Raises:
        RutileError: a crystal cannot be had.
        SettingsError: a crystal is not cubic, or there is no boundary up to that Sigma.
    """
    del seed, mechanics
    found = [b for parent in parents(settings.crystals, conventional=True) for b in _of(parent, settings)]
    if not found:
        raise SettingsError(f"sigma = {settings.sigma}: no boundary about these axes; make it larger")

    def draw(boundary: Boundary, number: int, rng: np.random.Generator) -> Draft:
        facts = {
            "kind": boundary.kind, "sigma": boundary.sigma, "axis": list(boundary.axis), "plane": list(boundary.plane),
        }  # fmt: skip
        if number == 0:
            return Draft(joined(boundary, 0.0, np.zeros(2), settings.merge), facts, boundary.volume)
        gap, rattle, shift = between(rng, settings.gap), between(rng, settings.rattle), rng.random(2)
        atoms = distort.rattled(joined(boundary, gap, shift, settings.merge), rattle, rng)
        drawn = {"gap": rounded(gap), "shift": [rounded(s) for s in shift], "rattle": rounded(rattle)}
        return Draft(atoms, facts | drawn, boundary.volume)

    return Recipe([b.name for b in found], lambda k: found[k], draw)


def _of(parent: Parent, settings: BoundarySettings) -> Iterator[Boundary]:
    """Boundaries of one crystal.

    Raises:
        SettingsError: it is not cubic, or not in its conventional cell.
    """
    atoms = parent.atoms
    data = spglib.get_symmetry_dataset((atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers), symprec=1e-3)
    edges, angles = atoms.cell.lengths(), atoms.cell.angles()
    if data is None or data.number < CUBIC:
        raise SettingsError(f"crystals: {parent.name} is not cubic; boundaries are made of cubic crystals only")
    if np.ptp(edges) > 1e-3 * edges[0] or np.abs(angles - 90).max() > 0.05:
        raise SettingsError(f"crystals: {parent.name}: give the conventional cubic cell, not a primitive one")
    for axis in settings.axes:
        if "tilt" in settings.kinds:
            for plane in tilt_planes(axis, settings.sigma):
                yield tilt(parent, axis, plane, settings.thickness)
        if "twist" in settings.kinds:
            for rotation in twists(axis, settings.sigma):
                yield twist(parent, axis, rotation, settings.thickness)


def sigma_of(rotation: Rational) -> int:
    """Sigma: least common denominator of a rational rotation."""
    return lcm(*(x.denominator for row in rotation for x in row))


def half_turn(p: tuple[int, int, int]) -> Rational:
    """180 degrees about p."""
    square = sum(k * k for k in p)
    return [[Fraction(2 * p[i] * p[j], square) - (i == j) for j in range(3)] for i in range(3)]


def from_quaternion(m: int, axis: tuple[int, int, int], n: int) -> Rational:
    """Rotation of the quaternion (m, n axis): about the axis, tan(theta/2) = (n/m) |axis|."""
    w, (x, y, z) = m, (n * k for k in axis)
    s = w * w + x * x + y * y + z * z
    rows = [
        [w * w + x * x - y * y - z * z, 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), w * w - x * x + y * y - z * z, 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), w * w - x * x - y * y + z * z],
    ]
    return [[Fraction(value, s) for value in row] for row in rows]


def tilt_planes(axis: tuple[int, int, int], most: int) -> list[tuple[int, int, int]]:
    """Planes that hold the axis and are mirrors of boundaries with 3 <= Sigma <= most; one of each set of like ones."""
    out: dict[tuple[int, ...], tuple[int, int, int]] = {}
    indices = range(-INDICES, INDICES + 1)
    every = [(h, k, m) for h in indices for k in indices for m in indices if gcd(h, k, m) == 1]
    for p in sorted(every, key=lambda p: (sum(k * k for k in p), [-k for k in p])):
        holds_axis = sum(a * b for a, b in zip(p, axis, strict=True)) == 0
        if holds_axis and 3 <= sigma_of(half_turn(p)) <= most:
            out.setdefault(tuple(sorted(map(abs, p))), p)
    return list(out.values())


def twists(axis: tuple[int, int, int], most: int) -> list[Rational]:
    """Rotations about the axis with 3 <= Sigma <= most: the smallest angle of each Sigma."""
    found: dict[int, tuple[float, Rational]] = {}
    for m, n in product(range(1, most + 1), repeat=2):
        if gcd(m, n) == 1:
            rotation = from_quaternion(m, axis, n)
            sigma, angle = sigma_of(rotation), n / m
            if 3 <= sigma <= most and angle < found.get(sigma, (np.inf, rotation))[0]:
                found[sigma] = angle, rotation
    return [found[sigma][1] for sigma in sorted(found)]


def tilt(parent: Parent, axis: tuple[int, int, int], plane: tuple[int, int, int], thickness: float) -> Boundary:
    """Symmetric tilt boundary with a rectangular cell: axis, plane x axis, plane."""
    cell, directions = _primitive(parent.atoms), np.array([np.cross(plane, axis), axis, plane])
    vectors = np.array([_shortest_along(d, cell, parent.atoms) for d in directions])
    lower = _grain(cell, vectors, thickness)
    upper = bare(lower)
    upper.positions[:, 2] *= -1
    sigma = sigma_of(half_turn(plane))
    return _boundary(parent, "tilt", sigma, axis, plane, lower, upper)


def twist(parent: Parent, axis: tuple[int, int, int], rotation: Rational, thickness: float) -> Boundary:
    """Twist boundary: the cell is the smallest that both grains have in the plane."""
    cell = _primitive(parent.atoms)
    turned = np.array([[float(x) for x in row] for row in rotation])
    normal = _shortest_along(np.array(axis), cell, parent.atoms)
    first, second = _common_plane(cell, normal @ cell.cell.array, turned)
    here = np.array([first, second, normal])
    there = np.rint(here @ cell.cell.array @ turned @ np.linalg.inv(cell.cell.array)).astype(int)  # R^-1 v
    lower, upper = _grain(cell, here, thickness), _grain(cell, there, thickness)
    return _boundary(parent, "twist", sigma_of(rotation), axis, axis, lower, upper)


def _boundary(
    parent: Parent, kind: str, sigma: int, axis: tuple[int, int, int], plane: tuple[int, int, int],
    lower: Atoms, upper: Atoms,
) -> Boundary:  # fmt: skip
    atoms = parent.atoms
    bond = float(pairs_within(atoms.positions, atoms.cell.array, atoms.pbc, float(atoms.cell.lengths()[0]))[2].min())
    text = "".join(map(str, plane))
    name = f"{parent.name} Sigma{sigma} {kind} ({text})[{''.join(map(str, axis))}]"
    volume = float(atoms.cell.volume / len(atoms))
    return Boundary(name, kind, sigma, axis, plane, lower, upper, volume, bond)


def _primitive(atoms: Atoms) -> Atoms:
    """Primitive cell in the same orientation."""
    cell = (atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers)
    found = spglib.standardize_cell(cell, to_primitive=True, no_idealize=True, symprec=1e-3)
    assert found is not None, "spglib found the space group before"
    return Atoms(found[2], scaled_positions=found[1], cell=found[0], pbc=True)


def _shortest_along(direction: np.ndarray, cell: Atoms, conventional: Atoms) -> np.ndarray:
    """Shortest lattice vector along a direction of the cubic axes, in units of the primitive vectors, [3] integers."""
    vector = np.asarray(direction) @ conventional.cell.array
    whole = np.rint(vector @ np.linalg.inv(cell.cell.array)).astype(int)
    return np.asarray(whole // gcd(*whole.tolist()))


def _common_plane(cell: Atoms, normal: np.ndarray, turned: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The two shortest lattice vectors normal to an axis that stay lattice vectors when turned back."""
    grid = np.array(list(product(range(-SEARCH, SEARCH + 1), repeat=3)))
    vectors = grid @ cell.cell.array
    back = vectors @ turned @ np.linalg.inv(cell.cell.array)
    common = (np.abs(vectors @ normal) < 1e-6) & (np.abs(back - np.rint(back)).max(axis=1) < 1e-6) & grid.any(axis=1)
    order = np.argsort(np.linalg.norm(vectors[common], axis=1), kind="stable")
    found, places = vectors[common][order], grid[common][order]
    for i, j in combinations(range(min(len(found), 30)), 2):
        size = np.linalg.norm(np.cross(found[i], found[j]))
        if size > 0.1 * np.linalg.norm(found[i]) * np.linalg.norm(found[j]):
            return places[i], places[j]
    raise SettingsError("sigma: the common cell of the grains is too large; make sigma smaller")


def _grain(cell: Atoms, vectors: np.ndarray, thickness: float) -> Atoms:
    """A grain spanned by lattice vectors, in the frame with x along the first and z normal to the first two."""
    lengths = np.linalg.norm(vectors @ cell.cell.array, axis=1)
    times = max(1, int(np.ceil(thickness / lengths[2] - 1e-9)))
    vectors = vectors * np.array([[1], [1], [times]])
    if np.linalg.det(vectors @ cell.cell.array) < 0:
        vectors = vectors * np.array([[1], [-1], [1]])
    made: Atoms = make_supercell(cell, vectors)
    fractions = made.get_scaled_positions()
    out = Atoms(made.numbers, cell=made.cell.cellpar(), pbc=True)
    out.set_scaled_positions(fractions)
    return out


def joined(boundary: Boundary, gap: float, shift: np.ndarray, merge: float) -> Atoms:
    """Both grains in one cell, with two boundaries.

    Args:
        boundary: the grains.
        gap: extra space at each of the two (Angstrom).
        shift: of the upper grain, in fractions of the in-plane vectors, [2].
        merge: atoms nearer than this part of the bond length become one.
    """
    lower, upper = boundary.lower, bare(boundary.upper)
    cell = lower.cell.array.copy()
    height = cell[2, 2]
    upper.positions[:, 2] %= height
    upper.positions[:, 2] += height * (upper.positions[:, 2] < 1e-6) * (boundary.kind == "tilt")
    upper.positions += [0, 0, height + gap] + np.array([*shift, 0.0]) @ cell
    cell[2] = [0, 0, 2 * (height + gap)]
    atoms = Atoms(
        np.concatenate([lower.numbers, upper.numbers]),
        positions=np.concatenate([lower.positions, upper.positions]),
        cell=cell,
        pbc=True,
    )
    return _merged(atoms, merge * boundary.bond)


def _merged(atoms: Atoms, distance: float) -> Atoms:
    """Pairs nearer than a distance become one atom: at their middle; of two elements, the heavier stays where it is."""
    while True:
        i, j, d = pairs_within(atoms.positions, atoms.cell.array, atoms.pbc, max(distance, 1e-3))
        if not len(d) or len(atoms) < 2:
            return atoms
        k = int(d.argmin())
        stays, goes = sorted((int(i[k]), int(j[k])), key=lambda a: (-atoms.numbers[a], a))
        if stays == goes:
            return atoms
        if atoms.numbers[stays] == atoms.numbers[goes]:
            atoms.positions[stays] += atoms.get_distance(stays, goes, mic=True, vector=True) / 2
        atoms = distort.chosen(atoms, np.arange(len(atoms)) != goes)
