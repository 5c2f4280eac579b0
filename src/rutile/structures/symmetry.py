"""Space group and conventional cell of a crystal, by spglib."""

from __future__ import annotations

from dataclasses import dataclass

import spglib
from ase import Atoms
from ase.geometry import cell_to_cellpar

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
        raise GeometryError(f"no space group found for {atoms.get_chemical_formula()}: is it a crystal?")
    a, b, c, alpha, beta, gamma = (float(x) for x in cell_to_cellpar(data.std_lattice))
    return Crystal(str(data.international), int(data.number), (a, b, c), (alpha, beta, gamma))
