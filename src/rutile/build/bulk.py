"""Crystals, pristine and disturbed."""

from __future__ import annotations

import numpy as np

from rutile.build import distort
from rutile.build.crystals import Parent, parents
from rutile.build.recipe import Draft, Mechanics, Recipe, between, rounded
from rutile.build.settings import BulkSettings


def bulk(settings: BulkSettings, seed: int, mechanics: Mechanics) -> Recipe:
    """Crystals with other volumes, strained, displaced, with defects and substituted elements; the first of each as is.

    Raises:
        RutileError: a crystal cannot be had.
    """
    del seed, mechanics
    crystals = parents(settings.crystals, conventional=False)

    def draw(parent: Parent, number: int, rng: np.random.Generator) -> Draft:
        volume = parent.atoms.cell.volume / len(parent.atoms)
        if number == 0:
            return Draft(parent.atoms.copy(), {"pristine": True}, volume)
        return _disturbed(parent, settings, volume, rng)

    return Recipe([p.name for p in crystals], lambda k: crystals[k], draw)


def _disturbed(parent: Parent, settings: BulkSettings, volume: float, rng: np.random.Generator) -> Draft:
    """One structure with everything that the settings ask for."""
    atoms = distort.supercell(parent.atoms, settings.atoms, rng)
    atoms, replaced = distort.substituted(atoms, settings.substitute, settings.substituted, rng)
    swaps = distort.at_most(settings.swaps, len(atoms), rng)
    vacancies = distort.at_most(settings.vacancies, len(atoms) - 1, rng)
    added = int(rng.integers(0, settings.interstitials, endpoint=True))
    atoms = distort.with_interstitials(distort.swapped(atoms, swaps, rng), added, rng)
    atoms = distort.without(atoms, vacancies, rng)
    factor, strain, rattle = (between(rng, s) for s in (settings.scale, settings.strain, settings.rattle))
    atoms = distort.strained(distort.scaled(atoms, factor), distort.random_strain(strain, rng))
    atoms = distort.rattled(atoms, rattle, rng)
    counts = {"substituted": replaced, "swaps": swaps, "vacancies": vacancies, "interstitials": added}
    drawn = {"scale": rounded(factor), "strain": rounded(strain), "rattle": rounded(rattle)}
    return Draft(atoms, drawn | {k: n for k, n in counts.items() if n}, volume)
