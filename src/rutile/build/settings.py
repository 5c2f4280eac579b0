"""Settings of the builders of structures: one class for each, told apart by `name`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from rutile.build.forces_settings import CrystalForces, MmffForces, MoleculeForces
from rutile.core.elements import number
from rutile.core.errors import ElementError
from rutile.core.settings import Settings
from rutile.core.units import HOTTEST, Angstrom, Femtosecond, GramPerCubicCentimetre, Kelvin, Unit


def _element(name: str) -> str:
    try:
        number(name)
    except ElementError as error:
        raise ValueError(str(error)) from None
    return name


def _formula(text: str) -> str:
    from ase.formula import Formula

    try:
        counts = Formula(text).count()
    except ValueError:
        counts = {}
    if not counts:
        raise ValueError(f"{text!r} is no formula such as TiO2")
    for name in counts:
        _element(name)
    return text


def _rising(span: tuple[float, float]) -> tuple[float, float]:
    if span[0] > span[1]:
        raise ValueError(f"from {span[0]:g} to {span[1]:g}: the first must not be the larger one")
    return span


Element = Annotated[str, AfterValidator(_element)]
"""Symbol of an element."""
FormulaText = Annotated[str, AfterValidator(_formula)]
"""Chemical formula."""
Positive = Annotated[float, Field(gt=0)]
Zero = Annotated[float, Field(ge=0)]
Factors = Annotated[tuple[Positive, Positive], AfterValidator(_rising)]
"""From ... to, without dimension."""
Share = Annotated[float, Field(ge=0, le=1)]
"""A part of something, 0 to 1."""
Lengths = Annotated[tuple[Annotated[Angstrom, Field(ge=0)], Annotated[Angstrom, Field(ge=0)]], AfterValidator(_rising)]
Density = Annotated[GramPerCubicCentimetre, Field(gt=0)]
Densities = Annotated[tuple[Density, Density], AfterValidator(_rising)]
Hot = Annotated[Kelvin, Field(gt=0, le=HOTTEST)]
Temperatures = Annotated[tuple[Hot, Hot], AfterValidator(_rising)]
Sizes = Annotated[
    tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]],
    AfterValidator(_rising),
]
"""Numbers of atoms from ... to."""
Volume = Annotated[float, Unit("Å³/atom")]
Miller = tuple[int, int, int]
Prototype = Literal[
    "sc", "bcc", "fcc", "hcp", "dhcp", "diamond", "beta_tin", "graphite", "simple_hexagonal", "a15",
    "rocksalt", "cesium_chloride", "zincblende", "wurtzite", "nickel_arsenide", "l1_0",
    "fluorite", "rutile", "anatase", "brookite", "columbite", "cadmium_iodide", "pyrite", "cristobalite", "laves_c15",
    "molybdenum_disilicide", "l1_2", "rhenium_trioxide", "d0_3", "corundum",
    "half_heusler", "heusler", "perovskite", "spinel",
]  # fmt: skip
"""Kinds of crystals by their usual names."""


class Guards(Settings):
    """What a structure must be like to be kept."""

    closest: float = Field(default=0.7, ge=0, le=1)
    """Two atoms come no nearer than this part of the sum of their covalent radii; 0.5 for sets of high energy."""
    volume: Factors | None = (0.6, 2.0)
    """Volume per atom relative to that of the parent, or to an estimate from the composition where there is no parent;
    of structures periodic in three directions without vacuum. null: any."""
    atoms: int = Field(default=200, ge=1)
    """Largest number of atoms."""
    attempts: int = Field(default=20, ge=1)
    """How often a structure is drawn anew when it is refused or was made before."""


class StepSettings(Settings):
    """What all builders have."""

    label: str = Field(default="", pattern=r"^[^\s\"'=]*$")
    """Name of these structures in the file (config_type); default: the name of the builder."""
    count: int | None = Field(default=None, ge=1)
    """How many structures; null: all where they can be counted (dimers), else 100. Parents take turns."""
    guards: Guards = Guards()
    """What is refused."""

    @property
    def builder(self) -> str:
        """Name of the builder."""
        return str(getattr(self, "name", ""))

    @property
    def title(self) -> str:
        """Name of these structures."""
        return self.label or self.builder


class CrystalSource(Settings):
    """Crystals to begin with: from files, prototypes filled with elements, or both."""

    files: list[Path] = Field(default=[])
    """Files, folders or patterns of crystals (CIF, POSCAR, extxyz, ...)."""
    elements: tuple[Element, ...] = ()
    """Elements that fill the prototypes; one that is named twice fills two sites (wurtzite of [Si, Si] is hexagonal
    diamond)."""
    prototypes: tuple[Prototype, ...] = ()
    """Kinds of crystals; empty: all that have as many different sites as there are elements, or fewer."""
    order: Literal["given", "all"] = "given"
    """given: the first site takes the element that was given first (elements=[Ti, O]: TiO2). all: every way."""
    volume: Volume | None = Field(default=None, gt=0)
    """Volume of the prototypes; null: pure elements have the bond length of their known crystal, compounds bonds as
    long as the sum of the covalent radii."""

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not self.files and not self.elements:
            raise ValueError("no crystals: give files=[...], or elements=[...] for prototypes")
        return self


class MoleculeSource(Settings):
    """Molecules to begin with."""

    smiles: tuple[str, ...] = ()
    """Molecules as SMILES, such as CCO; needs the package rdkit."""
    names: tuple[str, ...] = ()
    """Molecules that ASE knows, such as H2O, CO, CH3OH (the G2 set)."""
    files: list[Path] = Field(default=[])
    """Files of molecules."""
    conformers: int = Field(default=1, ge=1)
    """Conformers of each SMILES."""

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not (self.smiles or self.names or self.files):
            raise ValueError("no molecules: give smiles=[...], names=[...] or files=[...]")
        return self


class DimerSettings(StepSettings):
    """Two atoms in vacuum: every pair of elements on a grid of distances."""

    name: Literal["dimer"] = "dimer"
    elements: tuple[Element, ...] = Field(min_length=1)
    """All pairs of these, also of an element with itself."""
    shortest: float = Field(default=0.5, gt=0)
    """Shortest distance, relative to the sum of the covalent radii."""
    longest_distance: Angstrom = Field(default=6.0, gt=0)
    """Longest distance."""
    points: int = Field(default=30, ge=2)
    """Distances of each pair, evenly in the logarithm."""
    guards: Guards = Guards(closest=0.0)
    """What is refused."""


class BulkSettings(StepSettings):
    """Crystals, pristine and disturbed: volume, strain, displacements, vacancies, interstitials, other elements."""

    name: Literal["bulk"] = "bulk"
    crystals: CrystalSource
    """Where they come from. The first structure of each is the crystal itself."""
    atoms: int = Field(default=32, ge=1)
    """Cells are repeated at random up to so many atoms."""
    scale: Factors = (0.92, 1.08)
    """All lengths are scaled by a factor between these."""
    strain: Annotated[tuple[Share, Share], AfterValidator(_rising)] = (0.0, 0.05)
    """Standard deviation of the components of a random symmetric strain, drawn between these."""
    rattle: Lengths = (0.02, 0.3)
    """Standard deviation of the displacements of atoms in each direction, drawn between these."""
    vacancies: Share = 0.0
    """At most this part of the atoms is taken out (where it is above 0, one at least may be)."""
    interstitials: int = Field(default=0, ge=0)
    """At most so many atoms of the crystal's elements are put into its largest holes."""
    swaps: Share = 0.0
    """At most this part of the atoms changes places with an atom of another element."""
    substitute: dict[Element, tuple[Element, ...]] = {}
    """Elements and what may stand for them, such as {Ti: [Zr, Hf]}."""
    substituted: Share = 1.0
    """At most this part of the atoms of such an element is substituted."""


