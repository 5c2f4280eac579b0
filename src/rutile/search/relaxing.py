"""The work that a search gives to workers: make children, and relax a group of them together on a potential."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from ase import Atoms

from rutile.core.reporting import SilentReporter
from rutile.core.units import GPA
from rutile.potentials.classical import open_model
from rutile.potentials.combine import mean_potential, spread
from rutile.potentials.evaluate import evaluate_members
from rutile.potentials.placement import placement
from rutile.potentials.potential import Potential
from rutile.search.breeding import Breeder
from rutile.search.individual import ATOM_ENERGY, FIXED, PART, PLACED, Candidate, Order, Relaxed, carried
from rutile.simulate.forces import evaluate_many
from rutile.simulate.ledger import RelaxResult
from rutile.simulate.relax import relax
from rutile.simulate.settings import RelaxSettings
from rutile.structures.structures import Structures

ATOMS_AT_ONCE = 1000
"""Atoms that are evaluated together for their energies."""


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
    reference: float = 0.0
    """Energy (eV) of what the atoms are placed on, which does not count."""
    check: Callable[[Atoms], str] | None = None
    """Says why a relaxed structure cannot be used, or ""; picklable."""
    atom_energies: bool = False
    """Whether relaxed structures tell the energies of their atoms, for operators."""

    def __call__(self, candidates: Sequence[Candidate]) -> list[tuple[int, Relaxed]]:
        """Number of each candidate, and what became of it."""
        potential = mean_potential(self._opened())
        batch = Structures.from_ase([c.atoms for c in candidates])
        fixed = np.concatenate([c.atoms.arrays.get(FIXED, np.zeros(len(c.atoms), dtype=bool)) for c in candidates])
        held = torch.from_numpy(fixed) if fixed.any() else None
        done = relax(batch, potential, self.settings, SilentReporter(), held)
        out = []
        each = self._atom_energies(done, potential)
        for k, (c, atoms) in enumerate(zip(candidates, done.structures.to_ase(), strict=True)):
            carried(c.atoms, atoms)
            if FIXED in atoms.arrays:  # to the last bit: -0.0 + 0.0 is 0.0
                atoms.positions[atoms.arrays[FIXED]] = c.atoms.positions[atoms.arrays[FIXED]]
            if each:
                atoms.set_array(ATOM_ENERGY, each[k])
            whole = float(done.energy[k]) + self._work(atoms) - self.reference
            failure = done.failure[k] or (self.check(atoms) if self.check else "")
            out.append((c.number, Relaxed(atoms, whole / searched(atoms), failure, int(done.steps[k]))))
        return out

    def energies(self, images: Sequence[Atoms]) -> np.ndarray:
        """Energy, or enthalpy under pressure, of structures as they are (eV/atom), [n]; infinite where it is none."""
        batch = Structures.from_ase(images)
        found = evaluate_many(batch, mean_potential(self._opened()), ATOMS_AT_ONCE, SilentReporter()).energy.numpy()
        whole = (found + [self._work(a) for a in images]) / [len(a) for a in images]
        return np.asarray(np.where(np.isfinite(whole), whole, np.inf))

    def _opened(self) -> tuple[Potential, ...]:
        """The model, or the members of its committee."""
        changed = self.model.stat().st_mtime_ns if self.model.exists() else 0
        return _members(self.model, changed, self.precision, self.device, self.mode)

    def _work(self, atoms: Atoms) -> float:
        """Pressure times volume (eV), where the cell relaxes under pressure."""
        if self.settings.cell == "none" or not self.settings.pressure:
            return 0.0
        return float(self.settings.pressure * GPA * atoms.cell.volume)

    def _atom_energies(self, done: RelaxResult, potential: Potential) -> list[np.ndarray]:
        """Of each structure, where they are asked for."""
        if not self.atom_energies:
            return []
        values = evaluate_many(done.structures, potential, ATOMS_AT_ONCE, SilentReporter()).atom_energy
        return [x.numpy() for x in values.split(done.structures.counts.tolist())]

    def spread(self, images: Sequence[Atoms]) -> list[float]:
        """Standard deviation of the energy over the committee, of each structure (eV/atom); 0: one potential."""
        members = self._opened()
        if len(members) < 2 or not images:
            return [0.0] * len(images)
        dtype, device = placement(members[0])
        batch = Structures.from_ase(images).to(dtype=dtype, device=device)
        energy = spread(evaluate_members(members, batch)).energy.tolist()
        return [e / len(atoms) for e, atoms in zip(energy, images, strict=True)]


@dataclass(frozen=True)
class Raiser:
    """Makes the children that were ordered, relaxes them and takes their fingerprints; picklable."""

    breeder: Breeder
    """Makes them."""
    relaxer: Relaxer
    """Relaxes them."""
    variants: int = 1
    """Of each child that are made; the one with the lowest energy as it is made is relaxed."""

    def __call__(self, group: Sequence[Order | Candidate]) -> list[tuple[Candidate, Relaxed]]:
        """Each child, and what became of it."""
        children = {c.number: c for c in self._children(group)}
        out = []
        for number, one in self.relaxer(list(children.values())):
            mark = None if one.failure else self.breeder.mark(one.atoms)
            out.append((children[number], replace(one, mark=mark)))
        return out

    def _children(self, group: Sequence[Order | Candidate]) -> list[Candidate]:
        """One for each order; what is made already as it is."""
        made = [[one] if isinstance(one, Candidate) else self.breeder.variants(one, self.variants) for one in group]
        if all(len(variants) == 1 for variants in made):
            return [variants[0] for variants in made]
        energies = self.relaxer.energies([v.atoms for variants in made for v in variants])
        parts = np.split(energies, np.cumsum([len(variants) for variants in made])[:-1])
        return [variants[int(np.argmin(part))] for variants, part in zip(made, parts, strict=True)]


def searched(atoms: Atoms) -> int:
    """Atoms that are searched for: all, or those that are placed on a slab; at least 1."""
    return max(1, int((atoms.arrays[PART] == PLACED).sum())) if PART in atoms.arrays else len(atoms)


@functools.lru_cache(maxsize=1)
def _members(
    model: Path, changed: int, precision: Literal["float32", "float64"], device: str, mode: str | None
) -> tuple[Potential, ...]:
    """The model, or the members of its committee; opened again when its file has changed."""
    del changed
    dtype = {"float32": torch.float32, "float64": torch.float64}[precision]
    return tuple(open_model(model).members(dtype, device, mode))
