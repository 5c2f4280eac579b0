"""Settings of the engines for molecules and clusters."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from rutile.core.units import Second
from rutile.label.settings.common import Molecule, ProgramSettings, Protocol, PythonSettings


class XtbSettings(PythonSettings, Molecule):
    """GFN-xTB through tblite: molecules and clusters, in milliseconds."""

    PROTOCOLS: ClassVar[dict[Protocol, dict[str, Any]]] = {
        "fast": {"accuracy": 1.0},
        "moderate": {"accuracy": 1.0},
        "precise": {"accuracy": 0.1},
    }
    name: Literal["xtb"] = "xtb"
    """Which engine."""
    method: Literal["GFN2-xTB", "GFN1-xTB"] = "GFN2-xTB"
    """Which parametrisation."""
    accuracy: float | None = Field(default=None, gt=0)
    """Of the self-consistent charges: smaller is tighter (dimensionless)."""
    time_limit: Second = Field(default=600.0, gt=0)
    """A calculation that takes longer is ended, and is a failure."""


class PyscfSettings(PythonSettings, Molecule):
    """PySCF: density functional theory of molecules with Gaussian bases."""

    FRAMES_PER_PROCESS: ClassVar[int] = 20
    PROTOCOLS: ClassVar[dict[Protocol, dict[str, Any]]] = {
        "fast": {"basis": "def2-svp", "grid": 3},
        "moderate": {"basis": "def2-tzvp", "grid": 4},
        "precise": {"basis": "def2-qzvp", "grid": 5},
    }
    name: Literal["pyscf"] = "pyscf"
    """Which engine."""
    functional: str = "PBE"
    """Exchange and correlation, as PySCF names it: PBE, B3LYP, wB97X-V."""
    basis: str | None = None
    """Gaussian basis."""
    grid: int | None = Field(default=None, ge=0, le=9)
    """Level of the grid of exchange and correlation."""
    density_fit: bool = True
    """Approximate the Coulomb energy with an auxiliary basis: much faster, errors far below those of the basis."""


class OrcaSettings(ProgramSettings, Molecule):
    """ORCA (free for academic use; inputs are written and outputs are read, the program is yours)."""

    PROTOCOLS: ClassVar[dict[Protocol, dict[str, Any]]] = {
        "fast": {"basis": "def2-SVP"},
        "moderate": {"basis": "def2-TZVP"},
        "precise": {"basis": "def2-QZVP"},
    }
    name: Literal["orca"] = "orca"
    """Which engine."""
    functional: str = "PBE"
    """Exchange and correlation, as ORCA names it."""
    basis: str | None = None
    """Gaussian basis."""
    keywords: str = ""
    """More words of the simple input line, such as `D4 RIJCOSX`."""


class GaussianSettings(ProgramSettings, Molecule):
    """Gaussian (licensed; inputs are written and outputs are read, the program is yours)."""

    PROTOCOLS: ClassVar[dict[Protocol, dict[str, Any]]] = {
        "fast": {"basis": "def2SVP"},
        "moderate": {"basis": "def2TZVP"},
        "precise": {"basis": "def2QZVP"},
    }
    name: Literal["gaussian"] = "gaussian"
    """Which engine."""
    functional: str = "PBEPBE"
    """Exchange and correlation, as Gaussian names it."""
    basis: str | None = None
    """Gaussian basis."""
    keywords: str = ""
    """More words of the route line, such as `EmpiricalDispersion=GD3BJ`."""
