"""Two judgements on a set of frames that no single frame allows.

Sign of the stress. A solid resists expansion: within one composition, tr(stress)/3 (positive under tension) grows with
volume, and dE/dV = tr(stress)/3 between frames that differ by volume.

Scale of the energies. Energies less a least-squares energy for each element, per atom: a gap of many eV means that
different references were mixed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

ENERGY_GAP = 10.0
"""A gap between energies (eV/atom, less the energy of each element) beyond this means different references."""


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
