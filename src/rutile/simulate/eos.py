"""Energy as a function of volume: structures are scaled, relaxed and fitted by `simulate.birch_murnaghan`.

Letters of shapes: S systems, K volumes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from rutile.core.errors import GeometryError
from rutile.core.reporting import Reporter
from rutile.potentials.checks import check_structures
from rutile.potentials.potential import Potential
from rutile.simulate.birch_murnaghan import BirchMurnaghan, fit_birch_murnaghan
from rutile.simulate.forces import evaluate_many
from rutile.simulate.relax import relax
from rutile.simulate.settings import EosSettings, PropertySettings
from rutile.simulate.start import relaxation
from rutile.structures.structures import Structures, concatenate


@dataclass(frozen=True)
class EosResult:
    """Energies by volume, and the fits."""

    volume: Tensor
    """[S, K] (Angstrom^3)."""
    energy: Tensor
    """[S, K] (eV)."""
    pressure: Tensor
    """Minus the mean of the diagonal of the stress, [S, K] (eV/Angstrom^3)."""
    structures: tuple[Structures, ...]
    """The K relaxed structures of each system, [S]."""
    fit: tuple[BirchMurnaghan | None, ...]
    """[S]; None where there is none."""
    failure: tuple[str, ...]
    """Why there is no fit, or that the minimum lies outside the volumes; "" where all is well, [S]."""


def equation_of_state(
    structures: Structures, potential: Potential, settings: EosSettings, reporter: Reporter
) -> EosResult:
    """Energies of all structures at all volumes in one batch, and an equation of state for each structure.

    Args:
        structures: crystals, best at their minimum; `settings.relax` is the caller's.
        potential: gives energies and forces.
        settings: volumes, and what relaxes at each.
        reporter: told how far it is.

    Raises:
        GeometryError: a structure is not periodic in three directions.
    """
    ratios = np.linspace(1 - settings.span, 1 + settings.span, settings.points)
    return scan_volumes(structures, potential, ratios, settings, settings.inner, reporter)


def scan_volumes(
    structures: Structures,
    potential: Potential,
    ratios: np.ndarray,
    settings: PropertySettings,
    inner: Literal["none", "atoms", "shape"],
    reporter: Reporter,
) -> EosResult:
    """`equation_of_state` with any volumes.

    Args:
        structures: crystals.
        potential: gives energies and forces.
        ratios: volumes, in units of that of each structure, [K].
        settings: limits of the relaxations, size of batches.
        inner: what relaxes at each volume.
        reporter: told how far it is.

    Raises:
        GeometryError: a structure is not periodic in three directions.
    """
    require_crystals(structures, "an equation of state")
    given = structures.to(dtype=torch.float64, device="cpu")
    check_structures(given, potential.elements)
    scaled = at_volumes(given, ratios)
    failures = [""] * scaled.n_systems
    if inner == "none":
        p = evaluate_many(scaled, potential, settings.atoms_at_once, reporter, "Volumes")
        energy, stress = p.energy, p.stress
    else:
        how = relaxation(settings, "volume" if inner == "shape" else "none")
        done = relax(scaled, potential, how, reporter)
        scaled, energy, stress, failures = done.structures, done.energy, done.stress, list(done.failure)
    shape = (given.n_systems, len(ratios))
    volume, energy = scaled.volume.view(shape), energy.view(shape)
    parts = [failures[k : k + shape[1]] for k in range(0, len(failures), shape[1])]
    fits = [_fit(*three) for three in zip(volume, energy, parts, strict=True)]
    singles = scaled.split()
    return EosResult(
        volume,
        energy,
        -stress.diagonal(dim1=1, dim2=2).mean(1).view(shape),
        tuple(concatenate(singles[s * shape[1] : (s + 1) * shape[1]]) for s in range(shape[0])),
        tuple(fit for fit, _ in fits),
        tuple(reason for _, reason in fits),
    )


def at_volumes(structures: Structures, ratios: np.ndarray) -> Structures:
    """Each structure scaled to each ratio of volumes [K]; those of the first structure come first."""
    lengths = torch.as_tensor(ratios, dtype=torch.float64) ** (1 / 3)
    return concatenate(
        one.replace(positions=one.positions * s, cell=one.cell * s) for one in structures.split() for s in lengths
    )


def require_crystals(structures: Structures, what: str, names: Sequence[str] = ()) -> None:
    """Refuse structures that are not periodic in three directions.

    Args:
        structures: the batch.
        what: is computed, such as "a melting point".
        names: of the structures, for the message; default: their numbers.

    Raises:
        GeometryError: names the first.
    """
    open_ones = (~structures.pbc.all(1)).nonzero().flatten().tolist()
    if open_ones:
        raise GeometryError(
            f"{what} is of crystals: {names[open_ones[0]] if names else f'structure {open_ones[0]}'} is periodic along "
            f"{int(structures.pbc[open_ones[0]].sum())} of 3 directions"
        )


def _fit(volume: Tensor, energy: Tensor, failures: list[str]) -> tuple[BirchMurnaghan | None, str]:
    """The fit of one structure, and what is wrong with it."""
    if any(failures):
        return None, next(f for f in failures if f)
    try:
        fit = fit_birch_murnaghan(volume.numpy(), energy.numpy())
    except GeometryError as error:
        return None, str(error)
    if not volume.min() <= fit.volume <= volume.max():
        return fit, (
            f"the minimum, {fit.volume:.3f} Å³, lies outside {volume.min():.3f} to {volume.max():.3f} Å³: "
            "extrapolated; relax the structure (relax=true) or make span larger"
        )
    return fit, ""
