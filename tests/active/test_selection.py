"""Trust levels and the selection of structures among candidates."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from rutile.active.choose import Levels, choose, classify, standardised
from rutile.active.disagreement import Disagreement
from rutile.active.settings import ChoiceSettings

LEVELS = Levels(0.1, 1.0)


def found(force, energy=None):
    """Disagreement about the forces of some structures."""
    force = np.asarray(force, dtype=float)
    energy = np.zeros(len(force)) if energy is None else np.asarray(energy, dtype=float)
    return Disagreement(energy, force, np.zeros(len(force), dtype=int), force)


def chosen(x, force=None, known=None, impossible=None, levels=LEVELS, **settings):
    """Places of the chosen structures in their order."""
    x = np.asarray(x, dtype=float)
    x = x[:, None] if x.ndim == 1 else x
    base = np.zeros((0, 0)) if known is None else np.asarray(known, dtype=float).reshape(len(known), -1)
    force = np.full(len(x), 0.5) if force is None else force
    out = choose(found(force), x, base, impossible or [""] * len(x), levels, ChoiceSettings(**settings))
    ranks = {d.rank: k for k, d in enumerate(out) if d.rank is not None}
    assert sorted(ranks) == list(range(len(ranks)))
    return [ranks[k] for k in range(len(ranks))], out


def test_classes_are_divided_by_the_levels():
    about = found([0.05, 0.5, 2.0, 0.5, np.nan, 0.05], [0, 0, 0, 0, 0, 0.02])
    why = ["", "", "", "H and H are 0.10 Å apart", "", ""]
    kinds = ["accurate", "candidate", "failed", "impossible", "failed"]
    assert classify(about, why, LEVELS) == [*kinds, "accurate"]
    assert classify(about, why, Levels(0.1, 1.0, energy_low=0.01)) == [*kinds, "candidate"]


def test_only_candidates_are_chosen_and_every_decision_has_its_reason():
    order, out = chosen([0, 1, 2, 3, 4], [0.05, 0.5, 2.0, 0.3, 0.4], impossible=["", "", "", "", "x"], budget=5)
    assert sorted(order) == [1, 3]
    assert [d.reason for d in out] == ["members agree", "chosen", "members disagree by 2 eV/Å, more than 1", "chosen",
                                       "x"]  # fmt: skip


def test_farthest_points_cover_the_line():
    """From the most doubtful point on: the ends, then the middle of the largest gap."""
    x = np.linspace(0, 1, 101)
    force = np.full(101, 0.5)
    force[0] = 0.6
    assert chosen(x, force, budget=5, shortlist=100)[0] == [0, 100, 50, 25, 75]


@pytest.mark.parametrize("kind", ["failed", "impossible"])
def test_a_broken_structure_does_not_make_all_others_alike(kind):
    """Its features may be a thousand times those of the sound ones, whose distances are what `near` is about."""
    x = [*np.linspace(0, 1, 11), 1e4]
    force = np.full(12, 0.5)
    force[11] = 5.0 if kind == "failed" else 0.5
    why = [""] * 11 + ["atoms too close" if kind == "impossible" else ""]
    order, out = chosen(x, force, known=[-1.0, -0.5], impossible=why, budget=11)
    assert out[11].kind == kind
    assert sorted(order) == list(range(11))


def test_a_few_strange_candidates_do_not_make_all_others_alike():
    """They are chosen, and the others with them."""
    x = [*np.linspace(0, 1, 17), 1e4, -2e4]
    assert sorted(chosen(x, known=np.linspace(-1, -0.5, 5), budget=19, shortlist=100)[0]) == list(range(19))


def test_nothing_to_choose_from_is_no_error():
    assert chosen([0.0, 1.0], [0.05, 2.0], known=[0.5])[0] == []
    assert chosen([0.0, 1.0], [0.05, 2.0])[0] == []


def test_farthest_points_keep_away_from_known_ones():
    order, _ = chosen(np.linspace(0, 1, 101), known=[0.0, 1.0], budget=3, shortlist=100)
    assert order == [50, 25, 75]


@pytest.mark.parametrize("method", ["farthest", "determinant"])
def test_variety_is_sought_among_the_most_doubtful_only(method):
    """The ends of the line are the most different, its middle is the most doubtful."""
    x = np.linspace(-1, 1, 41)
    force = 0.9 - 0.5 * np.abs(x)
    assert set(chosen(x, force, method=method, budget=2, shortlist=100)[0]) >= {0}
    order, out = chosen(x, force, method=method, budget=2, shortlist=3)
    assert len(order) == 2
    assert set(order) <= set(range(17, 24))  # the six largest
    assert out[0].reason == "beyond the budget"


def test_a_shortlist_of_look_alikes_does_not_leave_the_budget_unused():
    x, force = [0.0, 0.0, 0.0, 0.0, 1.0, 2.0], [0.9, 0.9, 0.9, 0.9, 0.3, 0.2]
    assert chosen(x, force, budget=3, shortlist=1, near=0.05)[0] == [0, 5, 4]


@pytest.mark.parametrize("method", ["farthest", "determinant", "largest", "random"])
def test_what_is_near_known_or_chosen_ones_is_left_out(method):
    order, out = chosen([0.0, 0.001, 1.0, 2.0, 2.001], known=[1.0001], budget=5, near=0.05, method=method)
    assert len(order) == 2  # one of each pair
    assert (0 in order) != (1 in order)
    assert (3 in order) != (4 in order)
    assert out[2].reason == "like known or chosen structures"


def test_the_largest_disagreement_comes_first():
    assert chosen([0, 1, 2, 3], [0.3, 0.5, 0.2, 0.4], method="largest", budget=3)[0] == [1, 3, 0]


def test_the_determinant_is_the_largest_that_greed_finds():
    """Against the determinants themselves, candidate by candidate."""
    rng = np.random.default_rng(0)
    x, known = rng.normal(size=(12, 3)), rng.normal(size=(4, 3))
    order, _ = chosen(x, known=known, method="determinant", budget=5, near=0)
    a, b = standardised(x, known)
    a, b = (np.concatenate([m, np.ones((len(m), 1))], 1) for m in (a, b))
    total = b.T @ b + 1e-3 * (a**2).mean() * np.eye(4)
    left = list(range(12))
    for k in order:
        best = max(left, key=lambda j: np.linalg.slogdet(total + np.outer(a[j], a[j]))[1])
        assert k == best
        left.remove(k)
        total = total + np.outer(a[k], a[k])


def test_a_lot_is_drawn_from_all_that_are_possible_and_repeats():
    force = np.full(200, 0.01)
    why = ["x" if k % 2 else "" for k in range(200)]
    first, _ = chosen(np.arange(200), force, impossible=why, method="random", budget=40, near=0, seed=1)
    again, _ = chosen(np.arange(200), force, impossible=why, method="random", budget=40, near=0, seed=1)
    other, _ = chosen(np.arange(200), force, impossible=why, method="random", budget=40, near=0, seed=2)
    assert first == again != other
    assert len(first) == 40
    assert all(k % 2 == 0 for k in first)


@pytest.mark.slow
@given(st.integers(0, 2**31), st.sampled_from(["farthest", "determinant", "largest"]))
def test_units_of_features_and_constant_columns_do_not_matter(seed, method):
    rng = np.random.default_rng(seed)
    x, known, force = rng.normal(size=(15, 3)), rng.normal(size=(5, 3)), rng.uniform(0.2, 0.9, 15)
    scale = np.array([1e3, 1.0, 1e-3])
    more = [np.concatenate([m * scale + 7.0, np.full((len(m), 1), 3.0)], 1) for m in (x, known)]
    assert (
        chosen(x, force, known, method=method, budget=6)[0]
        == chosen(more[0], force, more[1], method=method, budget=6)[0]
    )


def test_equal_structures_without_features_that_vary_are_one():
    assert len(chosen([[1.0, 2.0]] * 4, budget=4)[0]) == 1


def test_nothing_to_choose_from():
    assert chosen([0, 1], [0.01, 0.02])[0] == []


def test_levels_in_the_wrong_order_are_refused():
    with pytest.raises(ValidationError, match="must be above low"):
        ChoiceSettings(low=0.5, high=0.5)
