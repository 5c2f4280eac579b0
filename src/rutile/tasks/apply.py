"""What tasks that apply a model to structures have in common: where both come from, and refusing what does not fit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from rutile.core.elements import symbol
from rutile.core.errors import ElementError, FileError
from rutile.core.reporting import Reporter
from rutile.core.settings import Settings
from rutile.data.settings import Format, ReadSettings

if TYPE_CHECKING:
    from ase import Atoms
    from torch import Tensor

    from rutile.data.frames import Frame
    from rutile.data.reading import Reading
    from rutile.potentials.calibration import Calibration
    from rutile.potentials.combine import Spread
    from rutile.potentials.potential import Potential, Prediction
    from rutile.structures.structures import Structures

MOST_NOTED = 3
"""Structures unlike the training data that are named one by one."""


class GivenStructures(Settings):
    """A model and the structures to apply it to."""

    model: Path
    """Model file, the folder of a training run, or a potential that needs none: emt, lennard_jones, rigid_ion,
    bond_valence."""
    structures: list[Path] = Field(min_length=1)
    """Files, folders or patterns of structures; labels in them are ignored."""
    format: Format | None = None
    """Format of the files; without it the name of each file (and its first bytes) decide."""
    on_bad: Literal["error", "skip"] = "error"
    """What to do with a structure that cannot be used (NaN, overlapping atoms, no cell, an element that the model was
    not trained on): stop, or leave it out and list it."""
    precision: Literal["float32", "float64"] = "float64"
    """Precision of the arithmetic."""
    device: str = "cpu"
    """cpu, cuda, cuda:1, or auto: a GPU if there is one."""
    mode: str | None = None
    """Reference method (calc mode) to predict; needed only if the model knows several."""


def read_given(settings: GivenStructures, elements: tuple[int, ...], reporter: Reporter) -> Iterator[Frame]:
    """The usable structures, one at a time; errors are those of `readings_given`."""
    for reading in readings_given(settings, elements, reporter):
        assert reading.frame is not None
        yield reading.frame


def readings_given(settings: GivenStructures, elements: tuple[int, ...], reporter: Reporter) -> Iterator[Reading]:
    """The usable structures with all that the files say about them, one at a time; warns where a model extrapolates.

    Raises:
        FileError: a file is missing or cannot be understood.
        DataError: a structure cannot be used (with on_bad=error), or none is left.
        ElementError: one holds an element that the model was not trained on (with on_bad=error), or all do.
    """
    from rutile.data.reading import usable
    from rutile.potentials.settings.stored import stored_surroundings

    met = stored_surroundings(settings.model)
    good, strange, problem = 0, 0, ""
    for reading in usable(settings.structures, reading_of(settings), reporter):
        assert reading.frame is not None
        unknown = sorted(set(reading.frame.numbers.tolist()) - set(elements))
        if unknown and elements:
            problem = (
                f"{reading.frame.source}: holds {', '.join(symbol(z) for z in unknown)}, which the model was not "
                f"trained on (trained on: {', '.join(symbol(z) for z in elements)})"
            )
            if settings.on_bad == "error":
                raise ElementError(problem)
            reporter.warn(f"skipped: {problem}")
            continue
        good += 1
        note_left_handed(reading.frame, reporter)
        if met is not None and (text := met.strange(reading.frame).text):
            strange += 1
            if strange <= MOST_NOTED:
                reporter.warn(f"{reading.frame.source}: {text}")
        yield reading
    if strange > MOST_NOTED:
        reporter.warn(f"{strange - MOST_NOTED} more structures are unlike those that the potential was trained on, too")
    if not good:
        raise ElementError(f"no usable structure; the last: {problem}")


def note_left_handed(frame: Frame, reporter: Reporter) -> None:
    """Tell of a crystal, slab or wire whose cell has a negative volume."""
    if frame.pbc.any() and (volume := float(np.linalg.det(frame.cell))) < 0:
        reporter.warn(
            f"{frame.source}: its cell vectors are left-handed (volume {volume:.4g} Å³): results are those of the same "
            "lattice all the same, but other programs may refuse it"
        )


def reading_of(settings: GivenStructures) -> ReadSettings:
    """How the structures are read: without labels."""
    return ReadSettings(
        energy_key="none", forces_key="none", stress_key="none", format=settings.format, on_bad=settings.on_bad
    )


def members_and_bars(settings: GivenStructures, reporter: Reporter) -> tuple[list[Potential], Calibration | None]:
    """The model's potentials, placed for evaluation, and its error bars; errors are those of `open_members`."""
    return open_members(settings.model, settings.precision, settings.device, settings.mode, reporter)


def open_members(
    path: Path, precision: Literal["float32", "float64"], device: str, mode: str | None, reporter: Reporter
) -> tuple[list[Potential], Calibration | None]:
    """The potentials of a model, placed for evaluation, and its error bars; warns of one that is not smooth.

    Raises:
        ModelFileError: the model cannot be read.
        SettingsError: the device is not there.
        ModeError: the model knows several calc modes and none is named, or none of that name.
    """
    import torch

    from rutile.potentials.checks import smoothness_note
    from rutile.potentials.classical import open_model

    dtype = {"float32": torch.float32, "float64": torch.float64}[precision]
    model = open_model(path)
    members = model.members(dtype, device, mode)
    if note := smoothness_note(members[0]):
        reporter.warn(note)
    return members, model.calibration


