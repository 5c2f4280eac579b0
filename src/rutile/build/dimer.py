"""Two atoms in vacuum."""

from __future__ import annotations

from itertools import combinations_with_replacement

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers, covalent_radii

from rutile.build.recipe import Draft, Mechanics, Recipe, rounded
from rutile.build.settings import DimerSettings
from rutile.core.errors import SettingsError


def dimers(settings: DimerSettings, seed: int, mechanics: Mechanics) -> Recipe:
    """Every pair of elements on a grid of distances, evenly in the logarithm.

    Raises:
        SettingsError: the shortest distance of a pair is above the longest.
    """
    del seed, mechanics
    pairs = list(combinations_with_replacement(dict.fromkeys(settings.elements), 2))
    grids = [distances(a, b, settings) for a, b in pairs]

    def draw(pair: int, number: int, rng: np.random.Generator) -> Draft:
        del rng
        d = float(grids[pair][number])
        return Draft(Atoms(list(pairs[pair]), positions=[(0, 0, 0), (0, 0, d)]), {"distance": rounded(d)})

    return Recipe([f"{a}-{b}" for a, b in pairs], lambda k: k, draw, each=settings.points)


def distances(a: str, b: str, settings: DimerSettings) -> np.ndarray:
    """Distances (Angstrom) of a pair, [points].

    Raises:
        SettingsError: the shortest is above the longest.
    """
    least = settings.shortest * float(covalent_radii[atomic_numbers[a]] + covalent_radii[atomic_numbers[b]])
    if least >= settings.longest_distance:
        raise SettingsError(
            f"longest_distance = {settings.longest_distance:g}: below the shortest distance of {a}-{b}, {least:.2f}; "
            "make it larger"
        )
    return np.geomspace(least, settings.longest_distance, settings.points)
