"""Where calculations of properties start: the nearest minimum of each structure."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rutile.core.reporting import Reporter
from rutile.potentials.potential import Potential
from rutile.simulate.relax import relax
from rutile.simulate.settings import CellMode, PropertySettings, RelaxSettings
from rutile.structures.structures import Structures


def settled(
    structures: Structures,
    potential: Potential,
    settings: PropertySettings,
    reporter: Reporter,
    cell: CellMode = "full",
    fixed: Tensor | None = None,
) -> tuple[Structures, Sequence[str]]:
    """The structures at their minima (as given, with relax=false), and for each what went wrong, or "".

    Args:
        structures: any number of them.
        potential: gives the forces.
        settings: whether to relax, and limits.
        reporter: told how far it is.
        cell: what of the cells moves.
        fixed: atoms that do not move, [N] bool.

    Raises:
        GeometryError: a cell shall move and is not periodic in three directions.
        ElementError: a structure holds an element that the potential was not trained on.
    """
    given = structures.to(dtype=torch.float64, device="cpu")
    if not settings.relax:
        return given, [""] * given.n_systems
    done = relax(given, potential, relaxation(settings, cell), reporter, fixed)
    why = [
        f"failed: {reason}" if reason else "" if ok else f"not relaxed after {steps} steps"
        for reason, ok, steps in zip(done.failure, done.converged.tolist(), done.steps.tolist(), strict=True)
    ]
    return done.structures, why


def relaxation(settings: PropertySettings, cell: CellMode = "none") -> RelaxSettings:
    """How relaxations of a property's calculation are done."""
    return RelaxSettings(
        cell=cell, fmax=settings.fmax, smax=settings.smax, max_steps=settings.max_steps,
        atoms_at_once=settings.atoms_at_once,
    )  # fmt: skip
