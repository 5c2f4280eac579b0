"""The census of a set of files: what is there and what looks wrong, in one pass with bounded memory.

Nothing is refused here: frames that cannot be used are listed. What needs more than one frame is judged in
`data.duplicates` and `data.judgements`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rutile.core import elements
from rutile.core.reporting import Reporter
from rutile.data.duplicates import CONTRADICTION, Recogniser, close_pairs
from rutile.data.findings import Census, CountRow, ElementRow, ExtremeRow, FileRow, LabelRow
from rutile.data.frames import Frame
from rutile.data.judgements import Composition, ForceCheck, energy_scales, stress_sign, stress_unit
from rutile.data.labels import CONVENTIONS, Labels
from rutile.data.reading import Reading, files_of, format_of, readings, unknown_keys
from rutile.data.settings import NET_FORCE, ReadSettings
from rutile.structures.fingerprint import Pairs

REMEMBERED = 300_000
"""Frames remembered to find energy outliers and the median total force."""
SAMPLES = 200
"""Frames remembered for each composition to judge the stress."""
LISTED = 20
PROBLEMS_LISTED = 50


def take_census(paths: Sequence[Path], settings: ReadSettings, reporter: Reporter) -> Census:
    """Read all files once and say what is in them.

    Raises:
        FileError: a path does not exist or has no known format.
    """
    files = files_of(paths, settings)
    counter = _Counter()
    for path in files:
        format = format_of(path, settings)
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
        self.recogniser = Recogniser()
        self.compositions: dict[str, Composition] = {}
        self.force_check = ForceCheck()

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
        self.force_check.add(reading.frame)
        distances = close_pairs(reading.frame)
        self._shortest(reading.frame, distances, where)
        self.recogniser.add(reading.frame, distances, where)

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
            group = self.compositions.setdefault(elements.formula(frame.numbers), Composition(n))
            if len(group.rows) < SAMPLES and len(self.compositions) < REMEMBERED:
                group.rows.append((volume, np.nan if frame.energy is None else frame.energy, mean))

    def _offer(self, quantity: str, value: float, where: str) -> None:
        self._top(f"largest {quantity}", value, where)
        self.extremes.setdefault(f"smallest {quantity}", _Extreme()).offer(-value, where)

    def _top(self, quantity: str, value: float, where: str) -> None:
        self.extremes.setdefault(quantity, _Extreme()).offer(value, where)

    def _shortest(self, frame: Frame, pairs: Pairs, where: str) -> None:
        i, j, d = pairs
        if len(d):
            k = int(d.argmin())
            a, b = int(i[k]), int(j[k])
            names = "-".join(elements.symbol(int(frame.numbers[x])) for x in (a, b))
            place = f"{where}, atoms {a} and {b} ({names})"
            self.extremes.setdefault("smallest distance", _Extreme()).offer(-float(d[k]), place)
        if len(frame.numbers) == 1 and not len(d):
            self.isolated.setdefault(int(frame.numbers[0]), frame.energy)

    def census(self, settings: ReadSettings) -> Census:
        """The result."""
        sign, suspicious = "no stress", ""
        if self.label_names["stress"]:
            sign, suspicious = stress_sign(self.compositions.values())
        forces, odd = self.force_check.judge()
        unit = stress_unit(self.compositions.values())
        wrong = unknown_keys(settings, set(self.keys))
        stated = [w for w in [*wrong, suspicious, unit, odd, *self._warnings(), energy_scales(self.energies)] if w]
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
            forces_against_energies=forces,
            duplicates=self.recogniser.n_duplicates,
            duplicate_pairs=self.recogniser.duplicates,
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
        known = self.recogniser
        if known.n_duplicates:
            out.append(f"{known.n_duplicates} frames repeat an earlier one: keep them out of validation and test")
        for (a, b), (of_a, of_b) in known.shared.items():
            out.append(f"{min(len(of_a), len(of_b))} different frames are both in {a} and in {b}")
        if known.n_contradictions:
            most = f"{1000 * CONTRADICTION:g} meV/atom"
            pairs = "; ".join(known.contradictions[:5])
            out.append(f"{known.n_contradictions} pairs of one geometry differ by more than {most}: {pairs}")
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
        if self.recogniser.full:
            out.append(f"duplicates were looked for among the first {REMEMBERED} different frames only")
        return out


def _composition(frame: Frame) -> dict[int, int]:
    numbers, counts = np.unique(frame.numbers, return_counts=True)
    return dict(zip(numbers.tolist(), counts.tolist(), strict=True))


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