class SlabSettings(StepSettings):
    """Surfaces: slabs by Miller index with every termination, as cut and disturbed."""

    name: Literal["slab"] = "slab"
    crystals: CrystalSource
    """Where they are cut from. The first structure of each termination is the slab as cut."""
    miller: tuple[Miller, ...] = ()
    """Miller indices, of the cell as given in files and of the conventional cell of prototypes; empty: all up to
    max_index that symmetry does not make equal."""
    max_index: int = Field(default=1, ge=1, le=3)
    """Largest Miller index."""
    terminations: Literal["all", "stoichiometric", "symmetric"] = "all"
    """stoichiometric: the composition of the crystal. symmetric: both sides alike. all: either."""
    thickness: Lengths = (6.0, 15.0)
    """Thickness of the slabs: the least that the termination allows between these."""
    vacuum: Lengths = (10.0, 12.0)
    """Empty space, drawn between these."""
    atoms: int = Field(default=64, ge=1)
    """Slabs are repeated along the surface at random up to so many atoms."""
    rattle: Lengths = (0.02, 0.2)
    """Standard deviation of the displacements of atoms in each direction, drawn between these."""
    missing_rows: Share = 0.2
    """Part of the slabs whose upper side lacks a row of atoms."""
    steps: Share = 0.2
    """Part of the slabs whose upper side has a terrace between two steps."""


