"""What is known of potentials that need no training, without loading them. Imports no torch."""

NOTES = {
    "emt": "Effective medium theory: Al, Cu, Ag, Au, Ni, Pd, Pt; of H, C, N and O only in the roughest way.",
    "lennard_jones": "Lennard-Jones with the constants of argon, for whatever elements.",
    "rigid_ion": "Rigid ions of TiO2 (Matsui and Akaogi 1991).",
    "bond_valence": "Li in a framework of O, F, P, S and Fe that must be held (bond-valence site energies).",
}
"""What their users must know."""
ELEMENTS = {
    "emt": (13, 28, 29, 46, 47, 78, 79),
    "lennard_jones": (),
    "rigid_ion": (8, 22),
    "bond_valence": (3, 8, 9, 15, 16, 26),
}
"""Atomic numbers that they are made for; none: any."""
