"""Units: eV, Angstrom, amu, e, fs, K, eV/Angstrom, eV/Angstrom^3 inside; conversion happens once, at the edges.

`Annotated[float, Unit("eV/Å")]` carries a unit from a class of settings or results to help, schema, form and tables.
"""

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import GetJsonSchemaHandler
from pydantic_core import CoreSchema

HBAR = 0.6582119569
"""Reduced Planck constant (eV fs)."""
KB = 8.617333262e-5
"""Boltzmann constant (eV/K)."""
COULOMB = 14.3996454784
"""e^2 / (4 pi epsilon_0) (eV Angstrom)."""
BOHR = 0.529177210903
"""Bohr radius (Angstrom)."""
HARTREE = 27.211386245988
"""Hartree (eV)."""
ACCELERATION = 9.648533215665e-3
"""1 eV/Angstrom/amu in Angstrom/fs^2."""
GPA = 1.0 / 160.2176634
"""1 GPa in eV/Angstrom^3."""
JOULE_PER_M2 = 0.1 / GPA
"""1 eV/Angstrom^2 in J/m^2."""


@dataclass(frozen=True)
class Unit:
    """The unit of a setting or of a result, shown in help and schema under the key `unit`."""

    symbol: str

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Add the unit to the JSON schema of the field."""
        out = handler(schema)
        out["unit"] = self.symbol
        return out


Angstrom = Annotated[float, Unit("Å")]
ElectronVolt = Annotated[float, Unit("eV")]
MilliElectronVolt = Annotated[float, Unit("meV")]
EVPerAtom = Annotated[float, Unit("eV/atom")]
EVPerAngstrom = Annotated[float, Unit("eV/Å")]
EVPerAngstrom2 = Annotated[float, Unit("eV/Å²")]
EVPerAngstrom3 = Annotated[float, Unit("eV/Å³")]
Kelvin = Annotated[float, Unit("K")]
HOTTEST = 1e5
"""No setting takes a higher temperature (K): at ten times as much every bond is long broken and electrons are free."""
Femtosecond = Annotated[float, Unit("fs")]
WaveNumber = Annotated[float, Unit("1/cm")]
Terahertz = Annotated[float, Unit("THz")]
Picosecond = Annotated[float, Unit("ps")]
Bar = Annotated[float, Unit("bar")]
GigaPascal = Annotated[float, Unit("GPa")]
Degree = Annotated[float, Unit("°")]
Second = Annotated[float, Unit("s")]
Minute = Annotated[float, Unit("min")]
Megabyte = Annotated[float, Unit("MB")]
Gigabyte = Annotated[float, Unit("GB")]
Angstrom2 = Annotated[float, Unit("Å²")]
Angstrom3PerAtom = Annotated[float, Unit("Å³/atom")]
MilliEVPerAtom = Annotated[float, Unit("meV/atom")]
EVPerAtomPerPicosecond = Annotated[float, Unit("eV/atom/ps")]
MilliEVPerAtomPerPicosecond = Annotated[float, Unit("meV/atom/ps")]
Boltzmann = Annotated[float, Unit("k_B")]
BoltzmannPerAtom = Annotated[float, Unit("k_B/atom")]
PerMillionKelvin = Annotated[float, Unit("1e-6/K")]
JoulePerSquareMetre = Annotated[float, Unit("J/m²")]
KilometrePerSecond = Annotated[float, Unit("km/s")]
KilometrePerMole = Annotated[float, Unit("km/mol")]
GramPerCubicCentimetre = Annotated[float, Unit("g/cm³")]
SquareCentimetrePerSecond = Annotated[float, Unit("cm²/s")]
PerPicosecond = Annotated[float, Unit("1/ps")]
WattPerMetreKelvin = Annotated[float, Unit("W/m/K")]
Micrometre = Annotated[float, Unit("µm")]
SiemensPerMetre = Annotated[float, Unit("S/m")]
AtomsPerSecond = Annotated[float, Unit("atoms/s")]
Percent = Annotated[float, Unit("%")]
MilliPascalSecond = Annotated[float, Unit("mPa s")]

ERROR_UNITS = {"energy": "eV/atom", "force": "eV/Å", "force_vector": "eV/Å", "stress": "eV/Å³"}
"""Of errors of predictions, by their quantity: energies per atom, components of forces, their vectors, of stress."""
ENERGY_UNITS = {"eV": 1.0, "meV": 1e-3, "Hartree": HARTREE, "Ry": HARTREE / 2, "kcal/mol": 0.0433641153087705,
                "kJ/mol": 0.01036426965626}  # fmt: skip
"""Accepted names of energy units in data files, in eV."""
LENGTH_UNITS = {"Angstrom": 1.0, "Bohr": BOHR, "nm": 10.0}
"""Accepted names of length units in data files, in Angstrom."""
