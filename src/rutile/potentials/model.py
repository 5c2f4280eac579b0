"""A trained model: one potential or a committee, and what is known about its making."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from ase import Atoms
from pydantic import Field, JsonValue

from rutile import __version__
from rutile.core.settings import Result
from rutile.graph.neighbors import find_edges
from rutile.potentials.calibration import Calibration
from rutile.potentials.checks import check_distances, check_structures
from rutile.potentials.combine import Mean, common_elements, mean
from rutile.potentials.evaluate import evaluate_members
from rutile.potentials.modes import in_mode, modes_of
from rutile.potentials.parts.heads import heads_of
from rutile.potentials.placement import placement, usable_device
from rutile.potentials.potential import Potential, Prediction
from rutile.structures.structures import Structures, in_batches
from rutile.structures.surroundings import Surroundings

if TYPE_CHECKING:
    from rutile.potentials.calculator import RutileCalculator


Precision = Literal["float32", "float64"]
PRECISIONS: dict[Precision | None, torch.dtype | None] = {
    None: None,
    "float32": torch.float32,
    "float64": torch.float64,
}


class ModelInfo(Result):
    """What a model file says about the model besides its numbers."""

    elements: tuple[int, ...]
    """Atomic numbers it was trained on, ascending."""
    calc_modes: tuple[str, ...] = ()
    """Reference methods of the training data."""
    training_data: str = ""
    """SHA-256 of the training data; empty: unknown."""
    metrics: dict[str, JsonValue] = Field(default_factory=dict)
    """Errors measured at the end of training, by data set."""
    notes: tuple[str, ...] = ()
    """What its users must know, such as that its forces jump."""
    rutile: str = __version__
    """Version of rutile that trained it."""


class Model:
    """Potentials (float32 or float64 modules of the catalogue) with their description."""

    def __init__(
        self,
        potentials: Sequence[torch.nn.Module],
        info: ModelInfo,
        calibration: Calibration | None = None,
        surroundings: Surroundings | None = None,
    ) -> None:
        if len({float(p.cutoff) for p in potentials}) != 1:  # type: ignore[arg-type]
            raise ValueError("a model is one potential, or several of one cutoff")
        self.potentials = list(potentials)
        self.info = info
        self.calibration = calibration
        """Error bars from the spread of exactly these potentials; None: not calibrated."""
        self.surroundings = surroundings
        """What atoms had around them in training; None: unknown."""

    @property
    def modes(self) -> tuple[str, ...]:
        """Names of the calc modes that it tells apart; one without a name: ("",)."""
        return modes_of(self.potentials[0])  # type: ignore[arg-type]

    @property
    def committee(self) -> bool:
        """Whether there are several potentials."""
        return len(self.potentials) > 1

    @property
    def potential(self) -> Potential:
        """The energy function: the only member, or the mean of the committee."""
        return self.potentials[0] if len(self.potentials) == 1 else Mean(self.potentials)  # type: ignore

    def save(self, path: str | Path) -> None:
        """Write the model to one file, atomically.

        Raises:
            FileError: the place cannot be written.
        """
        from rutile.potentials.save import save_model

        save_model(Path(path), self)

    def calculator(
        self, dtype: Precision | None = None, device: str = "cpu", mode: str | None = None, *, head_spread: bool = True
    ) -> RutileCalculator:
        """An ASE calculator with its own frozen copy of the potentials.

        Args:
            dtype: precision (default: as trained).
            device: "cpu", "cuda", "cuda:1", or "auto": a GPU if there is one.
            mode: name of the calc mode (default: the only one).
            head_spread: False: of a potential with several heads only their mean, for the cost of one; for dynamics.

        Raises:
            SettingsError: the device is not there.
            ModeError: the model knows several modes and none is named, or none of that name.
        """
        from rutile.potentials.calculator import RutileCalculator

        if head_spread:
            members = self.members(PRECISIONS[dtype], device, mode)
        else:
            members = [in_mode(potential, mode) for potential in self._copies(PRECISIONS[dtype], device)]
        return RutileCalculator(members, calibration=self.calibration)

    def evaluate(
        self,
        structures: Structures | Sequence[Atoms],
        *,
        atoms_per_batch: int = 512,
        dtype: Precision | None = None,
        device: str = "cpu",
        mode: str | None = None,
    ) -> Prediction:
        """Energy, forces and stress of many structures, the mean over a committee; see `evaluate_members`."""
        potentials = [in_mode(p, mode) for p in self._copies(PRECISIONS[dtype], device)]
        return mean(_evaluate(potentials, structures, atoms_per_batch))

    def evaluate_members(
        self,
        structures: Structures | Sequence[Atoms],
        *,
        atoms_per_batch: int = 512,
        dtype: Precision | None = None,
        device: str = "cpu",
        mode: str | None = None,
    ) -> list[Prediction]:
        """Each member's prediction for many structures, on the CPU; members are those of `members`.

        Args:
            structures: any number of them, in any order of size.
            atoms_per_batch: structures are evaluated together up to this many atoms (a larger one alone).
            dtype: precision (default: as trained).
            device: "cpu", "cuda", "cuda:1", or "auto": a GPU if there is one.
            mode: name of the calc mode (default: the only one).

        Raises:
            GeometryError: a structure cannot be evaluated; the message has its number.
            ElementError: a structure holds an element that the model was not trained on.
            SettingsError: the device is not there.
            ModeError: the model knows several modes and none is named, or none of that name.
        """
        return _evaluate(self.members(PRECISIONS[dtype], device, mode), structures, atoms_per_batch)

    def members(
        self, dtype: torch.dtype | None = None, device: str = "cpu", mode: str | None = None
    ) -> list[Potential]:
        """Frozen copies of the potentials for evaluation in one calc mode, each head of a shallow ensemble by itself.

        Args:
            dtype: precision (default: as trained).
            device: "cpu", "cuda", "cuda:1", or "auto": a GPU if there is one.
            mode: name of the calc mode (default: the only one).

        Raises:
            SettingsError: the device is not there.
            ModeError: the model knows several modes and none is named, or none of that name.
        """
        potentials = [in_mode(potential, mode) for potential in self._copies(dtype, device)]
        return [head for potential in potentials for head in heads_of(potential)]

    def raw_members(self, dtype: torch.dtype | None = None, device: str = "cpu") -> list[Potential]:
        """As `members`, with all calc modes: `evaluate` is to be told the mode of each structure.

        Raises:
            SettingsError: the device is not there.
        """
        return [head for potential in self._copies(dtype, device) for head in heads_of(potential)]

    def _copies(self, dtype: torch.dtype | None, device: str) -> list[Potential]:
        """Frozen copies of the potentials."""
        place = usable_device(device)
        copies = [copy.deepcopy(p).to(device=place, dtype=dtype) for p in self.potentials]
        return [p.eval().requires_grad_(False) for p in copies]  # type: ignore[misc]


def _evaluate(
    potentials: Sequence[Potential], structures: Structures | Sequence[Atoms], atoms_per_batch: int
) -> list[Prediction]:
    """Each potential's prediction; see `Model.evaluate_members`."""
    whole = structures if isinstance(structures, Structures) else Structures.from_ase(list(structures))
    names = [f"structure {s}" for s in range(whole.n_systems)]
    check_structures(whole, common_elements(potentials), names)
    parts: list[list[Prediction]] = [[] for _ in potentials]
    done_systems = 0
    for batch in in_batches(whole, atoms_per_batch):
        edges = find_edges(batch, potentials[0].cutoff)
        check_distances(batch, edges, names[done_systems:])
        done_systems += batch.n_systems
        dtype, device = placement(potentials[0])
        placed = batch.to(dtype=dtype, device=device)
        predictions = evaluate_members(potentials, placed, edges=edges.to(device))
        for done, prediction in zip(parts, predictions, strict=True):
            done.append(prediction)
    return [_join(done) for done in parts]


def _join(parts: Sequence[Prediction]) -> Prediction:
    """One prediction, on the CPU, from those of consecutive batches."""
    return Prediction(
        torch.cat([p.energy for p in parts]).cpu(),
        torch.cat([p.forces for p in parts]).cpu(),
        torch.cat([p.stress for p in parts]).cpu(),
        torch.cat([p.atom_energy for p in parts]).cpu(),
    )
