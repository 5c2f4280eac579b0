"""Settings of the engines of density functional theory for crystals, slabs and molecules in boxes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, JsonValue

from rutile.core.units import ElectronVolt
from rutile.label.settings.common import Crystal, ProgramSettings, Protocol, PythonSettings

K_DENSITIES: dict[Protocol, dict[str, Any]] = {
    "fast": {"k_density": 10.0},
    "moderate": {"k_density": 20.0},
    "precise": {"k_density": 30.0},
}


def _protocols(**values: tuple[Any, Any, Any]) -> dict[Protocol, dict[str, Any]]:
    """Values of each protocol beside the density of k-points."""
    return {
        name: usual | {key: value[k] for key, value in values.items()}
        for k, (name, usual) in enumerate(K_DENSITIES.items())
    }


class GpawSettings(PythonSettings, Crystal):
    """GPAW with plane waves: PAW with data sets for nearly the whole periodic table."""

    FRAMES_PER_PROCESS: ClassVar[int] = 1
    PROTOCOLS: ClassVar[dict[Protocol, dict[str, Any]]] = _protocols(
        cutoff=(400.0, 600.0, 800.0), density_tolerance=(1e-6, 1e-6, 1e-6)
    )
    name: Literal["gpaw"] = "gpaw"
    """Which engine."""
    cutoff: ElectronVolt | None = Field(default=None, gt=0)
    """Of the plane waves. Forces converge before the stress does: 600 eV and 800 eV for TiO2."""
    density_tolerance: float | None = Field(default=None, gt=0)
    """Largest change of the density at convergence (electrons for each valence electron)."""


class EspressoSettings(ProgramSettings, Crystal):
    """Quantum ESPRESSO (pw.x)."""

    PROTOCOLS: ClassVar[dict[Protocol, dict[str, Any]]] = _protocols(
        cutoff=(544.0, 680.0, 1090.0), density_cutoff=(4350.0, 5440.0, 8720.0)
    )
    RUNNING: ClassVar[frozenset[str]] = ProgramSettings.RUNNING | {"pseudo_dir"}
    name: Literal["espresso"] = "espresso"
    """Which engine."""
    cutoff: ElectronVolt | None = Field(default=None, gt=0)
    """Of the plane waves of the wave functions (13.6 eV = 1 Ry)."""
    density_cutoff: ElectronVolt | None = Field(default=None, gt=0)
    """Of the plane waves of the density: 4 times the other for norm-conserving pseudopotentials, 8 or more for
    ultrasoft ones and PAW."""
    pseudo_dir: Path = Path("/usr/share/espresso/pseudo")
    """Folder of the pseudopotentials."""
    pseudopotentials: dict[str, str] = {}
    """File of each element, such as {Si: Si.pbe-nl-rrkjus_psl.1.0.0.UPF}; elements that are not named get the first UPF
    file, by the alphabet, whose name begins with the element and whose header has the functional."""


class Cp2kSettings(ProgramSettings, Crystal):
    """CP2K (Quickstep: Gaussians and plane waves, GTH pseudopotentials)."""

    PROTOCOLS: ClassVar[dict[Protocol, dict[str, Any]]] = _protocols(
        cutoff=(4080.0, 6800.0, 10880.0),
        basis=("DZVP-MOLOPT-SR-GTH", "DZVP-MOLOPT-SR-GTH", "TZV2P-MOLOPT-GTH"),
    )
    name: Literal["cp2k"] = "cp2k"
    """Which engine."""
    cutoff: ElectronVolt | None = Field(default=None, gt=0)
    """Of the finest grid of the density (13.6 eV = 1 Ry)."""
    basis: str | None = None
    """Family of the Gaussian bases in BASIS_MOLOPT."""
    pseudopotential: str = "GTH-{functional}"
    """Family of the pseudopotentials in GTH_POTENTIALS; {functional} is replaced."""


class AbinitSettings(ProgramSettings, Crystal):
    """ABINIT."""

    PROTOCOLS: ClassVar[dict[Protocol, dict[str, Any]]] = _protocols(cutoff=(410.0, 680.0, 1090.0))
    RUNNING: ClassVar[frozenset[str]] = ProgramSettings.RUNNING | {"pseudo_dir"}
    name: Literal["abinit"] = "abinit"
    """Which engine."""
    cutoff: ElectronVolt | None = Field(default=None, gt=0)
    """Of the plane waves (27.2 eV = 1 Ha)."""
    pseudo_dir: Path = Path("/usr/share/abinit/psp")
    """Folder of the pseudopotentials."""
    pseudopotentials: dict[str, str] = {}
    """File of each element, such as {Si: 14si.4.hgh}; elements that are not named get the first file, by the alphabet,
    of the form 14si.*.hgh (only with functional=LDA), Si.psp8, Si.xml or Si.*.xml."""


class VaspSettings(ProgramSettings, Crystal):
    """VASP (licensed; inputs are written and outputs are read, the program is yours)."""

    PROTOCOLS: ClassVar[dict[Protocol, dict[str, Any]]] = _protocols(cutoff=(400.0, 520.0, 700.0))
    RUNNING: ClassVar[frozenset[str]] = ProgramSettings.RUNNING | {"pseudo_dir"}
    name: Literal["vasp"] = "vasp"
    """Which engine."""
    cutoff: ElectronVolt | None = Field(default=None, gt=0)
    """ENCUT."""
    pseudo_dir: Path | None = None
    """Folder that holds one folder for each POTCAR, such as Ti_pv/POTCAR."""
    pseudopotentials: dict[str, str] = {}
    """Folder of each element's POTCAR, such as {Ti: Ti_pv}; by default the symbol of the element."""
    incar: dict[str, JsonValue] = {}
    """More lines of INCAR, such as {LDAU: true}."""


class AimsSettings(ProgramSettings, Crystal):
    """FHI-aims (licensed; inputs are written and outputs are read, the program is yours)."""

    PROTOCOLS: ClassVar[dict[Protocol, dict[str, Any]]] = _protocols(basis=("light", "intermediate", "tight"))
    RUNNING: ClassVar[frozenset[str]] = ProgramSettings.RUNNING | {"species_dir"}
    name: Literal["aims"] = "aims"
    """Which engine."""
    basis: str | None = None
    """Folder of the bases inside species_dir: light, intermediate, tight."""
    species_dir: Path | None = None
    """Folder of the species defaults, such as .../species_defaults/defaults_2020."""
    control: dict[str, JsonValue] = {}
    """More lines of control.in, such as {relativistic: atomic_zora scalar}."""
