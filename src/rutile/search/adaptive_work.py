"""What workers of an adaptive search do: relax a group on a version of the potential, and label a structure."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.filters import FrechetCellFilter
from ase.optimize import BFGS

from rutile.build.sizes import radii
from rutile.label.cache import LabelCache, key_of, settings_hash, short_hash
from rutile.label.campaign import NOT_KEPT, mode_of
from rutile.label.labeler import Label, Outcome
from rutile.label.settings import EngineBase
from rutile.label.work import Work
from rutile.potentials.evaluate import VOIGT
from rutile.search.adaptive_items import Answer, Group, Question, Scored
from rutile.search.relaxing import Relaxer
from rutile.simulate.settings import RelaxSettings
from rutile.structures.fingerprint import pairs_within


@dataclass(frozen=True)
class Scorer:
    """Relaxes groups, each on its version."""

    folder: Path
    """That the models of versions are in."""
    precision: Literal["float32", "float64"]
    device: str
    settings: RelaxSettings
    """How."""

    def __call__(self, group: Group) -> list[tuple[int, Scored]]:
        """Number of each candidate, and what became of it."""
        relaxer = Relaxer(self.folder / group.model, self.precision, self.device, None, self.settings)
        done = relaxer(group.candidates)
        spread = iter(relaxer.spread([r.atoms for _, r in done if not r.failure]))
        return [(number, Scored(r, 0.0 if r.failure else next(spread))) for number, r in done]


@dataclass(frozen=True)
class Ending:
    """How the labeler relaxes final structures."""

    steps: int
    """Calculations at most; 0: none are relaxed."""
    fmax: float
    """eV/Angstrom."""
    cell: bool
    """Whether the cell moves."""


@dataclass(frozen=True)
class Asker:
    """Labels structures with an engine; every label is kept as it is done."""

    engine: EngineBase
    version: str
    """Of the engine."""
    cache: Path
    """Folder of labels."""
    pressure: float
    """eV/Angstrom^3; energies are enthalpies under it."""
    ending: Ending

    def __call__(self, question: Question) -> Answer:
        """The label of a structure; of a final one that of the minimum by the labeler."""
        if question.why == "final":
            return self._relaxed(question.atoms)
        return self._answer(question.atoms, *self.label(question.atoms))

    def label(self, atoms: Atoms) -> tuple[Outcome, int]:
        """A label that is known, or a new one; and how many calculations that took: 0 or 1."""
        cache, key = LabelCache(self.cache), key_of(atoms, settings_hash(self.engine, self.version))
        how = short_hash(self.engine.model_dump(mode="json"))
        known = cache.get(key) or cache.failure(key, how)
        if known is not None:
            return known, 0
        outcome = Work(self.engine)(atoms)
        if isinstance(outcome, Label):
            cache.put(key, outcome)
        elif outcome.kind not in NOT_KEPT:
            cache.put_failure(key, how, outcome)
        return outcome, 1

    def _answer(self, atoms: Atoms, outcome: Outcome, cost: int) -> Answer:
        if not isinstance(outcome, Label):
            return Answer(None, math.nan, math.nan, f"{outcome.kind}: {outcome.reason}", cost)
        frame = Atoms(atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
        frame.info |= {"REF_energy": outcome.energy, "calc_mode": mode_of(self.engine, self.version)}
        frame.arrays["REF_forces"] = outcome.forces
        if outcome.stress is not None:
            frame.info["REF_stress"] = outcome.stress
        volume = atoms.cell.volume if self.pressure else 0.0
        energy = (outcome.energy + self.pressure * volume) / len(atoms)
        return Answer(frame, energy, float(np.linalg.norm(outcome.forces, axis=1).max()), "", cost)

    def _relaxed(self, given: Atoms) -> Answer:
        atoms = Atoms(given.numbers, positions=given.positions, cell=given.cell, pbc=given.pbc)
        calculator = atoms.calc = _ByLabels(self.label)
        moved = FrechetCellFilter(atoms, scalar_pressure=self.pressure) if self.ending.cell else atoms
        optimizer = BFGS(moved, logfile=None)  # type: ignore[arg-type]
        try:
            optimizer.run(fmax=self.ending.fmax, steps=max(0, self.ending.steps - 1))
            last, cost = self.label(atoms)
        except _NoLabelError as error:
            last, cost = error.outcome, 0
        return self._answer(atoms, last, calculator.labels + cost)


class _NoLabelError(Exception):
    """There is no label of a structure on the way."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__()
        self.outcome = outcome


class _ByLabels(Calculator):
    """Energies, forces and stress from labels."""

    implemented_properties = ["energy", "forces", "stress"]

    def __init__(self, label: Callable[[Atoms], tuple[Outcome, int]]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.ask, self.labels = label, 0

    def calculate(self, atoms: Any = None, properties: Any = ("energy",), system_changes: Any = all_changes) -> None:
        """As ASE calls it."""
        super().calculate(atoms, properties, system_changes)  # type: ignore[no-untyped-call]
        outcome, cost = self.ask(Atoms(atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc))
        self.labels += cost
        if not isinstance(outcome, Label):
            raise _NoLabelError(outcome)
        self.results = {"energy": outcome.energy, "free_energy": outcome.energy, "forces": outcome.forces}
        if outcome.stress is not None:
            self.results["stress"] = np.array([outcome.stress[k] for k in VOIGT])


@dataclass(frozen=True)
class Guarded:
    """Looks at relaxed structures: a potential may lead where it says nothing."""

    closest: float
    """Atoms are not nearer than this part of the sum of their covalent radii (dimensionless)."""
    check: Callable[[Atoms], str] | None = None
    """What else says why a structure cannot be used, or ""."""

    def __call__(self, atoms: Atoms) -> str:
        """Why a structure cannot be used, or ""."""
        r = radii(atoms.numbers)
        i, j, d = pairs_within(atoms.positions, atoms.cell.array, atoms.pbc, 2 * float(r.max()))
        if (d < self.closest * (r[i] + r[j])).any():
            return "atoms too close"
        return self.check(atoms) if self.check else ""