def model_content(model: Path) -> bytes:
    """What decides about the answers of a model: its file, that of a run, or the name of one that needs none.

    Raises:
        FileError: it cannot be read.
    """
    from rutile.potentials.settings.stored import MODEL_FILE

    file = model / MODEL_FILE if model.is_dir() else model
    try:
        return file.read_bytes() if file.exists() else str(model).encode()
    except OSError as error:
        raise FileError(f"cannot read {file}: {error.strerror or error}") from None


def add_structures(digest: Any, frames: Iterable[Frame]) -> None:
    """Update a digest of `hashlib` by elements, positions, cells and periodic directions."""
    for frame in frames:
        for numbers in (frame.numbers, frame.positions, frame.cell, frame.pbc):
            digest.update(np.ascontiguousarray(numbers).tobytes())


def predicted(
    members: Sequence[Potential],
    frames: Iterable[Frame],
    atoms_per_batch: int,
    calibration: Calibration | None = None,
) -> Iterator[Atoms]:
    """The structures as ASE atoms with what a model says about them, one at a time.

    Energy (eV), forces (eV/Angstrom) and stress (eV/Angstrom^3; only of structures periodic in three directions) lie in
    the calculator slot; energies of the atoms, `extrapolating` (descriptors of each atom outside the training range)
    and the standard deviations and error bars of a committee in `arrays` and `info`; there is also `calc_mode`, if the
    model names it.

    Args:
        members: of a committee, or a single potential, in one calc mode.
        frames: the structures; labels are ignored.
        atoms_per_batch: structures are evaluated together up to so many atoms.
        calibration: adds energy_error, forces_error and error_coverage.

    Raises:
        GeometryError: two atoms at one place; names the frame.
    """
    from rutile.graph.neighbors import find_edges
    from rutile.potentials.checks import check_distances
    from rutile.potentials.combine import mean, spread
    from rutile.potentials.evaluate import evaluate_members
    from rutile.potentials.extrapolate import RangeWatch
    from rutile.potentials.modes import modes_of
    from rutile.potentials.placement import placement
    from rutile.structures.structures import concatenate

    dtype, device = placement(members[0])
    (mode,) = modes_of(members[0])
    calibration = calibration and calibration.of(mode)
    for batch in batches(frames, atoms_per_batch):
        structures = concatenate(f.structures() for f in batch)
        edges = find_edges(structures, members[0].cutoff)
        check_distances(structures, edges, [f.source for f in batch])
        placed = structures.to(dtype=dtype, device=device)
        watch = RangeWatch(placed.numbers)
        predictions = evaluate_members(members, placed, edges=edges.to(device), watch=watch)
        disagreement = spread(predictions) if len(members) > 1 else None
        for atoms in _with_results(batch, mean(predictions), disagreement, watch.outside):
            if calibration is not None and disagreement is not None:
                bars = calibration.error_bars(atoms.info["energy_std"], atoms.arrays["forces_std"])
                for name, value in bars.items():
                    (atoms.arrays if name == "forces_error" else atoms.info)[name] = value
            if mode:
                atoms.info["calc_mode"] = mode
            yield atoms


def batches(frames: Iterable[Frame], atoms: int) -> Iterator[list[Frame]]:
    """Consecutive frames together, up to so many atoms."""
    batch: list[Frame] = []
    for frame in frames:
        if batch and sum(len(f.numbers) for f in batch) + len(frame.numbers) > atoms:
            yield batch
            batch = []
        batch.append(frame)
    if batch:
        yield batch


def _with_results(
    frames: Sequence[Frame], prediction: Prediction, spread: Spread | None, outside: Tensor
) -> Iterator[Atoms]:
    """The structures of a batch with their results."""
    end = 0
    for k, frame in enumerate(frames):
        part = slice(end, end := end + len(frame.numbers))
        atoms = plain(frame)
        atoms.arrays["energies"] = _numbers(prediction.atom_energy[part])
        atoms.arrays["extrapolating"] = outside[part].cpu().numpy()
        if spread is not None:
            atoms.info["energy_std"] = float(spread.energy[k])
            atoms.arrays["forces_std"] = _numbers(spread.forces[part])
        set_results(atoms, prediction, k, part)
        yield atoms


def set_results(atoms: Atoms, prediction: Prediction, number: int, part: slice | Tensor) -> None:
    """Put energy (eV), forces (eV/Angstrom) and, of a crystal, stress (eV/Angstrom^3) into the calculator slot.

    Args:
        atoms: the structure.
        prediction: of a batch.
        number: of the structure in the batch.
        part: its atoms in the batch.
    """
    from ase.calculators.singlepoint import SinglePointCalculator

    from rutile.potentials.evaluate import VOIGT

    results = {"energy": float(prediction.energy[number]), "forces": _numbers(prediction.forces[part])}
    if atoms.pbc.all():
        stress = _numbers(prediction.stress[number])
        results["stress"] = np.array([stress[v] for v in VOIGT])
    atoms.calc = SinglePointCalculator(atoms, **results)


def frame_of(one: Structures, source: str) -> Frame:
    """A batch of one as a frame without labels."""
    from rutile.data.frames import Frame

    return Frame(one.numbers.numpy(), one.positions.numpy(), one.cell[0].numpy(), one.pbc[0].numpy(), source=source)


def plain(frame: Frame) -> Atoms:
    """ASE atoms without labels; `source` and `config_type` in `info`."""
    from ase import Atoms

    atoms = Atoms(frame.numbers, positions=frame.positions, cell=frame.cell, pbc=frame.pbc)
    atoms.info["source"] = frame.source
    if frame.group:
        atoms.info["config_type"] = frame.group
    return atoms


def _numbers(tensor: Tensor) -> np.ndarray:
    """A float64 NumPy copy on the host."""
    return np.array(tensor.detach().cpu().double().numpy())
