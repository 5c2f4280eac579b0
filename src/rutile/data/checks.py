"""Checks of one frame, and the demand that the labels which a job needs are there."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping

import numpy as np
import vesin

from rutile.core import elements
from rutile.core.errors import DataError, LabelError

FARTHEST = 1e7
"""Coordinates and cell vectors beyond this (Angstrom) are damage, not matter."""
THINNEST = 0.1
"""Smallest distance between opposite faces of a periodic cell (Angstrom)."""


def check_geometry(
    numbers: np.ndarray, positions: np.ndarray, cell: np.ndarray, pbc: np.ndarray, closest: float
) -> None:
    """Refuse a structure that cannot be evaluated; [N], [N, 3], [3, 3], [3], and a distance in Angstrom.

    Raises:
        DataError: empty, unknown element, NaN, missing cell, overlapping atoms.
    """
    if len(numbers) == 0:
        raise DataError("the frame has no atoms")
    if positions.shape != (len(numbers), 3):
        raise DataError(f"{len(numbers)} atoms but positions of shape {positions.shape}")
    for k in np.flatnonzero((numbers < 1) | (numbers > elements.MAX_Z)):
        raise DataError(f"atom {k}: unknown element (atomic number {int(numbers[k])}; known: 1 to {elements.MAX_Z})")
    check_finite(positions, "position", "atom")
    check_finite(cell, "cell", "vector")
    if (far := np.abs(positions).max()) > FARTHEST:
        raise DataError(f"a coordinate of {far:.3g} Angstrom: not a position")
    check_cell(cell, pbc)
    check_distances(numbers, positions, cell, pbc, closest)


def check_finite(values: np.ndarray, what: str, of: str) -> None:
    """Refuse NaN and infinity in [N, ...], naming the first row.

    Raises:
        DataError: a value is not finite.
    """
    good = np.isfinite(values).reshape(len(values), -1).all(axis=1)
    if not good.all():
        k = int(np.flatnonzero(~good)[0])
        raise DataError(f"{of} {k}: the {what} is not finite ({values[k].tolist()})")


def check_cell(cell: np.ndarray, pbc: np.ndarray) -> None:
    """Refuse a periodic direction without a cell vector, and a cell without volume.

    Raises:
        DataError: missing or singular cell.
    """
    if not pbc.any():
        return
    lengths = np.linalg.norm(cell, axis=1)
    for k in np.flatnonzero(pbc & (lengths < THINNEST)):
        raise DataError(f"periodic along cell vector {k}, but that vector is {cell[k].tolist()}: no cell in the file?")
    if lengths.max() > FARTHEST:
        raise DataError(f"a cell vector of {lengths.max():.3g} Angstrom: not a cell")
    heights = cell_heights(cell, pbc)
    if heights.min() < THINNEST:
        raise DataError(f"singular cell: opposite faces are {heights.min():.3g} Angstrom apart ({cell.tolist()})")


def cell_heights(cell: np.ndarray, pbc: np.ndarray) -> np.ndarray:
    """Distance between opposite faces along each periodic direction (Angstrom), [number of periodic directions].

    Directions that are not periodic do not count: the height of a vector is its part perpendicular to the others.
    """
    vectors = cell[pbc]
    heights = []
    for k in range(len(vectors)):
        rest = np.delete(vectors, k, axis=0)
        left = vectors[k]
        if len(rest):
            basis = np.linalg.qr(rest.T)[0]
            left = left - basis @ (basis.T @ left)
        heights.append(np.linalg.norm(left))
    return np.array(heights)


def check_distances(
    numbers: np.ndarray, positions: np.ndarray, cell: np.ndarray, pbc: np.ndarray, closest: float
) -> None:
    """Refuse two atoms (or an atom and a periodic image) nearer than `closest` (Angstrom).

    Raises:
        DataError: names the pair and its distance.
    """
    if closest <= 0:
        return
    reach = max(closest, 1.5)  # a shorter radius would make the cell list slow, not fast
    i, j, d = vesin.NeighborList(cutoff=reach, full_list=False, n_threads=1).compute(
        points=positions, box=cell, periodic=pbc, quantities="ijd"
    )
    if len(d) and d.min() < closest:
        k = int(np.argmin(d))
        a, b = int(i[k]), int(j[k])
        names = f"{elements.symbol(int(numbers[a]))} and {elements.symbol(int(numbers[b]))}"
        image = " (a periodic image of it)" if a == b else ""
        raise DataError(f"atoms {a} and {b}{image} ({names}) are {d[k]:.3g} Angstrom apart (least: {closest})")


def check_labels(energy: float | None, forces: np.ndarray | None, stress: np.ndarray | None, atoms: int) -> None:
    """Refuse labels that are not finite or of the wrong shape.

    Raises:
        LabelError: which label, which atom.
    """
    if energy is not None and not np.isfinite(energy):
        raise LabelError(f"the energy is not finite ({energy})")
    if forces is not None:
        if forces.shape != (atoms, 3):
            raise LabelError(f"{atoms} atoms but forces of shape {forces.shape}")
        if not np.isfinite(forces).all():
            k = int(np.flatnonzero(~np.isfinite(forces).all(axis=1))[0])
            raise LabelError(f"atom {k}: the force is not finite ({forces[k].tolist()})")
    if stress is not None and not np.isfinite(stress).all():
        raise LabelError(f"the stress is not finite ({stress.tolist()})")


def require_labels(
    found: Mapping[str, int],
    frames: int,
    keys: Iterable[str] = (),
    *,
    energy: bool = False,
    forces: bool = False,
    stress: bool = False,
    place: str = "the data",
) -> None:
    """Refuse data in which no frame has a label that the job asked for.

    `found` says in how many of the `frames` each of "energy", "forces", "stress" was found; `keys` are all names of
    numbers that the files hold, to name the closest candidate.

    Raises:
        LabelError: a label is in no frame; says what is there and how to choose it.
    """
    names = sorted(set(keys))
    for label, wanted in (("energy", energy), ("forces", forces), ("stress", stress)):
        if not wanted or found.get(label, 0) > 0:
            continue
        there = f"keys there: {', '.join(names)}" if names else "the files hold no other keys"
        close = closest_keys(label, names)
        remedy = f"; say read.{label}_key={close[0]} if that is it" if close else ""
        raise LabelError(f"{place}: no {label} in any of {frames} frames ({there}){remedy}")


def closest_keys(label: str, names: Iterable[str]) -> list[str]:
    """Names that may mean the label, the likeliest first."""
    stems = {"energy": ("energy", "etot", "toten"), "forces": ("force",), "stress": ("stress", "virial")}
    names = list(names)
    stem = stems.get(label, (label.lower(),))
    holds = [n for n in names if any(s in n.lower() for s in stem)]
    return holds or difflib.get_close_matches(label, names, n=1, cutoff=0.5)
