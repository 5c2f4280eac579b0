"""Compare a trained model with labelled frames: error sums, pairs of values for plots, and the worst frames.

One pass over a stream of frames; memory does not grow with their number (`MOST_VALUES` values are kept for plots).
"""

from __future__ import annotations

import dataclasses
import heapq
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from rutile.core.elements import formula, symbol
from rutile.core.errors import ElementError
from rutile.core.reporting import Reporter
from rutile.core.units import GPA
from rutile.data.batches import BatchSampler
from rutile.data.frames import Frame, Labelled, batch_frames
from rutile.data.kept import LARGE
from rutile.potentials.combine import Spread, common_elements, mean, spread
from rutile.potentials.evaluate import evaluate_members
from rutile.potentials.modes import frame_mode, modes_of
from rutile.potentials.parts.heads import heads_of
from rutile.potentials.placement import placement
from rutile.potentials.potential import Potential, Prediction
from rutile.train.metrics import VOIGT, ErrorSums
from rutile.train.ondemand import sample

if TYPE_CHECKING:
    from rutile.data.store import Store
    from rutile.potentials.parts.network import TrainablePotential
    from rutile.train.examples import GraphExamples, LinearisedExamples

MOST_VALUES = 1_000_000
EDGES_PER_BATCH = 100_000
"""Neighbour pairs of examples that are looked at together: bounds memory, whatever the sizes of the structures are."""
ASSESSED, LIKELY_NEIGHBOURS = 20_000, 50
"""Structures on which errors are measured where the store is large; neighbours of an atom where they are unknown."""


@dataclass(frozen=True)
class Compared:
    """A batch of frames beside what the model says about it."""

    frames: Sequence[Frame]
    """In the order of the batch."""
    labelled: Labelled
    """Their labels."""
    prediction: Prediction
    """Of the model; the mean of a committee."""
    spread: Spread | None
    """Disagreement of a committee; None for a single potential."""
    modes: Sequence[str] = ()
    """Calc mode in which each frame was predicted; empty: not known."""
    seconds: float | None = None
    """How long the prediction took, of all members together; None: not measured."""


def compare(
    members: Sequence[Potential],
    frames: Iterable[Frame],
    *,
    atoms_per_batch: int,
    dtype: torch.dtype = torch.float64,
    mode: str | None = None,
) -> Iterator[Compared]:
    """Predictions for a stream of frames, in batches of about `atoms_per_batch` atoms.

    Each frame is predicted in its own calc mode; one that names none, in the only mode of the model.

    Args:
        members: of a committee, or a single potential, with all their modes.
        frames: with labels.
        atoms_per_batch: frames are evaluated together up to so many atoms.
        dtype: precision of the members.
        mode: predict all frames in this mode, whatever they say.

    Raises:
        ElementError: a frame holds an element that the model does not know.
        ModeError: a frame is of a mode that the model does not know, or of none while the model knows several.
    """
    known, modes = common_elements(members), modes_of(members[0])
    first = 0
    for batch in _batches(frames, atoms_per_batch):
        for frame in batch:
            _check_elements(frame, known)
        labelled = batch_frames(batch, range(first, first + len(batch)))
        structures = labelled.structures.to(dtype=dtype, device=placement(members[0])[1])
        number = [frame_mode(modes, frame.calc_mode, frame.source, mode) for frame in batch]
        asked = torch.tensor(number, device=structures.positions.device)
        began = time.perf_counter()
        predictions = evaluate_members(members, structures, mode=asked)
        if structures.positions.is_cuda:
            torch.cuda.synchronize()
        seconds = time.perf_counter() - began
        disagreement = spread(predictions) if len(members) > 1 else None
        in_modes = tuple(modes[k] for k in number)
        yield Compared(batch, labelled, mean(predictions), disagreement, in_modes, seconds)
        first += len(batch)


