"""Settings of searches. Imports no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from rutile.core.elements import number as atomic_number
from rutile.core.errors import SettingsError
from rutile.core.settings import Settings
from rutile.core.units import Angstrom, EVPerAtom, GigaPascal

Count = Annotated[int, Field(ge=1)]
BETWEEN = "-"
"""Stands between the end members of a variable composition."""


class OfMolecules(Settings):
    """Whole molecules, or motifs, in the place of atoms."""

    molecules: dict[str, Count] = {}
    """Whole molecules in the place of a formula, and how many, such as {H2O: 6}; of crystals for each formula unit.
    Names of ASE, SMILES or files. Operators keep them whole, relaxation moves all atoms."""
    broken: Literal["refuse", "keep"] = "refuse"
    """What becomes of structures whose molecules broke or reacted when they were relaxed: they are refused as failed
    ones, or stay."""


class ClusterSearch(OfMolecules):
    """Clusters in vacuum."""

    name: Literal["cluster"] = "cluster"
    distance: Angstrom | None = Field(default=None, gt=0)
    """Usual distance of neighbours. Default: from the radii of the elements."""
    motifs: float | None = Field(default=None, ge=0, le=1)
    """Part of the new clusters that are cut from packings that are known: random stackings of close-packed layers,
    decahedra, icosahedra (dimensionless). Default: half of metals and noble gases after the first hundred structures,
    else 0."""
    symmetric: float = Field(default=0.75, ge=0, le=1)
    """Part of the others that get a random point group (dimensionless)."""


class CrystalSearch(OfMolecules):
    """Crystals with any cell."""

    name: Literal["crystal"] = "crystal"
    units: tuple[Count, ...] = (2,)
    """Formula units in a cell; of several numbers each new crystal takes one at random."""
    repeated: float = Field(default=0.5, ge=0, le=1)
    """Part of the new crystals that repeat a smaller cell, where the number of formula units can be divided
    (dimensionless). Not of molecules, nor of variable composition, whose new crystals have small cells anyway."""
    symmetric: float = Field(default=0.5, ge=0, le=1)
    """Part of the new crystals that get a random space group; the others have none (dimensionless). Those of molecules
    always do."""
    atoms: tuple[Count, Count] = (2, 8)
    """Of variable composition: fewest and most atoms in the cell."""
    compositions: tuple[str, ...] = ()
    """Of variable composition: search at these only, such as [Cu3Au, CuAu], and at the end members. Default: at all
    that are whole numbers of the end members."""
    pressure: GigaPascal = 0.0
    """The search is for the lowest enthalpy at this pressure."""
    closest: float = Field(default=0.6, gt=0, lt=1)
    """Atoms of a new crystal are not nearer than this part of the sum of their covalent radii (dimensionless)."""
    volume: tuple[float, float] = (0.5, 2.0)
    """Window of the volume of new crystals, in units of what the elements usually take (dimensionless)."""

    @model_validator(mode="after")
    def _ranges_ascend(self) -> CrystalSearch:
        low, high = self.volume
        if not 0 < low <= high:
            raise ValueError(f"volume=[{low}, {high}] is no range: give the smaller number first, above 0")
        if self.atoms[0] > self.atoms[1]:
            raise ValueError(f"atoms=[{self.atoms[0]}, {self.atoms[1]}] is no range: give the smaller number first")
        return self


class SurfaceSearch(Settings):
    """Atoms on a slab: adatoms, clusters, overlayers. The formula says which atoms are placed."""

    name: Literal["surface"] = "surface"
    slab: Path
    """File with the slab, periodic along its first two cell vectors, which lie in the xy plane and stay. Its upper side
    is the surface."""
    fixed_below: Angstrom | None = None
    """Atoms of the slab with a smaller z do not move. Default: those that the file fixes (`move_mask` of extended XYZ,
    selective dynamics); without any, the lower half of the slab."""
    height: Angstrom = Field(default=4.0, gt=0)
    """Atoms are placed up to this high above the highest atom of the slab."""
    distance: Angstrom | None = Field(default=None, gt=0)
    """Usual distance of neighbours. Default: from the volumes of the elements."""
    symmetric: float = Field(default=0.5, ge=0, le=1)
    """Part of the new structures whose atoms are placed with a part of the symmetry of the slab (dimensionless)."""


class InterfaceSearch(SurfaceSearch):
    """Atoms between two slabs, of which the upper one moves: grain boundaries, films, contacts."""

    name: Literal["interface"] = "interface"  # type: ignore[assignment]
    upper: Path
    """File with the upper slab. It is strained to the cell of the lower one, moves along the interface and relaxes."""
    mismatch: float = Field(default=0.05, ge=0, lt=0.5)
    """Largest strain of the upper slab (dimensionless)."""
    height: Angstrom = Field(default=0.0, ge=0)
    """Room between the slabs beside what the atoms need, before they are brought together."""


Kind = Annotated[CrystalSearch | ClusterSearch | SurfaceSearch | InterfaceSearch, Field(discriminator="name")]


class PoolSettings(Settings):
    """The structures that children are made from."""

    size: int = Field(default=24, ge=4)
    """Structures in the pool; of variable composition so many for each end member."""
    elite: int = Field(default=3, ge=1)
    """The best ones, which stay whatever their age; of variable composition also all on the convex hull."""
    niche: float = Field(default=0.25, ge=0)
    """Structures whose fingerprints are nearer than this live in one niche (dimensionless; 0: no niches)."""
    in_niche: Count = 6
    """Structures of one niche in the pool at most."""
    in_composition: Count = 6
    """Of variable composition: structures of one composition in the pool at most."""
    same: float = Field(default=0.05, gt=0)
    """Structures whose fingerprints are nearer than this, and whose energies nearer than `same_energy`, are one
    (dimensionless)."""
    same_energy: EVPerAtom = Field(default=0.002, gt=0)
    """See `same`."""
    age: int = Field(default=400, ge=1)
    """A structure leaves the pool after so many others were relaxed, unless it is one of the best."""
    patience: int = Field(default=600, ge=1)
    """After so many relaxations without a lower energy (of variable composition a lower hull, and so many for each end
    member), the pool begins anew with new structures; what was found is kept in the results."""

    @model_validator(mode="after")
    def _elite_fits(self) -> PoolSettings:
        if self.elite >= self.size:
            raise ValueError(f"elite={self.elite} leaves no room in a pool of size={self.size}")
        return self


class GeneticSettings(Settings):
    """How structures are bred."""

    pool: PoolSettings = PoolSettings()
    """The structures that children are made from."""
    first: int = Field(default=24, ge=2)
    """New structures that a pool begins with; of variable composition so many for each end member."""
    operators: dict[str, Annotated[float, Field(ge=0)]] = {}
    """Weights of operators at the beginning, such as {heredity: 2, rattle: 0}; those that are not named have 1, and 0
    turns one off. They adapt to success."""
    learning: float = Field(default=0.05, ge=0, lt=1)
    """How fast weights follow success: 0 keeps them (dimensionless)."""
    least: float = Field(default=0.03, ge=0, lt=0.2)
    """Share of the children that each operator keeps at least (dimensionless)."""


def atoms_of(formula: str) -> dict[int, int]:
    """Atomic numbers of a formula, and how many of each.

    Raises:
        SettingsError: it cannot be read.
    """
    from ase.formula import Formula

    try:
        counts = {atomic_number(symbol): count for symbol, count in Formula(formula).count().items()}
    except (ValueError, KeyError):
        raise SettingsError(f"formula={formula!r} cannot be read; give one such as TiO2, Cu3Au or Ar38") from None
    if not counts or min(counts.values()) < 1:
        raise SettingsError(f"formula={formula!r} has no atoms of an element; give one such as TiO2, Cu3Au or Ar38")
    return counts


def end_members(formula: str) -> tuple[str, ...]:
    """The formulas that a variable composition is made of, such as Cu and Au of Cu-Au; of one composition itself."""
    return tuple(formula.split(BETWEEN))


def check_composition(formula: str, structure: Kind) -> None:
    """Settings that fit a formula of one composition, or of a variable one.

    Raises:
        SettingsError: a setting is for the other kind, or the composition varies where it cannot.
    """
    without = {"symmetric", "closest"} & structure.model_fields_set
    if isinstance(structure, OfMolecules) and structure.molecules and without:
        name = min(without)
        raise SettingsError(f"structure.{name} is for atoms, and does nothing where molecules are given: leave it out")
    if not isinstance(structure, CrystalSearch):
        if BETWEEN in formula:
            raise SettingsError(f"formula={formula}: variable composition is for crystals (structure=crystal) only")
        return
    fields = type(structure).model_fields
    names = ("units", "atoms", "compositions", "repeated")
    given = {name for name in names if getattr(structure, name) != fields[name].default}
    if BETWEEN in formula and "units" in given:
        raise SettingsError(f"structure.units is for one composition; give structure.atoms=[2, 8] for {formula}")
    if "repeated" in given and (BETWEEN in formula or structure.molecules):
        raise SettingsError("structure.repeated is for atoms of one composition, such as TiO2: leave it out here")
    if structure.molecules and structure.symmetric != fields["symmetric"].default:
        raise SettingsError("structure.symmetric is for atoms; new crystals of molecules always get a space group")
    if BETWEEN not in formula and (wrong := sorted(given - {"units", "repeated"})):
        raise SettingsError(
            f"structure.{wrong[0]} is for variable composition, such as Cu-Au; for one give structure.units=[2]"
        )
