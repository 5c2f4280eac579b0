"""Generalised stacking faults: the energy of shifting one half of a crystal over the other in a plane.

    gamma(t) = (E(t) - E(0)) / A

The cell is a stack of planes without vacuum whose third vector c becomes c + t: the atoms stay, and one fault lies at
the boundary of each cell. Atoms and the height of the cell relax along the normal of the plane only, so that the shift
remains. Along a direction the period is that of the lattice; the lowest minimum between its ends is the stacking fault,
and the lower of the two maxima on the ways there (of a cubic curve through the energies) the unstable one.

Source: V. Vitek, Phil. Mag. 18, 773 (1968), doi:10.1080/14786436808227500. Letters of shapes: N atoms, K shifts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from math import gcd
from typing import Any

import numpy as np
import spglib
from ase import Atoms
from scipy.interpolate import CubicSpline

from rutile.core.elements import unit_formula
from rutile.core.errors import GeometryError, SettingsError
from rutile.core.reporting import Reporter
from rutile.potentials.potential import Potential
from rutile.simulate.eos import require_crystals
from rutile.simulate.forces import evaluate_many
from rutile.simulate.relax import relax
from rutile.simulate.settings import FaultSettings
from rutile.simulate.start import relaxation
from rutile.simulate.surfaces import conventional
from rutile.structures.structures import Structures, concatenate
from rutile.structures.symmetry import SYMPREC

Miller = tuple[int, int, int]
SAME_PLANE = 0.15
"""Atoms whose heights differ by less are in one plane (Angstrom)."""
DEEPEST = 1e-5
"""A dip of the curve that is less deep than this (eV/Angstrom^2) is noise."""
SEARCHED = 6
"""Vectors of a plane are looked for among so many steps of the primitive lattice."""
USUAL: dict[str, tuple[tuple[Miller, Miller], ...]] = {
    "cubic F": (((1, 1, 1), (1, 1, -2)), ((1, 1, 1), (1, -1, 0))),
    "cubic I": (((1, 1, 0), (1, -1, 1)), ((1, 1, 2), (1, 1, -1))),
    "hexagonal P": (((0, 0, 1), (1, -1, 0)), ((0, 0, 1), (1, 0, 0))),
}
"""Planes and directions by lattice; the fault of hcp lies along the first one."""


@dataclass(frozen=True)
class Stack:
    """A crystal as a stack of planes, the normal along z."""

    atoms: Atoms
    """Between two cuts; third vector of the cell upwards."""
    turn: np.ndarray
    """From Cartesian vectors (rows) of the conventional cell to those here, [3, 3]."""
    area: float
    """Of the plane (Angstrom^2)."""


@dataclass(frozen=True)
class Fault:
    """Energies along one direction in one plane of one crystal."""

    crystal: int
    """Which of the given structures."""
    plane: Miller
    """Of the conventional cell."""
    direction: Miller
    """Of the conventional cell."""
    period: float
    """Length of the lattice vector along the direction (Angstrom)."""
    shift: np.ndarray
    """Parts of the period, from 0 to 1, [K]."""
    energy: np.ndarray
    """gamma (eV/Angstrom^2), [K]."""
    unstable: float
    """Highest energy on the way to the fault, or of the whole curve without one (eV/Angstrom^2)."""
    stable: float | None
    """Of the stacking fault; None: there is none along the direction (eV/Angstrom^2)."""
    at: float | None
    """Where it is, as a part of the period."""
    surface: np.ndarray | None
    """gamma over both vectors of the plane (eV/Angstrom^2), [n, m]."""
    vectors: np.ndarray
    """Vectors of the plane (Angstrom), [2, 2]."""
    structures: Structures
    """The shifted stacks along the direction, relaxed."""
    failure: str
    """What went wrong with a relaxation, or ""."""


def faults(structures: Structures, potential: Potential, settings: FaultSettings, reporter: Reporter) -> list[Fault]:
    """Energies of stacking faults of all crystals, planes and directions, in one batch.

    Args:
        structures: crystals at their minimum; `settings.relax` is the caller's.
        potential: gives energies and forces.
        settings: planes, directions, shifts.
        reporter: told how far it is.

    Raises:
        GeometryError: a structure is not a crystal.
        SettingsError: a direction is not in its plane, or none is usual for the lattice.
    """
    require_crystals(structures, "a stacking fault energy")
    crystals = [conventional(atoms) for atoms in structures.to_ase()]
    jobs = [(k, *system) for k, crystal in enumerate(crystals) for system in _systems(crystal, settings)]
    batch, drafts = [], []
    for k, plane, direction in jobs:
        stack = stacked(crystals[k], plane, settings.thickness, settings.cut)
        period = _period(crystals[k], plane, direction) @ stack.turn
        along = [x * period for x in np.linspace(0, 1, settings.points)[:-1]]
        a, b, _ = stack.atoms.cell.array
        n, m = settings.grid or (0, 0)
        over = [i / n * a + j / m * b for i, j in product(range(n), range(m))]
        drafts.append((stack, float(np.linalg.norm(period)), len(along), len(over)))
        batch += [shifted(stack.atoms, t) for t in (*along, *over)]
    every = Structures.from_ase(batch)
    if settings.inner == "atoms":
        how = relaxation(settings, "height").model_copy(update={"along": "z"})
        done = relax(every, potential, how, reporter)
        energies, ends = done.energy.numpy(), done.structures.split()
        why = [
            text or ("" if ok else f"not relaxed after {steps} steps")
            for text, ok, steps in zip(done.failure, done.converged.tolist(), done.steps.tolist(), strict=True)
        ]
    else:
        energies = evaluate_many(every, potential, settings.atoms_at_once, reporter, "Stacks").energy.numpy()
        ends, why = every.split(), [""] * every.n_systems
    out, first = [], 0
    for (k, plane, direction), (stack, period, count, more) in zip(jobs, drafts, strict=True):
        here = slice(first, first + count)
        gamma = (energies[first : first + count + more] - energies[first]) / stack.area
        first += count + more
        wrong = next((w for w in why[here.start : first] if w), "")
        out.append(_fault((k, plane, direction), period, gamma, count, settings, stack, concatenate(ends[here]), wrong))
    return out


def _fault(
    job: tuple[int, Miller, Miller],
    period: float,
    gamma: np.ndarray,
    count: int,
    settings: FaultSettings,
    stack: Stack,
    ends: Structures,
    wrong: str,
) -> Fault:
    """What the energies of one plane and direction say."""
    shift = np.linspace(0, 1, settings.points)
    curve = np.append(gamma[:count], 0.0)
    unstable, stable, at = extremes(shift, curve)
    surface = gamma[count:].reshape(settings.grid) if settings.grid is not None else None
    vectors = stack.atoms.cell.array[:2, :2]
    return Fault(*job, period, shift, curve, unstable, stable, at, surface, vectors, ends, wrong)


def extremes(shift: np.ndarray, energy: np.ndarray) -> tuple[float, float | None, float | None]:
    """Unstable and stable fault energy of a periodic curve, and where the latter is; None: there is no dip.

    Args:
        shift: parts of a period from 0 to 1, [K].
        energy: the first is the last, [K].
    """
    spline = CubicSpline(shift, energy, bc_type="periodic")
    places = [float(x) for x in spline.derivative().roots(extrapolate=False)]
    best: tuple[float, float, float] | None = None
    for k in range(1, len(shift) - 1):
        if not energy[k - 1] > energy[k] <= energy[k + 1]:
            continue
        value, x = float(energy[k]), float(shift[k])
        before = max((float(spline(y)) for y in places if y < x), default=value)
        after = max((float(spline(y)) for y in places if y > x), default=value)
        if min(before, after) - value > DEEPEST and (best is None or value < best[0]):
            best = (value, min(before, after), x)
    if best is None:
        return max(float(spline(x)) for x in (*places, 0.0)), None, None
    return best[1], best[0], best[2]


def _systems(crystal: Atoms, settings: FaultSettings) -> list[tuple[Miller, Miller]]:
    """Planes and directions of a crystal."""
    for name, given in (("planes", settings.planes), ("directions", settings.directions)):
        if (0, 0, 0) in given:
            raise SettingsError(f"{name}: [0, 0, 0] is none; give three indices that are not all 0")
    if len(settings.planes) != len(settings.directions):
        raise SettingsError(
            f"directions: {len(settings.directions)} of them for {len(settings.planes)} planes; give one for each plane"
        )
    if settings.planes:
        return list(zip(settings.planes, settings.directions, strict=True))
    cell: Any = (crystal.cell.array, crystal.get_scaled_positions(), crystal.numbers)
    data = spglib.get_symmetry_dataset(cell, symprec=SYMPREC)
    assert data is not None  # it is a conventional cell
    family = "cubic" if data.number >= 195 else "hexagonal" if data.number >= 168 else "other"
    lattice = f"{family} {data.international[0]}"
    if lattice not in USUAL:
        raise SettingsError(
            f"planes: none are usual for {unit_formula(crystal.numbers)} ({data.international}); give "
            "planes and directions, such as planes=[[1,1,0]] directions=[[0,0,1]]"
        )
    return list(USUAL[lattice])


def _primitive(crystal: Atoms) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Primitive cell with fractional positions and numbers, and its vectors in steps of the conventional cell."""
    cell: Any = (crystal.cell.array, crystal.get_scaled_positions(), crystal.numbers)
    found = spglib.find_primitive(cell, symprec=SYMPREC)
    vectors, places, numbers = (np.asarray(x) for x in (cell if found is None else found))
    return vectors, places, numbers, vectors @ np.linalg.inv(crystal.cell.array)


