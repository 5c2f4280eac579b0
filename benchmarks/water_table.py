"""Parameters of the water potential that n2p2's example H2O_RPBE-D3 uses (27 functions for H, 30 for O), as facts.

T. Morawietz, A. Singraber, C. Dellago, J. Behler, PNAS 113, 8368 (2016), doi:10.1073/pnas.1602375113. Lengths there are
in Bohr; the cutoff function is tanh^3(1 - r / r_c).
"""

from __future__ import annotations

from rutile.potentials.parts.symmetry import SymmetryFunction, SymmetryTable

BOHR = 0.529177210903  # Angstrom
CUTOFF = 12.0
H, O = 1, 8  # noqa: E741

RADIAL_ETA = (0.001, 0.01, 0.03, 0.06, 0.15, 0.30, 0.60, 1.50)
"""The first four have no shift."""
RADIAL_SHIFT = {(H, H): 1.9, (H, O): 0.9, (O, H): 0.9, (O, O): 4.0}

ANGULAR = {
    (H, (H, O)): ((0.2, 1, 1), (0.07, 1, 1), (0.07, -1, 1), (0.03, 1, 1), (0.03, -1, 1), (0.01, 1, 4), (0.01, -1, 4)),
    (H, (O, O)): ((0.03, 1, 1), (0.03, -1, 1), (0.001, 1, 4), (0.001, -1, 4)),
    (O, (H, H)): ((0.07, 1, 1), (0.07, -1, 1), (0.03, 1, 1), (0.03, -1, 1), (0.01, 1, 4), (0.01, -1, 4)),
    (O, (H, O)): ((0.03, 1, 1), (0.03, -1, 1), (0.001, 1, 4), (0.001, -1, 4)),
    (O, (O, O)): ((0.03, 1, 1), (0.03, -1, 1), (0.001, 1, 4), (0.001, -1, 4)),
}
"""(centre, neighbours) -> (eta, lambda, zeta) of each function."""


def water_table() -> SymmetryTable:
    """The table in Angstrom."""
    r_c, unit = CUTOFF * BOHR, BOHR**-2
    functions: dict[int, tuple[SymmetryFunction, ...]] = {}
    for centre in (H, O):
        radial = [
            SymmetryFunction("G2", (other,), eta * unit, RADIAL_SHIFT[centre, other] * BOHR if place >= 4 else 0.0, r_c)
            for other in (H, O)
            for place, eta in enumerate(RADIAL_ETA)
        ]
        angular = [
            SymmetryFunction("G4", pair, eta * unit, 0.0, r_c, float(lambda_), float(zeta))
            for (z, pair), rows in ANGULAR.items()
            if z == centre
            for eta, lambda_, zeta in rows
        ]
        functions[centre] = (*radial, *angular)
    return SymmetryTable("water-n2p2", functions, "tanh3")
