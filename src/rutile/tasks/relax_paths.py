"""How structures come down in a relaxation: energy, force, pressure and volume at every step, with the geometry."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ase import Atoms

from rutile.core.reporting import Reporter
from rutile.core.settings import Result
from rutile.core.units import GPA, Angstrom3PerAtom, EVPerAngstrom, EVPerAtom, GigaPascal
from rutile.tasks.apply import set_results

if TYPE_CHECKING:
    from torch import Tensor

    from rutile.potentials.potential import Prediction
    from rutile.structures.structures import Structures

MOST_ATOMS = 1_000_000
"""Places of atoms that are kept of one structure: of larger ones not every step is."""
LIVE = 1.0
"""Seconds between two rows of the live table of a structure that is alone."""


class PathRow(Result):
    """One structure at one step; the rows are in the order of the structures in the file of paths."""

    structure: str
    """File and 0-based frame number."""
    step: int
    """Steps taken."""
    energy: EVPerAtom
    """There."""
    fmax: EVPerAngstrom
    """Largest force on an atom that may move."""
    pressure: GigaPascal | None
    """There; of structures that are periodic in three directions."""
    volume: Angstrom3PerAtom | None
    """There; of structures that are periodic in three directions."""


class Watched:
    """Takes down how the first few of the structures that are relaxed come down; a `simulate.relax.Watch` is `see`.

    Args:
        names: of those that are watched.
        numbers: under which each of them is known, at least as many.
        max_steps: of the relaxation.
        reporter: is given a live table where there is only one structure.
    """

    def __init__(self, names: Sequence[str], numbers: Sequence[int], max_steps: int, reporter: Reporter) -> None:
        self._names, self._numbers, self._max_steps = names, numbers, max_steps
        self._reporter = reporter if len(numbers) == 1 else None
        self._shown = 0.0
        self._ways: dict[int, list[Atoms]] = {}

    def see(self, number: Tensor, step: Tensor, now: Structures, prediction: Prediction, fmax: Tensor) -> None:
        """One step of a batch; arguments are those of `simulate.relax.Watch`."""
        for s in (number < len(self._names)).nonzero().squeeze(1).tolist():
            if math.isnan(fmax[s]):
                continue
            n, at = int(number[s]), int(step[s])
            mine = now.system == s
            atoms = Atoms(now.numbers[mine], now.positions[mine], cell=now.cell[s], pbc=now.pbc[s])
            set_results(atoms, prediction, s, mine)
            atoms.info |= {"source": self._names[n], "number": self._numbers[n], "step": at, "fmax": float(fmax[s])}
            self._take(n, at, atoms)

    def _take(self, number: int, step: int, atoms: Atoms) -> None:
        """Keep a step; one that lies between those that are kept is kept until the next one comes."""
        way = self._ways.setdefault(number, [])
        every = max(1, math.ceil(len(atoms) * self._max_steps / MOST_ATOMS))
        if way and way[-1].info["step"] % every:
            way.pop()
        way.append(atoms)
        now = time.monotonic()
        if self._reporter is not None and now - self._shown > LIVE:
            self._shown = now
            energy = atoms.calc.results["energy"] / len(atoms)
            self._reporter.metrics({"step": step, "energy_eV_atom": energy, "fmax_eV_A": atoms.info["fmax"]})

    def of(self, number: int) -> list[Atoms]:
        """The way of a structure that is done; it is forgotten here."""
        return self._ways.pop(number, [])


def in_order(ways: Sequence[Atoms]) -> list[Atoms]:
    """Frames by structure and step, each once."""
    known = {(int(atoms.info["number"]), int(atoms.info["step"])): atoms for atoms in ways}
    out = [known[key] for key in sorted(known)]
    for atoms in out:
        del atoms.info["number"]
    return out


def rows_of_ways(ways: Sequence[Atoms]) -> list[PathRow]:
    """The table of a file of paths."""
    return [_row(atoms) for atoms in ways]


def _row(atoms: Atoms) -> PathRow:
    bulk = bool(atoms.pbc.all())
    return PathRow(
        structure=str(atoms.info["source"]),
        step=int(atoms.info["step"]),
        energy=atoms.get_potential_energy() / len(atoms),
        fmax=float(atoms.info["fmax"]),
        pressure=-float(atoms.get_stress()[:3].mean()) / GPA if bulk else None,
        volume=float(atoms.get_volume()) / len(atoms) if bulk else None,
    )
