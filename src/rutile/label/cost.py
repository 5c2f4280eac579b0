"""What a calculation will cost, roughly: to refuse the one that nobody meant (10^4 atoms for plane waves).

    plane waves:       t = c n_k V E_cut^(3/2) N_e^2       (bands times plane waves, bands squared)
    Gaussian bases:    t = c N_e^3
    tight binding:     t = c N^3

with constants from runs on one core of 2020s hardware (docs/label.md), right within a factor of about 5.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from ase import Atoms
from pydantic import JsonValue

from rutile.label.kpoints import boxed, kpoints
from rutile.label.labeler import Failure
from rutile.label.settings import EngineBase
from rutile.label.settings.common import Crystal, ProgramSettings

CORES = (2, 10, 18, 36, 54, 86)
"""Electrons of the noble gases."""
PLANE_WAVES = 1.0e-9
"""Seconds for each k-point, Angstrom^3, eV^(3/2) and squared number of valence electrons."""
GAUSSIANS = {"s": 4e-4, "t": 2e-3, "q": 1e-2}
"""Seconds for each cubed number of electrons, by the first letter of split, triple and quadruple zeta."""
TIGHT_BINDING = 6e-7
"""Seconds for each cubed number of atoms."""
MARGIN = 3.0
"""Refused from this multiple of the time limit on, because estimates are rough."""


def estimate(settings: EngineBase, atoms: Atoms) -> float | None:
    """Time of one calculation (s); None for engines whose cost is small or not known."""
    complete = settings.complete()
    share = settings.threads * (settings.processes if isinstance(settings, ProgramSettings) else 1)
    if isinstance(settings, Crystal):
        return _plane_waves(settings, complete, atoms) / share
    if name_of(settings) == "xtb":
        return TIGHT_BINDING * len(atoms) ** 3
    if "basis" in complete:
        zeta = next((z for z in "qt" if f"{z}z" in str(complete["basis"]).lower()), "s")
        return GAUSSIANS[zeta] * _electrons(atoms, core=True) ** 3 / share
    return None


def refuse_cost(settings: EngineBase, atoms: Atoms) -> Failure | None:
    """The failure of a structure that will take far longer than the time limit."""
    seconds = estimate(settings, atoms)
    if seconds is None or seconds < MARGIN * settings.time_limit:
        return None
    return Failure(
        "too large",
        f"{len(atoms)} atoms would take about {in_words(seconds)} with {name_of(settings)}, more than time_limit = "
        f"{settings.time_limit:g} s: take a smaller cell or a cheaper engine, or raise time_limit",
    )


def name_of(settings: EngineBase) -> str:
    """Name of the engine."""
    return str(getattr(settings, "name", ""))


def in_words(seconds: float) -> str:
    """A time in the largest unit that fits."""
    for unit, length in (("years", 3.15576e7), ("days", 86400.0), ("hours", 3600.0)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def _plane_waves(settings: Crystal, complete: Mapping[str, JsonValue], atoms: Atoms) -> float:
    """Of density functional theory of a crystal, or of a molecule in a box."""
    box = boxed(atoms, settings.vacuum)
    points = np.prod(kpoints(box if atoms.pbc.all() else atoms, float(str(complete["k_density"]))))
    cutoff = min(float(str(complete.get("cutoff") or 500.0)), 700.0 if complete["name"] == "cp2k" else 1e9)
    spin = 2.0 if settings.spin else 1.0
    work = spin * max(1.0, float(points) / 2) * box.get_volume() * cutoff**1.5 * _electrons(atoms, core=False) ** 2
    return PLANE_WAVES * float(work)


def _electrons(atoms: Atoms, core: bool) -> float:
    """Number of electrons, with or without those of the noble gas cores."""
    inner = 0 if core else sum(max((c for c in CORES if c < z), default=0) for z in atoms.numbers.tolist())
    return float(atoms.numbers.sum() - inner)