class ClusterSettings(StepSettings):
    """Clusters and nanoparticles in vacuum: icosahedra, decahedra, octahedra, Wulff shapes, and random heaps."""

    name: Literal["cluster"] = "cluster"
    elements: tuple[Element, ...] = Field(min_length=1)
    """Elements."""
    shapes: tuple[Literal["icosahedron", "decahedron", "octahedron", "wulff", "random"], ...] = (
        "icosahedron", "decahedron", "octahedron", "wulff", "random",
    )  # fmt: skip
    """Shapes."""
    mixed: bool = False
    """Fill each cluster with several elements at random; false: pure ones only."""
    atoms: Sizes = (2, 60)
    """Numbers of atoms."""
    scale: Factors = (0.95, 1.05)
    """All lengths are scaled by a factor between these."""
    rattle: Lengths = (0.0, 0.3)
    """Standard deviation of the displacements of atoms in each direction, drawn between these."""


class AdsorptionSettings(StepSettings):
    """Molecules or atoms on surfaces: on top, on bridges and in hollows, turned and at several heights."""

    name: Literal["adsorption"] = "adsorption"
    crystals: CrystalSource
    """Where the slabs are cut from."""
    molecules: MoleculeSource
    """What lies on them (names=[O] is an atom)."""
    miller: tuple[Miller, ...] = ()
    """Miller indices; empty: all up to max_index that symmetry does not make equal."""
    max_index: int = Field(default=1, ge=1, le=3)
    """Largest Miller index."""
    thickness: Lengths = (5.0, 12.0)
    """Thickness of the slabs."""
    vacuum: Lengths = (12.0, 14.0)
    """Empty space above the slab without molecules."""
    atoms: int = Field(default=64, ge=1)
    """Slabs are repeated along the surface up to so many atoms."""
    sites: tuple[Literal["top", "bridge", "hollow", "random"], ...] = ("top", "bridge", "hollow")
    """Where on the surface."""
    height: Lengths = (1.0, 3.0)
    """Of the lowest atom above the highest atom of the slab, drawn between these."""
    pulled: Share = 0.1
    """Part of the structures with the molecule pulled off, up to pulled_height."""
    pulled_height: Angstrom = Field(default=6.0, gt=0)
    """Largest height of a molecule that was pulled off."""
    molecules_at_most: int = Field(default=1, ge=1)
    """Molecules on a slab, 1 to this number."""
    rattle: Lengths = (0.0, 0.1)
    """Standard deviation of the displacements of all atoms in each direction, drawn between these."""


class DissociationSettings(StepSettings):
    """Molecules of two atoms that fall apart on a surface: beginning and end of a reaction path, with a promoter."""

    name: Literal["dissociation"] = "dissociation"
    crystals: CrystalSource
    """Where the slabs are cut from."""
    miller: tuple[Miller, ...] = Field(default=((1, 1, 1),), min_length=1)
    """Miller indices, of the cell as given in files and of the conventional cell of prototypes."""
    molecule: str = "CO"
    """A molecule of two atoms that ASE knows; the lighter atom stands on the surface."""
    promoter: Element | None = None
    """An element beside the place where the molecule falls apart; null: none."""
    place: Literal["substituted", "adsorbed"] = "substituted"
    """The promoter stands for the metal atom nearest to where the second atom ends, or lies in a hollow beside it."""
    thickness: Lengths = (3.5, 12.0)
    """Thickness of the slabs: the least that the surface allows between these."""
    width: Angstrom = Field(default=7.0, gt=0)
    """Least lengths of the slab along the surface."""
    vacuum: Angstrom = Field(default=12.0, gt=0)
    """Empty space above the molecule."""
    guards: Guards = Guards(closest=0.6)
    """What is refused."""


