"""The work that a search gives to workers: relax a group of candidates together on a potential."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from rutile.core.reporting import SilentReporter
from rutile.core.units import GPA
from rutile.potentials.classical import open_model
from rutile.potentials.combine import mean_potential
from rutile.potentials.potential import Potential
from rutile.search.individual import Candidate, Relaxed
from rutile.simulate.relax import relax
from rutile.simulate.settings import RelaxSettings
from rutile.structures.structures import Structures


@dataclass(frozen=True)
class Relaxer:
    """Relaxes candidates with a model; picklable, and each process opens the model once."""

    model: Path
    """Model file, folder of a run, or the name of a potential that needs none."""
    precision: Literal["float32", "float64"]
    """Of the arithmetic."""
    device: str
    """Where."""
    mode: str | None
    """Calc mode."""
    settings: RelaxSettings
    """How."""

    def __call__(self, candidates: Sequence[Candidate]) -> list[tuple[int, Relaxed]]:
        """Number of each candidate, and what became of it."""
        changed = self.model.stat().st_mtime_ns if self.model.exists() else 0
        potential = _potential(self.model, changed, self.precision, self.device, self.mode)
        batch = Structures.from_ase([c.atoms for c in candidates])
        done = relax(batch, potential, self.settings, SilentReporter())
        out = []
        pressure = self.settings.pressure * GPA if self.settings.cell != "none" else 0.0
        for k, (c, atoms) in enumerate(zip(candidates, done.structures.to_ase(), strict=True)):
            whole = float(done.energy[k]) + pressure * (atoms.cell.volume if pressure else 0.0)
            out.append((c.number, Relaxed(atoms, whole / len(atoms), done.failure[k], int(done.steps[k]))))
        return out


@functools.lru_cache(maxsize=1)
def _potential(
    model: Path, changed: int, precision: Literal["float32", "float64"], device: str, mode: str | None
) -> Potential:
    """The model, or the mean of its committee; opened again when its file has changed."""
    del changed
    dtype = {"float32": torch.float32, "float64": torch.float64}[precision]
    return mean_potential(open_model(model).members(dtype, device, mode))
