"""The loss: errors of a prediction, and what they cost for each structure.

For structure s with N atoms, prefactors p that follow the learning rate, virial Xi = -dE/dstrain = -V stress:

    l_s = p_e rho(dE/N) + p_f/(3N) sum_i,a rho(dF_ia) + p_v/9 sum_ab rho(dXi_ab/N)

rho is the square (Zhang et al., Phys. Rev. Lett. 120, 143001 (2018), doi:10.1103/PhysRevLett.120.143001), Huber's
function or the absolute value. An absent label contributes exactly nothing. Letters: N atoms, S structures.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rutile.data.frames import Labelled
from rutile.potentials.evaluate import periodic_volume, sum_by_system
from rutile.potentials.potential import Prediction
from rutile.train.settings import LossSettings, Prefactor


@dataclass(frozen=True)
class Errors:
    """Prediction minus reference; exactly 0 where a label is absent."""

    energy: Tensor
    """[S] (eV/atom)."""
    forces: Tensor
    """[N, 3] (eV/Angstrom)."""
    virial: Tensor
    """[S, 3, 3] (eV/atom)."""
    counts: Tensor
    """Atoms of each structure, [S]."""
    n_virial: Tensor
    """Number of structures with a virial."""
    system: Tensor
    """[N] int64."""


def errors(prediction: Prediction, labelled: Labelled) -> Errors:
    """Errors of a prediction; virials only of structures that are periodic in three directions."""
    structures = labelled.structures
    counts = structures.counts.to(prediction.energy.dtype)
    energy = torch.where(labelled.has_energy, (prediction.energy - labelled.energy) / counts, 0.0)
    has_forces = labelled.has_forces[structures.system][:, None]
    forces = torch.where(has_forces, prediction.forces - labelled.forces, 0.0)
    if not bool(labelled.has_stress.any()):
        none = labelled.has_stress.sum()
        return Errors(energy, forces, torch.zeros_like(prediction.stress), counts, none, structures.system)
    volume = periodic_volume(structures)
    has_virial = labelled.has_stress & (volume > 0)
    scale = (-volume / counts)[:, None, None]
    virial = torch.where(has_virial[:, None, None], (prediction.stress - labelled.stress) * scale, 0.0)
    return Errors(energy, forces, virial, counts, has_virial.sum(), structures.system)


@dataclass(frozen=True)
class Prefactors:
    """Weights of the terms at one step; 0 switches a term off."""

    energy: float
    force: float
    virial: float


def prefactors(settings: LossSettings, ratio: float) -> Prefactors:
    """Weights at a learning rate of `ratio` times the first one: p = limit (1 - ratio) + start ratio."""

    def at(p: Prefactor) -> float:
        return p.limit * (1 - ratio) + p.start * ratio if p.active else 0.0

    return Prefactors(at(settings.energy), at(settings.force), at(settings.virial))


def structure_losses(e: Errors, p: Prefactors, settings: LossSettings) -> Tensor:
    """Loss of each structure, [S]; see the module's equation."""
    # deepmd-kit divides the squared error of the total by N once: N times the squared error per atom.
    kit = e.counts if settings.convention == "deepmd-kit" and settings.kind == "mse" else 1.0
    total = torch.zeros_like(e.energy)
    if p.energy:
        total = total + p.energy * kit * _cost(e.energy, settings)
    if p.force:
        by_atom = _cost(e.forces, settings).sum(1)
        total = total + p.force * sum_by_system(by_atom, e.system, len(e.counts)) / (3 * e.counts)
    if p.virial:
        total = total + p.virial * kit * _cost(e.virial, settings).sum((1, 2)) / 9
    return total


def _cost(x: Tensor, settings: LossSettings) -> Tensor:
    """rho(x), element by element."""
    if settings.kind == "mse":
        return x.square()
    if settings.kind == "l1":
        return x.abs()
    size, delta = x.abs(), settings.delta
    return torch.where(size <= delta, 0.5 * x.square(), delta * (size - 0.5 * delta))


@dataclass
class RunningErrors:
    """Sums of squared errors over batches, for the root mean squares of an epoch."""

    sums: Tensor
    """Squares of energy, forces, virial, and loss, [4] float64."""
    counts: Tensor
    """Number of energies, force components, virial components, and structures, [4] float64."""

    @staticmethod
    def zero(device: torch.device | str = "cpu") -> RunningErrors:
        """Nothing seen yet."""
        return RunningErrors(*torch.zeros(2, 4, dtype=torch.float64, device=device))

    def copy(self) -> RunningErrors:
        """The same as a start of its own."""
        return RunningErrors(self.sums.clone(), self.counts.clone())

    def add_some(self, which: Tensor, e: Errors, labelled: Labelled, losses: Tensor) -> None:
        """Add some structures of a batch, [S] bool."""
        atoms = which[e.system]
        has_virial = labelled.has_stress & (periodic_volume(labelled.structures) > 0) & which
        self._add(
            (e.energy[which], e.forces[atoms], e.virial[which], losses[which]),
            ((labelled.has_energy & which).sum(), labelled.has_forces & which, has_virial.sum(), which.sum()),
            e.counts,
        )

    def add(self, e: Errors, labelled: Labelled, losses: Tensor) -> None:
        """Add a batch; `losses` are those of its structures."""
        n_losses = torch.full_like(e.n_virial, len(losses))
        self._add(
            (e.energy, e.forces, e.virial, losses),
            (labelled.has_energy.sum(), labelled.has_forces, e.n_virial, n_losses),
            e.counts,
        )

    def _add(self, parts: tuple[Tensor, ...], there: tuple[Tensor, ...], atoms: Tensor) -> None:
        """Errors and losses; numbers of labels, for forces the structures that have them. Never waits for a GPU."""
        with torch.no_grad():
            *squared, losses = (x.double() for x in parts)
            self.sums += torch.stack([*(x.square().sum() for x in squared), losses.sum()])
            n_energy, has_forces, n_virial, n_losses = (x.double() for x in there)
            self.counts += torch.stack([n_energy, 3 * torch.dot(has_forces, atoms.double()), 9 * n_virial, n_losses])

    def row(self, prefix: str) -> dict[str, float]:
        """Loss (mean of the structures) and RMSE of energy (eV/atom), force (eV/Angstrom), virial (eV/atom)."""
        mean = (self.sums / self.counts.clamp(min=1)).tolist()
        out = {f"{prefix}_loss": mean[3]}
        for name, value, n in zip(("energy", "force", "virial"), mean, self.counts.tolist(), strict=False):
            if n:
                out[f"{prefix}_{name}_rmse"] = value**0.5
        return out
