"""What should be looked at in a data set: outliers, copies, labels that are missing; each is a set of its frames."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from rutile.data.settings import NET_FORCE
from rutile.jobs.shelf import Shelf

FORCE_OUTLIER = 30.0
"""Forces above this (eV/Angstrom) are rarely meant."""
CLOSE = 0.6
"""No two atoms are nearer (Angstrom), but by mistake; H2 has 0.74."""
ENERGY_OUTLIER, LEAST_OUTLIER = 20.0, 0.5
"""An energy is an outlier where it is so many times as far from what its composition suggests as half of all are, and
by this at least (eV/atom)."""
Mask = np.ndarray


def no_energy(shelf: Shelf) -> Mask:
    """[F]."""
    return np.asarray(np.isnan(shelf.column("energy_per_atom")))


def no_forces(shelf: Shelf) -> Mask:
    """[F]."""
    return np.asarray(np.isnan(shelf.column("fmax")))


def no_stress(shelf: Shelf) -> Mask:
    """[F]."""
    return np.asarray(np.isnan(shelf.column("pressure")))


def large_forces(shelf: Shelf) -> Mask:
    """[F]."""
    return np.asarray(shelf.column("fmax") > FORCE_OUTLIER)


def net_forces(shelf: Shelf) -> Mask:
    """[F]."""
    return np.asarray(shelf.column("net_force") > NET_FORCE)


def close_atoms(shelf: Shelf) -> Mask:
    """[F]."""
    return np.asarray(shelf.column("nearest") < CLOSE)


def copies(shelf: Shelf) -> Mask:
    """[F]."""
    return np.asarray(shelf.column("copy") >= 0)


def isolated_atoms(shelf: Shelf) -> Mask:
    """[F]."""
    return np.asarray((shelf.column("atoms") == 1) & (shelf.column("alone") == 1))


def lonely_atoms(shelf: Shelf) -> Mask:
    """[F]."""
    return np.asarray((shelf.column("atoms") > 1) & (shelf.column("alone") > 0))


def outliers(shelf: Shelf) -> Mask:
    """[F]; each calc mode by itself, isolated atoms left out."""
    energy, mode = shelf.column("energy_per_atom"), shelf.column("mode")
    place = shelf.column("composition")
    known = np.isfinite(energy) & (place >= 0) & ~isolated_atoms(shelf)
    out = np.zeros(len(shelf), bool)
    parts = _parts(shelf)
    for k in range(len(shelf.modes)):
        of_mode = known & (mode == k)
        if not of_mode.any():
            continue
        count = np.bincount(place[of_mode], minlength=len(parts))
        total = np.bincount(place[of_mode], energy[of_mode], minlength=len(parts))
        left = parts.T @ (parts * count[:, None])
        energies = np.linalg.lstsq(left, parts.T @ total, rcond=None)[0]
        away = energy[of_mode] - (parts @ energies)[place[of_mode]]
        away = np.abs(away - np.median(away))
        out[of_mode] = away > max(LEAST_OUTLIER, ENERGY_OUTLIER * float(np.median(away)))
    return out


def _parts(shelf: Shelf) -> np.ndarray:
    """Fraction of each element in each composition, [compositions, elements]."""
    elements = sorted({z for made_of in shelf.compositions for z, _ in made_of})
    place = {z: k for k, z in enumerate(elements)}
    out = np.zeros((len(shelf.compositions), len(elements)))
    for k, made_of in enumerate(shelf.compositions):
        for z, n in made_of:
            out[k, place[z]] = n
    return np.asarray(out / np.maximum(out.sum(axis=1, keepdims=True), 1))


CHECKS: dict[str, tuple[Callable[[Shelf], Mask], str]] = {
    "no_energy": (no_energy, "have no energy"),
    "no_forces": (no_forces, "have no forces"),
    "no_stress": (no_stress, "have no stress"),
    "large_forces": (large_forces, f"have forces above {FORCE_OUTLIER:g} eV/Å"),
    "net_forces": (net_forces, f"have forces that do not add up to zero (more than {NET_FORCE:g} eV/Å)"),
    "outliers": (outliers, "have an energy far from what their composition suggests"),
    "close_atoms": (close_atoms, f"have atoms nearer than {CLOSE:g} Å"),
    "copies": (copies, "repeat an earlier one"),
    "isolated_atoms": (isolated_atoms, "are isolated atoms: references for energies"),
    "lonely_atoms": (lonely_atoms, "hold an atom with nothing within 4 Å"),
}
"""Name of a check -> which frames it finds [F], and what is said of them."""


def findings(shelf: Shelf) -> list[dict[str, Any]]:
    """What was found: name of the check, what is said, how many frames; and calc modes where there are several."""
    total, out = len(shelf), []
    for name, (find, words) in CHECKS.items():
        count = int(find(shelf).sum())
        if count:
            out.append({"name": name, "text": f"{count} of {total} structures {words}", "frames": count})
    if len(shelf.modes) > 1:
        text = f"{len(shelf.modes)} calc modes are mixed: their energies may not be comparable"
        out.append({"name": "modes", "text": text, "frames": total})
    return out
