"""From the spread of a committee to error bars, and whether they hold: scale, conformal quantiles, checks.

Scores. For an energy, |error| / spread of the energy per atom; for a force, |F - F_ref| / |std of F|, one score for
each atom: norms of vectors, so that turning a structure changes nothing. A spread below `FLOOR` of its median counts as
that.

Scale. alpha^2 = mean(score^2), the maximum of the likelihood of normal errors with standard deviation alpha * spread
(of a force: isotropic, with a third of the variance in each direction).

Conformal quantile. The atoms of a frame err together, so that the frame, not the atom, is what is drawn at random. Each
of the K validation frames has the weight 1/(K + 1), shared by its N_k atoms, and what is not known of the next frame
lies at infinity with the weight that is left; q is the `coverage` quantile of

    sum_k sum_i 1 / ((K + 1) N_k) delta(score_ki) + 1 / (K + 1) delta(infinity).

If the next frame is drawn as the validation frames were (exchangeable), the score of an atom picked at random from it
is at most q with at least that probability, whatever the distribution of errors: Y. Lee, R. F. Barber, R. Willett,
arXiv:2306.06342 (2023). With one score for each frame q is the ceil((K + 1) coverage)-th smallest, as for an energy:
V. Vovk, A. Gammerman, G. Shafer, Algorithmic Learning in a Random World (2005), doi:10.1007/b106715. The probability is
over validation frames and the next frame together, and on average: not for each structure, element or size of force.

Measured coverages are means over frames, too, and their noise is that of the number of frames. Definitions of RMSE
against RMV (root mean variance) and of the miscalibration area: D. Levi et al., Sensors 22, 5540 (2022),
doi:10.3390/s22155540; K. Tran et al., Mach. Learn.: Sci. Technol. 1, 025006 (2020), doi:10.1088/2632-2153/ab7e1a.
Letters of shapes: M values (frames, or atoms of all frames), K frames.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from rutile.core.errors import DataError
from rutile.core.settings import Result
from rutile.core.units import ERROR_UNITS
from rutile.potentials.calibration import BarScale

if TYPE_CHECKING:
    from rutile.train.assess import Compared

FLOOR = 0.01
"""Smallest spread, in medians of the spread."""
LEVELS = (0.5, 0.68, 0.8, 0.9, 0.95)
"""Coverages that are checked beside the one that is asked for."""
BINS = 10
"""Bins of equal count in which RMSE and RMV are compared."""


@dataclass(frozen=True)
class Scores:
    """Sizes of errors beside the spread, of one quantity."""

    error: np.ndarray
    """[M], at least 0 (eV/atom, or eV/Angstrom)."""
    spread: np.ndarray
    """[M], in the same unit."""
    frame: np.ndarray
    """[M] int64, which frame: 0, 1... K-1, each at least once."""
    components: int
    """Of what the error is the norm: 1, or 3 of a vector."""

    @property
    def frames(self) -> int:
        """K."""
        return int(self.frame[-1]) + 1 if len(self.frame) else 0

    def ratio(self, floor: float) -> np.ndarray:
        """Errors in units of the spread, [M]."""
        return np.asarray(self.error / np.maximum(self.spread, floor))

    def mean_over_frames(self, inside: np.ndarray) -> tuple[float, float]:
        """Fraction of the values that are `inside` [M], each frame counting alike, and its variance over frames."""
        each = np.bincount(self.frame, inside) / np.bincount(self.frame)
        return float(each.mean()), float(each.var(ddof=1)) if len(each) > 1 else 0.0


class QuantityCheck(Result):
    """How good the error bars of one quantity are on test frames."""

    quantity: str
    """energy (per atom) or force (norms of vectors)."""
    unit: str
    """Of errors and spreads."""
    fitted: int
    """Validation frames that the scale and the quantile come from."""
    frames: int
    """Test frames."""
    values: int
    """Test values: frames, or atoms."""
    scale: float
    """alpha: the standard deviation of the error is alpha times the spread."""
    quantile: float
    """An error bar is so many spreads long."""
    coverage: float
    """Asked for."""
    measured: float
    """Fraction of the test values within their error bars."""
    noise: float
    """Standard deviation of `measured` that the numbers of validation and test frames leave."""
    rmse: float
    """Of the test values."""
    rmv: float
    """Root mean variance: what the RMSE would be if alpha times the spread were right."""
    nll_before: float
    """Mean negative logarithm of the likelihood of a component, for normal errors as large as the spread."""
    nll: float
    """The same with the scale alpha: smaller is better."""
    miscalibration_area: float
    """Between the curve of measured coverage and the diagonal: 0 is perfect, 0.5 the worst. Of normal errors."""
    miscalibration_area_conformal: float
    """The same of the conformal error bars."""
    spearman: float
    """Rank correlation of error and spread."""
    auroc: float | None
    """Probability that a value with an error above error_limit has a larger spread than one below."""
    error_limit: float
    """What counts as a large error here."""


class LevelCheck(Result):
    """Coverage on test frames at one level."""

    quantity: str
    """energy or force."""
    level: float
    """Coverage that is asked for."""
    conformal: float
    """Measured coverage of conformal error bars."""
    gaussian: float
    """Measured coverage of bars from the scale alpha and normal errors."""
    noise: float
    """Standard deviation of a measured coverage that the number of frames leaves."""
    bar: float
    """Median length of the conformal error bars (eV/atom, eV/Å)."""


class BinCheck(Result):
    """Test values of about the same spread."""

    quantity: str
    """energy or force."""
    values: int
    """How many."""
    rmv: float
    """Root mean variance: alpha times the spread (eV/atom, eV/Å)."""
    rmse: float
    """Root mean square error: equal to rmv where the spread is calibrated."""
    measured: float
    """Fraction within the error bars."""


@dataclass(frozen=True)
class Checked:
    """All about one quantity."""

    summary: QuantityCheck
    levels: list[LevelCheck]
    bins: list[BinCheck]
    scores: Scores
    """On the test frames."""
    curve: dict[str, np.ndarray]
    """Measured coverage, [101], at levels 0, 0.01... 1 of "conformal" and "gaussian"."""


def collect(batches: Iterable[Compared]) -> dict[str, Scores]:
    """Scores of "energy" and "force" of frames that have these labels; absent where no frame has.

    Args:
        batches: with a spread each.
    """
    parts: dict[str, list[tuple[np.ndarray, np.ndarray, np.ndarray]]] = {"energy": [], "force": []}
    seen = {"energy": 0, "force": 0}
    for batch in batches:
        assert batch.spread is not None
        labelled, system = batch.labelled, batch.labelled.structures.system.cpu().numpy()
        atoms = np.bincount(system, minlength=len(batch.frames))
        energy = (batch.prediction.energy.double().cpu() - labelled.energy).abs().numpy() / atoms
        force = (batch.prediction.forces.double().cpu() - labelled.forces).norm(dim=1).numpy()
        std = batch.spread.energy.double().cpu().numpy() / atoms, batch.spread.forces.double().cpu().norm(dim=1).numpy()
        with_energy, with_forces = labelled.has_energy.numpy(), labelled.has_forces.numpy()
        for name, error, spread, keep, of in (
            ("energy", energy, std[0], with_energy, np.arange(len(atoms))),
            ("force", force, std[1], with_forces[system], system),
        ):
            _, frame = np.unique(of[keep], return_inverse=True)
            parts[name].append((error[keep], spread[keep], frame + seen[name]))
            seen[name] += len(np.unique(of[keep]))
    return {
        name: Scores(
            error=np.concatenate([error for error, _, _ in found]),
            spread=np.concatenate([spread for _, spread, _ in found]),
            frame=np.concatenate([frame for _, _, frame in found]),
            components=1 if name == "energy" else 3,
        )
        for name, found in parts.items()
        if seen[name]
    }


def merged(parts: Iterable[Mapping[str, Scores]]) -> dict[str, Scores]:
    """Scores of all parts together; frames of different parts are different ones."""
    found: dict[str, list[Scores]] = {}
    for part in parts:
        for name, scores in part.items():
            found.setdefault(name, []).append(scores)
    out = {}
    for name, several in found.items():
        firsts = np.cumsum([0, *(scores.frames for scores in several)])[:-1]
        out[name] = Scores(
            error=np.concatenate([scores.error for scores in several]),
            spread=np.concatenate([scores.spread for scores in several]),
            frame=np.concatenate([scores.frame + first for scores, first in zip(several, firsts, strict=True)]),
            components=several[0].components,
        )
    return {name: out[name] for name in ("energy", "force") if name in out}


def fit(scores: Scores, coverage: float, what: str) -> BarScale:
    """Scale and conformal quantile from validation frames.

    Args:
        scores: on these frames.
        coverage: of the error bars.
        what: "energy" or "force", for the message.

    Raises:
        DataError: too few frames for this coverage; members that agree everywhere; or a model without error.
    """
    positive = scores.spread[scores.spread > 0]
    if not len(positive):
        raise DataError(f"the members agree on every {what}: copies of one potential have no spread to calibrate")
    if not scores.error.any():
        raise DataError(f"the model has no error in any {what} of the validation data: are the labels its own?")
    needed = frames_needed(coverage)
    if scores.frames < needed:
        raise DataError(
            f"{scores.frames} validation frames with {what} labels say nothing about a coverage of {coverage:g}: at "
            f"least {needed} are needed; give more, or ask for less (coverage={largest_coverage(scores.frames):g})"
        )
    floor = FLOOR * float(np.median(positive))
    ratio = scores.ratio(floor)
    return BarScale(
        scale=float(np.sqrt((ratio**2).mean())),
        quantile=conformal_quantile(ratio, scores.frame, coverage),
        floor=floor,
        frames=scores.frames,
    )


def frames_needed(coverage: float) -> int:
    """Frames without which the conformal quantile is infinite: K >= coverage / (1 - coverage)."""
    return math.ceil(coverage / (1 - coverage) - 1e-9)


def frames_to_rely_on(coverage: float) -> int:
    """Frames from which on the coverage is off by chance by less than half of what may lie outside."""
    return int(4 * coverage / (1 - coverage)) + 1


def largest_coverage(frames: int) -> float:
    """What so few frames allow, rounded down to a percent."""
    return math.floor(100 * frames / (frames + 1) + 1e-9) / 100


def conformal_quantile(ratio: np.ndarray, frame: np.ndarray, coverage: float) -> float:
    """The quantile q of the module docstring; infinity where there are too few frames.

    Args:
        ratio: scores, [M].
        frame: of each score, [M].
        coverage: between 0 and 1.
    """
    atoms = np.bincount(frame)
    order = np.argsort(ratio, kind="stable")
    below = np.cumsum(1 / ((len(atoms) + 1) * atoms[frame[order]]))
    first = int(np.searchsorted(below, coverage - 1e-9))
    return float(ratio[order[first]]) if first < len(ratio) else math.inf


def gaussian_quantile(level: float, components: int) -> float:
    """Norm of a normal vector, in units of its root mean square, below which it lies with a probability of `level`."""
    from scipy.stats import chi

    return float(chi.ppf(level, components)) / math.sqrt(components)


def negative_log_likelihood(scores: Scores, std: np.ndarray) -> float:
    """Mean over components, of normal errors; `std` [M] is the root mean square of the norms of the errors."""
    variance = std**2 / scores.components
    each = 0.5 * np.log(2 * np.pi * variance) + 0.5 * scores.error**2 / (scores.components * variance)
    return float(each.mean())


def noise(level: float, fitted: Scores, test: Scores, variance: float) -> float:
    """Standard deviation of a measured coverage, from the numbers of frames.

    Args:
        level: asked for.
        fitted: validation scores.
        test: test scores.
        variance: of the coverage over test frames; atoms of one frame vary at least as independent ones do.
    """
    variance = max(variance, level * (1 - level) * test.frames / len(test.frame))
    return math.sqrt(variance * (1 / fitted.frames + 1 / test.frames))


def auroc(score: np.ndarray, positive: np.ndarray) -> float | None:
    """Area under the receiver operating characteristic: P(score of a positive > score of a negative), ties half.

    Args:
        score: [M].
        positive: [M] bool.

    Returns:
        None where one of the classes is empty.
    """
    from scipy.stats import rankdata

    n = int(positive.sum())
    if n in (0, len(positive)):
        return None
    return float((rankdata(score)[positive].sum() - n * (n + 1) / 2) / (n * (len(positive) - n)))


def check(
    name: str, fitted: Scores, test: Scores, bars: BarScale, coverage: float, error_limit: float | None = None
) -> Checked:
    """Measure the error bars on test frames.

    Args:
        name: "energy" or "force".
        fitted: scores on the frames that `bars` come from.
        test: scores on other frames.
        bars: of `fit`.
        coverage: of `bars`.
        error_limit: errors above it are large ones; None: the largest tenth.
    """
    ratio = test.ratio(bars.floor)
    std = bars.scale * np.maximum(test.spread, bars.floor)
    grid = np.linspace(0, 1, 101)
    sides = {
        "conformal": [_conformal(fitted, bars, p) for p in grid],
        "gaussian": [bars.scale * gaussian_quantile(p, test.components) for p in grid],
    }
    curve = {side: np.array([test.mean_over_frames(ratio <= q)[0] for q in qs]) for side, qs in sides.items()}
    levels = [_level(name, fitted, test, bars, p) for p in sorted({*LEVELS, coverage})]
    measured, variance = test.mean_over_frames(ratio <= bars.quantile)
    limit = float(np.quantile(test.error, 0.9)) if error_limit is None else error_limit
    summary = QuantityCheck(
        quantity=name,
        unit=ERROR_UNITS[name],
        fitted=fitted.frames,
        frames=test.frames,
        values=len(ratio),
        scale=bars.scale,
        quantile=bars.quantile,
        coverage=coverage,
        measured=measured,
        noise=noise(coverage, fitted, test, variance),
        rmse=_root_mean_square(test.error),
        rmv=_root_mean_square(std),
        nll_before=negative_log_likelihood(test, std / bars.scale),
        nll=negative_log_likelihood(test, std),
        miscalibration_area=_area(grid, curve["gaussian"]),
        miscalibration_area_conformal=_area(grid, curve["conformal"]),
        spearman=_spearman(test.error, test.spread),
        auroc=auroc(test.spread, test.error > limit),
        error_limit=limit,
    )
    return Checked(summary, levels, _bins(name, test, std, ratio <= bars.quantile), test, curve)


def _conformal(fitted: Scores, bars: BarScale, level: float) -> float:
    return conformal_quantile(fitted.ratio(bars.floor), fitted.frame, level)


def _level(name: str, fitted: Scores, test: Scores, bars: BarScale, level: float) -> LevelCheck:
    ratio = test.ratio(bars.floor)
    quantile = _conformal(fitted, bars, level)
    conformal, variance = test.mean_over_frames(ratio <= quantile)
    gaussian, _ = test.mean_over_frames(ratio <= bars.scale * gaussian_quantile(level, test.components))
    return LevelCheck(
        quantity=name,
        level=level,
        conformal=conformal,
        gaussian=gaussian,
        noise=noise(level, fitted, test, variance),
        bar=quantile * float(np.median(np.maximum(test.spread, bars.floor))),
    )


def _bins(name: str, test: Scores, std: np.ndarray, inside: np.ndarray) -> list[BinCheck]:
    parts: Sequence[np.ndarray] = np.array_split(np.argsort(std, kind="stable"), min(BINS, len(std)))
    return [
        BinCheck(
            quantity=name,
            values=len(part),
            rmv=_root_mean_square(std[part]),
            rmse=_root_mean_square(test.error[part]),
            measured=float(inside[part].mean()),
        )
        for part in parts
    ]


def _area(grid: np.ndarray, measured: np.ndarray) -> float:
    gap = np.abs(measured - grid)
    return float((0.5 * (gap[1:] + gap[:-1]) * np.diff(grid)).sum())


def _spearman(error: np.ndarray, spread: np.ndarray) -> float:
    """0 where one of the two is constant: it says nothing about the other."""
    from scipy.stats import spearmanr

    if len(error) < 2 or np.ptp(error) == 0 or np.ptp(spread) == 0:
        return 0.0
    return float(spearmanr(error, spread).statistic)


def _root_mean_square(values: np.ndarray) -> float:
    return float(np.sqrt((values**2).mean()))
