"""Crystals: how new ones are made, and which operators breed them."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.build import niggli_reduce

from rutile.build.crystals import primitive
from rutile.build.packing import push_apart
from rutile.build.random_crystal import PUSHED, placed, pushed, random_cell, space_group
from rutile.build.recipe import Refused
from rutile.build.sizes import radii, reference_volume
from rutile.core.elements import formula as symbols
from rutile.search.operators import (
    crystal_heredity,
    crystal_symmetrise,
    energy_heredity,
    permutation,
    rattle,
    slip,
    soft_mode,
    strain,
)
from rutile.search.operators.operator import Breed, Operator
from rutile.search.ranking import ByEnergy
from rutile.search.settings import CrystalSearch, atoms_of
from rutile.search.supercells import compact_supercell, parts_of
from rutile.structures.fingerprint import pairs_within

GROUPS = 230
"""Space groups that are drawn from."""
DENSITY = (0.7, 1.3)
"""Density of new crystals, in units of the usual one, is drawn between these."""
LONG = 4.0
"""No cell vector of a child is longer than this times the cube root of its volume, after reduction."""
CRYSTAL_OPERATORS: tuple[Operator, ...] = tuple(
    m.OPERATOR for m in (crystal_heredity, strain, rattle, slip, crystal_symmetrise)
)
"""That serve all crystals."""
NAMED_OPERATORS = (soft_mode.OPERATOR, energy_heredity.CRYSTALS)
"""That are used where settings name them."""


class Crystals:
    """Crystals of one composition.

    Args:
        formula: formula unit, such as TiO2.
        settings: what is asked of them.

    Raises:
        SettingsError: the formula cannot be read.
    """

    def __init__(self, formula: str, settings: CrystalSearch) -> None:
        self.settings, self.unit = settings, atoms_of(formula)
        self.elements = tuple(sorted(self.unit))
        one = np.repeat(list(self.unit), list(self.unit.values()))
        self.volume = reference_volume(one)
        self.distance = float((self.volume * np.sqrt(2)) ** (1 / 3))
        self.breed = Breed(self.distance)
        many = [permutation.OPERATOR] if len(self.unit) > 1 else []
        self.operators: tuple[Operator, ...] = (*CRYSTAL_OPERATORS, *many, *NAMED_OPERATORS)

    def ranking(self) -> ByEnergy:
        """By energy."""
        return ByEnergy()

    def create(self, rng: np.random.Generator, before: int) -> Atoms:
        """A crystal with or without a random space group, with atoms on general and special sites.

        Raises:
            Refused: the sites do not add up.
        """
        whole = int(rng.choice(self.settings.units))
        parts = parts_of(whole, rng) if rng.random() < self.settings.repeated else 1
        numbers = np.repeat(list(self.unit), [n * whole // parts for n in self.unit.values()])
        made = new_crystal(numbers, self.volume, self.settings.symmetric, rng)
        if len(made) != len(numbers):
            raise Refused("number of atoms")
        return compact_supercell(made, parts, rng) if parts > 1 else made

    def tidied(self, atoms: Atoms) -> Atoms:
        """A child as it is relaxed: in its reduced cell, its atoms pushed apart.

        Raises:
            Refused: atoms too close, a volume out of the window, or a cell that is too long.
        """
        return tidied(atoms, self.settings, self.volume)

    def adopted(self, atoms: Atoms) -> Atoms:
        """A crystal that was given, in its own cell or, where that has too many atoms, in a primitive one.

        Raises:
            Refused: it is not periodic in three directions, or not of so many formula units.
        """
        for one in as_given(atoms):
            units = len(one) // sum(self.unit.values())
            wanted = np.repeat(list(self.unit), [n * units for n in self.unit.values()])
            if units in self.settings.units and sorted(one.numbers) == sorted(wanted):
                return one
        unit = symbols([z for z, n in self.unit.items() for _ in range(n)])
        units_text = " or ".join(map(str, self.settings.units))
        raise Refused(f"it is {symbols(atoms.numbers)}, not {units_text} units of {unit} (structure.units)")


def as_given(atoms: Atoms) -> tuple[Atoms, Atoms]:
    """A crystal that was given, in its own cell and in a primitive one.

    Raises:
        Refused: it is not periodic in three directions.
    """
    if not atoms.pbc.all():
        raise Refused("it is not periodic in three directions, no crystal")
    given = Atoms(atoms.numbers, scaled_positions=atoms.get_scaled_positions(), cell=atoms.cell, pbc=True)
    return given, primitive(given)


def new_crystal(numbers: np.ndarray, volume: float, symmetric: float, rng: np.random.Generator) -> Atoms:
    """A random crystal.

    Args:
        numbers: of the atoms in a primitive cell, [N].
        volume: usual one of an atom (Angstrom^3).
        symmetric: how often it gets a random space group (dimensionless).
        rng: random numbers.

    Raises:
        Refused: the sites do not add up.
    """
    group = space_group(int(rng.integers(1, GROUPS, endpoint=True)) if rng.random() < symmetric else 1)
    numbers = np.repeat(numbers, group.centrings)
    cell = random_cell(group, rng)
    density = rng.uniform(*DENSITY)
    cell *= (volume * len(numbers) / density / abs(np.linalg.det(cell))) ** (1 / 3)
    return primitive(pushed(group, placed(group, numbers, cell, rng)))


def tidied(atoms: Atoms, settings: CrystalSearch, volume: float) -> Atoms:
    """A child as it is relaxed: in its reduced cell, its atoms pushed apart.

    Args:
        atoms: the child.
        settings: limits.
        volume: usual one of an atom (Angstrom^3).

    Raises:
        Refused: atoms too close, a volume out of the window, or a cell that is too long.
    """
    out = Atoms(atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=True)
    low, high = settings.volume
    if not low <= abs(out.cell.volume) / len(out) / volume <= high:
        raise Refused("volume")
    try:
        niggli_reduce(out)
    except RuntimeError:
        raise Refused("cell") from None
    if out.cell.lengths().max() > LONG * abs(out.cell.volume) ** (1 / 3):
        raise Refused("long cell")
    out = push_apart(out, PUSHED)
    r = radii(out.numbers)
    i, j, d = pairs_within(out.positions, out.cell.array, out.pbc, 2 * float(r.max()))
    if (d < settings.closest * (r[i] + r[j])).any():
        raise Refused("atoms too close")
    out.wrap()
    return out
