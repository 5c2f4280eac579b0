"""What a committee says about structures, and their features."""

import pytest
import torch

from rutile.active.disagreement import disagreement, joined
from rutile.active.look import structure_features, too_close
from rutile.graph.graph import build_graph
from rutile.graph.neighbors import find_edges
from rutile.potentials.calibration import BarScale, Calibration
from rutile.potentials.catalogue import make
from rutile.potentials.potential import Prediction
from rutile.potentials.settings import ZBLSettings
from rutile.structures.structures import concatenate
from rutile.testing.potential_contract import cluster

OXIDE = (8, 22)


def graph_of(structures, cutoff):
    return build_graph(structures, find_edges(structures, cutoff))


def said(energy, forces):
    """A member's prediction."""
    energy, forces = (torch.tensor(v, dtype=torch.float64) for v in (energy, forces))
    return Prediction(energy, forces, torch.zeros(len(energy), 3, 3), torch.zeros(len(forces)))


def test_deviations_by_hand():
    two = concatenate([cluster([8], [[0, 0, 0]]), cluster([8, 22], [[0, 0, 0], [0, 0, 2]])])
    a = said([1.0, 2.0], [[1, 0, 0], [0, 0, 0], [0, 3, 4]])
    b = said([3.0, 2.4], [[1, 0, 0], [0, 0, 1], [0, 0, 0]])
    found = disagreement([a, b], two)
    assert found.energy == pytest.approx([1.0, 0.1])
    assert found.force == pytest.approx([0.0, 2.5])
    assert found.atom.tolist() == [0, 1]
    assert found.largest == pytest.approx([1.0, 0.0])  # the members do not agree about the other: 2.5 +- 2.5
    bars = Calibration(
        coverage=0.9,
        members=2,
        energy=BarScale(scale=3, quantile=9, floor=0.2, frames=5),
        forces=BarScale(scale=2, quantile=9, floor=0.5, frames=5),
    )
    scaled = disagreement([a, b], two, bars)
    assert scaled.energy == pytest.approx([3.0, 0.6])
    assert scaled.force == pytest.approx([1.0, 5.0])
    assert joined([found, scaled]).force == pytest.approx([0.0, 2.5, 1.0, 5.0])
    with pytest.raises(ValueError, match="itself"):
        disagreement([a], two)


def test_only_as_much_of_a_force_is_believed_as_the_members_agree_about():
    one = cluster([8], [[0, 0, 0]])
    found = disagreement([said([0.0], [[0, 0, 90]]), said([0.0], [[0, 0, 110]])], one)
    assert found.largest == pytest.approx([100 - 2 * 10])
    assert not disagreement([said([0.0], [[0, 0, float("nan")]])] * 2, one).largest[0] <= 1e9


def test_a_potential_without_features_is_told():
    with pytest.raises(ValueError, match="zbl has no features"):
        structure_features(make(ZBLSettings(), OXIDE), graph_of(cluster([8], [[0, 0, 0]]), 3.0))


def test_the_nearest_pair_is_named():
    """In sums of covalent radii (O-O 1.32 Å, Ti-O 2.26 Å), not in Ångström."""
    fine = cluster([8, 22], [[0, 0, 0], [0, 0, 1.9]])
    close = cluster([8, 8, 22], [[0, 0, 0], [0, 0, 0.7], [0, 0.8, 0]])  # 0.53 and 0.35 of the sums
    graph = graph_of(concatenate([fine, close]), 5.0)
    nothing, why = too_close(graph, 0.6)
    assert nothing == ""
    assert {"O", "Ti", "0.80"} <= set(why.split())
    assert too_close(graph, 0.2) == ["", ""]
