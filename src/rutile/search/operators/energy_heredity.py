"""Cut and splice that looks for the parts of the parents whose atoms lie low.

Several cuts are drawn as those of plain heredity are, and the one is taken whose atoms had the lowest energies in their
parents, in the mean, each beside what its element has in both. In the spirit of A. O. Lyakhov, A. R. Oganov,
H. T. Stokes and Q. Zhu, Comput. Phys. Commun. 184, 1172 (2013), doi:10.1016/j.cpc.2012.12.009 (local order there). It
needs a potential whose atoms have energies that mean something: those of networks and effective media do.
"""

from __future__ import annotations

import numpy as np
from ase import Atoms

from rutile.build.recipe import Refused
from rutile.search.individual import ATOM_ENERGY
from rutile.search.operators import cluster_heredity, crystal_heredity
from rutile.search.operators.operator import Breed, Operator

CUTS = 10
"""Cuts that are drawn."""


def splice_crystals(parents: list[Atoms], breed: Breed, rng: np.random.Generator) -> Atoms:
    """The composition is that of the first parent."""
    del breed
    one, other = _energies(parents)
    cuts = [crystal_heredity.draw(parents, rng) for _ in range(CUTS)]
    means = [float(np.concatenate([one[c.in_one], other[c.in_other]]).mean()) for c in cuts if c.atoms]
    if not means:
        raise Refused("empty cuts")
    best = [c for c in cuts if c.atoms][int(np.argmin(means))]
    return crystal_heredity.built(parents, best, rng)


def splice_clusters(parents: list[Atoms], breed: Breed, rng: np.random.Generator) -> Atoms:
    """The composition stays."""
    del breed
    one, other = _energies(parents)
    cuts = [cluster_heredity.draw(parents, rng) for _ in range(CUTS)]
    best = min(cuts, key=lambda c: float(one[c.top].sum() + other[c.bottom].sum()))
    return best.child()


def _energies(parents: list[Atoms]) -> list[np.ndarray]:
    """Of the atoms of each parent (eV), beside the mean of their element in both."""
    if any(ATOM_ENERGY not in p.arrays for p in parents):
        raise Refused("atoms without energies")
    energy = np.concatenate([p.arrays[ATOM_ENERGY] for p in parents])
    numbers = np.concatenate([p.numbers for p in parents])
    for z in np.unique(numbers):
        energy[numbers == z] -= energy[numbers == z].mean()
    return [energy[: len(parents[0])], energy[len(parents[0]) :]]


CRYSTALS = Operator("energy_heredity", 2, splice_crystals, weight=0.0, atom_energies=True)
CLUSTERS = Operator("energy_heredity", 2, splice_clusters, weight=0.0, atom_energies=True)
