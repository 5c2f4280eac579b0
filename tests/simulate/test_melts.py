"""Melts and quenches in batches: as warm as they should be, each by itself, and without those that burst."""

import numpy as np
import pytest
from ase.build import bulk

from rutile.build.forces_settings import EmtForces
from rutile.build.settings import Melt
from rutile.potentials.emt import Emt
from rutile.simulate.md.melts import melts


def copper(rattle=0.0):
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(rattle, seed=1)
    return atoms


@pytest.mark.slow
def test_snapshots_lie_along_the_quench_and_a_run_is_the_same_in_company():
    how = Melt(forces=EmtForces(), time=30, quench_time=40, timestep=2, snapshots=4, quench_temperature=300)
    first, second = melts([copper(), copper(0.1)], how, Emt(), [1500.0, 900.0], 7)
    assert [one.time for one in first] == [40, 50, 60, 70]
    assert [one.thermostat for one in first] == pytest.approx([1200, 900, 600, 300])
    assert [one.thermostat for one in second] == pytest.approx([750, 600, 450, 300])
    (alone,) = melts([copper()], how, Emt(), [1500.0], 7)
    for one, other in zip(first, alone, strict=True):
        np.testing.assert_allclose(one.atoms.positions, other.atoms.positions, atol=1e-10)
    assert not np.allclose(first[0].atoms.positions, first[3].atoms.positions, atol=0.05)


def test_without_a_quench_snapshots_come_from_the_melt():
    how = Melt(forces=EmtForces(), time=20, quench_time=0, timestep=2, snapshots=2)
    (path,) = melts([copper()], how, Emt(), [1500.0], 7)
    assert [(one.time, one.thermostat) for one in path] == [(10, 1500), (20, 1500)]


def test_a_melt_that_bursts_is_left_out_and_the_others_go_on():
    squeezed = copper()
    squeezed.positions[1] = squeezed.positions[0] + [0.0, 0.0, 0.3]
    how = Melt(forces=EmtForces(), time=10, quench_time=10, timestep=2, snapshots=2)
    burst, sound = melts([squeezed, copper()], how, Emt(), [1500.0, 1500.0], 7)
    assert burst is None
    assert len(sound) == 2
