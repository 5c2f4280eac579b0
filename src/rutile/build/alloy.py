"""Solid solutions."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Sequence

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers, chemical_symbols

from rutile.build import distort
from rutile.build.crystals import primitive, prototype
from rutile.build.recipe import Draft, Mechanics, Recipe, between, rounded
from rutile.build.settings import AlloySettings
from rutile.build.sizes import reference_volume
from rutile.core.errors import MissingPackageError, SettingsError
from rutile.structures.fingerprint import pairs_within

NEEDLE = 3.0
"""Longest edge of a supercell relative to its shortest."""
SAME_SHELL = 0.02
"""Distances that differ by less belong to one shell (Angstrom)."""


def alloys(settings: AlloySettings, seed: int, mechanics: Mechanics) -> Recipe:
    """Elements at random on a lattice, or as a special quasi-random structure.

    Raises:
        MissingPackageError: icet is not installed and sqs is asked for.
        SettingsError: the composition names an element that is not among the elements.
    """
    del seed, mechanics
    elements = list(dict.fromkeys(settings.elements))
    for name in settings.composition:
        if name not in elements:
            raise SettingsError(f"composition: {name} is not among elements = {', '.join(elements)}")
    if settings.arrangement == "sqs" and importlib.util.find_spec("icet") is None:
        raise MissingPackageError("arrangement=sqs needs the package icet: pip install 'rutile[sqs]'")

    lattices = [primitive(prototype(kind, [elements[0]])) for kind in settings.lattices]
    times = [cells(cell, settings.atoms) for cell in lattices]

    def draw(k: int, number: int, rng: np.random.Generator) -> Draft:
        del number
        cell = lattices[k]
        sites = distort.repeated(cell, times[k][int(rng.integers(len(times[k])))])
        parts = np.array([settings.composition.get(e, 0.0) for e in elements])
        if not parts.any():
            parts = rng.dirichlet(np.ones(len(elements)))
        numbers = np.repeat([atomic_numbers[e] for e in elements], whole(parts, len(sites)))
        numbers = rng.permutation(numbers)
        factor = cube_root(sites, reference_volume(numbers))
        sites, cell = distort.scaled(sites, factor), distort.scaled(cell, factor)
        sites.numbers = numbers
        if settings.arrangement == "sqs" and len(np.unique(numbers)) > 1:
            sites.numbers = sqs(sites, cell, settings.shells, settings.iterations, int(rng.integers(2**31)))
        volume = sites.cell.volume / len(sites)
        factor, rattle = between(rng, settings.scale), between(rng, settings.rattle)
        atoms = distort.rattled(distort.scaled(sites, factor), rattle, rng)
        drawn = {"lattice": settings.lattices[k], "arrangement": settings.arrangement, "scale": rounded(factor)}
        return Draft(atoms, drawn | {"rattle": rounded(rattle)}, volume)

    return Recipe([f"{k} {'-'.join(elements)}" for k in settings.lattices], lambda k: k, draw)


def cells(cell: Atoms, span: Sequence[int]) -> list[tuple[int, int, int]]:
    """Repetitions of a cell along its vectors that give a number of atoms from ... to, none needle-like.

    Raises:
        SettingsError: there are none.
    """
    lengths = cell.cell.lengths()
    most = span[1] // len(cell)
    found: list[tuple[int, int, int]] = []
    shapes = (
        (a, b, c) for a in range(1, most + 1) for b in range(1, most // a + 1) for c in range(1, most // (a * b) + 1)
    )
    for times in shapes:
        edges = lengths * times
        if int(np.prod(times)) * len(cell) >= span[0] and edges.max() <= NEEDLE * edges.min():
            found.append(times)
    if not found:
        raise SettingsError(f"atoms: no compact supercell has {span[0]} to {span[1]} atoms; widen the range")
    return found


def cube_root(atoms: Atoms, volume: float) -> float:
    """Factor of lengths that gives a volume per atom (Angstrom^3)."""
    return float((volume * len(atoms) / atoms.cell.volume) ** (1 / 3))


def whole(parts: np.ndarray, n: int) -> np.ndarray:
    """Whole numbers with sum n nearest to given parts (largest remainders).

    >>> whole(np.array([3.0, 1.0]), 8).tolist()
    [6, 2]
    """
    exact = parts / parts.sum() * n
    out: np.ndarray = np.floor(exact).astype(int)
    out[np.argsort(out - exact, kind="stable")[: n - out.sum()]] += 1
    return out


def sqs(sites: Atoms, cell: Atoms, shells: int, iterations: int, seed: int) -> np.ndarray:
    """Atomic numbers [N] of a special quasi-random arrangement of the elements on the sites.

    Simulated annealing of exchanges brings the correlations of all pairs of the first shells, counted with all periodic
    images, near to those of an endless random alloy (Zunger et al. 1990, doi:10.1103/PhysRevLett.65.353; van de Walle
    et al. 2013, doi:10.1016/j.calphad.2013.06.006; package icet, doi:10.1002/adts.201900015).

    Args:
        sites: a supercell of `cell` with the composition that is kept.
        cell: primitive cell of the lattice.
        shells: shells of neighbours.
        iterations: steps of the annealing.
        seed: of it.
    """
    from icet import ClusterSpace
    from icet.input_output.logging_tools import set_log_config
    from icet.tools.structure_generation import generate_sqs_from_supercells

    set_log_config(level=logging.ERROR)
    z, counts = np.unique(sites.numbers, return_counts=True)
    names = [chemical_symbols[k] for k in z]
    space = ClusterSpace(cell, [_cutoff(cell, shells)], names)
    empty = Atoms(np.full(len(sites), z[0]), positions=sites.positions, cell=sites.cell, pbc=True)
    parts = {name: int(n) / len(sites) for name, n in zip(names, counts, strict=True)}
    made = generate_sqs_from_supercells(space, [empty], parts, random_seed=seed, n_steps=iterations)
    return np.asarray(made.numbers)


def _cutoff(cell: Atoms, shells: int) -> float:
    """A radius (Angstrom) between the last of the shells and the next one."""
    reach = 2.0 * float(pairs_within(cell.positions, cell.cell.array, cell.pbc, 8.0)[2].min()) + 0.5
    while True:
        d = np.unique(np.round(pairs_within(cell.positions, cell.cell.array, cell.pbc, reach)[2], 3))
        radii = d[np.concatenate([[True], np.diff(d) > SAME_SHELL])]
        if len(radii) > shells:
            return float(radii[shells - 1 : shells + 1].mean())
        reach *= 1.5
