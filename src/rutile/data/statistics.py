"""Reference energies of the elements, and statistics of labels in one pass.

The reference energy E0 is the energy of the isolated atom: from such frames in the data, given, or fitted,
E ~ sum_Z n_Z E0_Z by least squares over energies per atom. Each calc mode has its own: the zeros of two reference
methods have nothing to do with each other. Labels are read in blocks; memory stays bounded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from rutile.core.elements import number, symbol
from rutile.core.errors import LabelError
from rutile.core.reporting import Reporter, SilentReporter
from rutile.data.arrays import gather
from rutile.data.batches import BatchSampler
from rutile.data.kept import LARGE, hash_of, kept
from rutile.data.settings import ReferenceSettings
from rutile.data.store import Store

BLOCK = 100_000
"""Atoms read at a time (at least one frame)."""
References = Mapping[int, float] | Mapping[str, Mapping[int, float]]
"""Energies of isolated atoms (eV) by atomic number, in all calc modes or by the name of the mode."""
ALONE = 8.0
"""A single atom whose images are at least this far away (Angstrom) is an isolated atom."""


@dataclass(frozen=True)
class Statistics:
    """Labels of a set of frames; NaN where no frame has the label."""

    n_frames: int
    """Frames."""
    n_atoms: int
    """Atoms of all frames."""
    atoms: dict[int, int]
    """Atoms of each element (atomic number)."""
    n_energy: int
    """Frames with an energy."""
    n_forces: int
    """Frames with forces."""
    n_stress: int
    """Frames with a stress."""
    energy_mean: float
    """Mean over frames of (E - sum of reference energies) / atoms (eV/atom)."""
    energy_std: float
    """Standard deviation of the same (eV/atom)."""
    force_rms: float
    """Root mean square of force components (eV/Angstrom)."""
    force_max: float
    """Largest force component (eV/Angstrom)."""
    stress_rms: float
    """Root mean square of the nine stress components (eV/Angstrom^3)."""


def references_by_mode(
    store: Store,
    ids: Sequence[int] | np.ndarray,
    settings: ReferenceSettings,
    reporter: Reporter | None = None,
    known: Mapping[str, Mapping[int, float]] | None = None,
) -> dict[str, dict[int, float]]:
    """Reference energy (eV) of every element of the store in each of its calc modes, by mode and atomic number.

    An element that no frame of a mode holds takes its energy from another mode, and a warning says so: in that mode
    energies of structures with it can be compared at equal composition only.

    Args:
        store: the frames.
        ids: which of them.
        settings: where energies come from.
        reporter: hears where they come from.
        known: energies that are settled, by mode and element.

    Raises:
        LabelError: as `reference_energies`, or an element occurs in no mode with energies.
    """
    reporter, known = reporter or SilentReporter(), known or {}
    ids, of = np.asarray(ids, dtype=np.int64), store.array("mode")
    if unknown := sorted(set(settings.by_mode) - set(store.calc_modes) - set(known)):
        raise LabelError(f"references.by_mode names {unknown[0]!r}; modes there: {', '.join(store.calc_modes)}")
    out: dict[str, dict[int, float]] = {}
    for m, mode in enumerate(store.calc_modes):
        settled = dict(known.get(mode, {}))
        given = settings.energies | settings.by_mode.get(mode, {})
        mine = ids[of[ids] == m]
        found = store.elements if len(store.calc_modes) == 1 else _elements_with_energy(store, mine)
        if missing := tuple(z for z in found if z not in settled):
            given = {symbol(z): e for z, e in settled.items()} | given
            how = settings.model_copy(update={"energies": given})
            label = f" of calc mode {mode}" if len(store.calc_modes) > 1 else ""
            fresh = reference_energies(store, mine, how, reporter, elements=found, label=label)
            settled |= {z: fresh[z] for z in missing}
        out[mode] = settled | {number(e): v for e, v in given.items() if number(e) not in settled}
    _fill(store.elements, out, reporter)
    return {mode: {z: by[z] for z in sorted(by)} for mode, by in out.items()}


def _elements_with_energy(store: Store, ids: np.ndarray) -> tuple[int, ...]:
    """Elements of those frames that have an energy, ascending."""
    there = np.zeros(len(store.elements), dtype=bool)
    for frames, counts in _compositions(store, ids):
        there |= counts[store.array("has_energy")[frames]].any(0)
    return tuple(z for z, yes in zip(store.elements, there.tolist(), strict=True) if yes)


def _fill(elements: Sequence[int], by_mode: dict[str, dict[int, float]], reporter: Reporter) -> None:
    """Give every mode an energy of every element; where it has none of its own, that of the mode nearest to it."""
    found = {mode: dict(mine) for mode, mine in by_mode.items()}
    for mode, mine in by_mode.items():
        donors: dict[str, list[str]] = {}
        for z in elements:
            if z in mine:
                continue
            there = [other for other, theirs in found.items() if z in theirs]
            if not there:
                raise LabelError(f"{symbol(z)}: no training frame with an energy holds it; give its reference energy")
            donor = min(there, key=lambda other: _distance(found[mode], found[other]))
            donors.setdefault(donor, []).append(symbol(z))
            mine[z] = found[donor][z]
        for donor, names in donors.items():
            reporter.warn(
                f"calc mode {mode} has no energies with {_some(names)}: reference energies are taken from {donor}; "
                f"in {mode} compare structures with them at equal composition only"
            )


def _distance(mine: Mapping[int, float], theirs: Mapping[int, float]) -> float:
    """Mean difference of the reference energies of the elements that both modes have (eV); infinite if there are none.

    Zeros of methods that freeze different cores are hundreds of eV apart.
    """
    both = [z for z in mine if z in theirs]
    return float(np.mean([abs(mine[z] - theirs[z]) for z in both])) if both else float("inf")


def _some(names: Sequence[str], most: int = 8) -> str:
    """Names, or the first ones and how many there are beyond them."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more elements" if len(names) > most else "")


