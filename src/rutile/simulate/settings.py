"""Settings of simulations. Imports no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from rutile.core.settings import Settings
from rutile.core.units import (
    HOTTEST,
    Angstrom,
    Bar,
    ElectronVolt,
    EVPerAngstrom,
    EVPerAngstrom2,
    EVPerAtom,
    Femtosecond,
    GigaPascal,
    Kelvin,
    Micrometre,
    Picosecond,
    Terahertz,
    Unit,
)

CellMode = Literal["none", "full", "isotropic", "volume", "height"]
Repeat = Annotated[int, Field(ge=1)]


class RelaxFire(Settings):
    """Fast inertial relaxation engine, FIRE 2.0 (Guenole et al. 2020): slower than L-BFGS, and hard to lead astray."""

    name: Literal["fire"] = "fire"


class RelaxLbfgs(Settings):
    """Limited-memory BFGS without line search. A structure that it leads uphill again and again goes on with FIRE."""

    name: Literal["lbfgs"] = "lbfgs"
    history: int = Field(default=12, ge=1, le=100)
    """Pairs of steps and changes of the forces that each structure remembers."""


RelaxOptimizer = Annotated[RelaxLbfgs | RelaxFire, Field(discriminator="name")]


class RelaxSettings(Settings):
    """How to relax structures to the nearest minimum of energy (or of enthalpy E + PV)."""

    fmax: EVPerAngstrom = Field(default=0.01, gt=0)
    """Relaxed when no atom feels a larger force than this."""
    cell: CellMode = "none"
    """What of the cell moves: none; full: all six strains; isotropic: the size alone; volume: the shape at fixed
    volume; height: its extension along z alone."""
    along: Literal["xyz", "z"] = "xyz"
    """Atoms move in all directions, or along z only (as over a stacking fault)."""
    pressure: GigaPascal = 0.0
    """Outer pressure, positive under compression; matters only when the cell moves."""
    smax: GigaPascal = Field(default=0.05, gt=0)
    """Relaxed when no stress component that may move differs more than this from the outer pressure."""
    max_steps: int = Field(default=1000, ge=0)
    """Give up on a structure after so many steps (0: only evaluate)."""
    max_move: Angstrom = Field(default=0.2, gt=0, le=1)
    """Longest move of an atom in one step."""
    closest: Angstrom = Field(default=0.5, gt=0)
    """A structure with two atoms nearer than this has failed: it fell into a hole of the potential."""
    keep_symmetry: bool = False
    """Each crystal keeps the space group that it is given with (atoms within 0.05 Å of symmetric places are put there
    first), also where a lower symmetry has less energy."""
    optimizer: RelaxOptimizer = RelaxLbfgs()
    """How structures are moved."""
    atoms_at_once: int | None = Field(default=None, ge=1)
    """Structures are moved together up to this many atoms; the next ones enter as relaxed ones leave. Default: up to a
    number of neighbours that suits the processor, or fills about half of the memory of a GPU."""


class PropertySettings(Settings):
    """What calculations of properties have in common: the minimum they start from, and the size of batches."""

    relax: bool = True
    """Relax each structure first, crystals together with their cell: properties are those of the minimum. Without it
    the structures are taken as they are."""
    fmax: EVPerAngstrom = Field(default=1e-3, gt=0)
    """Relaxed when no atom feels a larger force than this."""
    smax: GigaPascal = Field(default=0.01, gt=0)
    """Relaxed when no stress component differs more than this from 0."""
    max_steps: int = Field(default=2000, ge=0)
    """Give up on the relaxation of a structure after so many steps."""
    atoms_at_once: int = Field(default=2000, ge=1)
    """Structures are worked on together up to this many atoms."""


class EosSettings(PropertySettings):
    """Energy as a function of volume, and the equation of state through it."""

    span: float = Field(default=0.06, gt=0, lt=0.5)
    """Volumes reach from (1 - span) to (1 + span) times that of the start (dimensionless)."""
    points: int = Field(default=9, ge=5, le=1000)
    """Number of volumes."""
    inner: Literal["none", "atoms", "shape"] = "shape"
    """What relaxes at each volume: none (all is scaled), atoms, or shape: the atoms and the shape of the cell."""


class ElasticSettings(PropertySettings):
    """Elastic constants from the stress of strained cells."""

    strain: float = Field(default=2e-3, gt=0, lt=0.05)
    """Each of the six strains is made with both signs and this size (dimensionless)."""
    inner: Literal["none", "atoms"] = "atoms"
    """What relaxes in the strained cells: none (the constants are those of clamped atoms), or atoms."""
    symmetry: bool = True
    """Average the tensor over the operations of the crystal's point group."""


