"""Sums over moving atoms and the random numbers of thermostats."""

import numpy as np
import pytest
import torch

from rutile.simulate.md import motion
from rutile.simulate.md.motion import kinetic_sums, largest_square
from rutile.simulate.md.noise import BLOCK, chi_square
from rutile.structures.structures import Structures


@pytest.fixture(params=["kernel", "plain"], autouse=True)
def _with_and_without_kernel(request, monkeypatch):
    if request.param == "plain":
        monkeypatch.setattr(motion, "function", lambda *_: None)


def batch():
    system = torch.tensor([0, 0, 2, 2, 2])  # system 1 is empty
    numbers, nothing = torch.ones(5, dtype=torch.long), torch.zeros(3, 3, 3).double()
    return Structures(numbers, torch.zeros(5, 3).double(), nothing, torch.zeros(3, 3, dtype=torch.bool), system)


def test_kinetic_energies_of_a_batch():
    v, m = torch.arange(15.0).double().reshape(5, 3), torch.tensor([[2.0], [4.0], [1.0], [1.0], [2.0]]).double()
    squares = (v.numpy() ** 2).sum(1)
    expected = [0.5 * (2 * squares[0] + 4 * squares[1]), 0.0, 0.5 * (squares[2] + squares[3] + 2 * squares[4])]
    assert kinetic_sums(v, m, batch()).tolist() == pytest.approx(expected)
    assert kinetic_sums(v.float(), m.float(), batch()).tolist() == pytest.approx(expected)
    apart = torch.stack([v, v], 2)[:, :, 0]
    assert not apart.is_contiguous()
    assert kinetic_sums(apart, m, batch()).tolist() == pytest.approx(expected)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_the_fastest_atom_and_velocities_that_are_no_numbers(bad):
    v = torch.tensor([[1.0, 2.0, 2.0], [-3.0, 0.0, 4.0], [1.0, 1.0, 1.0]]).double()
    assert largest_square(v) == pytest.approx(25.0)
    assert largest_square(v[:0]) == 0.0
    for atom in range(3):
        broken = v.clone()
        broken[atom, 1] = bad
        assert not np.isfinite(largest_square(broken))


def test_numbers_of_a_thermostat_have_their_distribution_and_follow_from_the_step():
    steps = 40 * BLOCK
    normal, others = np.array([chi_square(3, 1, 9.0, k) for k in range(steps)]).T
    assert abs(normal.mean()) < 4 / np.sqrt(steps)
    assert abs(normal.var() - 1) < 4 * np.sqrt(2 / steps)
    assert abs(others.mean() - 8) < 4 * np.sqrt(16 / steps)  # chi-squared: mean 8, variance 16
    assert abs(others.var() - 16) < 4 * np.sqrt((1152 - 16**2) / steps)  # its fourth central moment is 1152
    assert abs(np.corrcoef(normal, others)[0, 1]) < 4 / np.sqrt(steps)
    assert len(set(normal)) == steps
    assert chi_square(3, 1, 9.0, 77) == (normal[77], others[77])
    assert chi_square(3, 2, 9.0, 77)[0] != normal[77]
    assert chi_square(4, 1, 9.0, 77)[0] != normal[77]
    assert chi_square(3, 1, 1.0, 5)[1] == 0.0