def reference_energies(
    store: Store,
    ids: Sequence[int] | np.ndarray,
    settings: ReferenceSettings,
    reporter: Reporter | None = None,
    *,
    elements: Sequence[int] | None = None,
    label: str = "",
) -> dict[int, float]:
    """Reference energy (eV) of every element, by atomic number; a warning says where it comes from.

    Args:
        store: the frames.
        ids: which of them; of one calc mode.
        settings: where energies come from.
        reporter: hears where they come from.
        elements: whose; default: those of the store.
        label: stands in the warning behind "reference energies".

    Raises:
        LabelError: no frame of `ids` has an energy, an element occurs in none of them, or an isolated atom that was
            asked for is not there.
    """
    reporter = reporter or SilentReporter()
    elements = store.elements if elements is None else elements
    given = {number(name): value for name, value in settings.energies.items()}
    missing = [z for z in elements if z not in given]
    found = {} if settings.method == "least_squares" else isolated_atoms(store, ids)
    alone = {z: found[z] for z in missing if z in found}
    if settings.method == "isolated_atoms" or (settings.method == "auto" and len(alone) == len(missing)):
        absent = [symbol(z) for z in missing if z not in alone]
        if absent:
            raise LabelError(
                f"no isolated atom of {', '.join(absent)} among the frames{label}: add one (a single atom, not "
                f"periodic or in a cell of at least {ALONE:g} Å), give its energy, or use method least_squares"
            )
        fitted: dict[int, float] = {}
    else:
        alone, fitted = {}, least_squares(store, ids, given, reporter, elements)
    out = {z: v for z, v in sorted((given | alone | fitted).items()) if z in elements}
    _say_which(out, given, alone, fitted, reporter, label)
    return out


def isolated_atoms(store: Store, ids: Sequence[int] | np.ndarray) -> dict[int, float]:
    """Energy (eV) of each element that occurs as an isolated atom with an energy; the lowest if several."""
    out: dict[int, float] = {}
    ids = np.asarray(ids, dtype=np.int64)
    for k in ids[(store.sizes[ids] == 1) & store.array("has_energy")[ids]].tolist():
        if min(_heights(store.array("cell")[k], store.array("pbc")[k]), default=np.inf) < ALONE:
            continue
        z, energy = int(store.array("numbers")[store.array("offsets")[k]]), float(store.array("energy")[k])
        out[z] = min(energy, out.get(z, np.inf))
    return out


def least_squares(
    store: Store,
    ids: Sequence[int] | np.ndarray,
    given: dict[int, float],
    reporter: Reporter,
    wanted: Sequence[int] | None = None,
) -> dict[int, float]:
    """Reference energies of the elements (`wanted`, or those of the store) that are not in `given`.

    They minimise sum_frames [(E - sum_Z n_Z E0_Z) / N]^2.

    Where compositions do not tell elements apart (TiO2 alone: Ti and O always 1:2) the solution of smallest norm is
    taken, and a warning names the elements.

    Raises:
        LabelError: no frame has an energy, or an element occurs in no frame that has.
    """
    elements = np.array(store.elements)
    wanted = store.elements if wanted is None else wanted
    free = np.array([z in wanted and z not in given for z in store.elements])
    known = np.array([given.get(z, 0.0) for z in store.elements])
    triangle = _triangle(store, np.asarray(ids, dtype=np.int64), free, known)
    if not triangle.any():
        raise LabelError("no frame has an energy: reference energies cannot be fitted")
    matrix, target = triangle[:, :-1], triangle[:, -1]
    absent = elements[free][~np.abs(matrix).any(0)]
    if len(absent):
        names = ", ".join(symbol(int(z)) for z in absent)
        raise LabelError(f"{names}: no training frame with an energy holds it; give its reference energy")
    _, values, axes = np.linalg.svd(matrix, full_matrices=True)
    null = axes[np.sum(values > 1e-8 * values[0]) :]  # directions that no composition sees
    if len(null):
        names = ", ".join(symbol(int(z)) for z in elements[free][np.abs(null).max(0) > 1e-6])
        reporter.warn(
            f"reference energies of {names} cannot be told apart from these compositions (fixed ratio): their sum is "
            "right, each alone is arbitrary (smallest norm); add isolated atoms or give the energies"
        )
    solution, *_ = np.linalg.lstsq(matrix, target, rcond=1e-8)
    return dict(zip(elements[free].tolist(), solution.tolist(), strict=True))