class LatticeSettings(PropertySettings):
    """What calculations of waves in crystals have in common."""

    born: Literal["model"] | Path | None = None
    """Charges whose field splits long optical waves along and across a direction: `model` (rigid_ion, anatase with
    electrostatics), or a file BORN of phonopy, for the primitive cell. Default: none, as is right for metals."""


class PhononSettings(LatticeSettings):
    """Phonons from small displacements in a supercell."""

    fmax: EVPerAngstrom = Field(default=1e-4, gt=0)
    """Relaxed when no atom feels a larger force than this: smaller than for other properties, since what is left spoils
    soft modes."""
    supercell: tuple[Repeat, Repeat, Repeat] | None = None
    """Repeats of the cell along its three vectors; without it as many as make each vector at least `length` long."""
    length: Angstrom = Field(default=12.0, gt=0)
    """Of the vectors of the supercell. Forces that reach farther than half of it fold back."""
    displacement: Angstrom = Field(default=0.01, gt=0, le=0.2)
    """Of one atom at a time; symmetry says which and where to."""
    mesh_length: Angstrom = Field(default=50.0, gt=0)
    """Wave vectors of the densities of states lie on a mesh of 2 pi / mesh_length."""
    band_points: int = Field(default=51, ge=2, le=10_000)
    """Wave vectors along each line of the band structure."""
    max_temperature: Kelvin = Field(default=1000.0, gt=0, le=HOTTEST)
    """Free energy, entropy and heat capacity are given from 0 K to here."""
    temperature_step: Kelvin = Field(default=20.0, gt=0)
    """Step of those temperatures."""
    imaginary: Terahertz = Field(default=0.05, gt=0)
    """A mode with an imaginary frequency larger than this is reported: the crystal gains energy by moving along it."""
    rough: bool = False
    """Go on although the potential says that its forces jump, which spoils small displacements."""


class ConductivitySettings(LatticeSettings):
    """Thermal conductivity from pairs of small displacements in a supercell."""

    fmax: EVPerAngstrom = Field(default=1e-4, gt=0)
    """Relaxed when no atom feels a larger force than this."""
    supercell: tuple[Repeat, Repeat, Repeat] | None = None
    """Repeats of the cell along its three vectors; without it as many as make each vector at least `length` long."""
    length: Angstrom = Field(default=10.0, gt=0)
    """Of the vectors of the supercell."""
    displacement: Angstrom = Field(default=0.03, gt=0, le=0.2)
    """Of one or two atoms at a time; symmetry says which and where to."""
    pair_cutoff: Angstrom | None = Field(default=None, gt=0)
    """Pairs farther apart are not displaced together: fewer supercells, shorter-ranged force constants of third order.
    Default: all pairs."""
    mesh: tuple[Repeat, Repeat, Repeat] | None = None
    """Wave vectors along each reciprocal vector; without it by `mesh_length`. Look at kappa with a finer one, too."""
    mesh_length: Angstrom = Field(default=50.0, gt=0)
    """Wave vectors lie on a mesh of 2 pi / mesh_length."""
    temperatures: list[Annotated[Kelvin, Field(gt=0, le=HOTTEST)]] = Field(
        default=[100.0, 200.0, 300.0, 400.0, 600.0, 800.0, 1000.0], min_length=1
    )
    """At which kappa is wanted."""
    method: Literal["rta", "direct"] = "rta"
    """rta: each mode has its relaxation time. direct: the linearised Boltzmann equation, where collisions that keep the
    momentum do not hinder the heat; more memory and time."""
    isotopes: bool = False
    """Natural isotopes scatter phonons, too."""
    boundary: Micrometre | None = Field(default=None, gt=0)
    """Phonons go no farther than this: the size of grains. Default: they do."""
    rough: bool = False
    """Go on although the potential says that its forces jump, which spoils small displacements."""