def _whole(vector: np.ndarray) -> np.ndarray:
    """The shortest vector of integers along one of small fractions."""
    large = np.round(6 * vector).astype(int)
    return np.asarray(large // max(1, gcd(*large.tolist())))


def _period(crystal: Atoms, plane: Miller, direction: Miller) -> np.ndarray:
    """The shortest lattice vector along a direction (Angstrom), [3]."""
    if np.dot(plane, direction):
        raise SettingsError(
            f"directions: {list(direction)} is not in the plane {list(plane)}: h u + k v + l w must be 0"
        )
    vectors, _, _, steps = _primitive(crystal)
    return np.asarray(_whole(np.array(direction) @ np.linalg.inv(steps)) @ vectors)


def stacked(crystal: Atoms, plane: Miller, thickness: float, cut: int) -> Stack:
    """The crystal as a stack of planes whose cell is as small as can be along them.

    Args:
        crystal: conventional cell.
        plane: Miller indices.
        thickness: least height of the cell (Angstrom).
        cut: number of the gap between planes of atoms at which the cell begins, the widest first.

    Raises:
        SettingsError: there are fewer gaps.
        GeometryError: the indices are too large.
    """
    vectors, places, numbers, steps = _primitive(crystal)
    normal = _whole(steps @ np.array(plane))
    basis = _basis(normal, vectors)
    frame = basis @ vectors
    x = frame[0] / np.linalg.norm(frame[0])
    z = np.cross(frame[0], frame[1])
    area = float(np.linalg.norm(z))
    turn = np.array([x, np.cross(z / area, x), z / area]).T
    unit = frame @ turn
    inside = places @ np.linalg.inv(basis)
    height = unit[2, 2]
    inside[:, 2] -= _cut(inside[:, 2] % 1.0, height, cut, plane)
    count = max(1, int(np.ceil(thickness / height - 1e-6)))
    inside[:, 2] %= 1.0
    every = np.concatenate([inside + np.array([0, 0, k]) for k in range(count)])
    cell = unit * np.array([1, 1, count])[:, None]
    cell[2, :2] -= np.round(cell[2, :2] @ np.linalg.inv(cell[:2, :2])) @ cell[:2, :2]
    atoms = Atoms(np.tile(numbers, count), positions=every @ unit, cell=cell, pbc=True)
    return Stack(atoms, turn, area)


def _basis(normal: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Two short vectors of a plane and one that leads to the next one, in steps of the primitive lattice, [3, 3]."""
    reach = np.array(list(product(range(-SEARCHED, SEARCHED + 1), repeat=3)))
    reach = reach[np.argsort(np.round(np.linalg.norm(reach @ vectors, axis=1), 6), kind="stable")]
    flat = reach[(reach @ normal == 0) & reach.any(1)]
    up = reach[reach @ normal == 1]
    for other in flat[1:]:
        if len(up) and np.array_equal(np.abs(np.cross(flat[0], other)), np.abs(normal)):
            basis = np.array([flat[0], other, up[0]])
            if np.linalg.det(basis @ vectors) < 0:
                basis[1] *= -1
            return basis
    raise GeometryError(f"planes: the indices {normal.tolist()} (primitive cell) are too large; give smaller ones")


def _cut(heights: np.ndarray, unit: float, number: int, plane: Miller) -> float:
    """Middle of a gap between planes of atoms, as a part of the repeated height."""
    z = np.sort(heights)
    gaps = np.append(z[1:], z[0] + 1) - z
    order = [int(k) for k in np.argsort(-np.round(gaps, 4), kind="stable") if gaps[k] * unit > SAME_PLANE]
    if number >= len(order):
        raise SettingsError(f"cut = {number}: between planes {list(plane)} there are {len(order)} gaps, counted from 0")
    k = order[number]
    return float(z[k] + gaps[k] / 2)


def shifted(atoms: Atoms, shift: Sequence[float] | np.ndarray) -> Atoms:
    """The stack with its next image shifted (Angstrom)."""
    out: Atoms = atoms.copy()
    cell = atoms.cell.array.copy()
    cell[2] += shift
    out.set_cell(cell)
    return out
