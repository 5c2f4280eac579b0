"""Jumps: found where they are, as large as they are, and none where there are none."""

import pytest
import torch

from rutile.core.reporting import SilentReporter
from rutile.potentials.evaluate import evaluate
from rutile.potentials.lennard_jones import LennardJones
from rutile.simulate.continuity import CUTOFF, GAPS, NEAREST, RANK, WEIGHTS, find_events, measure_jumps, rattled_block
from rutile.structures.structures import concatenate
from rutile.testing.strategies import random_structure


class Stepped(torch.nn.Module):
    """Lennard-Jones and, for each atom, its third nearest distance (a kink), and 0.25 eV for each neighbour."""

    elements = ()
    cutoff = 4.0

    def __init__(self, step=0.25, slope=0.0):
        super().__init__()
        self.step, self.slope = step, slope
        self.smooth_part = LennardJones(sigma=1.5, epsilon=0.1, cutoff=self.cutoff)

    def forward(self, graph):
        r = graph.vectors.norm(dim=1)
        energy = self.smooth_part(graph)
        energy = energy + self.step * torch.bincount(graph.i, minlength=graph.n_atoms).to(r.dtype)
        third = [r[graph.i == a].sort().values[2:3] for a in range(graph.n_atoms)]
        return energy + self.slope * torch.stack([x.sum() for x in third])


def jumps(potential, structure, most=6):
    events = find_events(structure, potential.cutoff, most)
    return measure_jumps(structure, events, potential, SilentReporter())


def crystal(seed=0):
    return random_structure(seed, [8, 22] * 6)


def test_a_smooth_potential_does_not_jump():
    found = jumps(LennardJones(sigma=1.5, epsilon=0.1, cutoff=4.0), crystal())
    assert {jump.event.kind for jump in found} == {CUTOFF, NEAREST, RANK}
    assert max(jump.energy for jump in found) < 1e-9
    assert max(jump.force for jump in found) < 1e-7


@pytest.mark.slow
def test_a_step_of_the_energy_is_measured_exactly():
    """One pair less: each of the two atoms loses a neighbour."""
    found = [jump for jump in jumps(Stepped(), crystal()) if jump.event.kind == CUTOFF]
    assert len(found) == 6
    assert [jump.energy for jump in found] == pytest.approx([0.5] * 6, abs=1e-8)
    assert max(jump.force for jump in found) < 1e-6


@pytest.mark.slow
def test_a_kink_is_a_jump_of_the_force_alone():
    """The third distance passes from one neighbour to the other: 0.5 on each, up to twice as much on the centre."""
    found = [jump for jump in jumps(Stepped(0.0, 0.5), crystal(), 12) if jump.event.kind == NEAREST]
    assert max(jump.energy for jump in found) < 1e-9
    kinks = [jump.force for jump in found if jump.force > 1e-6]  # the others swap the first and the second
    assert 3 <= len(kinks) < len(found)
    assert all(0.5 - 1e-6 < force < 1.0 for force in kinks)


@pytest.mark.slow
def test_events_lead_to_their_borders():
    structure = crystal()
    for event in find_events(structure, 4.0, 10):
        moved = structure.positions.clone()
        moved[event.moved] += (event.border - event.start) * torch.tensor(event.way).double()
        vectors = moved[event.moved] - moved[event.centre]
        shift = vectors - event.border * torch.tensor(event.way).double()  # a lattice vector
        steps = torch.linalg.solve(structure.cell[0].mT, shift)
        torch.testing.assert_close(steps, steps.round())
        assert event.centre != event.moved
        assert event.border == 4.0 if event.kind == CUTOFF else event.border < event.start < 4.0


def test_the_weights_extrapolate_cubics():
    for power, at_zero in ((0, 1.0), (1, 0.0), (2, 0.0), (3, 0.0)):
        assert sum(w * g**power for w, g in zip(WEIGHTS, GAPS, strict=True)) == pytest.approx(at_zero, abs=1e-12)


def test_a_block_has_all_elements_and_reaches_the_cutoff():
    block = rattled_block((1, 8, 22), 2.0, 6.0, torch.Generator().manual_seed(0))
    assert set(block.numbers.tolist()) == {1, 8, 22}
    distances = torch.pdist(block.positions)
    assert distances.max() > 6.0
    assert distances.min() > 1.4
    both = evaluate(LennardJones(sigma=1.5, epsilon=0.1, cutoff=6.0), concatenate([block, block])).energy
    assert both[0] == both[1]
