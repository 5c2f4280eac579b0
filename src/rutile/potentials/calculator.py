"""The bridge to ASE: a calculator that refuses what has no energy, and says when it extrapolates.

    from rutile import load
    atoms.calc = load("model").calculator()

Results: energy = free_energy (eV), energies of the atoms (eV), forces (eV/Angstrom), and for structures periodic in
three directions stress (Voigt xx yy zz yz xz xy, eV/Angstrom^3, ASE's sign: positive under tension). A committee adds
energy_std (eV) and forces_std (eV/Angstrom, [N, 3]), the standard deviations over its members. One that was calibrated
(`rutile calibrate`) adds error bars: energy_error (eV, to both sides) and forces_error (eV/Angstrom, [N], radius of the
ball around the predicted force), within which the reference lies with probability error_coverage. Where the model names
its reference method, calc_mode is among the results, and the energies refuse to be added to or subtracted from those of
another method (`modes.ModeEnergy`).
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, InputError, PropertyNotImplementedError, all_changes
from torch import Tensor

from rutile.core.elements import symbol
from rutile.core.errors import ElementError, GeometryError
from rutile.graph.skin import SkinList
from rutile.potentials.calibration import Calibration
from rutile.potentials.checks import check_distances, check_structures, smoothness_note
from rutile.potentials.combine import common_elements, mean, spread
from rutile.potentials.evaluate import VOIGT, evaluate_members
from rutile.potentials.extrapolate import RangeWatch
from rutile.potentials.modes import energy_of, in_mode, modes_of
from rutile.potentials.placement import placement
from rutile.potentials.potential import Potential
from rutile.structures.structures import Structures

ERROR_BARS = ("energy_error", "forces_error", "error_coverage")
"""Results of a calibrated model."""


class ExtrapolationWarning(UserWarning):
    """Some atoms have descriptors outside the range of the training data."""


class NotSmoothWarning(UserWarning):
    """The potential's energy and forces jump: optimisers may not end, and dynamics drifts."""


class RefusedGeometryError(GeometryError, InputError):
    """A `GeometryError` that programs which know only ASE's errors (InputError, CalculatorError) can catch, too."""


class RefusedElementError(ElementError, InputError):
    """An `ElementError` that programs which know only ASE's errors (InputError, CalculatorError) can catch, too."""