def compare_examples(
    potentials: Sequence[TrainablePotential],
    store: Store,
    examples: GraphExamples | LinearisedExamples,
    what: str,
    reporter: Reporter,
) -> Iterator[Compared]:
    """Predictions of the potentials, or of their heads, for examples that are prepared for training.

    Args:
        potentials: single potential, or the members of a committee.
        store: frames that the examples were made of.
        examples: of one part of the data.
        what: said beside the progress bar.
        reporter: shows it.

    Yields:
        Batches of about `EDGES_PER_BATCH` pairs, in the order of the examples; a committee's mean with its spread.
        Of a part of a large store, a sample of `ASSESSED` structures.

    Raises:
        ElementError: an element that the potentials do not know.
    """
    members = [head for potential in potentials for head in heads_of(potential)]
    places = sample(store, examples.ids, ASSESSED)
    if len(places) < len(examples):
        reporter.info(f"{what}: of {len(places)} of {len(examples)}, chosen at random")
    costs = examples.costs if len(store) < LARGE else LIKELY_NEIGHBOURS * examples.sizes[places]
    batches = [places[part] for part in BatchSampler(costs, edges=EDGES_PER_BATCH).in_order()]
    first = 0
    for ids in reporter.track(batches, what, len(batches)):
        labelled, predictions = None, []
        for member in members:
            examples.potential = member
            labelled, predict = examples.batch(ids)
            predictions.append(predict(False))
        assert labelled is not None
        labelled = dataclasses.replace(labelled.to(device="cpu"), index=torch.arange(first, first + len(ids)))
        first += len(ids)
        frames = [store[int(k)] for k in examples.ids[ids]]
        yield Compared(frames, labelled, mean(predictions), spread(predictions) if len(predictions) > 1 else None)


@dataclass(frozen=True)
class FrameError:
    """How wrong the model is on one frame."""

    frame: str
    """File and frame number."""
    formula: str
    """Composition."""
    group: str
    """Kind of frame."""
    mode: str
    """Calc mode of the labels; "": it names none."""
    energy_error: float | None
    """Predicted minus reference energy (eV/atom)."""
    force_rmse: float | None
    """RMSE of force components (eV/Angstrom)."""
    force_max: float | None
    """Largest error of a force vector (eV/Angstrom)."""
    energy: float | None
    """Reference energy (eV/atom)."""
    force: float | None
    """Largest reference force (eV/Angstrom)."""
    stress_rmse: float | None
    """RMSE of stress components (GPa)."""
    pressure: float | None
    """Reference pressure (GPa)."""
    pressure_error: float | None
    """Predicted minus reference pressure (GPa)."""


class Pairs:
    """Values of one quantity, [C, M] (reference and predicted, ...), thinned evenly by batch once they are too many."""

    def __init__(self, rows: int = 3) -> None:
        self._rows = rows
        self._kept: list[tuple[int, np.ndarray]] = []
        self._seen, self._every, self._size = 0, 1, 0

    def add(self, values: np.ndarray) -> None:
        """Values of one batch, [C, M]: such as reference, predicted and, for a committee, its standard deviation."""
        number, self._seen = self._seen, self._seen + 1
        if number % self._every or not values.size:
            return
        self._kept.append((number, values))
        self._size += values.shape[1]
        while self._size > MOST_VALUES and len(self._kept) > 1:
            self._every *= 2
            self._kept = [(n, v) for n, v in self._kept if n % self._every == 0]
            self._size = sum(v.shape[1] for _, v in self._kept)

    @property
    def values(self) -> np.ndarray:
        """All kept values, [C, M]."""
        return np.concatenate([v for _, v in self._kept], axis=1) if self._kept else np.zeros((self._rows, 0))