class ExpansionSettings(PhononSettings):
    """Thermal expansion in the quasi-harmonic approximation: phonons at several volumes."""

    shrink: float = Field(default=0.02, ge=0, lt=0.3)
    """The smallest volume is (1 - shrink) times that of the minimum (dimensionless)."""
    grow: float = Field(default=0.08, gt=0, lt=0.5)
    """The largest volume is (1 + grow) times that of the minimum (dimensionless)."""
    volumes: int = Field(default=7, ge=5)
    """Number of volumes."""
    inner: Literal["none", "atoms", "shape"] = "shape"
    """What relaxes at each volume: none (all is scaled), atoms, or shape: the atoms and the shape of the cell."""


class NebSettings(Settings):
    """How to relax a path between two minima: a nudged elastic band."""

    images: int = Field(default=7, ge=1)
    """Images between the two ends."""
    fmax: EVPerAngstrom = Field(default=0.03, gt=0)
    """Done when no atom of any image feels a larger force of the band than this."""
    climb: bool = True
    """The highest image climbs to the saddle point."""
    climb_below: EVPerAngstrom = Field(default=0.5, gt=0)
    """It begins to climb when the largest force is below this."""
    spring: EVPerAngstrom2 = Field(default=1.0, gt=0)
    """Strength of the springs between images."""
    guess: Literal["idpp", "linear"] = "idpp"
    """The path to begin with: distances between atoms, or positions, change evenly."""
    rattle: Angstrom = Field(default=0.0, ge=0, le=0.5)
    """Atoms between the ends of that path are displaced at random by so much: a path that begins on a ridge of high
    symmetry would stay there."""
    cell: bool = False
    """Cells change along the path: for transformations of crystals."""
    pressure: GigaPascal = 0.0
    """Outer pressure, positive under compression; matters only where cells change."""
    max_steps: int = Field(default=500, ge=0)
    """Give up on a path after so many steps."""
    max_move: Angstrom = Field(default=0.2, gt=0, le=1)
    """Longest move of an atom in one step."""
    closest: Angstrom = Field(default=0.5, gt=0)
    """A path with two atoms of an image nearer than this has failed."""
    keep_every: int = Field(default=20, ge=1)
    """Paths are kept every so many steps, to go on from."""


class SaddleSettings(Settings):
    """How to climb from a structure to a saddle point nearby: the dimer method."""

    fmax: EVPerAngstrom = Field(default=0.01, gt=0)
    """Done when no atom feels a larger force than this and the curvature is negative."""
    separation: Angstrom = Field(default=0.01, gt=0)
    """Distance of the two images of a dimer."""
    turns: int = Field(default=4, ge=1)
    """Turn a dimer at most so often before each step."""
    turned: EVPerAngstrom2 = Field(default=0.1, gt=0)
    """Do not turn it when the torque is below this."""
    max_steps: int = Field(default=500, ge=0)
    """Give up after so many steps."""
    max_move: Angstrom = Field(default=0.1, gt=0, le=1)
    """Longest move of an atom in one step."""
    closest: Angstrom = Field(default=0.5, gt=0)
    """A structure with two atoms nearer than this has failed."""


class SaddleSearchSettings(SaddleSettings):
    """Many climbs from minima, and what the saddle points found join."""

    fmax: EVPerAngstrom = Field(default=0.002, gt=0)
    """Done when no atom feels a larger force than this and the curvature is negative; soft modes need small forces for
    equal saddle points to be seen as one."""
    tries: int = Field(default=10, ge=1)
    """Searches from each structure, with atoms displaced at random."""
    centres: list[Annotated[int, Field(ge=0)]] = []
    """Atoms, counted from 0, around which atoms are displaced, in turn; empty: drawn at random of those that move."""
    directions: list[tuple[float, float, float]] = []
    """Instead of random displacements: directions (Cartesian, any length) along which each of the centres is pushed."""
    push: Angstrom = Field(default=0.3, gt=0, le=2)
    """How far the atom that goes farthest is displaced."""
    radius: Angstrom = Field(default=2.0, gt=0)
    """Displacements fall off like a normal distribution of this width around the centre."""
    seed: int = 0
    """Same seed, same searches."""
    nudge: Angstrom = Field(default=0.1, gt=0, le=1)
    """How far an atom is moved off a saddle point to each side before it relaxes downhill."""
    same: ElectronVolt = Field(default=0.002, gt=0)
    """Saddle points, or minima, of like neighbourhoods are one if their energies differ by less than this."""
    atoms_at_once: int = Field(default=2000, ge=1)
    """Searches are made together up to this many atoms, and kept when they are done."""


