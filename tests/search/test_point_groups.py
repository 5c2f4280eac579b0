"""Orders of the groups, atoms on their orbits, and groups that are recognised."""

import numpy as np
import pytest
from ase import Atoms
from ase.cluster import Decahedron, Icosahedron, Octahedron
from scipy.spatial.transform import Rotation

from rutile.build.recipe import Refused
from rutile.search.point_groups import NAMES, orbits, point_group, point_group_of, random_point_group

ORDERS = {
    "C2": 2, "C5": 5, "Cs": 2, "Ci": 2, "S4": 4, "S6": 6, "C3v": 6, "C2h": 4, "D3": 6, "D2h": 8, "D3h": 12, "D5h": 20,
    "D2d": 8, "D3d": 12, "D5d": 20, "T": 12, "Td": 24, "Th": 24, "O": 24, "Oh": 48, "I": 60, "Ih": 120,
}  # fmt: skip


@pytest.mark.parametrize(("name", "order"), ORDERS.items())
def test_order(name, order):
    group = point_group(name)
    assert len(group) == order
    np.testing.assert_allclose(group @ group.transpose(0, 2, 1), np.tile(np.eye(3), (order, 1, 1)), atol=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_orbits_have_the_symmetry(name):
    rng, made = np.random.default_rng(1), 0
    for _ in range(10):
        try:
            x = 6 * orbits(point_group(name), 30, rng)
        except Refused:
            continue
        made += 1
        for w in point_group(name):
            apart = np.linalg.norm((x @ w.T)[:, None] - x, axis=2)
            assert apart.min(1).max() < 1e-6
        assert len(x) == 30
    assert made


@pytest.mark.parametrize(
    ("atoms", "name"),
    [
        (Icosahedron("Cu", 2), "Ih"),
        (Icosahedron("Cu", 3), "Ih"),
        (Octahedron("Cu", 4, cutoff=1), "Oh"),
        (Decahedron("Cu", 2, 2, 1), "D5h"),
        (Atoms("OH2", [[0, 0, 0], [0.76, 0.59, 0], [-0.76, 0.59, 0]]), "C2v"),
        (
            Atoms("CuAu3", [[0, 0, 0.4], *(2 * np.array([[1, 0, 0], [-0.5, 0.75**0.5, 0], [-0.5, -(0.75**0.5), 0]]))]),
            "C3v",
        ),
    ],
)
def test_known_clusters(atoms, name):
    turned = atoms.copy()
    turned.positions = np.array([1, 2, 3]) + Rotation.from_rotvec([0.3, 1.1, -0.4]).apply(atoms.positions)
    turned.rattle(0.003, seed=0)
    assert point_group_of(turned) == name
    turned.positions[0] += 0.4
    assert point_group_of(turned) != name


def test_without_symmetry_and_in_line():
    rng = np.random.default_rng(3)
    assert point_group_of(Atoms("Cu7", positions=rng.normal(scale=2, size=(7, 3)))) == "C1"
    assert point_group_of(Atoms("Cu3", positions=[[0, 0, 0], [2, 0, 0], [4.5, 0, 0]])) == ""


def test_higher_groups_are_drawn_more_often():
    """By the logarithm of their order: Oh (48 operations) 5.6 times as often as Cs (2)."""
    rng = np.random.default_rng(3)
    drawn = np.array([len(random_point_group(rng)) for _ in range(6000)])
    twos, whole = sum(ORDERS.get(n) == 2 for n in NAMES), sum(np.log2(len(point_group(n))) for n in NAMES)
    assert (drawn == 2).mean() == pytest.approx(twos / whole, abs=0.01)
    assert (drawn == 48).mean() == pytest.approx(np.log2(48) / whole, abs=0.015)
