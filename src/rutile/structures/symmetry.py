"""Space group, conventional cell and symmetry operations of a crystal, by spglib."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import spglib
from ase import Atoms
from ase.geometry import cell_to_cellpar

from rutile.core.elements import formula
from rutile.core.errors import GeometryError

SYMPREC = 0.05
"""Atoms nearer to a symmetric place than this (Angstrom) count as being there."""


@dataclass(frozen=True)
class Crystal:
    """What a crystal looks like in its conventional cell."""

    spacegroup: str
    """International symbol such as "I4_1/amd"."""
    number: int
    """Of the space group, 1 to 230."""
    lengths: tuple[float, float, float]
    """a, b, c of the conventional cell (Angstrom)."""
    angles: tuple[float, float, float]
    """alpha, beta, gamma (degrees)."""


def describe_crystal(atoms: Atoms, symprec: float = SYMPREC) -> Crystal:
    """Space group and conventional cell of a structure that is periodic in three directions.

    Raises:
        GeometryError: spglib finds no cell (atoms too close, or not periodic).
    """
    cell = (atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers)
    data = spglib.get_symmetry_dataset(cell, symprec=symprec) if atoms.pbc.all() else None
    if data is None:
        raise GeometryError(f"no space group found for {formula(atoms.numbers)}: is it a crystal?")
    a, b, c, alpha, beta, gamma = (float(x) for x in cell_to_cellpar(data.std_lattice))
    return Crystal(str(data.international), int(data.number), (a, b, c), (alpha, beta, gamma))


def standard_cell(atoms: Atoms, primitive: bool, symprec: float = SYMPREC) -> Atoms:
    """A crystal in the conventional or primitive cell of the International Tables, its atoms on their exact sites.

    Raises:
        GeometryError: spglib finds no cell.
    """
    cell = (atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers)
    found = spglib.standardize_cell(cell, to_primitive=primitive, symprec=symprec) if atoms.pbc.all() else None
    if found is None:
        raise GeometryError(f"no space group found for {formula(atoms.numbers)}: is it a crystal?")
    return Atoms(found[2], scaled_positions=found[1], cell=found[0], pbc=True, info=dict(atoms.info))


@dataclass(frozen=True)
class Operations:
    """Symmetry operations of a crystal, with the cell as it is. Letters of shapes: G operations, N atoms."""

    rotations: np.ndarray
    """Orthogonal matrices Q, [G, 3, 3]: a vector v (a row) becomes v Q."""
    images: np.ndarray
    """Number of the atom in whose place each atom comes, [G, N]."""


def symmetrised(
    atoms: Atoms, fixed: np.ndarray | None = None, symprec: float = SYMPREC
) -> tuple[np.ndarray, np.ndarray, Operations]:
    """Positions [N, 3] and cell [3, 3] (Angstrom) that have the symmetry of a crystal exactly, and its operations.

    Args:
        atoms: the crystal.
        fixed: atoms that stay where they are, [N] bool; only operations that map them onto themselves are used.
        symprec: atoms nearer to a symmetric place than this (Angstrom) are put there.

    Raises:
        GeometryError: spglib finds no symmetry (atoms too close, or not periodic).
    """
    scaled, numbers = atoms.get_scaled_positions(wrap=False), atoms.numbers
    data = spglib.get_symmetry_dataset((atoms.cell.array, scaled, numbers), symprec) if atoms.pbc.all() else None
    if data is None:
        raise GeometryError(f"no symmetry found for {formula(atoms.numbers)}: is it a crystal?")
    turns, images, places = [], [], []
    for turn, shift in zip(data.rotations, data.translations, strict=True):
        moved = scaled @ turn.T + shift
        onto, place = _matched(moved, scaled, numbers, atoms.cell.array)
        if fixed is None or np.array_equal(fixed[onto], fixed):
            turns.append(turn)
            images.append(onto)
            places.append(place)
    mean = np.zeros_like(scaled)
    for onto, place in zip(images, places, strict=True):
        mean[onto] += place / len(images)
    cell = _mean_cell(atoms.cell.array, np.array(turns))
    inverse = np.linalg.inv(cell)
    rotations = np.array([inverse @ turn.T @ cell for turn in turns])
    positions = mean @ cell
    if fixed is not None:
        positions[fixed] = atoms.positions[fixed]
    return positions, cell, Operations(rotations, np.array(images))


def _matched(
    moved: np.ndarray, scaled: np.ndarray, numbers: np.ndarray, cell: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """For moved atoms (fractional) those in whose places they come, [N], and where, as the images next to them."""
    away = moved[:, None] - scaled[None]
    away -= np.round(away)
    distance = np.linalg.norm(away @ cell, axis=2)
    distance[numbers[:, None] != numbers[None]] = np.inf
    onto = distance.argmin(1)
    return onto, scaled[onto] + away[np.arange(len(onto)), onto]


def _mean_cell(cell: np.ndarray, turns: np.ndarray) -> np.ndarray:
    """The cell, stretched without turning so that its metric has the symmetry."""
    metric = (turns.transpose(0, 2, 1) @ (cell @ cell.T) @ turns).mean(0)
    back = np.linalg.inv(cell)
    values, vectors = np.linalg.eigh(back @ metric @ back.T)
    return np.asarray(cell @ (vectors * np.sqrt(values)) @ vectors.T)