def _triangle(store: Store, ids: np.ndarray, free: np.ndarray, known: np.ndarray) -> np.ndarray:
    """R of the QR decomposition of rows (shares of the free elements, energy per atom), [<= free + 1, free + 1]."""
    width = int(free.sum()) + 1

    def compute() -> np.ndarray:
        triangle = np.zeros((0, width))
        for frames, counts in _compositions(store, ids):
            labelled = store.array("has_energy")[frames]
            share = counts[labelled] / counts[labelled].sum(1, keepdims=True)
            target = store.array("energy")[frames][labelled] / counts[labelled].sum(1) - share @ known
            rows = np.concatenate([share[:, free], target[:, None]], 1)
            triangle = np.linalg.qr(np.concatenate([triangle, rows])).R
        return triangle

    if len(store) < LARGE:
        return compute()
    return kept(store, "shares", compute, hash_of(ids), free.tolist(), known.tolist(), rows=width)


def reference_sums(store: Store, references: References, ids: Sequence[int] | np.ndarray | None = None) -> np.ndarray:
    """Sum of the reference energies of each frame's atoms (eV); elements without a reference count 0.

    Args:
        store: the frames.
        references: energy (eV) of each element.
        ids: which of them; default: all.
    """
    add = _adder(store, references)
    blocks = _compositions(store, np.arange(len(store)) if ids is None else ids)
    return np.concatenate([np.zeros(0), *(add(frames, counts) for frames, counts in blocks)])


def _adder(store: Store, references: References) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """(frame numbers [B], atoms of each element [B, n elements]) -> sums of reference energies, [B]."""

    def column(by: Mapping[int, float]) -> np.ndarray:
        return np.array([by.get(z, 0.0) for z in store.elements])

    by_mode = {key: value for key, value in references.items() if isinstance(value, Mapping)}
    if not by_mode:
        of_all = column(cast(Mapping[int, float], references))
        return lambda frames, counts: np.asarray(counts @ of_all)
    columns = [column(by_mode.get(mode, {})) for mode in store.calc_modes]

    def add(frames: np.ndarray, counts: np.ndarray) -> np.ndarray:
        mode, out = store.array("mode")[frames], np.empty(len(frames))
        for m in np.unique(mode).tolist():
            out[mode == m] = counts[mode == m] @ columns[m]
        return out

    return add


def mode_weights(store: Store, ids: np.ndarray, power: float) -> np.ndarray:
    """Factor of the weight of each frame, mean 1, so that a calc mode of n frames counts n^power in all, [len(ids)]."""
    mode = np.asarray(store.array("mode"))[ids]
    _, index, counts = np.unique(mode, return_inverse=True, return_counts=True)
    factor = counts[index].astype(np.float64) ** (power - 1.0)
    return np.asarray(factor / factor.mean())


def statistics(store: Store, ids: Sequence[int] | np.ndarray, references: References) -> Statistics:
    """Counts and spreads of the labels of some frames, in one pass.

    Args:
        store: the frames.
        ids: which of them.
        references: energy (eV) of each element, subtracted from energies.
    """
    ids, n = np.asarray(ids, dtype=np.int64), len(store.elements)
    parts = () if len(store) < LARGE else (hash_of(ids), [sorted(map(str, references.items()))])
    found = kept(store, "statistics", lambda: _gathered(store, ids, references), *parts, rows=n + 8)
    atoms = found[:n].astype(np.int64)
    n_energy, n_forces, n_stress = found[n : n + 3].astype(np.int64).tolist()
    energy_mean, energy_std, force_rms, force_max, stress_rms = found[n + 3 :].tolist()
    return Statistics(
        n_frames=len(ids),
        n_atoms=int(atoms.sum()),
        atoms=dict(zip(store.elements, atoms.tolist(), strict=True)),
        n_energy=n_energy,
        n_forces=n_forces,
        n_stress=n_stress,
        energy_mean=energy_mean,
        energy_std=energy_std,
        force_rms=force_rms,
        force_max=force_max,
        stress_rms=stress_rms,
    )