class VibrationSettings(PropertySettings):
    """Vibrations of molecules, or of some atoms in anything."""

    fmax: EVPerAngstrom = Field(default=1e-4, gt=0)
    """Relaxed when no atom feels a larger force than this: smaller than for other properties, since what is left spoils
    soft modes."""
    displacement: Angstrom = Field(default=0.005, gt=0, le=0.1)
    """Each free atom is displaced so far to both sides along each axis."""
    temperature: Kelvin = Field(default=298.15, gt=0, le=HOTTEST)
    """Of the free energies."""
    gas_pressure: Bar = Field(default=1.0, gt=0)
    """Of the ideal gas that free molecules make."""
    symmetry_number: int | None = Field(default=None, ge=1)
    """Rotations of the molecule that leave it as it is; without it they are found."""
    spin: float = Field(default=0.0, ge=0, multiple_of=0.5)
    """Total spin S of the electrons: 2 S + 1 states (dimensionless)."""
    rough: bool = False
    """Go on although the potential says that its forces jump, which spoils small displacements."""


class SurfaceSettings(PropertySettings):
    """Surface energies from slabs, and the shape of the crystal."""

    miller: tuple[tuple[int, int, int], ...] = ()
    """Miller indices, of the conventional cell; empty: all up to max_index that symmetry does not make equal."""
    max_index: int = Field(default=1, ge=1, le=3)
    """Largest Miller index."""
    thickness: Angstrom = Field(default=14.0, gt=0)
    """Least thickness of the slabs."""
    vacuum: Angstrom = Field(default=12.0, gt=0)
    """Empty space between a slab and its image."""
    inner: Literal["none", "atoms"] = "atoms"
    """What relaxes in the slabs: none (the energies are those of surfaces as cut), or atoms."""


class DefectSettings(PropertySettings):
    """Formation energies of vacancies and interstitial atoms."""

    kinds: tuple[Literal["vacancy", "interstitial"], ...] = Field(default=("vacancy",), min_length=1)
    """Which defects."""
    supercell: tuple[Repeat, Repeat, Repeat] | None = None
    """Repeats of the cell along its three vectors; without it as many as make each vector at least `length` long."""
    length: Angstrom = Field(default=10.0, gt=0)
    """Of the vectors of the supercell."""
    insert: tuple[str, ...] = ()
    """Elements of interstitial atoms; empty: those of the crystal."""
    sites: int = Field(default=4, ge=1)
    """Interstitial sites that are tried, the widest first."""
    references: dict[str, ElectronVolt] = {}
    """Chemical potentials by element, such as {O: -4.9}; of a crystal of one element its energy if not given."""


class FaultSettings(PropertySettings):
    """Energies of generalised stacking faults: one half of a crystal shifted over the other."""

    fmax: EVPerAngstrom = Field(default=5e-3, gt=0)
    """Relaxed when no atom feels a larger force along the normal than this."""
    smax: GigaPascal = Field(default=0.05, gt=0)
    """Relaxed when the stress along the normal (of the crystal: no stress) is below this."""
    planes: tuple[tuple[int, int, int], ...] = ()
    """Planes of the faults, of the conventional cell; empty: {111} of fcc, {110} and {112} of bcc, basal of hcp."""
    directions: tuple[tuple[int, int, int], ...] = ()
    """Direction [u v w] of the shift in each of the planes, of the conventional cell; empty: the usual ones."""
    points: int = Field(default=13, ge=5, le=1000)
    """Shifts along each direction, from none to a whole period; 13 have the third parts that faults often sit at."""
    grid: tuple[Repeat, Repeat] | None = None
    """Also all shifts in each plane, so many along both of its vectors: a surface of energies."""
    thickness: Angstrom = Field(default=20.0, gt=0)
    """Least distance between a fault and its image."""
    cut: int = Field(default=0, ge=0)
    """Between which planes of atoms: number of the gap, the widest first."""
    inner: Literal["none", "atoms"] = "atoms"
    """What relaxes over a fault: none (all is shifted as it is), or atoms: along the normal, with the height."""


