"""How large atoms are: covalent radii, bond lengths and volumes, as far as they can be told without a calculation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from ase.data import atomic_numbers, covalent_radii, reference_states, vdw_radii

GASES = frozenset(atomic_numbers[s] for s in ("H", "N", "O", "F", "Cl", "Br"))
"""Elements whose pure state says nothing of their size in a solid."""
ATOMS = {"fcc": 4, "bcc": 2, "hcp": 2, "sc": 1, "diamond": 8, "bct": 2}
"""Atoms of the cells of ASE's reference states."""
NEAREST = {"fcc": 0.5**0.5, "bcc": 0.75**0.5, "hcp": 1.0, "sc": 1.0, "diamond": 3**0.5 / 4}
"""Bond length in units of a."""
BONDS = {"fcc": 12, "bcc": 8, "hcp": 12, "sc": 6, "diamond": 4}
"""Neighbours at that distance."""
SOFTNESS = 0.1
"""Bond lengths grow with the number n of neighbours about as n^0.1 (Pauling's bond order, in the mean)."""
FINE = 0.15
"""Spacing of the grid of `volume_of_spheres` (Angstrom)."""
SHELL = 0.3
"""Added to covalent radii (Angstrom), spheres have the volume of atoms in compounds, within some 30 %."""


def radii(numbers: np.ndarray) -> np.ndarray:
    """Covalent radii (Angstrom), [N] (Cordero et al. 2008, doi:10.1039/b801115j, as in ASE)."""
    return np.asarray(covalent_radii[numbers], dtype=float)


def van_der_waals(numbers: np.ndarray) -> np.ndarray:
    """Van der Waals radii (Angstrom), [N] (Bondi 1964, doi:10.1021/j100785a001, as in ASE); else covalent + 0.8."""
    found = vdw_radii[numbers]
    return np.where(np.isnan(found), radii(numbers) + 0.8, found)


def volume_of_spheres(centres: np.ndarray, radii: np.ndarray) -> float:
    """Volume of spheres that may overlap (Angstrom^3), by a grid; centres [N, 3], radii [N] (Angstrom)."""
    low, high = (centres - radii[:, None]).min(axis=0), (centres + radii[:, None]).max(axis=0)
    ticks = [np.arange(a, b, FINE) + FINE / 2 for a, b in zip(low, high, strict=True)]
    grid = np.stack(np.meshgrid(*ticks, indexing="ij"), axis=-1)
    inside = np.zeros(grid.shape[:3], dtype=bool)
    for centre, radius in zip(centres, radii, strict=True):
        inside |= np.square(grid - centre).sum(axis=-1) < radius**2
    return float(inside.sum()) * FINE**3


def _known(number: int) -> tuple[dict[str, Any], str]:
    """ASE's reference state of an element, and its kind; gases have none."""
    state: Any = reference_states[number]
    return ({}, "") if state is None or number in GASES else (state, state["symmetry"])


def bond_length(number: int, neighbours: int = 12) -> float:
    """Bond length (Angstrom) of a pure element with so many neighbours.

    d = d_known (n / n_known)^0.1 from the known crystal of the element; the sum of covalent radii where it is unknown.
    """
    state, kind = _known(number)
    if kind not in NEAREST:
        return 2 * float(covalent_radii[number])
    a = state["a"] * (min(1.0, np.sqrt(1 / 3 + (state["c/a"] ** 2) / 4)) if kind == "hcp" else 1.0)
    return float(a * NEAREST[kind] * (neighbours / BONDS[kind]) ** SOFTNESS)


def atomic_volume(number: int) -> float | None:
    """Volume per atom (Angstrom^3) of the known crystal of an element; None for gases and where it is unknown."""
    state, kind = _known(number)
    if kind not in ATOMS:
        return None
    a = state["a"]
    if kind == "hcp":
        return float(a**3 * state["c/a"] * np.sqrt(3) / 2 / 2)
    return float(a**3 * state.get("c/a", 1.0) / ATOMS[kind])


def reference_volume(numbers: Sequence[int] | np.ndarray) -> float:
    """Volume per atom (Angstrom^3) that a composition has in about.

    Elements with known crystals: the mean of theirs. With gases (O, N, H, halogens) or unknown elements among them:
    the mean of (4 pi/3) (r_cov + 0.3)^3; right within some 30 % for oxides, nitrides and halides, too small for open
    networks such as quartz.
    """
    known = [atomic_volume(int(z)) for z in numbers]
    if all(v is not None for v in known):
        return float(np.mean([v for v in known if v is not None]))
    return float(np.mean(4 / 3 * np.pi * (radii(np.asarray(numbers)) + SHELL) ** 3))