def _gathered(store: Store, ids: np.ndarray, references: References) -> np.ndarray:
    """Atoms of each element and the other numbers of `Statistics` from `n_energy` on, in order, [elements + 8]."""
    add = _adder(store, references)
    atoms = np.zeros(len(store.elements), np.int64)
    energy, force, stress = _Moments(), _Moments(), _Moments()
    n_forces = 0
    for frames, counts in _compositions(store, ids):
        atoms += counts.sum(0)
        has_energy, has_forces, has_stress = (store.array(f"has_{x}")[frames] for x in ("energy", "forces", "stress"))
        binding = (store.array("energy")[frames] - add(frames, counts)) / counts.sum(1)
        energy.add(binding[has_energy])
        force.add(gather(store.array("forces"), store.array("offsets"), frames[has_forces]))
        stress.add(store.array("stress")[frames[has_stress]])
        n_forces += int(has_forces.sum())
    mean, largest = energy.mean if energy.n else np.nan, force.largest if force.n else np.nan
    return np.array([*atoms, energy.n, n_forces, stress.n // 9, mean, energy.std, force.rms, largest, stress.rms])


def largest_forces(store: Store, ids: np.ndarray) -> np.ndarray:
    """Largest force component of some frames (eV/Angstrom), [len(ids)]; NaN where there are no forces."""
    out = np.empty(len(ids))
    for block in BatchSampler(store.sizes[ids], edges=BLOCK).in_order():
        rows = np.abs(gather(store.array("forces"), store.array("offsets"), ids[block])).max(1)
        sizes = store.sizes[ids[block]]
        out[block] = np.maximum.reduceat(rows, np.cumsum(sizes) - sizes)
    return out


class _Moments:
    """Mean, spread and largest size of numbers that come in blocks (Chan, Golub, LeVeque 1983: no cancellation)."""

    def __init__(self) -> None:
        self.n, self.mean, self.largest, self._spread = 0, 0.0, 0.0, 0.0

    def add(self, values: np.ndarray) -> None:
        """Take a block of any shape."""
        if values.size == 0:
            return
        n, mean = self.n + values.size, float(values.mean())
        step = mean - self.mean
        self._spread += float(((values - mean) ** 2).sum()) + step**2 * self.n * values.size / n
        self.mean += step * values.size / n
        self.n, self.largest = n, max(self.largest, float(np.abs(values).max()))

    @property
    def std(self) -> float:
        """Population standard deviation; NaN without numbers."""
        return float(np.sqrt(self._spread / self.n)) if self.n else float("nan")

    @property
    def rms(self) -> float:
        """Root mean square; NaN without numbers."""
        return float(np.sqrt(self._spread / self.n + self.mean**2)) if self.n else float("nan")


def _compositions(store: Store, ids: Sequence[int] | np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Blocks of frame numbers [B] with the atoms of each element of the store, [B, n elements]."""
    column = np.zeros(256, np.int64)
    column[list(store.elements)] = np.arange(len(store.elements))
    ids, width = np.asarray(ids, dtype=np.int64), len(store.elements)
    for block in BatchSampler(store.sizes[ids], edges=BLOCK).in_order():
        frames = ids[block]
        numbers = gather(store.array("numbers"), store.array("offsets"), frames)
        slot = np.repeat(np.arange(len(frames)), store.sizes[frames]) * width + column[numbers]
        yield frames, np.bincount(slot, minlength=len(frames) * width).reshape(len(frames), width)


def _heights(cell: np.ndarray, pbc: np.ndarray) -> list[float]:
    """Distance between neighbouring lattice planes along each periodic direction; no image of an atom is nearer."""
    if not pbc.any():
        return []
    heights: list[float] = (1.0 / np.linalg.norm(np.linalg.pinv(cell[pbc]), axis=0)).tolist()
    return heights


def _say_which(
    out: dict[int, float],
    given: dict[int, float],
    alone: dict[int, float],
    fitted: dict[int, float],
    reporter: Reporter,
    label: str,
) -> None:
    """Warn where each reference energy comes from."""
    origins = ((given, "given"), (alone, "from isolated atoms in the data"), (fitted, "fitted by least squares"))
    for part, origin in origins:
        listed = ", ".join(f"{symbol(z)} {part[z]:.4f} eV" for z in out if z in part)
        if listed:
            note = "; not the energies of isolated atoms: dissociation has no meaning" if part is fitted else ""
            reporter.warn(f"reference energies{label} {origin}: {listed}{note}")
