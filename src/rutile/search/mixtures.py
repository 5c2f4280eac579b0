"""Crystals of variable composition: how new ones are made, and which operators breed them."""

from __future__ import annotations

import numpy as np
from ase import Atoms

from rutile.build.recipe import Refused
from rutile.build.sizes import reference_volume
from rutile.core.elements import formula
from rutile.search.compositions import Compositions
from rutile.search.crystals import CRYSTAL_OPERATORS, NAMED_OPERATORS, as_given, new_crystal, tidied
from rutile.search.operators import add_atoms, decorate, permutation, remove_atoms, substitute
from rutile.search.operators.operator import Breed, Operator
from rutile.search.ranking import AboveHull
from rutile.search.settings import CrystalSearch

ENDS = 0.15
"""Part of the new crystals that are of an end member, besides those that are by chance: the hull hangs on them."""


class Mixtures:
    """Crystals of all compositions between end members.

    Args:
        formula: end members, such as Cu-Au.
        settings: what is asked of them.

    Raises:
        SettingsError: formula, range of atoms and compositions do not fit together, see `Compositions`.
    """

    def __init__(self, formula: str, settings: CrystalSearch) -> None:
        self.settings, self.compositions = settings, Compositions(formula, settings)
        self.elements = self.compositions.elements
        volume = float(np.mean([reference_volume(np.repeat(self.elements, n)) for n in self.compositions.units]))
        self.distance = (volume * np.sqrt(2)) ** (1 / 3)
        self.breed = Breed(self.distance, compositions=self.compositions)
        ours = (permutation, decorate, substitute, add_atoms, remove_atoms)
        self.operators: tuple[Operator, ...] = (
            *CRYSTAL_OPERATORS, *(m.OPERATOR for m in ours), *NAMED_OPERATORS,
        )  # fmt: skip

    def ranking(self) -> AboveHull:
        """By energy above the convex hull."""
        return AboveHull(self.compositions)

    def create(self, rng: np.random.Generator, before: int) -> Atoms:
        """A crystal of a random composition with a random space group, with atoms on general and special sites.

        Raises:
            Refused: the sites do not add up.
        """
        numbers = np.repeat(self.elements, self.compositions.draw(rng, ENDS))
        made = new_crystal(numbers, reference_volume(numbers), self.settings.symmetric, rng)
        if not self.compositions.allows(made.numbers):
            raise Refused("number of atoms")
        return made

    def tidied(self, atoms: Atoms) -> Atoms:
        """A child as it is relaxed: in its reduced cell, its atoms pushed apart.

        Raises:
            Refused: a composition that is not allowed, atoms too close, a volume out of the window, or a cell that is
                too long.
        """
        if not self.compositions.allows(atoms.numbers):
            raise Refused("composition")
        return tidied(atoms, self.settings, reference_volume(atoms.numbers))

    def adopted(self, atoms: Atoms) -> Atoms:
        """A crystal that was given, in its own cell or, where that has too many atoms, in a primitive one.

        Raises:
            Refused: it is not periodic in three directions, or has a composition that is not allowed.
        """
        for one in as_given(atoms):
            if self.compositions.allows(one.numbers):
                return one
        low, high = self.settings.atoms
        raise Refused(f"it is {formula(atoms.numbers)}, none of those that are searched for with {low} to {high} "
                      "atoms (structure.atoms)")  # fmt: skip