class BoundarySettings(StepSettings):
    """Grain boundaries of cubic crystals: twist and symmetric tilt, by coincidence sites."""

    name: Literal["boundary"] = "boundary"
    crystals: CrystalSource
    """Cubic crystals; others are refused."""
    axes: tuple[Miller, ...] = ((0, 0, 1), (0, 1, 1), (1, 1, 1))
    """Axes about which one grain is turned."""
    sigma: int = Field(default=9, ge=3, le=101)
    """Largest Sigma: one in so many lattice sites is common to both grains."""
    kinds: tuple[Literal["tilt", "twist"], ...] = ("tilt", "twist")
    """tilt: the boundary holds the axis and is a mirror of both grains. twist: the boundary is normal to the axis."""
    thickness: Angstrom = Field(default=8.0, gt=0)
    """Least thickness of each of the two grains."""
    gap: Lengths = (0.0, 0.5)
    """Extra space at each boundary, drawn between these."""
    merge: Share = 0.7
    """Atoms nearer than this part of the bond length of the crystal become one, at their middle (in compounds, one of
    two is taken out)."""
    rattle: Lengths = (0.0, 0.1)
    """Standard deviation of the displacements of atoms in each direction, drawn between these."""


class AlloySettings(StepSettings):
    """Solid solutions: elements at random on a lattice, or special quasi-random structures."""

    name: Literal["alloy"] = "alloy"
    elements: tuple[Element, ...] = Field(min_length=2)
    """Elements."""
    lattices: tuple[Literal["fcc", "bcc", "hcp"], ...] = ("fcc", "bcc", "hcp")
    """Lattices."""
    composition: dict[Element, Positive] = {}
    """Parts of the elements, such as {Cu: 3, Au: 1}; empty: any, evenly distributed."""
    arrangement: Literal["random", "sqs"] = "random"
    """random: each as it comes. sqs: special quasi-random, with pair correlations as near to those of an endless random
    alloy as the cell allows; needs the package icet."""
    atoms: Sizes = (8, 32)
    """Numbers of atoms."""
    shells: int = Field(default=3, ge=1, le=8)
    """Shells of neighbours whose correlations sqs looks at."""
    iterations: int = Field(default=2000, ge=1)
    """Steps of the annealing of sqs."""
    scale: Factors = (0.95, 1.05)
    """All lengths are scaled by a factor between these; 1 is the mean volume of the elements."""
    rattle: Lengths = (0.0, 0.2)
    """Standard deviation of the displacements of atoms in each direction, drawn between these."""


class Melt(Settings):
    """Molecular dynamics at constant volume (Langevin) from a random packing, and what is kept of it."""

    forces: CrystalForces
    """What moves the atoms."""
    temperature: Temperatures = (1000.0, 5000.0)
    """Temperature of the melt, drawn between these."""
    time: Femtosecond = Field(default=1000.0, gt=0)
    """Duration at that temperature."""
    quench_time: Femtosecond = Field(default=1000.0, ge=0)
    """Duration of the cooling to quench_temperature; 0: the melt is kept as it is."""
    quench_temperature: Kelvin = Field(default=300.0, gt=0, le=HOTTEST)
    """Temperature at the end of the cooling."""
    timestep: Femtosecond = Field(default=1.0, gt=0, le=100)
    """Time step."""
    friction_time: Femtosecond = Field(default=50.0, gt=0)
    """Time in which the thermostat takes and gives energy."""
    snapshots: int = Field(default=5, ge=1)
    """Structures from each run: evenly spaced, the last one at its end."""


class DisorderSettings(StepSettings):
    """Disordered matter: atoms packed at random and pushed apart; melted and quenched if forces are given."""

    name: Literal["disorder"] = "disorder"
    formulas: tuple[FormulaText, ...] = ()
    """Compositions, such as [TiO2, Ti2O3]."""
    elements: tuple[Element, ...] = ()
    """Elements of random compositions, where no formulas are given."""
    atoms: Sizes = (8, 64)
    """Numbers of atoms, as whole formulas."""
    density: Factors = (0.5, 1.5)
    """Density relative to the reference volume, drawn between these."""
    volume: Volume | None = Field(default=None, gt=0)
    """Reference volume; null: the mean of pure elements, or an estimate for compounds."""
    packing: Share = 0.85
    """Atoms are pushed apart to this part of the sum of their covalent radii."""
    melt: Melt | None = None
    """Melt and quench; null: packings only."""

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not (self.formulas or self.elements):
            raise ValueError("no composition: give formulas=[...] or elements=[...]")
        return self


