"""Settings of molecular dynamics: ensembles as tagged unions, stop rules. Imports no torch."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from rutile.core.settings import Settings
from rutile.core.units import HOTTEST, Angstrom, EVPerAngstrom, Femtosecond, GigaPascal, Kelvin, Picosecond, Unit

Temperature = Annotated[Kelvin, Field(ge=0, le=HOTTEST)]
Warm = Annotated[Kelvin, Field(gt=0, le=HOTTEST)]
Pressure = Annotated[GigaPascal, Field(ge=-1000, le=1e5)]
StrainRate = Annotated[float, Unit("1/ps"), Field(ge=-100, le=100)]
CellFreedom = Literal["isotropic", "axes", "full"]


class Ensemble(Settings):
    """What all ensembles have."""

    MOVES_CELL: ClassVar[bool] = False
    """Whether the cell answers to a pressure."""

    @property
    def keeps_momentum(self) -> bool:
        """Whether the total momentum stays: then it is taken out, and takes three degrees of freedom with it."""
        return True


class NveSettings(Ensemble):
    """Constant energy: velocity Verlet (Swope et al. 1982)."""

    name: Literal["nve"] = "nve"
    temperature: Temperature = 300.0
    """Of the velocities at the start. A relaxed crystal keeps half of it: the rest becomes potential energy."""


class Thermal(Ensemble):
    """Ensembles with a temperature."""

    temperature: Warm = 300.0
    """Of the thermostat, and of the velocities at the start."""
    temperature_end: Warm | None = None
    """At the end of the run; the thermostat changes evenly. Default: it stays."""


class LangevinSettings(Thermal):
    """Constant temperature by friction and noise on each atom: BAOAB (Leimkuhler and Matthews 2013)."""

    name: Literal["langevin"] = "langevin"
    friction_time: Femtosecond = Field(default=100.0, gt=0)
    """1/gamma: time in which an atom forgets its velocity. Short: fast equilibration, slowed diffusion."""

    @property
    def keeps_momentum(self) -> bool:
        """Noise acts on each atom."""
        return False


class NoseHooverSettings(Thermal):
    """Constant temperature by a chain of thermostats without noise (Martyna, Klein and Tuckerman 1992)."""

    name: Literal["nose_hoover"] = "nose_hoover"
    thermostat_time: Femtosecond = Field(default=100.0, gt=0)
    """Time constant of the chain."""
    chain: int = Field(default=3, ge=2, le=10)
    """Thermostats in the chain."""


class CsvrSettings(Thermal):
    """Constant temperature by stochastic velocity rescaling (Bussi, Donadio and Parrinello 2007)."""

    name: Literal["csvr"] = "csvr"
    thermostat_time: Femtosecond = Field(default=100.0, gt=0)
    """Time in which the kinetic energy forgets. Diffusion is hardly disturbed."""


class Pressed(Thermal):
    """Ensembles with a temperature and a pressure; structures must be periodic in three directions."""

    MOVES_CELL: ClassVar[bool] = True

    pressure: Pressure = 0.0
    """Outer pressure, positive under compression."""
    pressure_end: Pressure | None = None
    """At the end of the run; it changes evenly. Default: it stays."""
    cell: CellFreedom = "isotropic"
    """What of the cell moves: isotropic: the size alone (liquids); axes: the lengths along x, y and z; full: lengths
    and angles (solids)."""
    thermostat_time: Femtosecond = Field(default=100.0, gt=0)
    """Time constant of the thermostat."""


class CellRescaleSettings(Pressed):
    """Constant temperature and pressure by stochastic rescaling of the cell (Bernetti and Bussi 2020)."""

    name: Literal["cell_rescale"] = "cell_rescale"
    barostat_time: Femtosecond = Field(default=500.0, gt=0)
    """Time in which the volume of matter with the compressibility below forgets."""
    compressibility: Annotated[float, Unit("1/GPa")] = Field(default=0.05, gt=0)
    """Roughly that of the matter: water 0.45, metals and oxides 0.005 to 0.05. Wrong by a factor of 10, the cell
    answers 10 times faster or slower, about the same mean."""
    thermostat: Literal["csvr", "langevin"] = "csvr"
    """csvr rescales all velocities; langevin acts on each atom, which small harmonic crystals need."""

    @property
    def keeps_momentum(self) -> bool:
        """If no noise acts on each atom."""
        return self.thermostat == "csvr"


class ParrinelloRahmanSettings(Pressed):
    """Constant temperature and pressure by a cell with a mass, without noise (Martyna, Tobias and Klein 1994)."""

    name: Literal["parrinello_rahman"] = "parrinello_rahman"
    barostat_time: Femtosecond = Field(default=1000.0, gt=0)
    """Period of the cell, roughly."""
    chain: int = Field(default=3, ge=2, le=10)
    """Thermostats in each of the two chains, of atoms and of the cell."""


AnyEnsemble = Annotated[
    NveSettings | LangevinSettings | NoseHooverSettings | CsvrSettings | CellRescaleSettings | ParrinelloRahmanSettings,
    Field(discriminator="name"),
]


class WatchSettings(Settings):
    """What ends the run of a structure; the others go on."""

    closest: Angstrom = Field(default=0.5, ge=0)
    """Two atoms nearer than this."""
    disagreement: EVPerAngstrom | None = Field(default=None, gt=0)
    """The members of a committee differ by this about the force on an atom: in the size of errors if the model is
    calibrated, else their standard deviation. Default: they may differ as they like."""
    hottest: Kelvin | None = Field(default=None, gt=0)
    """Hotter than this. Default: 20 times the highest temperature of the thermostat, and at least 1000."""
    growth: float = Field(default=8.0, gt=1)
    """Factor by which a cell may grow or shrink (dimensionless)."""


class MdSettings(Settings):
    """How to move atoms in time."""

    ensemble: AnyEnsemble = Field(default_factory=LangevinSettings)
    """What is held constant, and how."""
    time: Picosecond = Field(default=10.0, gt=0)
    """Length of the run."""
    timestep: Femtosecond = Field(default=1.0, gt=0, le=100)
    """Time step; 0.5 where hydrogen moves, 1 to 2 else, up to 5 for heavy atoms."""
    strain_rate: tuple[StrainRate, StrainRate, StrainRate, StrainRate, StrainRate, StrainRate] = (0, 0, 0, 0, 0, 0)
    """Deform the cell all along: rate of the logarithmic strain xx, yy, zz, yz, xz, xy. A barostat leaves the
    components alone that are given here."""
    watch: WatchSettings = Field(default_factory=WatchSettings)
    """When to stop."""
    seed: int = Field(default=0, ge=0)
    """Of velocities and noise."""

    @property
    def steps(self) -> int:
        """Time steps of the run, at least one."""
        return max(1, round(1000 * self.time / self.timestep))
