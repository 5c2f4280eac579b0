"""Settings of molecules on surfaces and in frameworks. Imports no torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from rutile.core.settings import Settings
from rutile.core.units import Angstrom, Degree, ElectronVolt, EVPerAngstrom

Count = Annotated[int, Field(ge=1)]


class AdsorbSettings(Settings):
    """Where molecules are put on slabs, and what their energies count from."""

    sites: tuple[Literal["top", "bridge", "hollow"], ...] = Field(default=("top", "bridge", "hollow"), min_length=1)
    """Kinds of places that are tried, each that symmetry does not make equal to another."""
    depth: Angstrom | None = Field(default=None, gt=0)
    """Atoms so deep below the highest atom make the surface; null: those of the highest plane. 1.5 for oxides whose
    metal atoms lie below the oxygen."""
    heights: tuple[Angstrom, ...] = ()
    """Heights of the lowest atom above the atoms of its site that are tried; empty: one, as the radii of atoms say."""
    tilts: tuple[Degree, ...] = Field(default=(0.0,), min_length=1)
    """Angles by which molecules are tilted, from each of their principal axes upright, either end down."""
    turns: int = Field(default=2, ge=1)
    """Angles about the normal that are tried, evenly over half a turn."""
    shift: Angstrom = Field(default=0.15, ge=0)
    """Each molecule begins so far beside its site, so that none stays on a saddle point for the sake of symmetry."""
    together: tuple[tuple[str, ...], ...] = ()
    """Adsorbates that lie on one slab together, such as [[CO, O], [O, O, O]]: combinations of their minima alone."""
    minima: int = Field(default=2, ge=1)
    """So many of the lowest minima of each adsorbate alone, and their images by symmetry, are combined."""
    combinations: int = Field(default=30, ge=1)
    """At most so many combinations of each set are relaxed, drawn at random from those where no two atoms are too
    near."""
    reference: Literal["molecule", "atoms"] = "molecule"
    """What energies count from: the relaxed molecule, or its atoms one by one, each alone."""
    references: dict[str, str | ElectronVolt] = {}
    """Instead, by adsorbate: molecules with factors, such as {O: 0.5 O2, OH: H2O - 0.5 H2}, or an energy (eV)."""
    desorbed: Angstrom = Field(default=3.5, gt=0)
    """A molecule no atom of which is so near to the slab has desorbed."""
    same: ElectronVolt = Field(default=0.005, gt=0)
    """Minima are one if their energies differ by less, and their geometries by little."""
    fmax: EVPerAngstrom = Field(default=0.01, gt=0)
    """Relaxed when no atom feels a larger force than this."""
    max_steps: int = Field(default=1000, ge=0)
    """Give up on the relaxation of a structure after so many steps."""
    seed: int = 0
    """Of conformers of SMILES and of combinations."""


class BindSettings(Settings):
    """How guests are put into frameworks."""

    counts: tuple[Count, ...] = Field(default=(1,), min_length=1)
    """Numbers of guests in a host, each by itself: 1,2,6."""
    starts: int = Field(default=8, ge=1)
    """Structures to begin with, for each host, guest and number; the lowest minimum counts."""
    open_sites: bool = True
    """Half of the starts have guests at metal atoms that lack a neighbour, as long as there are such; all others are
    at random."""
    apart: float = Field(default=1.7, gt=0)
    """Guests at random come no nearer to anything than this times the sum of the covalent radii (dimensionless)."""
    held: bool = False
    """The atoms of the hosts stay where they are: for force fields that know guests only."""
    dispersion: Literal["pbe", "r2scan"] | None = "pbe"
    """Everything is done a second time with D3(BJ) of this functional added to the model; null: it is not, as for a
    model that has D3 in it."""
    fmax: EVPerAngstrom = Field(default=0.02, gt=0)
    """Relaxed when no atom feels a larger force than this."""
    max_steps: int = Field(default=1000, ge=0)
    """Give up on the relaxation of a structure after so many steps."""
    seed: int = 0
    """Of the starts, and of conformers of SMILES."""