class Assessment:
    """What comes out of comparing a model with labels.

    Args:
        worst: number of worst frames to remember.
        force_limit: see `ErrorSums`.
    """

    def __init__(self, worst: int = 10, force_limit: float | None = None) -> None:
        self._groups: list[str] = []
        self._modes: list[str] = []
        self.errors = ErrorSums(self._groups, force_limit, self._modes)
        self.pairs = {name: Pairs() for name in ("energy", "force", "stress")}
        self.residuals = {name: Pairs(rows=4) for name in ("energy", "force", "stress")}
        """Rows of `values`: error, number of the frame (from 0), atomic number (0: of the frame), reference."""
        self._timed: list[tuple[int, float]] = []
        self.committee = False
        self._heap: list[tuple[float, int, FrameError]] = []
        self._worst = worst

    @property
    def n_frames(self) -> int:
        """Number of frames compared."""
        return len(self._groups)

    @property
    def worst(self) -> list[FrameError]:
        """The worst frames first: by RMSE of forces, by energy where there are no forces."""
        return [error for _, _, error in sorted(self._heap, key=lambda item: -item[0])]

    @property
    def speed(self) -> float | None:
        """Atoms whose energy, forces and stress were predicted in a second; None: nothing was timed.

        The first batch, which warms up, counts only where it is the only one.
        """
        counted = self._timed[1:] or self._timed
        seconds = sum(took for _, took in counted)
        return sum(atoms for atoms, _ in counted) / seconds if seconds else None

    def residuals_by(self, what: str) -> dict[str, dict[str, np.ndarray]]:
        """Errors (predicted minus reference) apart by element, group or mode: quantity -> name -> [M].

        Args:
            what: "element" (forces only), "group" or "mode".
        """
        names = np.array(self._groups if what == "group" else self._modes, dtype=np.str_)
        found: dict[str, dict[str, np.ndarray]] = {}
        for quantity in ("force",) if what == "element" else ("energy", "force"):
            error, frame, number, _ = self.residuals[quantity].values
            if what == "element":
                found[quantity] = {symbol(int(z)): error[number == z] for z in np.unique(number)}
            else:
                of = names[frame.astype(int)]
                found[quantity] = {str(name): error[of == name] for name in np.unique(of)}
        return found

    def add(self, compared: Compared) -> list[FrameError]:
        """Count one batch; batches come in order. Returns the errors of its frames."""
        self._groups.extend(f.group for f in compared.frames)
        self._modes.extend(f.calc_mode for f in compared.frames)
        self.errors.add(compared.prediction, compared.labelled)
        self.committee |= compared.spread is not None
        if compared.seconds is not None:
            self._timed.append((compared.labelled.structures.n_atoms, compared.seconds))
        for name, values in _paired(compared).items():
            self.pairs[name].add(values)
        for name, values in _residuals(compared, self.n_frames - len(compared.frames)).items():
            self.residuals[name].add(values)
        errors = frame_errors(compared)
        for number, error in zip(compared.labelled.index.tolist(), errors, strict=True):
            score = error.force_rmse if error.force_rmse is not None else abs(error.energy_error or 0.0)
            item = (score if np.isfinite(score) else float("inf"), -number, error)
            (heapq.heappush if len(self._heap) < self._worst else heapq.heappushpop)(self._heap, item)
        return errors


def frame_errors(compared: Compared) -> list[FrameError]:
    """The errors of each frame of a batch."""
    out = []
    sizes = [len(f.numbers) for f in compared.frames]
    forces_all = (compared.prediction.forces.double().cpu() - compared.labelled.forces).numpy()
    difference = np.split(forces_all, np.cumsum(sizes)[:-1])
    energy = compared.prediction.energy.double().cpu() - compared.labelled.energy
    stresses = (compared.prediction.stress.double().cpu() - compared.labelled.stress).numpy() / GPA
    for k, frame in enumerate(compared.frames):
        forces = difference[k] if frame.forces is not None else None
        stress = stresses[k] if frame.stress is not None and frame.pbc.all() else None
        out.append(
            FrameError(
                frame.source,
                formula(frame.numbers),
                frame.group,
                frame.calc_mode,
                float(energy[k]) / sizes[k] if frame.energy is not None else None,
                None if forces is None else float(np.sqrt((forces**2).mean())),
                None if forces is None else float(np.linalg.norm(forces, axis=1).max()),
                None if frame.energy is None else frame.energy / sizes[k],
                None if frame.forces is None else float(np.linalg.norm(frame.forces, axis=1).max()),
                None if stress is None else float(np.sqrt((stress[VOIGT] ** 2).mean())),
                None if stress is None or frame.stress is None else -float(np.trace(frame.stress)) / 3 / GPA,
                None if stress is None else -float(np.trace(stress)) / 3,
            )
        )
    return out


