"""Errors of predictions against labels, in one pass: MAE, RMSE and largest error.

Quantities: energy per atom (eV/atom), force components (eV/Angstrom), the norm of the error vector of each force
(eV/Angstrom), the six independent stress components (eV/Angstrom^3, and in GPa beside). Subsets: all frames, each
element of the atoms (forces only: an energy has no element), each group of frames, each calc mode where there are
several, and frames whose largest reference force is below a limit. Labels that are absent do not count; neither does
the stress of what is not periodic in 3-D.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from rutile.core.elements import symbol
from rutile.core.units import ERROR_UNITS, GPA
from rutile.data.frames import Labelled
from rutile.potentials.potential import Prediction

Row = dict[str, Any]
SUBSETS = ("all", "limit", "mode", "element", "group")
VOIGT = ((0, 1, 2, 1, 0, 0), (0, 1, 2, 2, 2, 1))
COUNT, SUM, SQUARES, LARGEST = range(4)


class ErrorSums:
    """Sums of errors over batches; two of them add up to that of both parts.

    Args:
        groups: name of the group of each frame of the store, looked up by `Labelled.index`; None: no groups.
        force_limit: also report frames with every reference force |F_i| below this (eV/Angstrom), and the others.
        modes: name of the calc mode of each frame of the store, as for groups.
    """

    def __init__(
        self,
        groups: Sequence[str] | None = None,
        force_limit: float | None = None,
        modes: Sequence[str] | None = None,
    ) -> None:
        self.groups, self.modes = groups, modes
        self.force_limit = force_limit
        self._sums: dict[tuple[str, str, str], np.ndarray] = {}

    def add(self, prediction: Prediction, labelled: Labelled) -> None:
        """Count one batch.

        Args:
            prediction: of `labelled.structures`, same order.
            labelled: the labels.
        """
        system = labelled.structures.system.cpu().numpy()
        tags = self._frame_tags(labelled)
        counts = labelled.structures.counts.cpu().numpy()
        has_energy, has_forces = labelled.has_energy.cpu().numpy(), labelled.has_forces.cpu().numpy()
        has_stress = (labelled.has_stress & labelled.structures.pbc.all(1)).cpu().numpy()
        energy = (_array(prediction.energy) - _array(labelled.energy)) / np.maximum(counts, 1)
        self._count("energy", energy[has_energy, None], [t[has_energy] for t in tags])
        atoms = has_forces[system]
        elements = np.array([f"element\t{symbol(int(z))}" for z in labelled.structures.numbers[atoms]], dtype=object)
        atom_tags = [*(t[system[atoms]] for t in tags), elements]
        forces = (_array(prediction.forces) - _array(labelled.forces))[atoms]
        self._count("force", forces, atom_tags)
        self._count("force_vector", np.linalg.norm(forces, axis=1)[:, None], atom_tags)
        stress = (_array(prediction.stress) - _array(labelled.stress))[has_stress][:, VOIGT[0], VOIGT[1]]
        self._count("stress", stress, [t[has_stress] for t in tags])

    def merge(self, other: ErrorSums) -> None:
        """Add the sums of another part of the data."""
        for key, sums in other._sums.items():
            self._sums[key] = _joined(self._sums[key], sums) if key in self._sums else sums.copy()

    def rows(self) -> list[Row]:
        """One row for each quantity, unit and subset that has labels.

        Keys: `quantity`, `unit`, `subset` (all, limit, mode, element, group), `name`, `count`, `mae`, `rmse`, `max`.
        """
        one_mode = len({name for _, subset, name in self._sums if subset == "mode"}) < 2
        shown = [key for key in self._sums if not (one_mode and key[1] == "mode")]
        order = sorted(shown, key=lambda k: (SUBSETS.index(k[1]), k[2], list(ERROR_UNITS).index(k[0])))
        rows = []
        for quantity, subset, name in order:
            n, total, squares, largest = self._sums[quantity, subset, name]
            errors = np.array([total / n, np.sqrt(squares / n), largest])
            units = {ERROR_UNITS[quantity]: 1.0} | ({"GPa": 1 / GPA} if quantity == "stress" else {})
            for unit, factor in units.items():
                row: Row = {"quantity": quantity, "unit": unit, "subset": subset, "name": name, "count": int(n)}
                rows.append(row | dict(zip(("mae", "rmse", "max"), (errors * factor).tolist(), strict=True)))
        return rows

    def overall(self) -> dict[str, float]:
        """Errors of all frames by short names, for a line of a log: `energy_mae`, `force_rmse`, `stress_mae`...

        In eV/atom, eV/Angstrom, eV/Angstrom^3; quantities without labels are absent.
        """
        return {
            f"{row['quantity']}_{kind}": float(row[kind])
            for row in self.rows()
            if row["subset"] == "all" and row["unit"] != "GPa"
            for kind in ("mae", "rmse")
        }

    def _frame_tags(self, labelled: Labelled) -> list[np.ndarray]:
        """Names of the subsets that each frame belongs to, one array [S] of "subset<TAB>name" for each kind."""
        n = labelled.structures.n_systems
        tags = [np.full(n, "all\tall", dtype=object)]
        if self.groups is not None:
            names = [self.groups[i] or "(no group)" for i in labelled.index.tolist()]
            tags.append(np.array([f"group\t{name}" for name in names], dtype=object))
        if self.modes is not None:
            names = [self.modes[i] or "(no name)" for i in labelled.index.tolist()]
            tags.append(np.array([f"mode\t{name}" for name in names], dtype=object))
        if self.force_limit is not None:
            large = _array(largest_force(labelled)) >= self.force_limit
            below, above = (f"limit\tmax |F| {sign} {self.force_limit:g} eV/Å" for sign in "<≥")
            tags.append(np.where(large, above, below).astype(object))
        return tags

    def _count(self, quantity: str, errors: np.ndarray, tags: list[np.ndarray]) -> None:
        """Add errors [M, C] to the subset named by each array of tags [M]."""
        if not errors.size:
            return
        for tag in tags:
            names, inverse = np.unique(tag.astype(str), return_inverse=True)
            for k, full_name in enumerate(names):
                part = np.abs(errors if len(names) == 1 else errors[inverse == k])
                sums = np.array([part.size, part.sum(), (part**2).sum(), part.max()])
                subset, _, name = str(full_name).partition("\t")
                key = quantity, subset, name
                self._sums[key] = _joined(self._sums[key], sums) if key in self._sums else sums


def largest_force(labelled: Labelled) -> torch.Tensor:
    """Largest reference force |F_i| of each frame (eV/Angstrom), [S]; 0 where forces are absent."""
    norms = torch.nan_to_num(torch.linalg.vector_norm(labelled.forces, dim=1), nan=0.0)
    return norms.new_zeros(labelled.structures.n_systems).scatter_reduce(0, labelled.structures.system, norms, "amax")


def _array(values: torch.Tensor) -> np.ndarray:
    return np.asarray(values.detach().cpu().double().numpy())


def _joined(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    joined = a + b
    joined[LARGEST] = np.maximum(a[LARGEST], b[LARGEST])  # NaN stays NaN
    return np.asarray(joined)