class BoundaryEnergySettings(PropertySettings):
    """Energies of grain boundaries of cubic crystals."""

    fmax: EVPerAngstrom = Field(default=0.01, gt=0)
    """Relaxed when no atom feels a larger force than this: less than for other properties, since there are many starts,
    and most of them are only to lose."""
    smax: GigaPascal = Field(default=0.05, gt=0)
    """Relaxed when the stress along the normal of the boundary (of the crystal: no stress) is below this."""
    kind: Literal["tilt", "twist"] = "tilt"
    """tilt: the boundary holds the axis and is a mirror of both grains. twist: it is normal to the axis."""
    axes: tuple[tuple[int, int, int], ...] = Field(default=((0, 0, 1),), min_length=1)
    """Axes about which one grain is turned."""
    sigma: int = Field(default=5, ge=3, le=101)
    """Largest Sigma: one in so many lattice sites is common to both grains."""
    planes: tuple[tuple[int, int, int], ...] = ()
    """Planes of tilt boundaries, whatever their Sigma; empty: all up to sigma that symmetry does not make equal."""
    thickness: Angstrom = Field(default=8.0, gt=0)
    """Least thickness of each of the two grains."""
    shifts: tuple[int, int] = (10, 4)
    """Shifts of one grain along the two vectors of the plane that are tried; even numbers, since many minima lie at
    one half."""
    gaps: tuple[Angstrom, ...] = Field(default=(0.2,), min_length=1)
    """Extra space at each boundary to begin with."""
    merge: float = Field(default=0.7, ge=0, lt=1)
    """Atoms nearer than this part of the bond length of the crystal become one (dimensionless)."""
    rounds: int = Field(default=10, ge=1)
    """The length of the cell is adjusted at most so often."""


class HullSettings(PropertySettings):
    """The convex hull of energies over composition."""

    references: dict[str, EVPerAtom] = {}
    """Energies of elements that have no structure of their own among those given, such as {O: -4.9}."""


class MeltSettings(Settings):
    """Melting points from crystal and liquid side by side."""

    lowest: Kelvin = Field(gt=0, le=HOTTEST)
    """Lowest temperature of the first round."""
    highest: Kelvin = Field(gt=0, le=HOTTEST)
    """Highest temperature of the first round. If all of it froze, or melted, the next round goes on beyond."""
    runs: int = Field(default=5, ge=2)
    """Temperatures of each round; they run together, as one batch."""
    rounds: int = Field(default=3, ge=1)
    """At most so many; each divides what is left by runs + 1."""
    within: Kelvin = Field(default=10.0, gt=0)
    """The melting point is known well enough with this error."""
    pressure: GigaPascal = 0.0
    """Outer pressure."""
    atoms: int = Field(default=1000, ge=32)
    """Size of the box, about; it is twice as long along the third vector of the cell as it is wide."""
    crystal_time: Picosecond = Field(default=5.0, gt=0)
    """For the crystal to reach its temperature and volume."""
    melt_time: Picosecond = Field(default=10.0, gt=0)
    """For half of it to melt, and to cool down to the temperature."""
    time: Picosecond = Field(default=100.0, gt=0)
    """For crystal or liquid to grow; runs that are decided earlier end earlier."""
    hot: float = Field(default=2.5, gt=1)
    """The half is melted at this times the highest temperature of its round (dimensionless)."""
    expansion: float = Field(default=0.06, ge=0, lt=1)
    """Room that the half gets before it melts, in parts of its volume (dimensionless): metals 0.06, argon 0.15."""
    timestep: Femtosecond = Field(default=2.0, gt=0, le=100)
    """Time step."""
    friction_time: Femtosecond = Field(default=500.0, gt=0)
    """1/gamma of the friction and noise that carry the latent heat away."""
    barostat_time: Femtosecond = Field(default=1000.0, gt=0)
    """In which the lengths of the box forget."""
    compressibility: Annotated[float, Unit("1/GPa")] = Field(default=0.01, gt=0)
    """Roughly that of the crystal: metals and oxides 0.005 to 0.02, argon 0.5."""
    look: Picosecond = Field(default=0.5, gt=0)
    """Time between two looks at the order."""
    seed: int = Field(default=0, ge=0)
    """Of velocities and noise."""
