"""Monte Carlo runs kept on the disk every so many steps, so that a run that was stopped goes on to the same bits.

One hidden file of plain arrays (NumPy's npz) in the folder of the results; it goes when the work is done.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from rutile.core.errors import FileError, SettingsError
from rutile.core.files import write_atomically

if TYPE_CHECKING:
    from rutile.simulate.swap import SwapState
    from rutile.structures.structures import Structures

KEPT = ".state.npz"
MOST_SHELLS = 12
"""Shells of a particle that are told apart; what lies deeper counts to the last."""


@dataclass
class Seen:
    """What was observed of all runs so far. Letters of shapes: S runs, E elements, M shells of neighbours."""

    elements: np.ndarray
    """Atomic numbers of all runs, ascending, [E]."""
    shells: np.ndarray
    """Sum of the counts by run, shell and element, [S, 12, E]."""
    pairs: np.ndarray
    """Sum of the counts of ordered pairs, [S, M, E, E]."""
    observations: int = 0
    """How many were added up."""
    energies: list[np.ndarray] = field(default_factory=list)
    """After each step, each [S] (eV)."""

    @staticmethod
    def nothing(structures: Structures) -> Seen:
        """Before the first step."""
        from rutile.simulate.ordering import BOUNDS

        elements = np.unique(structures.numbers.numpy())
        s, e = structures.n_systems, len(elements)
        return Seen(elements, np.zeros((s, MOST_SHELLS, e)), np.zeros((s, len(BOUNDS) - 1, e, e)))

    def add(self, state: SwapState) -> None:
        """Count who lies where."""
        from rutile.simulate.ordering import counted

        for run, atoms in enumerate(state.structures.to_ase()):
            order = counted(atoms, self.elements)
            for shell, row in enumerate(order.shells):
                self.shells[run, min(shell, MOST_SHELLS - 1)] += row
            self.pairs[run] += order.pairs
        self.observations += 1


class KeptSwaps:
    """The file with what is done of one question."""

    def __init__(self, folder: Path, question: str) -> None:
        self.path, self.question = folder / KEPT, question

    def write(self, state: SwapState, seen: Seen) -> None:
        """Keep where all runs stand.

        Raises:
            FileError: the file cannot be written; the one before stays.
        """
        from rutile.simulate.swap import frozen_arrays

        data = io.BytesIO()
        np.savez(
            data, allow_pickle=False, question=np.array(self.question), shells=seen.shells, pairs=seen.pairs,
            observations=np.array(seen.observations), energies=np.array(seen.energies), **frozen_arrays(state),
        )  # fmt: skip
        write_atomically(self.path, data.getvalue())

    def read(self, given: Structures) -> tuple[SwapState, Seen] | None:
        """Where an earlier run stood; None: there was none.

        Raises:
            SettingsError: another question was begun in this folder.
            FileError: the file cannot be understood.
        """
        from rutile.simulate.swap import thawed

        if not self.path.exists():
            return None
        try:
            with np.load(self.path, allow_pickle=False) as file:
                arrays = dict(file)
            question = str(arrays.pop("question"))
            seen = Seen.nothing(given)
            seen.shells, seen.pairs = arrays.pop("shells"), arrays.pop("pairs")
            seen.observations, seen.energies = int(arrays.pop("observations")), list(arrays.pop("energies"))
        except (OSError, ValueError, KeyError) as error:
            raise FileError(f"cannot read {self.path}: {error}; remove it to begin anew") from None
        if question != self.question:
            raise SettingsError(
                f"other runs (model, particles or settings) were begun and not finished in {self.path.parent}: restore "
                f"them to go on, remove {self.path}, or choose another out="
            )
        return thawed(given, arrays), seen

    def done(self) -> None:
        """All is finished."""
        self.path.unlink(missing_ok=True)