class RandomCrystalSettings(StepSettings):
    """Random crystals with the symmetry of a space group."""

    name: Literal["random_crystal"] = "random_crystal"
    formulas: tuple[FormulaText, ...] = Field(min_length=1)
    """Compositions, such as [TiO2]."""
    atoms: Sizes = (2, 24)
    """Numbers of atoms of the primitive cell, as whole formulas."""
    groups: tuple[Annotated[int, Field(ge=1, le=230)], Annotated[int, Field(ge=1, le=230)]] = (2, 230)
    """Numbers of the space groups from ... to."""
    density: Factors = (0.7, 1.3)
    """Density relative to the reference volume, drawn between these."""
    volume: Volume | None = Field(default=None, gt=0)
    """Reference volume; null: an estimate from the composition."""


class NormalModes(Settings):
    """Displacements along normal modes (Smith, Isayev, Roitberg 2017)."""

    forces: MoleculeForces = MmffForces()
    """Relaxes the molecule and gives its Hessian."""
    temperature: Temperatures = (300.0, 2000.0)
    """Temperature, drawn between these."""
    largest_displacement: Angstrom = Field(default=2.0, gt=0)
    """Structures with an atom that moved farther are refused."""


class MoleculeSettings(StepSettings):
    """Molecules: conformers, displaced along normal modes, with turned and stretched bonds."""

    name: Literal["molecule"] = "molecule"
    molecules: MoleculeSource
    """Where they come from. The first structure of each is the molecule itself."""
    modes: NormalModes | None = NormalModes()
    """Normal-mode sampling of every structure but the first; null: none."""
    torsions: Share = 0.0
    """Part of the structures in which bonds were turned at random."""
    stretched: Share = 0.0
    """Part of the structures in which a bond was stretched or broken."""
    stretch: Factors = (0.6, 2.5)
    """Length of such a bond, relative to what it was, drawn between these."""
    rattle: Lengths = (0.0, 0.0)
    """Standard deviation of further displacements of atoms in each direction, drawn between these."""
    guards: Guards = Guards(closest=0.6)
    """What is refused."""


class LiquidSettings(StepSettings):
    """Liquids and gases: whole molecules at random in a cubic box of a given density, turned and pushed apart."""

    name: Literal["liquid"] = "liquid"
    smiles: dict[str, Positive] = {}
    """Molecules as SMILES and how many of each, or their parts: {CCO: 1, O: 3} is ethanol with three times as much
    water; needs the package rdkit."""
    names: dict[str, Positive] = {}
    """The same of molecules that ASE knows, such as {H2O: 64}."""
    files: dict[str, Positive] = {}
    """The same of files of a molecule."""
    molecules: Sizes | None = None
    """Number of molecules in a box, drawn between these; the numbers above then are parts (mole fractions). null: they
    are the numbers of molecules themselves."""
    density: Densities = (1.0, 1.0)
    """Drawn between these."""
    conformers: int = Field(default=1, ge=1)
    """Conformers of each SMILES, drawn at random."""
    apart: float = Field(default=0.75, gt=0, le=1)
    """Atoms of different molecules are pushed apart to this part of the sum of their van der Waals radii
    (dimensionless)."""
    guards: Guards = Guards(closest=0.6, atoms=2000, volume=None)
    """What is refused."""

    @model_validator(mode="after")
    def _something(self) -> Self:
        given = {**self.smiles, **self.names, **self.files}
        if not given:
            raise ValueError("no molecules: give smiles={CCO: 1, O: 3}, names={H2O: 64} or files={water.xyz: 64}")
        if self.molecules is None and (odd := [n for n in given.values() if n != int(n)]):
            raise ValueError(f"{odd[0]:g} is no number of molecules; for parts say molecules=[64,64]")
        return self


AnyBuilder = Annotated[
    MoleculeSettings
    | DimerSettings
    | BulkSettings
    | SlabSettings
    | ClusterSettings
    | AdsorptionSettings
    | DissociationSettings
    | BoundarySettings
    | AlloySettings
    | DisorderSettings
    | RandomCrystalSettings
    | LiquidSettings,
    Field(discriminator="name"),
]
"""Settings of any builder."""