def _paired(compared: Compared) -> dict[str, np.ndarray]:
    """Reference, predicted (and standard deviation) of energy per atom, force and stress components, [C, M]."""
    labelled, s = compared.labelled, compared.labelled.structures
    counts = s.counts.double()
    pick_atoms = labelled.has_forces[s.system]
    pick_stress = labelled.has_stress & s.pbc.all(1)
    both: list[Labelled | Prediction | Spread] = [labelled, compared.prediction]
    if compared.spread is not None:
        both.append(compared.spread)

    def rows(values: list[Tensor]) -> np.ndarray:
        return np.stack([v.double().cpu().numpy().reshape(-1) for v in values])

    return {
        "energy": rows([(p.energy.cpu() / counts)[labelled.has_energy] for p in both]),
        "force": rows([p.forces.cpu()[pick_atoms] for p in both]),
        "stress": rows([p.stress.cpu()[pick_stress][:, VOIGT[0], VOIGT[1]] for p in both]),
    }


def _residuals(compared: Compared, first: int) -> dict[str, np.ndarray]:
    """Errors of energy per atom, force and stress components, [4, M].

    Below the error: the number of the frame (from `first`), the element, the reference.
    """
    labelled, prediction, s = compared.labelled, compared.prediction, compared.labelled.structures
    frames, system = first + np.arange(s.n_systems), s.system.numpy()
    energy = labelled.has_energy.numpy()
    atoms = labelled.has_forces[s.system].numpy()
    stress = (labelled.has_stress & s.pbc.all(1)).numpy()

    def rows(guess: Tensor, truth: Tensor, frame: np.ndarray, number: np.ndarray) -> np.ndarray:
        reference = truth.double().numpy()
        error = guess.double().cpu().numpy() - reference
        return np.stack([error.reshape(-1), frame, number, reference.reshape(-1)])

    of_stress, of_atoms = np.repeat(frames[stress], 6), np.repeat(first + system[atoms], 3)
    none, number = np.zeros(s.n_systems), np.repeat(s.numbers.numpy()[atoms], 3)
    guess, truth = (t[stress][:, VOIGT[0], VOIGT[1]] for t in (prediction.stress.cpu(), labelled.stress))
    return {
        "energy": rows(prediction.energy.cpu() / s.counts, labelled.energy / s.counts, frames, none)[:, energy],
        "force": rows(prediction.forces.cpu()[atoms], labelled.forces[atoms], of_atoms, number),
        "stress": rows(guess, truth, of_stress, np.zeros_like(of_stress)),
    }


def _check_elements(frame: Frame, known: tuple[int, ...]) -> None:
    strange = sorted(set(frame.numbers.tolist()) - set(known)) if known else []
    if strange:
        raise ElementError(
            f"{frame.source or 'a frame'}: the model was not trained on {', '.join(map(symbol, strange))} "
            f"(it knows {', '.join(map(symbol, known))})"
        )


def _batches(frames: Iterable[Frame], atoms_per_batch: int) -> Iterator[list[Frame]]:
    """Consecutive frames with at most `atoms_per_batch` atoms together, at least one frame each."""
    batch: list[Frame] = []
    atoms = 0
    for frame in frames:
        if batch and atoms + len(frame.numbers) > atoms_per_batch:
            yield batch
            batch, atoms = [], 0
        batch.append(frame)
        atoms += len(frame.numbers)
    if batch:
        yield batch
