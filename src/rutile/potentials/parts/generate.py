"""Automatic tables of symmetry functions for any set of elements.

Radial part, for each neighbour element: n centred Gaussians (r_s = 0) of widths eta_m = (n^(m/n) / r_c)^2 and n shifted
ones at r_m = r_c / n^(m/n), eta_m = 1 / (r_m - r_(m+1))^2, m = 0..n: dense where atoms are close and the energy is
steep (G. Imbalzano et al., J. Chem. Phys. 148, 241730 (2018), doi:10.1063/1.5024611). Shifts below `r_min` are left
out.

Angular part, for each unordered pair of neighbour elements: every combination of the widths, lambda = -1, +1 and zeta.

Functions of each centre with M elements: R M + A M (M + 1) / 2, where R = 2n + 1 less the shifts left out, and A is
twice the number of widths times zetas. By default R = 13 and A = 24: 37, 98, 183 and 425 functions for 1, 2, 3 and 5
elements.
"""

from __future__ import annotations

import itertools
from typing import Annotated, Literal

from pydantic import Field

from rutile.core.elements import symbol
from rutile.core.settings import Settings
from rutile.core.units import Angstrom, Unit
from rutile.potentials.parts.symmetry import CutoffName
from rutile.potentials.parts.tables import TableBlock, TableSettings


class AutomaticTable(Settings):
    """Parameters of an automatic table."""

    cutoff: Angstrom = Field(default=6.0, gt=0)
    """Cutoff of all functions."""
    cutoff_function: CutoffName = "cosine"
    """Cutoff function."""
    n_radial: int = Field(default=6, ge=1)
    """Number n of centred and of shifted radial Gaussians."""
    r_min: Angstrom = Field(default=1.0, ge=0)
    """Shifted Gaussians centred closer than this are left out."""
    angular: Literal["G4", "G5"] = "G4"
    """Angular functions: G4 with, G5 without the distance between the two neighbours."""
    angular_etas: tuple[Annotated[float, Unit("1/Å²"), Field(ge=0)], ...] = Field(
        default=(0.0005, 0.03, 0.1), min_length=1
    )
    """Widths of the angular functions."""
    zetas: tuple[Annotated[float, Field(ge=1)], ...] = Field(default=(1.0, 2.0, 4.0, 16.0), min_length=1)
    """Angular exponents."""


def automatic_table(elements: tuple[int, ...], settings: AutomaticTable) -> TableSettings:
    """A table in which every element is a centre and sees every element and pair of elements."""
    names = [symbol(z) for z in sorted(elements)]
    singles = tuple((name,) for name in names)
    pairs = tuple(itertools.combinations_with_replacement(names, 2))
    n, r_c = settings.n_radial, settings.cutoff
    places = [r_c / n ** (m / n) for m in range(n + 1)] if n > 1 else [r_c, r_c / 2]
    centred = tuple(1.0 / place**2 for place in places)
    blocks = [TableBlock(kind="G2", cutoff=r_c, neighbors=singles, etas=centred)]
    for near, far in itertools.pairwise(reversed(places)):
        if near >= settings.r_min:
            eta = 1.0 / (far - near) ** 2
            blocks.append(TableBlock(kind="G2", cutoff=r_c, neighbors=singles, etas=(eta,), shifts=(near,)))
    blocks.append(
        TableBlock(
            kind=settings.angular, cutoff=r_c, neighbors=pairs, etas=settings.angular_etas, lambdas=(-1, 1),
            zetas=settings.zetas,
        )
    )  # fmt: skip
    return TableSettings(
        name="automatic", source="rutile.potentials.parts.generate", centers=tuple(names),
        cutoff_function=settings.cutoff_function, blocks=tuple(blocks),
    )  # fmt: skip
