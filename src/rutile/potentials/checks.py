"""What no potential may be asked: structures that have no meaningful energy are refused by name.

A neural network returns a finite number for nearly anything; the refusals here are made before (and, for distances,
after) the neighbour search, so that a NaN or two atoms at one place never become an energy.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch.nn import Module

from rutile.core.elements import MAX_Z, symbol
from rutile.core.errors import ElementError, GeometryError, SettingsError
from rutile.graph.graph import Edges, build_graph
from rutile.graph.neighbors import find_edges
from rutile.potentials.potential import Potential
from rutile.structures.structures import Structures

CLOSEST = 0.1
"""Two atoms (or an atom and an image) nearer than this (Angstrom) are at one place: no bond is shorter than 0.7."""
FARTHEST = 1e7
"""Coordinates and cell vectors beyond this (Angstrom, 1 mm) are mistakes; neighbour search loses precision there."""


def check_structures(
    structures: Structures, elements: tuple[int, ...] = (), names: Sequence[str] | None = None
) -> None:
    """Refuse what can be seen without neighbours.

    Args:
        structures: the batch.
        elements: atomic numbers that the potential knows; empty: any.
        names: what messages call the structures (default: by number).

    Raises:
        GeometryError: no atoms; NaN, infinite or huge coordinates or cell; a periodic direction without a cell
            vector or with (nearly) dependent ones; atoms at one place.
        ElementError: an element that the potential was not trained on.
    """
    for s, one in enumerate(structures.split()):
        name = _name(structures, s, names)
        if one.n_atoms == 0:
            raise GeometryError(f"{name} is empty: it needs at least one atom")
        numbers = one.numbers.cpu().numpy()
        positions = one.positions.detach().cpu().double().numpy()
        cell, pbc = one.cell[0].detach().cpu().double().numpy(), one.pbc[0].cpu().numpy()
        _check_elements(name, numbers, elements)
        _check_positions(name, numbers, positions)
        _check_cell(name, cell, pbc)
        _check_same_place(name, numbers, positions)
        if pbc.any() and _heights(cell, pbc).min() < CLOSEST:  # extremely skewed, or a cell smaller than an atom
            check_distances(one, find_edges(one, CLOSEST), [name])


def check_distances(structures: Structures, edges: Edges, names: Sequence[str] | None = None) -> None:
    """Refuse atoms at one place, images included.

    Args:
        structures: the batch.
        edges: its neighbours at any cutoff above CLOSEST.
        names: what messages call the structures (default: by number).

    Raises:
        GeometryError: two atoms, or an atom and its image, are nearer than CLOSEST.
    """
    distances = build_graph(structures, edges).vectors.detach().norm(dim=1)
    if not len(distances) or float(distances.min()) >= CLOSEST:
        return
    e = int(distances.argmin())
    i, j = int(edges.i[e]), int(edges.j[e])
    system = int(structures.system[i])
    first = int((structures.system < system).sum())
    numbers = structures.numbers.cpu().numpy()
    other = "its own periodic image" if i == j else _atom(numbers, j, first)
    if i != j and bool(edges.shift[e].any()):
        other = f"a periodic image of {other}"
    raise GeometryError(
        f"{_name(structures, system, names)}: {_atom(numbers, i, first)} and {other} are "
        f"{float(distances[e]):.3g} Å apart (closest allowed: {CLOSEST} Å); remove one or check the cell"
    )


def smoothness_note(potential: Potential) -> str:
    """What users of a potential whose energy jumps must know; empty for a smooth one."""
    parts = potential.modules() if isinstance(potential, Module) else iter([potential])  # committees and sums
    rough = [part for part in parts if not getattr(part, "smooth", True)]
    if not rough:
        return ""
    return (
        f"the potential {getattr(rough[0], 'name', type(rough[0]).__name__)!r} is not smooth: its energy and forces "
        "jump where neighbours exchange rank or cross the cutoff, so relaxations may not end and molecular dynamics "
        "drifts in energy; `rutile smoothness MODEL` measures it"
    )


def require_smooth(potential: Potential, what: str) -> None:
    """Refuse a potential whose energy jumps for work that differentiates forces or needs conserved energy.

    Args:
        potential: any, committees included.
        what: the work, such as "a phonon calculation"; begins the message.

    Raises:
        SettingsError: the potential is not smooth.
    """
    if note := smoothness_note(potential):
        raise SettingsError(
            f"{what} needs continuous forces, but {note}; train a smooth one (such as architecture=deeppot_se), or "
            "force the work if the error is understood"
        )


def _name(structures: Structures, system: int, names: Sequence[str] | None) -> str:
    """What to call one structure of a batch."""
    if names is not None:
        return names[system]
    return f"structure {system}" if structures.n_systems > 1 else "the structure"


def _check_elements(name: str, numbers: np.ndarray, elements: tuple[int, ...]) -> None:
    """Refuse atomic numbers out of range or unknown to the potential."""
    bad = np.nonzero((numbers < 1) | (numbers > MAX_Z))[0]
    if len(bad):
        raise ElementError(f"{name}: atom {bad[0]} has atomic number {numbers[bad[0]]} (known: 1 to {MAX_Z})")
    unknown = sorted(set(numbers.tolist()) - set(elements)) if elements else []
    if unknown:
        raise ElementError(
            f"{name} holds {', '.join(symbol(z) for z in unknown)}, which the potential was not trained on "
            f"(trained on: {', '.join(symbol(z) for z in elements)})"
        )


def _check_positions(name: str, numbers: np.ndarray, positions: np.ndarray) -> None:
    """Refuse NaN, infinite and huge coordinates."""
    bad = np.argwhere(~(np.abs(positions) <= FARTHEST))
    if len(bad):
        atom, axis = (int(k) for k in bad[0])
        raise GeometryError(
            f"{name}: {'xyz'[axis]} of {_atom(numbers, atom)} is {positions[atom, axis]:g} Å"
            f" (a finite number up to {FARTHEST:g} is needed)"
        )


def _check_cell(name: str, cell: np.ndarray, pbc: np.ndarray) -> None:
    """Refuse NaN and infinity, and periodic directions that do not span their dimension."""
    if not (np.abs(cell) <= FARTHEST).all():
        raise GeometryError(
            f"{name}: the cell {cell.tolist()} has entries that are not finite or beyond {FARTHEST:g} Å"
        )
    for axis in np.nonzero(pbc)[0]:
        if not cell[axis].any():
            raise GeometryError(
                f"{name} is periodic along axis {'abc'[axis]} but has no cell vector there: set the cell or pbc=False"
            )
    if pbc.any() and _heights(cell, pbc).min() < 1e-3 * CLOSEST:
        raise GeometryError(
            f"{name}: the cell vectors of the periodic directions lie in one plane or line: {cell.tolist()}"
        )


def _check_same_place(name: str, numbers: np.ndarray, positions: np.ndarray) -> None:
    """Refuse atoms in one cube of diagonal below CLOSEST: cheap, and it keeps the neighbour search from exploding."""
    cubes = np.floor(positions / (0.57 * CLOSEST)).astype(np.int64)
    order = np.lexsort(cubes.T)
    same = np.nonzero((cubes[order[1:]] == cubes[order[:-1]]).all(1))[0]
    if len(same):
        i, j = sorted((int(order[same[0]]), int(order[same[0] + 1])))
        distance = float(np.linalg.norm(positions[i] - positions[j]))
        raise GeometryError(
            f"{name}: {_atom(numbers, i)} and {_atom(numbers, j)} are {distance:.3g} Å apart"
            f" (closest allowed: {CLOSEST} Å); remove one"
        )


def _heights(cell: np.ndarray, pbc: np.ndarray) -> np.ndarray:
    """For each periodic direction, the part of its vector orthogonal to the other periodic ones (Angstrom)."""
    vectors = cell[pbc]
    heights = []
    for k in range(len(vectors)):
        others = np.delete(vectors, k, 0)
        basis = np.linalg.svd(others, full_matrices=False)[2] if len(others) else np.zeros((0, 3))
        heights.append(np.linalg.norm(vectors[k] - basis.T @ (basis @ vectors[k])))
    return np.array(heights)


def _atom(numbers: np.ndarray, index: int, first: int = 0) -> str:
    """An atom by its 0-based number in its structure and symbol, such as "atom 3 (O)"."""
    return f"atom {index - first} ({symbol(int(numbers[index]))})"
