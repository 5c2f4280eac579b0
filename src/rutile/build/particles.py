"""Nanoparticles of several metals: a shape cut from fcc or an icosahedron, its sites filled at random."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers

from rutile.build.alloy import whole
from rutile.build.cluster import decahedra, icosahedra, lattice_constant, octahedra
from rutile.core.errors import SettingsError

SHAPES = {"icosahedron": icosahedra, "decahedron": decahedra, "octahedron": octahedra}
"""Shapes by name; truncated octahedra are those of fcc."""


def mixed_particle(shape: str, size: int, composition: Mapping[str, float], rng: np.random.Generator) -> Atoms:
    """A particle of about so many atoms, its elements at random places in the parts given.

    Args:
        shape: of `SHAPES`.
        size: number of atoms wanted; the nearest magic number is taken.
        composition: parts of the elements.
        rng: draws the places.

    Raises:
        SettingsError: a part of an element is less than one atom.
    """
    elements = list(composition)
    parts = np.array([composition[e] for e in elements], dtype=float)
    a = float(np.average([lattice_constant(e) for e in elements], weights=parts))
    atoms = min((made for _, made in SHAPES[shape](elements[0], a)), key=lambda made: abs(len(made) - size))
    counts = whole(parts, len(atoms))
    if not counts.all():
        raise SettingsError(f"composition: no atom of {elements[int(counts.argmin())]} among {len(atoms)}")
    numbers = np.repeat([atomic_numbers[e] for e in elements], counts)
    return Atoms(rng.permutation(numbers), positions=atoms.positions - atoms.positions.mean(axis=0))
