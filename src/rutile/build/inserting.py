"""Molecules put into the pores of a framework: at metal atoms that lack a neighbour, or at random."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase import Atoms

from rutile.build.adsorption import random_rotation
from rutile.build.bonds import LONGEST, turn
from rutile.build.crystals import bare
from rutile.build.guards import NONMETALS
from rutile.build.placing import far_enough, rotation_onto
from rutile.build.recipe import Refused
from rutile.build.sizes import radii

ATTEMPTS = 2000
"""Random places that are tried for each molecule."""
LOPSIDED = 0.15
"""A metal atom is open if the mean of the unit vectors to its neighbours is longer than this."""
CONTACT = 1.1
"""Length of the bond to an open metal atom in units of the sum of the covalent radii."""
ROOM = 1.2
"""At an open site other atoms are no nearer than this times the sum of the covalent radii."""
BINDING = (7, 8, 16, 15, 9, 17, 6)
"""Elements that bind to metal atoms (atomic numbers), in this order; else whatever there is."""
TILT = 30.0
"""Guests at open sites are tilted at random up to this angle (degrees)."""


@dataclass(frozen=True)
class OpenSite:
    """A metal atom that lacks a neighbour."""

    atom: int
    """Its number."""
    direction: np.ndarray
    """Away from its neighbours, a unit vector [3]."""


def open_sites(host: Atoms) -> list[OpenSite]:
    """Metal atoms whose neighbours lie to one side."""
    import vesin

    r, out = radii(host.numbers), []
    i, j, d, v = vesin.NeighborList(cutoff=2 * LONGEST * float(r.max()), full_list=True, n_threads=1).compute(
        points=host.positions, box=host.cell.array, periodic=host.pbc, quantities="ijdD"
    )
    i, j = i.astype(np.int64), j.astype(np.int64)
    bonded = d < LONGEST * (r[i] + r[j])
    for atom in np.flatnonzero(~np.isin(host.numbers, list(NONMETALS))):
        mine = bonded & (i == atom)
        if not mine.any():
            continue
        mean = (v[mine] / d[mine][:, None]).mean(axis=0)
        if np.linalg.norm(mean) > LOPSIDED:
            out.append(OpenSite(int(atom), -mean / np.linalg.norm(mean)))
    return out


def with_guests(host: Atoms, guest: Atoms, count: int, apart: float, rng: np.random.Generator, at_open: bool) -> Atoms:
    """A host with so many copies of a molecule behind its atoms.

    Args:
        host: the framework.
        guest: the molecule.
        count: how many.
        apart: at random places nothing is nearer than this times the sum of the covalent radii.
        rng: draws places and rotations.
        at_open: the first ones are at open metal atoms, as long as there are such.

    Raises:
        Refused: there is no room for them.
    """
    out = bare(host)
    every = open_sites(host) if at_open else []
    sites = [every[k] for k in rng.permutation(len(every))]
    for _ in range(count):
        placed = None
        while sites and placed is None:
            placed = _at(out, guest, sites.pop(), rng)
        if placed is None:
            placed = _anywhere(out, guest, apart, rng)
        out = out + placed
    return out


def _anywhere(there: Atoms, guest: Atoms, apart: float, rng: np.random.Generator) -> Atoms:
    """A molecule turned at random, at a random place where nothing is near."""
    x = guest.positions - guest.positions.mean(axis=0)
    for _ in range(ATTEMPTS):
        placed = Atoms(guest.numbers, positions=x @ random_rotation(rng).T + rng.random(3) @ there.cell.array)
        if far_enough(there, placed, apart):
            return placed
    raise Refused(f"no room for the guests: no place in {ATTEMPTS} tries")


def _at(there: Atoms, guest: Atoms, site: OpenSite, rng: np.random.Generator) -> Atoms | None:
    """A molecule at an open metal atom, its binding atom first; None: something is in the way."""
    binding = next((z for z in BINDING if z in guest.numbers), int(guest.numbers[0]))
    anchor = int(rng.choice(np.flatnonzero(guest.numbers == binding)))
    x = guest.positions - guest.positions[anchor]
    middle = x.mean(axis=0)
    if np.linalg.norm(middle) > 1e-3:
        x = x @ rotation_onto(middle / np.linalg.norm(middle), site.direction).T
    x = turn(x, site.direction, float(rng.uniform(0, 360)))
    side = np.cross(site.direction, rng.normal(size=3))
    x = turn(x, side, float(rng.uniform(0, TILT)))
    reach = CONTACT * float(radii(np.array([binding]))[0] + radii(there.numbers[site.atom : site.atom + 1])[0])
    placed = Atoms(guest.numbers, positions=x + there.positions[site.atom] + reach * site.direction)
    others = there[np.arange(len(there)) != site.atom]
    return placed if far_enough(others, placed, ROOM) else None
