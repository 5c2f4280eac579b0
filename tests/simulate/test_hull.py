"""Convex hulls: by hand, by qhull, and by pymatgen (numbers made once with pymatgen's PhaseDiagram)."""

import numpy as np
import pytest
from scipy.spatial import ConvexHull

from rutile.simulate.hull import chemical_potentials, convex_hull


def random_phases(elements, phases, seed):
    random = np.random.default_rng(seed)
    counts = np.vstack([np.eye(elements, dtype=int), random.integers(0, 5, (phases, elements))])
    counts = counts[counts.sum(1) > 0]
    return counts, counts / counts.sum(1)[:, None], random.uniform(-1, 0.2, len(counts)) - 3


def test_two_elements_by_hand():
    parts = np.array([[1, 0], [0, 1], [0.5, 0.5], [0.75, 0.25], [1, 0]])
    hull = convex_hull(parts, np.array([-1.0, -2.0, -2.0, -1.5, -0.9]))
    assert hull.formation == pytest.approx([0, 0, -0.5, -0.25, 0.1])
    assert hull.above == pytest.approx([0, 0, 0, 0, 0.1])
    hull = convex_hull(parts, np.array([-1.0, -2.0, -2.0, -1.4, -0.9]))
    assert hull.above[3] == pytest.approx(0.1)
    assert hull.decay[3] == pytest.approx({0: 0.5, 2: 0.5})
    assert hull.decay[2] == {2: 1.0}
    assert hull.decay[4] == pytest.approx({0: 1.0})


@pytest.mark.parametrize(("elements", "seed"), [(2, 0), (3, 1), (4, 2)])
def test_distances_are_those_of_qhull(elements, seed):
    _, parts, energy = random_phases(elements, 40, seed)
    ours = convex_hull(parts, energy)
    points = np.column_stack([parts[:, 1:], ours.formation])
    lower = ConvexHull(points)
    planes = lower.equations[lower.equations[:, -2] < -1e-9]  # facets that face down
    heights = -(parts[:, 1:] @ planes[:, :-2].T + planes[:, -1]) / planes[:, -2]
    np.testing.assert_allclose(ours.above, np.maximum(ours.formation - heights.max(1), 0), atol=1e-8)
    assert (ours.above >= 0).all()
    for p, mixture in enumerate(ours.decay):
        np.testing.assert_allclose(sum(w * parts[k] for k, w in mixture.items()), parts[p], atol=1e-9)
        assert len(mixture) <= elements


def test_an_element_without_a_phase_is_refused():
    with pytest.raises(ValueError, match="no phase of its own"):
        convex_hull(np.array([[1, 0], [0.5, 0.5]]), np.zeros(2))


def test_distances_are_those_of_pymatgen():
    """From PhaseDiagram.get_e_above_hull of pymatgen 2026.10.24, with Li, Fe and O as the elements."""
    _, parts, energy = random_phases(3, 14, 7)
    expected = [
        0.0, 0.0, 0.0, 0.0, 0.602663423, 0.2586341729, 1.0235719031, 0.6093250751, 0.4844827486, 0.3160786744,
        0.1956894664, 0.0, 0.1295541328, 0.7291101051, 0.134981626, 0.2886127819, 0.0,
    ]  # fmt: skip
    np.testing.assert_allclose(convex_hull(parts, energy).above, expected, atol=1e-8)


@pytest.mark.parametrize(("elements", "seed"), [(1, 4), (2, 0), (3, 1), (4, 2), (5, 3)])
def test_planes_of_the_hull_give_its_heights(elements, seed):
    _, parts, energy = random_phases(elements, 40, seed)
    height = (parts @ chemical_potentials(parts, energy).T).max(1)
    np.testing.assert_allclose(energy - height, convex_hull(parts, energy).above, atol=1e-8)


def test_planes_where_the_elements_are_all():
    parts = np.array([[1, 0], [0, 1], [0.5, 0.5]])
    np.testing.assert_allclose(chemical_potentials(parts, np.array([-1.0, -2.0, -1.5])), [[-1, -2]])
    with pytest.raises(ValueError, match="no phase of its own"):
        chemical_potentials(parts[1:], np.zeros(2))
