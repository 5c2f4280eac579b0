"""The census of a set of files: what is there and what looks wrong, in one pass with bounded memory.

Nothing is refused here: frames that cannot be used are listed. Judgements that need more than one frame:

Duplicates. Each frame has four sums that do not change with rotation, reflection, translation, wrapping, order of atoms
or choice of cell: with c_ij = (1 - (d_ij/4)^2)^3 up to 4 Angstrom (in molecules 1/(1 + d_ij^2) without cutoff),
w = sqrt(Z) and rho_i = sum_j w_j c_ij, they are sum c^2 d over pairs, and sum w rho, sum w rho^2, sum w rho^3 over
atoms. Frames of one composition whose sums agree to 5e-6 and whose energies agree are duplicates. Frames whose sums
agree to 2e-8 have, but for rare coincidences, the same geometry: with energies that differ, one label is wrong, or the
reference method depends on more than the geometry (magnetic states).

Stress sign. A solid resists expansion: within one composition, tr(stress)/3 (positive under tension) grows with volume,
and dE/dV = tr(stress)/3 between frames that differ by volume.

Energy scale. Energies minus a least-squares energy for each element, per atom: a gap of many eV means that energies of
different references were mixed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import vesin

from rutile.core import elements
from rutile.core.reporting import Reporter
from rutile.data.findings import Census, CountRow, ElementRow, ExtremeRow, FileRow, LabelRow
from rutile.data.frames import Frame
from rutile.data.labels import CONVENTIONS, Labels
from rutile.data.reading import Reading, readings
from rutile.data.settings import ReadSettings
from rutile.structures import io

CUTOFF = 4.0
"""Radius of the pairs that are looked at (Angstrom)."""
REMEMBERED = 300_000
"""Frames remembered to find duplicates and energy outliers; more are counted but not compared."""
SAMPLES = 200
"""Frames remembered for each composition to judge the stress."""
LARGEST_MOLECULE = 300
"""Atoms up to which all pairs of a structure without periodicity are looked at."""
LISTED = 20
PROBLEMS_LISTED = 50
SAME_ENERGY = 2e-5
"""Two energies of the same frame differ by no more than this (eV), or by 1e-6 eV/atom."""
LIKE, SAME = 5e-6, 2e-8
"""Relative differences of the sums of two frames that are alike, and the same."""
CONTRADICTION = 5e-3
"""Two energies of the same geometry that differ by more (eV/atom) contradict each other."""
NET_FORCE = 0.05
"""A total force of a cell beyond this (eV/Angstrom) is worth a word."""
ENERGY_GAP = 10.0
"""A gap between energies (eV/atom, less the energy of each element) beyond this means different references."""


def take_census(paths: Sequence[Path], settings: ReadSettings, reporter: Reporter) -> Census:
    """Read all files once and say what is in them.

    Raises:
        FileError: a path does not exist or has no known format.
    """
    files = io.expand(paths)
    counter = _Counter()
    for path in files:
        format = settings.format or io.detect(path)
        counter.begin(str(path), format)
        total = estimate_frames(path) if format == "extxyz" else None
        for reading in reporter.track(readings([path], settings), f"reading {path.name}", total):
            counter.add(reading)
    return counter.census(settings)


def estimate_frames(path: Path) -> int | None:
    """About how many frames an extended XYZ file has, from the size of its beginning; for progress bars only."""
    with path.open("rb") as handle:
        start = handle.read(1 << 20)
    frames, at = 0, 0
    lines = start.split(b"\n")
    while at < len(lines) and lines[at].strip().isdigit():
        frames, at = frames + 1, at + int(lines[at]) + 2
    if len(start) < 1 << 20:
        return frames
    used = sum(len(line) + 1 for line in lines[:at])
    return max(1, round(frames * path.stat().st_size / used)) if used else None


@dataclass
class _Extreme:
    """The largest value met so far and where it was."""

    value: float = -np.inf
    where: str = ""

    def offer(self, value: float, where: str) -> None:
        if value > self.value:
            self.value, self.where = value, where


@dataclass(frozen=True)
class _Seen:
    """What is remembered of a frame to recognise it."""

    sums: tuple[float, ...]
    energy: float | None
    where: str


@dataclass
class _Composition:
    """Volumes, energies and mean stresses of frames of one composition."""

    atoms: int
    rows: list[tuple[float, float, float]] = field(default_factory=list)
    """(volume, energy or NaN, tr(stress)/3) of the first frames."""


class _Counter:
    """Takes frames one by one; memory grows with compositions and remembered frames only."""

    def __init__(self) -> None:
        self.files: list[FileRow] = []
        self.frames = self.atoms = self.n_problems = 0
        self.problems: list[str] = []
        self.label_names: dict[str, Counter[str]] = {k: Counter() for k in ("energy", "forces", "stress")}
        self.keys: Counter[str] = Counter()
        self.notes: Counter[str] = Counter()
        self.element_frames: Counter[int] = Counter()
        self.element_atoms: Counter[int] = Counter()
        self.isolated: dict[int, float | None] = {}
        self.formulas: Counter[str] = Counter()
        self.groups: Counter[str] = Counter()
        self.modes: Counter[str] = Counter()
        self.periodicity: Counter[str] = Counter()
        self.extremes: dict[str, _Extreme] = {}
        self.zero_forces = 0
        self.net_forces: list[float] = []
        self.energies: list[tuple[dict[int, int], float, str]] = []
        self.seen: dict[tuple[str, int], list[_Seen]] = {}
        self.n_seen = 0
        self.duplicates: list[str] = []
        self.contradictions: list[str] = []
        self.shared: dict[tuple[str, str], tuple[set[str], set[str]]] = {}
        self.compositions: dict[str, _Composition] = {}

    def begin(self, file: str, format: str) -> None:
        self.files.append(FileRow(file=file, format=format, frames=0, unusable=0))

    def add(self, reading: Reading) -> None:
        row = self.files[-1]
        if reading.problem is not None:
            self.files[-1] = row.model_copy(update={"unusable": row.unusable + 1})
            self.n_problems += 1
            if len(self.problems) < PROBLEMS_LISTED:
                self.problems.append(str(reading.problem))
            return
        assert reading.frame is not None
        assert reading.labels is not None
        self.files[-1] = row.model_copy(update={"frames": row.frames + 1})
        where = f"{reading.path.name} frame {reading.number}"
        self._count(reading.frame, reading.labels, reading.keys)
        self._measure(reading.frame, where)
        distances = _pairs(reading.frame)
        self._shortest(reading.frame, distances, where)
        self._recognise(reading.frame, distances, where)

    def _count(self, frame: Frame, labels: Labels, keys: frozenset[str]) -> None:
        self.frames += 1
        self.atoms += len(frame.numbers)
        for label, name in labels.names.items():
            self.label_names[label][name] += 1
        self.keys.update(keys)
        self.notes.update(labels.notes)
        for z, n in _composition(frame).items():
            self.element_frames[z] += 1
            self.element_atoms[z] += n
        self.formulas[elements.formula(frame.numbers)] += 1
        self.groups[frame.group] += 1
        self.modes[frame.calc_mode] += 1
        self.periodicity["".join("FT"[int(b)] for b in frame.pbc)] += 1

    def _measure(self, frame: Frame, where: str) -> None:
        """Ranges, and what the judgements need."""
        n = len(frame.numbers)
        self._offer("atoms in a frame", n, where)
        if frame.energy is not None:
            self._offer("energy per atom", frame.energy / n, where)
            if len(self.energies) < REMEMBERED:
                self.energies.append((_composition(frame), frame.energy, where))
        if frame.forces is not None:
            norms = np.linalg.norm(frame.forces, axis=1)
            k = int(norms.argmax())
            atom = f"{where}, atom {k} ({elements.symbol(int(frame.numbers[k]))})"
            self._top("largest force", float(norms[k]), atom)
            net = float(np.linalg.norm(frame.forces.sum(axis=0)))
            self._top("largest total force of a cell", net, where)
            self.zero_forces += int(n > 1 and not frame.forces.any())
            if len(self.net_forces) < REMEMBERED:
                self.net_forces.append(net)
        if not frame.pbc.all():
            return
        volume = abs(float(np.linalg.det(frame.cell)))
        self._offer("volume per atom", volume / n, where)
        if frame.stress is not None:
            mean = float(np.trace(frame.stress)) / 3
            self._top("largest stress component", float(np.abs(frame.stress).max()), where)
            group = self.compositions.setdefault(elements.formula(frame.numbers), _Composition(n))
            if len(group.rows) < SAMPLES and len(self.compositions) < REMEMBERED:
                group.rows.append((volume, np.nan if frame.energy is None else frame.energy, mean))

    def _offer(self, quantity: str, value: float, where: str) -> None:
        self._top(f"largest {quantity}", value, where)
        self.extremes.setdefault(f"smallest {quantity}", _Extreme()).offer(-value, where)

    def _top(self, quantity: str, value: float, where: str) -> None:
        self.extremes.setdefault(quantity, _Extreme()).offer(value, where)

    def _shortest(self, frame: Frame, pairs: tuple[np.ndarray, np.ndarray, np.ndarray], where: str) -> None:
        i, j, d = pairs
        if len(d):
            k = int(d.argmin())
            a, b = int(i[k]), int(j[k])
            names = "-".join(elements.symbol(int(frame.numbers[x])) for x in (a, b))
            place = f"{where}, atoms {a} and {b} ({names})"
            self.extremes.setdefault("smallest distance", _Extreme()).offer(-float(d[k]), place)
        if len(frame.numbers) == 1 and not len(d):
            self.isolated.setdefault(int(frame.numbers[0]), frame.energy)

    def _recognise(self, frame: Frame, pairs: tuple[np.ndarray, np.ndarray, np.ndarray], where: str) -> None:
        """Look for an earlier frame with the same geometry, and remember this one."""
        n = len(frame.numbers)
        if n > 1 and frame.pbc.any() and not len(pairs[2]):
            return  # too dilute to be told apart
        sums = _sums(frame, pairs)
        formula = elements.formula(frame.numbers) + ("" if frame.pbc.any() else " molecule")
        key = (formula, int(np.floor(np.log(max(abs(sums[0]), 1e-3)) / (10 * LIKE))))
        for near in (key[1] - 1, key[1], key[1] + 1):
            for other in self.seen.get((formula, near), ()):
                difference = max(abs(a - b) / max(abs(a), 1e-3) for a, b in zip(sums, other.sums, strict=True))
                if difference <= LIKE and self._repeats(frame, other, difference, where):
                    return
        if self.n_seen < REMEMBERED:
            self.seen.setdefault(key, []).append(_Seen(sums, frame.energy, where))
            self.n_seen += 1

    def _repeats(self, frame: Frame, other: _Seen, difference: float, where: str) -> bool:
        """Whether a frame with nearly the sums of an earlier one repeats it; notes contradictions."""
        if frame.energy is None or other.energy is None:
            if difference <= SAME:
                self.duplicates.append(f"{where} = {other.where} (no energies to compare)")
            return difference <= SAME
        size = len(frame.numbers)
        apart = abs(frame.energy - other.energy)
        if apart <= max(SAME_ENERGY, 1e-6 * size):
            self.duplicates.append(f"{where} = {other.where}")
            files = other.where.rsplit(" frame ")[0], where.rsplit(" frame ")[0]
            if files[0] != files[1]:
                earlier, later = self.shared.setdefault(files, (set(), set()))
                earlier.add(other.where)
                later.add(where)
            return True
        if difference <= SAME and apart > CONTRADICTION * size:
            self.contradictions.append(f"{where} and {other.where} ({apart / size:.3g} eV/atom)")
        return False

    def census(self, settings: ReadSettings) -> Census:
        """The result."""
        sign, suspicious = self._stress_sign()
        stated = [w for w in [suspicious, *self._warnings(), self._energy_scales()] if w]
        modes = {k: v for k, v in self.modes.items() if k}
        return Census(
            files=self.files,
            frames=self.frames,
            atoms=self.atoms,
            labels=[self._label_row(k, settings) for k in self.label_names],
            other_keys=_rows(Counter({k: v for k, v in self.keys.items() if not self._is_label(k)})),
            elements=[
                ElementRow(
                    element=elements.symbol(z),
                    frames=self.element_frames[z],
                    atoms=self.element_atoms[z],
                    isolated_atom=self.isolated.get(z),
                )
                for z in sorted(self.element_frames)
            ],
            formulas=_rows(self.formulas),
            n_formulas=len(self.formulas),
            groups=_rows(Counter({k or "(none)": v for k, v in self.groups.items()})),
            calc_modes=_rows(Counter(modes)),
            periodicity=_rows(self.periodicity),
            extremes=[_extreme_row(k, v) for k, v in sorted(self.extremes.items())],
            stress_sign=sign,
            duplicates=len(self.duplicates),
            duplicate_pairs=self.duplicates[:LISTED],
            warnings=stated,
            problems=self.problems,
            n_problems=self.n_problems,
        )

    def _is_label(self, key: str) -> bool:
        return any(key in names for names in self.label_names.values())

    def _label_row(self, label: str, settings: ReadSettings) -> LabelRow:
        names = self.label_names[label]
        count = sum(names.values())
        shown = ", ".join(k if len(names) == 1 else f"{k} ({v})" for k, v in names.most_common())
        return LabelRow(
            label=label,
            frames=count,
            missing=self.frames - count,
            found_as=shown or "-",
            unit=" / ".join(dict.fromkeys(_unit(label, row.format, settings) for row in self.files)),
        )

    def _warnings(self) -> list[str]:
        """Everything that is worth a look, except stress sign and energy scale."""
        out = list(self.notes)
        if self.n_problems:
            out.append(f"{self.n_problems} frames cannot be used; reading stops at them unless on_bad=skip")
        for label, names in self.label_names.items():
            count = sum(names.values())
            if 0 < count < self.frames:
                out.append(f"{label} is missing in {self.frames - count} of {self.frames} frames")
            if len(names) > 1:
                out.append(f"{label} has different names in different frames: {', '.join(sorted(names))}")
        if not self.label_names["energy"] and self.frames:
            out.append("no frame has an energy")
        if self.duplicates:
            out.append(f"{len(self.duplicates)} frames repeat an earlier one: keep them out of validation and test")
        for (a, b), (of_a, of_b) in self.shared.items():
            out.append(f"{min(len(of_a), len(of_b))} different frames are both in {a} and in {b}")
        if self.contradictions:
            most = f"{1000 * CONTRADICTION:g} meV/atom"
            pairs = "; ".join(self.contradictions[:5])
            out.append(f"{len(self.contradictions)} pairs of one geometry differ by more than {most}: {pairs}")
        return [*out, *self._force_warnings(), *self._set_warnings()]

    def _force_warnings(self) -> list[str]:
        out = []
        large = sum(f > NET_FORCE for f in self.net_forces)
        if large:
            median = float(np.median(self.net_forces))
            out.append(
                f"the forces of {large} frames do not add up to zero (more than {NET_FORCE} eV/Å; median {median:.2g})"
            )
        if self.zero_forces and self.zero_forces > 0.5 * sum(self.label_names["forces"].values()):
            out.append(f"all forces are exactly zero in {self.zero_forces} frames: placeholders?")
        return out

    def _set_warnings(self) -> list[str]:
        out = []
        missing = [elements.symbol(z) for z in sorted(self.element_frames) if self.isolated.get(z) is None]
        if missing and self.label_names["energy"]:
            shown = ", ".join(missing[:10]) + (f" and {len(missing) - 10} more" if len(missing) > 10 else "")
            out.append(f"no isolated atom of {shown}: reference energies will be fitted by least squares")
        if len(self.periodicity) > 1:
            out.append(f"mixed periodicity: {', '.join(f'{k} ({v})' for k, v in self.periodicity.items())}")
        if len(self.modes) > 1:
            out.append(f"{len(self.modes)} calc modes (an absent one counts): their energies may not be comparable")
        if self.n_seen >= REMEMBERED:
            out.append(f"duplicates were looked for among the first {REMEMBERED} different frames only")
        return out

    def _stress_sign(self) -> tuple[str, str]:
        """A sentence, and a warning if the sign looks wrong."""
        if not self.label_names["stress"]:
            return "no stress", ""
        groups = [g for g in map(_varied, self.compositions.values()) if g is not None]
        if not groups:
            return "cannot be judged: no composition has frames of different volumes", ""
        correlation = _pooled_correlation(groups)
        slope = _energy_slope(groups)
        frames = sum(len(g.volume) for g in groups)
        basis = (
            f"stress against volume: correlation {correlation:+.2f} in {frames} frames of {len(groups)} compositions"
        )
        if slope is not None:
            basis += f"; energy differences against -stress x volume steps: slope {slope:+.2f}"
        votes = [v for v in (_vote(correlation), None if slope is None else _vote(slope)) if v is not None]
        if votes and all(v > 0 for v in votes):
            return f"as in ASE, tension positive ({basis})", ""
        if votes and all(v < 0 for v in votes):
            text = f"looks opposite to ASE's ({basis})"
            return text, f"the sign of the stress {text}: if so, say stress_sign=compression"
        return f"not clear ({basis})", ""

    def _energy_scales(self) -> str:
        """A warning if energies fall apart into groups many eV apart."""
        many = [(c, e, w) for c, e, w in self.energies if sum(c.values()) > 1]
        if len(many) < 3:
            return ""
        kinds = sorted({z for c, _, _ in many for z in c})
        index = {z: k for k, z in enumerate(kinds)}
        counts = np.zeros((len(many), len(kinds)))
        for row, (c, _, _) in enumerate(many):
            for z, n in c.items():
                counts[row, index[z]] = n
        size = counts.sum(axis=1)
        fractions, energies = counts / size[:, None], np.array([e for _, e, _ in many]) / size
        rest = energies - fractions @ np.linalg.lstsq(fractions, energies, rcond=None)[0]
        order = np.argsort(rest)
        steps = np.diff(rest[order])
        k = int(steps.argmax())
        if steps[k] < ENERGY_GAP:
            return ""
        odd = order[: k + 1] if 2 * (k + 1) <= len(many) else order[k + 1 :]
        text = f"the energies of {len(odd)} of {len(many)} frames are {steps[k]:.4g} eV/atom away from all others"
        example = f"(for example {many[int(odd[0])][2]})"
        return f"{text} {example}: strongly compressed, or of another method or reference energy"


@dataclass(frozen=True)
class _Varied:
    """Frames of one composition at different volumes: per atom, in order of volume."""

    volume: np.ndarray
    energy: np.ndarray
    stress: np.ndarray


def _varied(group: _Composition) -> _Varied | None:
    """The frames of a composition if their volumes differ by more than thermal noise; per atom."""
    table = np.array(sorted(group.rows)).reshape(-1, 3)
    volume = table[:, 0]
    if len(table) < 4 or np.std(np.log(volume)) < 0.005:
        return None
    return _Varied(volume / group.atoms, table[:, 1] / group.atoms, table[:, 2])


def _pooled_correlation(groups: list[_Varied]) -> float:
    """Correlation of log volume and mean stress within compositions, each group with equal weight per frame."""
    products = []
    for g in groups:
        x, y = np.log(g.volume), g.stress
        x, y = x - x.mean(), y - y.mean()
        scale = np.sqrt((x**2).mean() * (y**2).mean())
        products.append((len(x), float((x * y).mean() / scale) if scale > 0 else 0.0))
    return sum(n * c for n, c in products) / sum(n for n, _ in products)


def _energy_slope(groups: list[_Varied]) -> float | None:
    """Slope of energy steps on stress times volume steps between neighbours in volume; 1 for pure expansion.

    Steps of a few percent only, and of an energy that the stress explains in size: others differ by more than volume.
    """
    work, gain = [], []
    for g in groups:
        dv, de = np.diff(g.volume), np.diff(g.energy)
        w = (g.stress[1:] + g.stress[:-1]) / 2 * dv
        good = np.isfinite(de) & (dv / g.volume[1:] > 0.002) & (dv / g.volume[1:] < 0.1) & (np.abs(de) < 3 * np.abs(w))
        work.append(w[good])
        gain.append(de[good])
    x, y = np.concatenate(work), np.concatenate(gain)
    if len(x) < 4 or not (x**2).sum() > 0:
        return None
    return float((x * y).sum() / (x**2).sum())


def _vote(measure: float) -> int | None:
    return None if abs(measure) < 0.3 else (1 if measure > 0 else -1)


def _composition(frame: Frame) -> dict[int, int]:
    numbers, counts = np.unique(frame.numbers, return_counts=True)
    return dict(zip(numbers.tolist(), counts.tolist(), strict=True))


def _pairs(frame: Frame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Both atoms and the distance (Angstrom) of every pair nearer than CUTOFF."""
    i, j, d = vesin.NeighborList(cutoff=CUTOFF, full_list=False, n_threads=1).compute(
        points=frame.positions, box=frame.cell, periodic=frame.pbc, quantities="ijd"
    )
    return i.astype(np.int64), j.astype(np.int64), d


