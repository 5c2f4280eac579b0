"""Symmetry functions of Behler and Parrinello: their parameters, as plain data.

Source: J. Behler, J. Chem. Phys. 134, 074106 (2011), doi:10.1063/1.3553717. Conventions of the sums: each unordered
pair of neighbours once, with the factor 2^(1 - zeta).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["G2", "G4", "G5"]
CutoffName = Literal[
    "cosine", "tanh3", "tanh3_unit", "poly1", "poly2", "poly3", "poly4", "exp", "envelope5", "envelope6"
]


@dataclass(frozen=True)
class SymmetryFunction:
    """One function of one centre element."""

    kind: Kind
    """G2: sum_j exp(-eta (r-r_s)^2) fc(r). G4: angular with r_jk. G5: angular without r_jk."""
    neighbors: tuple[int, ...]
    """Atomic numbers: one for G2, an unordered pair (ascending) for G4 and G5."""
    eta: float
    """Width (1/Angstrom^2)."""
    r_s: float
    """Shift (Angstrom); in G4 and G5 every r is replaced by r - r_s."""
    r_c: float
    """Cutoff (Angstrom)."""
    lambda_: float = 0.0
    """+1 or -1 in G4 and G5."""
    zeta: float = 0.0
    """Angular exponent of G4 and G5."""


@dataclass(frozen=True)
class SymmetryTable:
    """The functions of every centre element."""

    name: str
    """For people: "TiO2-Artrith-Urban-2016"."""
    functions: dict[int, tuple[SymmetryFunction, ...]]
    """Atomic number of the centre -> its functions, in the order of the columns of the descriptor."""
    cutoff_function: CutoffName = "cosine"
    """Which f_c; formulas in `parts.cutoff`."""

    @property
    def elements(self) -> tuple[int, ...]:
        """Centre elements, ascending."""
        return tuple(sorted(self.functions))

    @property
    def cutoff(self) -> float:
        """Largest cutoff of all functions (Angstrom)."""
        return max(f.r_c for group in self.functions.values() for f in group)

    @property
    def width(self) -> int:
        """K: the largest number of functions of any element; shorter rows are padded with zeros."""
        return max(len(group) for group in self.functions.values())
