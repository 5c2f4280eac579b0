"""Numbers that tell geometries apart, whatever symmetry operation lies between two copies of one.

Four sums that do not change with rotation, reflection, translation, wrapping, order of atoms or choice of cell: with
c_ij = (1 - (d_ij/R)^2)^3 up to a cutoff R (in molecules 1/(1 + d_ij^2) without cutoff), w = sqrt(Z) and
rho_i = sum_j w_j c_ij, they are sum w rho, sum c^2 d over pairs, sum w rho^2 and sum w rho^3 over atoms.
"""

from __future__ import annotations

import numpy as np
import vesin

LARGEST_MOLECULE = 300
"""Atoms up to which all pairs of a structure without periodicity are looked at."""

Pairs = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Both atoms and the distance (Angstrom) of every pair, each pair once."""


def pairs_within(positions: np.ndarray, cell: np.ndarray, pbc: np.ndarray, cutoff: float) -> Pairs:
    """Every pair of atoms (or of an atom and an image) nearer than a cutoff (Angstrom).

    Args:
        positions: [N, 3] (Angstrom).
        cell: [3, 3], rows are vectors (Angstrom).
        pbc: [3] bool.
        cutoff: strict bound of the distances (Angstrom).
    """
    i, j, d = vesin.NeighborList(cutoff=cutoff, full_list=False, n_threads=1).compute(
        points=positions, box=cell, periodic=pbc, quantities="ijd"
    )
    return i.astype(np.int64), j.astype(np.int64), d


def image_vectors(
    positions: np.ndarray, cell: np.ndarray, pbc: np.ndarray, cutoff: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """As `pairs_within`, with the vectors from the first to the second atom [P, 3] (Angstrom) for distances."""
    i, j, v = vesin.NeighborList(cutoff=cutoff, full_list=False, n_threads=1).compute(
        points=positions, box=cell, periodic=pbc, quantities="ijD"
    )
    return i.astype(np.int64), j.astype(np.int64), v


def geometry_sums(
    numbers: np.ndarray, positions: np.ndarray, pbc: np.ndarray, pairs: Pairs, cutoff: float
) -> tuple[float, ...]:
    """The four sums; see the module's docstring.

    Args:
        numbers: atomic numbers [N].
        positions: [N, 3] (Angstrom).
        pbc: [3] bool.
        pairs: nearer than the cutoff.
        cutoff: R (Angstrom).
    """
    i, j, d = pairs
    n, w = len(numbers), np.sqrt(numbers)
    if not pbc.any() and n <= LARGEST_MOLECULE:
        i, j = np.triu_indices(n, 1)
        d = np.linalg.norm(positions[i] - positions[j], axis=1)
        c = 1 / (1 + d**2)
    else:
        c = np.maximum(1 - (d / cutoff) ** 2, 0) ** 3
    rho = np.bincount(i, w[j] * c, n) + np.bincount(j, w[i] * c, n)
    return (float((w * rho).sum()), float((c**2 * d).sum()), float((w * rho**2).sum()), float((w * rho**3).sum()))