def _sums(frame: Frame, pairs: tuple[np.ndarray, np.ndarray, np.ndarray]) -> tuple[float, ...]:
    """Four sums that do not change with symmetry operations; see the module's docstring."""
    i, j, d = pairs
    n, w = len(frame.numbers), np.sqrt(frame.numbers)
    if not frame.pbc.any() and n <= LARGEST_MOLECULE:
        i, j = np.triu_indices(n, 1)
        d = np.linalg.norm(frame.positions[i] - frame.positions[j], axis=1)
        c = 1 / (1 + d**2)
    else:
        c = np.maximum(1 - (d / CUTOFF) ** 2, 0) ** 3
    rho = np.bincount(i, w[j] * c, n) + np.bincount(j, w[i] * c, n)
    return (float((w * rho).sum()), float((c**2 * d).sum()), float((w * rho**2).sum()), float((w * rho**3).sum()))


def _rows(counter: Counter[str]) -> list[CountRow]:
    return [CountRow(name=k, frames=v) for k, v in counter.most_common(LISTED)]


UNITS = {"energy": "eV", "volume": "Å³/atom", "force": "eV/Å", "stress": "eV/Å³", "distance": "Å", "atoms": ""}


def _extreme_row(quantity: str, extreme: _Extreme) -> ExtremeRow:
    value = -extreme.value if quantity.startswith("smallest") else extreme.value
    unit = next(u for word, u in UNITS.items() if word in quantity)
    unit = "eV/atom" if quantity.endswith("energy per atom") else unit
    return ExtremeRow(quantity=quantity, value=value, unit=unit, where=extreme.where)


def _unit(label: str, format: str, settings: ReadSettings) -> str:
    convention = CONVENTIONS.get(format, ("eV", "Angstrom"))
    energy, length = settings.energy_unit or convention[0], settings.length_unit or convention[1]
    if label == "stress":
        sign = "" if settings.stress_sign == "tension" else " (compression positive)"
        return (settings.stress_unit or f"{energy}/{length}^3") + sign
    return energy if label == "energy" else f"{energy}/{length}"
