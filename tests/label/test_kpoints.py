"""k-points by density, vacuum, and boxes."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111, molecule

from rutile.label.kpoints import boxed, gap, kpoints


def test_density_of_points():
    assert kpoints(bulk("Si"), 10.0) == (4, 4, 4)
    cubic = Atoms("Cu", cell=[4.0, 5.0, 6.0], pbc=True)
    assert kpoints(cubic, 20.0) == (5, 4, 4)  # 20 / 5 is 4, not 5
    assert kpoints(cubic * (2, 1, 1), 20.0) == (3, 4, 4)
    skewed = Atoms("Cu", cell=[[4.0, 0, 0], [4.0, 5.0, 0], [0, 0, 10.0]], pbc=True)
    assert kpoints(skewed, 20.0)[1] == 4  # planes, not vectors, count
    given = cubic.copy()
    given.info["kpoints"] = np.array([2, 2, 3])
    assert kpoints(given, 20.0) == (2, 2, 3)


def test_one_point_along_vacuum_and_where_not_periodic():
    slab = fcc111("Cu", (1, 1, 4), vacuum=8.0)
    assert kpoints(slab, 20.0)[2] == 1
    slab.pbc = True
    assert kpoints(slab, 20.0)[2] == 1
    assert kpoints(slab, 20.0)[0] > 5
    thin = fcc111("Cu", (1, 1, 4), vacuum=2.0)
    thin.pbc = True
    assert kpoints(thin, 20.0)[2] > 1
    assert kpoints(molecule("H2O"), 20.0) == (1, 1, 1)
    assert gap(Atoms("Cu2", positions=[(0, 0, 0), (0, 0, 3)], cell=[5, 5, 12], pbc=True), 2) == pytest.approx(9.0)


def test_boxes():
    water = boxed(molecule("H2O"), 4.0)
    assert water.pbc.all()
    assert (water.positions.min(axis=0) > 3.99).all()
    assert np.allclose(np.diag(water.cell.array), np.ptp(molecule("H2O").positions, axis=0) + 8.0)
    distances = water.get_all_distances()
    assert np.allclose(distances, molecule("H2O").get_all_distances())
    slab = fcc111("Cu", (2, 2, 3), vacuum=3.0)
    box = boxed(slab, 6.0)
    assert np.allclose(box.cell.array[:2], slab.cell.array[:2])
    assert box.cell.array[2, 2] == pytest.approx(np.ptp(slab.positions[:, 2]) + 12.0)
    crystal = bulk("Si")
    assert np.allclose(boxed(crystal, 6.0).positions, crystal.positions)
