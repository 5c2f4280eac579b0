"""Minima for calculations in several stages, whoever relaxes: at once, or kept on the disk and gone on with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from ase import Atoms

from rutile.core.reporting import Reporter
from rutile.potentials.potential import Potential
from rutile.simulate.relax import relax
from rutile.simulate.settings import RelaxSettings
from rutile.structures.structures import Structures, concatenate


@dataclass(frozen=True)
class Minimum:
    """Where one structure ended."""

    structure: Structures
    """A batch of one, in float64."""
    energy: float
    """At the end (eV)."""
    start_energy: float
    """Of the given structure (eV)."""
    steps: int
    """Steps taken."""
    failure: str
    """Why this is no minimum, or ""."""

    @property
    def atoms(self) -> Atoms:
        """The structure for ASE."""
        (atoms,) = self.structure.to_ase()
        return atoms


Relaxer = Callable[[str, Sequence[Structures], Sequence[np.ndarray]], list[Minimum]]
"""(name of the stage, structures, atoms of each that stay [N] bool) -> their minima, in the same order."""


def not_reached(failure: str, converged: bool, steps: int) -> str:
    """Why something is no minimum, or ""."""
    if failure:
        return f"failed: {failure}"
    return "" if converged else f"not relaxed after {steps} steps"


def relaxer(potential: Potential, settings: RelaxSettings, reporter: Reporter) -> Relaxer:
    """One that relaxes all structures of a stage in one batch, and keeps nothing."""

    def relaxed(stage: str, structures: Sequence[Structures], fixed: Sequence[np.ndarray]) -> list[Minimum]:
        del stage
        held = torch.from_numpy(np.concatenate(fixed))
        done = relax(concatenate(structures), potential, settings, reporter, held)
        return [
            Minimum(one, float(done.energy[k]), float(done.start_energy[k]), int(done.steps[k]),
                    not_reached(done.failure[k], bool(done.converged[k]), int(done.steps[k])))
            for k, one in enumerate(done.structures.split())
        ]  # fmt: skip

    return relaxed
