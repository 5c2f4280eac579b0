"""Judgements on a set of frames that no single frame allows.

Sign and unit of the stress. A solid resists expansion: within one composition, tr(stress)/3 (positive under tension)
grows with volume, and dE/dV = tr(stress)/3 between frames that differ by volume.

Sign and unit of the forces. Between two frames that follow each other with small displacements dr in the same cell, the
energy changes by -sum (F_1 + F_2)/2 . dr.

Scale of the energies. Energies less a least-squares energy for each element, per atom: a gap of many eV means that
different references were mixed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from rutile.core.units import BOHR, GPA, HARTREE
from rutile.data.frames import Frame

ENERGY_GAP = 10.0
"""A gap between energies (eV/atom, less the energy of each element) beyond this means different references."""


REMEMBERED = 100_000
"""Steps between frames that are remembered."""
LARGEST_STEP = 0.3
"""Largest displacement of an atom (Angstrom) over which energies and forces of two frames are compared."""
STRESS_UNITS = {"eV/Angstrom^3": 1.0, "GPa": GPA, "kbar": 0.1 * GPA}


@dataclass
class Composition:
    """Volumes, energies and mean stresses of frames of one composition."""

    atoms: int
    rows: list[tuple[float, float, float]] = field(default_factory=list)
    """(volume, energy or NaN, tr(stress)/3) of the first frames."""


def stress_sign(compositions: Iterable[Composition]) -> tuple[str, str]:
    """A sentence, and a warning if the sign looks wrong."""
    groups = [g for g in map(_varied, compositions) if g is not None]
    if not groups:
        return "cannot be judged: no composition has frames of different volumes", ""
    correlation = _pooled_correlation(groups)
    slope = _energy_slope(groups)
    frames = sum(len(g.volume) for g in groups)
    basis = f"stress against volume: correlation {correlation:+.2f} in {frames} frames of {len(groups)} compositions"
    if slope is not None:
        basis += f"; energy steps against stress times volume steps: slope {slope:+.2f}"
    votes = [v for v in (_vote(correlation), None if slope is None else _vote(slope)) if v is not None]
    if votes and all(v > 0 for v in votes):
        return f"as in ASE, tension positive ({basis})", ""
    if votes and all(v < 0 for v in votes):
        text = f"looks opposite to ASE's ({basis})"
        return text, f"the sign of the stress {text}: if so, say stress_sign=compression"
    return f"not clear ({basis})", ""


def stress_unit(compositions: Iterable[Composition]) -> str:
    """A warning if energies agree with the stresses in another unit much more often than in the one assumed."""
    groups = [g for g in map(_varied, compositions) if g is not None]
    if not groups:
        return ""
    gain, work = (np.concatenate(x) for x in zip(*map(_steps, groups), strict=True))
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.abs(gain / work)
    agree = {unit: int((np.abs(ratio / factor - 1) < 0.3).sum()) for unit, factor in STRESS_UNITS.items()}
    best = max(agree, key=lambda unit: agree[unit])
    usual = agree["eV/Angstrom^3"]
    if best == "eV/Angstrom^3" or agree[best] < 5 or agree[best] < 3 * usual:
        return ""
    return (
        f"the stresses look as if they were in {best}: energies agree with them in {agree[best]} of {len(ratio)} "
        f"steps of volume, and in {usual} in the unit assumed; if so, say stress_unit={best}"
    )


class ForceCheck:
    """Compares energy differences between frames that follow each other with the work of their forces."""

    def __init__(self) -> None:
        self._last: Frame | None = None
        self._work: list[float] = []
        self._gain: list[float] = []

    def add(self, frame: Frame) -> None:
        """The next frame."""
        last, self._last = self._last, frame
        if last is None or len(self._work) >= REMEMBERED or not _comparable(last, frame):
            return
        assert last.forces is not None
        assert frame.forces is not None
        move = _displacement(last, frame)
        if not 0 < np.abs(move).max() < LARGEST_STEP:
            return
        assert last.energy is not None
        assert frame.energy is not None
        self._work.append(float(-((last.forces + frame.forces) / 2 * move).sum()))
        self._gain.append(frame.energy - last.energy)

    def judge(self) -> tuple[str, str]:
        """A sentence, and a warning if sign or unit look wrong."""
        x, y = np.array(self._work), np.array(self._gain)
        if len(x) < 4 or not (x**2).sum() > 0 or not (y**2).sum() > 0:
            return "cannot be judged: too few frames follow each other in small steps", ""
        cosine = float((x * y).sum() / np.sqrt((x**2).sum() * (y**2).sum()))
        slope = float((x * y).sum() / (x**2).sum())
        basis = f"energy steps against the work of the forces: cosine {cosine:+.2f}, slope {slope:+.3g}, {len(x)} steps"
        if cosine < -0.7:
            return f"opposite to the energies ({basis})", f"the forces have the wrong sign ({basis})"
        if cosine < 0.7:
            return f"not clear ({basis})", ""
        if 0.4 < slope < 2.5:
            return f"agree with the energies ({basis})", ""
        hint = "; forces in Hartree/Bohr?" if abs(np.log(slope / (HARTREE / BOHR))) < 0.5 else ""
        return f"of another unit ({basis})", f"energies and forces have different units ({basis}){hint}"


def _comparable(a: Frame, b: Frame) -> bool:
    """Whether two frames have the same atoms, the same cell, energies and forces."""
    labels = (a.energy, a.forces, b.energy, b.forces)
    if any(x is None for x in labels) or a.calc_mode != b.calc_mode or not np.array_equal(a.pbc, b.pbc):
        return False
    return np.array_equal(a.numbers, b.numbers) and bool(np.allclose(a.cell, b.cell, rtol=0, atol=1e-6))


def _displacement(a: Frame, b: Frame) -> np.ndarray:
    """[N, 3] shortest way (Angstrom) from one frame to the other, across periodic boundaries."""
    move: np.ndarray = b.positions - a.positions
    if not a.pbc.all():
        return move
    fraction = np.linalg.solve(a.cell.T, move.T).T
    shortest: np.ndarray = (fraction - np.round(fraction)) @ a.cell
    return shortest


def energy_scales(energies: Sequence[tuple[dict[int, int], float, str]]) -> str:
    """A warning if energies fall apart into groups many eV apart, or nothing; (composition, energy in eV, where)."""
    many = [(c, e, w) for c, e, w in energies if sum(c.values()) > 1]
    if len(many) < 3:
        return ""
    kinds = sorted({z for c, _, _ in many for z in c})
    index = {z: k for k, z in enumerate(kinds)}
    counts = np.zeros((len(many), len(kinds)))
    for row, (c, _, _) in enumerate(many):
        for z, n in c.items():
            counts[row, index[z]] = n
    size = counts.sum(axis=1)
    fractions, per_atom = counts / size[:, None], np.array([e for _, e, _ in many]) / size
    rest = per_atom - fractions @ np.linalg.lstsq(fractions, per_atom, rcond=None)[0]
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


def _varied(group: Composition) -> _Varied | None:
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
    y, x = (np.concatenate(part) for part in zip(*map(_steps, groups), strict=True))
    good = np.abs(y) < 3 * np.abs(x)
    x, y = x[good], y[good]
    if len(x) < 4 or not (x**2).sum() > 0:
        return None
    return float((x * y).sum() / (x**2).sum())


def _steps(group: _Varied) -> tuple[np.ndarray, np.ndarray]:
    """Energy steps and stress times volume steps (eV/atom) between neighbours in volume, for steps of a few percent."""
    dv, de = np.diff(group.volume), np.diff(group.energy)
    work = (group.stress[1:] + group.stress[:-1]) / 2 * dv
    good = np.isfinite(de) & (dv / group.volume[1:] > 0.002) & (dv / group.volume[1:] < 0.1)
    return de[good], work[good]


def _vote(measure: float) -> int | None:
    return None if abs(measure) < 0.3 else (1 if measure > 0 else -1)
