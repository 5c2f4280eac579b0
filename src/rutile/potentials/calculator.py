"""The bridge to ASE: a calculator that refuses what has no energy, and says when it extrapolates.

    from rutile import load
    atoms.calc = load("model").calculator()

Results: energy = free_energy (eV), energies of the atoms (eV), forces (eV/Angstrom), and for structures periodic in
three directions stress (Voigt xx yy zz yz xz xy, eV/Angstrom^3, ASE's sign: positive under tension). A committee adds
energy_std (eV) and forces_std (eV/Angstrom, [N, 3]), the standard deviations over its members. Where the model names
its reference method, calc_mode is among the results, and the energies refuse to be added to or subtracted from those of
another method (`modes.ModeEnergy`).
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, InputError, all_changes
from torch import Tensor

from rutile.core.elements import symbol
from rutile.core.errors import ElementError, GeometryError
from rutile.graph.skin import SkinList
from rutile.potentials.checks import check_distances, check_structures, smoothness_note
from rutile.potentials.combine import common_elements, mean, spread
from rutile.potentials.evaluate import VOIGT, evaluate_members
from rutile.potentials.extrapolate import RangeWatch
from rutile.potentials.modes import energy_of, in_mode, modes_of
from rutile.potentials.placement import placement
from rutile.potentials.potential import Potential
from rutile.structures.structures import Structures


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

    def __init__(self, potentials: Sequence[Potential], skin: float = 0.5) -> None:
        """Evaluate these potentials; usually called as `Model.calculator`.

        Args:
            potentials: members of one cutoff, one precision, on one device, in one calc mode; not copied, not trained
                here.
            skin: extra radius of the neighbour list (Angstrom), which is kept until an atom moved half as far.

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
        self.extrapolation: dict[str, int] = {"calculations": 0, "extrapolating": 0, "atoms": 0, "most": 0}
        """Calculations so far; those with descriptors outside the training range; and in the last calculation: atoms
        with such descriptors, and the most such descriptors of one atom."""
        self._neighbors = SkinList(self.potentials[0].cutoff, skin)
        self._warned = False

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
