"""How crystalline each atom is: whether like atoms stand where the lattice of the crystal says.

    s_i = (1/M) sum_R [ a like atom stands within `near` of R_i + R ],   R the M shortest vectors of the lattice

A crystal in its own orientation has s near 1, whatever its elements and cell; a liquid has what chance gives, near 0.2.
It suits crystals that grow on a seed, which keep the orientation of the seed. Letters of shapes: N atoms, S systems, M
lattice vectors, E edges.

In the spirit of the template of J. R. Morris and X. Song, J. Chem. Phys. 116, 9352 (2002), doi:10.1063/1.1474581.
"""

from __future__ import annotations

import itertools

import numpy as np
import spglib
import torch
from ase import Atoms
from torch import Tensor

from rutile.graph.graph import build_graph
from rutile.graph.neighbors import find_edges
from rutile.structures.structures import Structures

LEAST = 12
"""Lattice vectors, at least; whole shells."""
NEAR = 0.25
"""Atoms are in place within this part of the shortest lattice vector (dimensionless)."""
SYMMETRY = 1e-2
"""Atoms nearer to a symmetric place than this are there (Angstrom)."""


def lattice_vectors(crystal: Atoms) -> np.ndarray:
    """The shortest translations that take a perfect crystal into itself (Angstrom), whole shells of 12 or more, [M, 3].

    Args:
        crystal: any cell of it.
    """
    cell = (crystal.cell.array, crystal.get_scaled_positions(), crystal.numbers)
    found = spglib.get_symmetry(cell, symprec=SYMMETRY)
    assert found is not None
    pure = (found["rotations"] == np.eye(3, dtype=int)).all((1, 2))
    steps = np.array(list(itertools.product(range(-3, 4), repeat=3)))
    every = (found["translations"][pure][:, None] + steps[None]).reshape(-1, 3) @ crystal.cell.array
    length = np.linalg.norm(every, axis=1)
    order = np.argsort(length)
    order = order[length[order] > SYMMETRY]
    last = length[order[LEAST - 1]] + SYMMETRY
    return np.asarray(every[order[: int((length[order] < last).sum())]])


def crystal_order(structures: Structures, vectors: Tensor) -> Tensor:
    """Order s of each atom, [N] float64.

    Args:
        structures: runs, periodic.
        vectors: lattice vectors in each run, as long and as many (Angstrom), [S, M, 3].

    Raises:
        GeometryError: as `find_edges`.
    """
    length = vectors.norm(dim=2)
    near = NEAR * length.min(1).values
    cutoff = float(length.max() + near.max())
    one = structures.to(dtype=torch.float64)
    graph = build_graph(one, find_edges(one, cutoff))
    like = graph.numbers[graph.i] == graph.numbers[graph.j]
    i, r = graph.i[like], graph.vectors[like]
    system = graph.system[i]
    wanted = vectors.to(r)
    away = (r[:, None, :] - wanted[system]).square().sum(2)
    inside = (away < near.to(r)[system, None].square()).double()
    filled = inside.new_zeros(one.n_atoms, wanted.shape[1]).index_add(0, i, inside)
    order: Tensor = filled.clamp(max=1.0).mean(1)
    return order
