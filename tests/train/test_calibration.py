"""Statistics of error bars on made-up errors whose truth is known."""

import math

import numpy as np
import pytest
from scipy.stats import norm

from rutile.core.errors import DataError
from rutile.train.calibration import (
    LEVELS,
    Scores,
    auroc,
    check,
    conformal_quantile,
    fit,
    gaussian_quantile,
    negative_log_likelihood,
)


def made(seed, alpha, frames, *, atoms=1, components=1, tails=None, shared=0.0):
    """Errors that are `alpha` times the spread; `tails`: degrees of freedom of Student's t; `shared` by a frame."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 2 * atoms, frames) if atoms > 1 else np.ones(frames, int)
    frame = np.repeat(np.arange(frames), sizes)
    spread = np.exp(rng.normal(0, 1, len(frame)))
    shape = len(frame), components
    noise = rng.normal(size=shape) if tails is None else rng.standard_t(tails, shape)
    level = np.exp(shared * rng.normal(size=frames))[frame]
    error = alpha * spread * level * np.linalg.norm(noise, axis=1) / math.sqrt(components)
    return Scores(error, spread, frame, components)


@pytest.mark.parametrize("components", [1, 3])
def test_normal_errors_give_their_scale_and_coverage(components):
    fitted, test = made(0, 2.5, 4000, components=components), made(1, 2.5, 4000, components=components)
    bars = fit(fitted, 0.9, "energy")
    assert bars.scale == pytest.approx(2.5, rel=0.03)
    assert bars.quantile == pytest.approx(2.5 * gaussian_quantile(0.9, components), rel=0.04)
    found = check("energy", fitted, test, bars, 0.9)
    assert [level.level for level in found.levels] == sorted(LEVELS)
    for level in found.levels:
        binomial = math.sqrt(level.level * (1 - level.level) * 2 / 4000)
        assert level.noise == pytest.approx(binomial, rel=0.1)
        assert abs(level.conformal - level.level) < 4 * binomial
        assert abs(level.gaussian - level.level) < 4 * binomial
    assert found.summary.miscalibration_area < 0.02
    assert found.summary.miscalibration_area_conformal < 0.02
    for part in found.bins:
        assert part.rmse == pytest.approx(part.rmv, rel=0.2)
    assert found.summary.nll < found.summary.nll_before - 0.3


def test_the_scale_has_the_largest_likelihood():
    scores = made(3, 1.7, 500, components=3)
    alpha = fit(scores, 0.9, "force").scale
    values = [negative_log_likelihood(scores, f * alpha * scores.spread) for f in (0.97, 1.0, 1.03)]
    assert values[1] < min(values[0], values[2])


def test_the_likelihood_is_that_of_normal_components():
    rng = np.random.default_rng(0)
    vectors, spread = rng.normal(size=(50, 3)), rng.uniform(0.5, 2, 50)
    scores = Scores(np.linalg.norm(vectors, axis=1), spread, np.arange(50), 3)
    expected = -norm.logpdf(vectors, scale=spread[:, None] / math.sqrt(3)).mean()
    assert negative_log_likelihood(scores, spread) == pytest.approx(expected, rel=1e-12)


def test_conformal_bars_cover_heavy_tails_where_normal_ones_do_not():
    fitted, test = made(4, 1.0, 3000, tails=2.0), made(5, 1.0, 3000, tails=2.0)
    found = check("energy", fitted, test, fit(fitted, 0.9, "energy"), 0.9)
    assert abs(found.summary.measured - 0.9) < 4 * math.sqrt(0.09 * 2 / 3000)
    half = next(level for level in found.levels if level.level == 0.5)
    assert abs(half.conformal - 0.5) < 4 * math.sqrt(0.25 * 2 / 3000)
    assert half.gaussian > 0.6
    assert found.summary.miscalibration_area > 4 * found.summary.miscalibration_area_conformal


@pytest.mark.parametrize("coverage", [0.5, 0.8, 0.9, 0.95])
@pytest.mark.parametrize("frames", [9, 10, 19, 20, 57])
def test_one_score_per_frame_gives_the_usual_quantile(frames, coverage):
    scores = np.random.default_rng(frames).permutation(frames) + 1.0
    rank = math.ceil(round((frames + 1) * coverage, 9))
    expected = rank if rank <= frames else math.inf
    assert conformal_quantile(scores, np.arange(frames), coverage) == expected


@pytest.mark.slow
def test_the_promise_holds_for_few_frames_whose_atoms_err_together():
    """Mean over many sets of 12 frames; the quantile of all atoms pooled, as if independent, promises too much."""
    coverage, pooled = [], []
    for seed in range(2500):
        scores = made(seed, 1.0, 13, atoms=8, components=3, shared=1.0)
        seen, ratio = scores.frame < 12, scores.ratio(0.0)
        fresh = ratio[~seen]
        coverage.append((fresh <= conformal_quantile(ratio[seen], scores.frame[seen], 0.9)).mean())
        rank = math.ceil((seen.sum() + 1) * 0.9)
        pooled.append((fresh <= np.sort(ratio[seen])[rank - 1]).mean())
    noise = np.std(coverage) / math.sqrt(len(coverage))
    assert 0.9 - 2.5 * noise < np.mean(coverage) < 0.9 + 1 / 13 + 2.5 * noise
    assert np.mean(pooled) < 0.9 - 3 * noise


def test_noise_counts_frames_when_atoms_err_together():
    independent = made(0, 1.0, 200, atoms=20, components=3), made(1, 1.0, 200, atoms=20, components=3)
    together = made(0, 1.0, 200, atoms=20, components=3, shared=1.0), made(1, 1.0, 200, atoms=20, shared=1.0)
    noises = []
    for fitted, test in (independent, together):
        noises.append(check("force", fitted, test, fit(fitted, 0.9, "force"), 0.9).summary.noise)
    assert noises[1] > 2 * noises[0]
    assert noises[1] < 0.03 + 1e-9  # frames wholly correlated: sqrt(0.09 * 2 / 200)


def test_each_frame_counts_alike():
    scores = Scores(np.array([1.0, 3.0, 3.0, 3.0]), np.ones(4), np.array([0, 1, 1, 1]), 3)
    assert scores.mean_over_frames(scores.error < 2)[0] == 0.5


def test_too_few_frames_are_refused_with_the_number_needed():
    with pytest.raises(DataError, match=r"^8 validation frames .* at least 9 .*coverage=0\.88"):
        fit(made(0, 1.0, 8), 0.9, "energy")
    assert math.isfinite(fit(made(0, 1.0, 9), 0.9, "energy").quantile)
    assert math.isfinite(fit(made(0, 1.0, 8), 0.88, "energy").quantile)


def test_nothing_to_calibrate_is_refused():
    zero, some = np.zeros(20), np.ones(20)
    with pytest.raises(DataError, match="agree on every energy"):
        fit(Scores(some, zero, np.arange(20), 1), 0.9, "energy")
    with pytest.raises(DataError, match="no error in any energy"):
        fit(Scores(zero, some, np.arange(20), 1), 0.9, "energy")


def test_members_that_agree_by_symmetry_do_not_spoil_the_rest():
    scores = made(6, 2.0, 400)
    spread = np.where(np.arange(400) % 20 == 0, 0.0, scores.spread)
    error = np.where(spread == 0, 1e-9, scores.error)
    bars = fit(Scores(error, spread, scores.frame, 1), 0.9, "force")
    assert bars.scale == pytest.approx(2.0, rel=0.12)
    assert 0 < bars.floor < 0.05


def test_auroc_counts_pairs_in_the_right_order():
    rng = np.random.default_rng(0)
    score, positive = rng.integers(0, 5, 60).astype(float), rng.random(60) < 0.4
    pairs = score[positive][:, None] - score[~positive]
    assert auroc(score, positive) == pytest.approx(((pairs > 0) + 0.5 * (pairs == 0)).mean(), abs=1e-12)
    assert auroc(score, np.zeros(60, bool)) is None


def test_a_spread_that_says_nothing_is_seen():
    fitted, test = made(7, 1.0, 1000), made(8, 1.0, 1000)
    blind = [Scores(s.error, np.random.default_rng(9).permutation(s.spread), s.frame, 1) for s in (fitted, test)]
    knowing = check("energy", fitted, test, fit(fitted, 0.9, "energy"), 0.9).summary
    unknowing = check("energy", *blind, fit(blind[0], 0.9, "energy"), 0.9).summary
    assert knowing.spearman > 0.5 > 0.1 > abs(unknowing.spearman)
    assert knowing.auroc > 0.75 > 0.6 > unknowing.auroc
    assert abs(unknowing.measured - 0.9) < 0.06


def test_gaussian_quantiles_are_those_of_normal_vectors():
    vectors = np.random.default_rng(0).normal(size=(200_000, 3))
    norms = np.linalg.norm(vectors, axis=1) / math.sqrt(3)
    assert gaussian_quantile(0.9, 3) == pytest.approx(np.quantile(norms, 0.9), rel=5e-3)
    assert gaussian_quantile(0.95, 1) == pytest.approx(1.959964, abs=1e-6)
