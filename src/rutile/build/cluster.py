"""Clusters and nanoparticles in vacuum."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import sqrt

import numpy as np
from ase import Atoms
from ase.cluster import Decahedron, Icosahedron, Octahedron, wulff_construction
from ase.data import atomic_numbers

from rutile.build import distort
from rutile.build.packing import push_apart
from rutile.build.recipe import Draft, Mechanics, Recipe, Refused, between, rounded
from rutile.build.settings import ClusterSettings
from rutile.build.sizes import bond_length, radii
from rutile.core.errors import SettingsError

FACETS = [(1, 1, 1), (1, 0, 0), (1, 1, 0)]
"""Facets of Wulff shapes."""
ENERGIES = (0.8, 1.4)
"""Their surface energies relative to each other are drawn between these: shapes from cubes to octahedra."""
SMALLEST_WULFF = 4
"""Atoms of the smallest Wulff shape."""
LARGEST = 6
"""Shells of the largest shapes that are looked at: 561 atoms in an icosahedron."""


@dataclass(frozen=True)
class Shape:
    """A cluster to be drawn."""

    name: str
    element: str
    make: Callable[[np.random.Generator], Atoms]


def clusters(settings: ClusterSettings, seed: int, mechanics: Mechanics) -> Recipe:
    """Icosahedra, decahedra, octahedra, Wulff shapes and random heaps of atoms; the first of each as it is.

    Raises:
        SettingsError: no shape has so many atoms.
    """
    del seed, mechanics
    elements = list(dict.fromkeys(settings.elements))
    shapes = [s for name in elements for s in _shapes(name, settings)]
    if not shapes:
        raise SettingsError(
            f"atoms: no {' or '.join(settings.shapes)} has {settings.atoms[0]} to {settings.atoms[1]} atoms; "
            "widen the range or add shapes=random"
        )

    def draw(shape: Shape, number: int, rng: np.random.Generator) -> Draft:
        atoms = shape.make(rng)
        if not settings.atoms[0] <= len(atoms) <= settings.atoms[1]:
            raise Refused("number of atoms")
        drawn: dict[str, object] = {}
        if settings.mixed:
            atoms.numbers = rng.choice([atomic_numbers[e] for e in elements], len(atoms))
        if number or settings.mixed:
            factor, rattle = between(rng, settings.scale), between(rng, settings.rattle)
            atoms = distort.rattled(distort.scaled(atoms, factor), rattle, rng)
            drawn = {"scale": rounded(factor), "rattle": rounded(rattle)}
        return Draft(Atoms(atoms.numbers, positions=atoms.positions), drawn)

    return Recipe([f"{s.name} {s.element}" for s in shapes], lambda k: shapes[k], draw)


def lattice_constant(element: str) -> float:
    """Of the fcc crystal (Angstrom)."""
    return sqrt(2) * bond_length(atomic_numbers[element], 12)


def _shapes(element: str, settings: ClusterSettings) -> Iterator[Shape]:
    """Every shape with an allowed number of atoms."""
    a, (least, most) = lattice_constant(element), settings.atoms
    for name, make in {"icosahedron": icosahedra, "decahedron": decahedra, "octahedron": octahedra}.items():
        if name in settings.shapes:
            for numbers, atoms in make(element, a):
                yield from _if_fits(f"{name}-{numbers}", element, atoms, least, most)
    if "wulff" in settings.shapes and most >= SMALLEST_WULFF:
        sizes = max(SMALLEST_WULFF, least), most
        yield Shape("wulff", element, lambda rng: wulff(element, a, int(rng.integers(*sizes, endpoint=True)), rng))
    if "random" in settings.shapes:
        yield Shape("random", element, lambda rng: heap(element, int(rng.integers(least, most, endpoint=True)), rng))


def icosahedra(element: str, a: float) -> Iterator[tuple[str, Atoms]]:
    """By number of shells."""
    for n in range(2, LARGEST + 1):
        yield f"{n}", Icosahedron(element, n, a)


def decahedra(element: str, a: float) -> Iterator[tuple[str, Atoms]]:
    """Marks decahedra by ASE's p, q, r."""
    for p in range(2, LARGEST):
        for q in range(1, p + 2):
            for r in range(min(2, p - 1)):
                yield f"{p}-{q}-{r}", Decahedron(element, p, q, r, a)


def octahedra(element: str, a: float) -> Iterator[tuple[str, Atoms]]:
    """Truncated octahedra by length of an edge and of the cut."""
    for length in range(2, LARGEST + 1):
        for cut in range((length - 1) // 2 + 1):
            yield f"{length}-{cut}", Octahedron(element, length, cut, a)


def _if_fits(name: str, element: str, atoms: Atoms, least: int, most: int) -> Iterator[Shape]:
    if least <= len(atoms) <= most:
        yield Shape(name, element, lambda rng: Atoms(atoms.numbers, positions=atoms.positions))


def wulff(element: str, a: float, size: int, rng: np.random.Generator) -> Atoms:
    """A Wulff shape of fcc with about so many atoms, for random surface energies.

    Raises:
        Refused: ASE finds none.
    """
    energies = rng.uniform(*ENERGIES, len(FACETS)).tolist()
    try:
        made = wulff_construction(element, FACETS, energies, int(size), "fcc", rounding="closest", latticeconstant=a)
    except Exception:  # ASE raises plain RuntimeError, ValueError and others
        raise Refused("no such Wulff shape") from None
    return Atoms(made.numbers, positions=made.positions)


def heap(element: str, size: int, rng: np.random.Generator) -> Atoms:
    """Atoms at random in a sphere that they fill about as a liquid, pushed apart."""
    z = atomic_numbers[element]
    d = bond_length(z, 12)
    radius = max(0.6 * d, d * (size / (8 * 0.64)) ** (1 / 3))  # spheres of diameter d fill 64 % at random
    directions = rng.normal(size=(size, 3))
    directions /= np.linalg.norm(directions, axis=1)[:, None]
    places = directions * (radius * rng.random(size) ** (1 / 3))[:, None]
    part = 0.95 * d / (2 * float(radii(np.array([z]))[0]))
    return push_apart(Atoms([z] * size, positions=places), part, inside=radius)