class RutileCalculator(Calculator):
    """ASE calculator of one potential or of a committee."""

    def __init__(
        self, potentials: Sequence[Potential], skin: float = 0.5, calibration: Calibration | None = None
    ) -> None:
        """Evaluate these potentials; usually called as `Model.calculator`.

        Args:
            potentials: members of one cutoff, one precision, on one device, in one calc mode; not copied, not trained
                here.
            skin: extra radius of the neighbour list (Angstrom), which is kept until an atom moved half as far.
            calibration: of the spread of these potentials; of another number of them it is not used.

        Raises:
            ModeError: they know several calc modes: say which (`modes.in_mode`, `Model.calculator(mode=...)`).
        """
        super().__init__()  # type: ignore[no-untyped-call]
        if note := smoothness_note(potentials[0]):
            warnings.warn(note, NotSmoothWarning, stacklevel=3)
        self.potentials = [in_mode(p) for p in potentials]
        (self.calc_mode,) = modes_of(self.potentials[0])
        self.elements = common_elements(potentials)
        self.implemented_properties = ["energy", "free_energy", "energies", "forces", "stress"]
        if len(self.potentials) > 1:
            self.implemented_properties += ["energy_std", "forces_std"]
        fits = calibration is not None and calibration.members == len(self.potentials)
        self.calibration = calibration.of(self.calc_mode) if calibration is not None and fits else None
        if self.calibration is not None:
            known = {"energy_error": self.calibration.energy, "forces_error": self.calibration.forces}
            self.implemented_properties += ["error_coverage", *(name for name, bars in known.items() if bars)]
        self.extrapolation: dict[str, int] = {"calculations": 0, "extrapolating": 0, "atoms": 0, "most": 0}
        """Calculations so far; those with descriptors outside the training range; and in the last calculation: atoms
        with such descriptors, and the most such descriptors of one atom."""
        self._neighbors = SkinList(self.potentials[0].cutoff, skin)
        self._warned = False

    def get_property(self, name: str, atoms: Atoms | None = None, allow_calculation: bool = True) -> Any:
        """A result by name, as ASE's calculators give it.

        Raises:
            PropertyNotImplementedError: the potentials do not give it; of error bars: the model is not calibrated.
        """
        if name in ERROR_BARS and name not in self.implemented_properties:
            if len(self.potentials) < 2:
                lack = "a single potential has no spread: train with members=4 or potential.heads=8, then calibrate"
            else:
                lack = "the model is not calibrated for it: run `rutile calibrate VALIDATION_DATA model=...`"
            raise PropertyNotImplementedError(f"{name}: {lack}")
        return super().get_property(name, atoms, allow_calculation)  # type: ignore[no-untyped-call]

    def calculate(
        self, atoms: Atoms | None = None, properties: Sequence[str] = (), system_changes: Sequence[str] = all_changes
    ) -> None:
        """Fill `results` for the atoms, which are not changed.

        Raises:
            RefusedGeometryError: NaN or infinity, atoms at one place, no atoms, a periodic direction without vector.
            RefusedElementError: an element that the potential was not trained on.
        """
        atoms = self.atoms if atoms is None else atoms
        assert atoms is not None, "a calculation without atoms"
        super().calculate(atoms, list(properties), list(system_changes))  # type: ignore[no-untyped-call]
        structures = Structures.from_ase(atoms)
        try:
            check_structures(structures, self.elements)
            edges = self._neighbors.edges(structures)
            check_distances(structures, edges)
        except ElementError as error:
            raise RefusedElementError(str(error)) from None
        except GeometryError as error:
            raise RefusedGeometryError(str(error)) from None
        dtype, device = placement(self.potentials[0])
        placed = structures.to(dtype=dtype, device=device)
        watch = RangeWatch(placed.numbers)
        members = evaluate_members(self.potentials, placed, edges=edges.to(device), watch=watch)
        prediction = mean(members)
        self.results = {
            "energy": energy_of(float(prediction.energy[0]), self.calc_mode),
            "free_energy": energy_of(float(prediction.energy[0]), self.calc_mode),
            "energies": _numpy(prediction.atom_energy),
            "forces": _numpy(prediction.forces),
        }
        if bool(structures.pbc.all()):
            stress = _numpy(prediction.stress[0])
            self.results["stress"] = np.array([stress[v] for v in VOIGT])
        if self.calc_mode:
            self.results["calc_mode"] = self.calc_mode
        if len(members) > 1:
            disagreement = spread(members)
            self.results["energy_std"] = float(disagreement.energy[0])
            self.results["forces_std"] = _numpy(disagreement.forces)
            if self.calibration is not None:
                bars = self.calibration.error_bars(self.results["energy_std"], self.results["forces_std"])
                self.results.update(bars)
        self._note_extrapolation(structures, watch.outside.cpu())

    def _note_extrapolation(self, structures: Structures, outside: Tensor) -> None:
        """Count, and warn the first time."""
        atoms = int((outside > 0).sum())
        self.extrapolation["calculations"] += 1
        self.extrapolation["extrapolating"] += atoms > 0
        self.extrapolation["atoms"] = atoms
        self.extrapolation["most"] = int(outside.max())
        if atoms and not self._warned:
            self._warned = True
            worst = int(outside.argmax())
            warnings.warn(
                f"extrapolating: {atoms} of {structures.n_atoms} atoms have descriptors outside the range of the "
                f"training data (most: atom {worst} ({symbol(int(structures.numbers[worst]))}), {int(outside.max())} "
                "descriptors); trust the result less. Said once; later counts are in calculator.extrapolation",
                ExtrapolationWarning,
                stacklevel=2,
            )


def _numpy(tensor: Tensor) -> np.ndarray:
    """A float64 NumPy copy on the host."""
    return np.array(tensor.detach().cpu().double().numpy())
