"""Several molecules on one slab, from where each of them lies alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase import Atoms

from rutile.build.crystals import bare
from rutile.build.guards import Known, measure
from rutile.build.placing import far_enough
from rutile.build.sites import operations
from rutile.core.seeds import stream

APART = 1.4
"""Atoms of different molecules are put no nearer than this times the sum of their covalent radii: not bonded."""
MOST = 300
"""Combinations that are kept at a time while molecules are added one by one."""


def combinations(
    slab: Atoms, choices: Sequence[Sequence[tuple[Atoms, str]]], most: int, seed: int
) -> list[tuple[Atoms, str]]:
    """The slab with one molecule of each choice, or an image of it by the slab's symmetry, at different places.

    Args:
        slab: alone.
        choices: for each molecule where it may lie, with names.
        most: number of combinations at most; drawn at random if there are more.
        seed: of that.
    """
    bed = Atoms(cell=slab.cell, pbc=slab.pbc)
    partial: list[tuple[Atoms, str]] = [(bed + _plain(m), name) for m, name in choices[0]]
    rng = stream(seed, "combinations")
    for choice in choices[1:]:
        images = [(image, name) for m, name in choice for image in _images(slab, m)]
        partial = [
            (there + more, f"{names} + {name}")
            for there, names in partial
            for more, name in images
            if far_enough(there, more, APART)
        ]
        partial = _some(partial, MOST, rng)
    known, out = Known(), []
    for molecules, names in partial:
        made = bare(slab) + _plain(molecules)
        if known.add(measure(made), made.pbc):
            out.append((made, names))
    return _some(out, most, rng)


def _some(every: list[tuple[Atoms, str]], most: int, rng: np.random.Generator) -> list[tuple[Atoms, str]]:
    """All, or so many at random, in order."""
    if len(every) <= most:
        return every
    return [every[k] for k in sorted(rng.choice(len(every), most, replace=False).tolist())]


def _plain(molecule: Atoms) -> Atoms:
    return Atoms(molecule.numbers, positions=molecule.positions)


def _images(slab: Atoms, molecule: Atoms) -> list[Atoms]:
    """Different images of a molecule by the operations that leave the upper side of the slab above."""
    cell = slab.cell.array[:2, :2]
    inverse = np.linalg.inv(cell)
    out: dict[tuple[float, ...], Atoms] = {}
    for w, t in operations(slab):
        x = molecule.positions.copy()
        f = (x[:, :2] @ inverse) @ w.T + t
        f -= np.floor(f.mean(axis=0) + 1e-6)
        x[:, :2] = f @ cell
        out.setdefault(tuple(np.round(x.ravel(), 1).tolist()), Atoms(molecule.numbers, positions=x))
    return list(out.values())
