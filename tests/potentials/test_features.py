"""Features of atoms: how each architecture sees surroundings."""

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter
from test_every_architecture import SMALL

from rutile.active.look import structure_features
from rutile.graph.graph import build_graph
from rutile.graph.neighbors import find_edges
from rutile.potentials.catalogue import make
from rutile.potentials.modes import in_mode
from rutile.potentials.settings import PotentialSettings
from rutile.structures.structures import concatenate
from rutile.testing.strategies import random_crystal, random_rotation

OXIDE = (8, 22)


def made(name):
    """A potential with random weights."""
    return make(TypeAdapter(PotentialSettings).validate_python({"name": name, **SMALL[name]}), OXIDE, 0)


def graph_of(structures, cutoff):
    return build_graph(structures, find_edges(structures, cutoff))


@pytest.mark.parametrize("name", sorted(SMALL))
def test_features_see_what_the_energy_sees(name):
    """The same after a rotation, in any order of atoms and in any batch; others for other surroundings."""
    potential = made(name)
    one, other = random_crystal(1), random_crystal(2)
    potential.learn_statistics([graph_of(concatenate([one, other]), potential.cutoff)])
    both = structure_features(potential, graph_of(concatenate([one, other]), potential.cutoff))
    assert both.shape[0] == 2
    alone = structure_features(potential, graph_of(one, potential.cutoff))
    np.testing.assert_allclose(both[:1], alone, rtol=1e-9, atol=1e-9)
    turn = random_rotation(3)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    moved = one.replace(numbers=one.numbers[order], positions=one.positions[order] @ turn.T, cell=one.cell @ turn.T)
    np.testing.assert_allclose(
        structure_features(potential, graph_of(moved, potential.cutoff)), alone, rtol=1e-8, atol=1e-8
    )
    assert np.abs(both[0] - both[1]).max() > 1e-3


def test_one_row_for_each_atom_and_no_gradient():
    potential = made("anatase")
    graph = graph_of(random_crystal(1), potential.cutoff)
    features = potential.features(graph)
    assert features.shape == (6, potential.hidden.weight.shape[0])
    assert not features.requires_grad
    assert torch.equal(in_mode(potential).features(graph), features)
    assert not potential.hidden._forward_pre_hooks
