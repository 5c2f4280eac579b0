"""New clusters from known packings: how these lie, and that hard minima are pieces of them."""

import numpy as np
import pytest
from scipy.spatial import cKDTree

from rutile.core.reporting import SilentReporter
from rutile.potentials.lennard_jones import LennardJones
from rutile.search import clusters
from rutile.search.clusters import Clusters
from rutile.search.motifs import STACKINGS, motif, stacked
from rutile.search.operators.relocate import neighbours
from rutile.search.point_groups import point_group_of
from rutile.search.settings import ClusterSearch
from rutile.simulate.relax import relax
from rutile.simulate.settings import RelaxSettings
from rutile.structures.structures import Structures

SIGMA = 2.55
"""Of Lennard-Jones pairs (Angstrom); epsilon is 1 eV."""


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize("kind", STACKINGS)
def test_every_inner_site_of_stacked_layers_has_twelve_neighbours_at_one_distance(kind):
    sites = stacked(kind, 3.0, rng())
    inner = sites[np.linalg.norm(sites, axis=1) < 3.0]
    away = np.sort(cKDTree(sites).query(inner, k=13)[0], axis=1)[:, 1:]
    assert np.allclose(away, 1.0)


def bridges(kind):
    """Heights of the middles of pairs that lie straight above each other across a layer, within 2.5 of the origin."""
    sites = stacked(kind, 3.0, rng())
    sites = sites[np.linalg.norm(sites, axis=1) < 2.5]
    pairs = cKDTree(sites).query_pairs(1.7, output_type="ndarray")
    middle, along = sites[pairs].mean(1)[:, 2], sites[pairs[:, 1]] - sites[pairs[:, 0]]
    return set(np.abs(middle[np.linalg.norm(along, axis=1) > 1.5]).round(3))


def test_stackings_are_what_they_are_called():
    """Only across a layer with mirror symmetry do atoms lie above each other at 1.633."""
    assert bridges("fcc") == set()
    assert bridges("twin") == {0.0}
    assert bridges("hcp") == {0.0, 0.816}


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 2, 3, 7, 38, 150])
def test_pieces_have_the_atoms_that_were_asked_for_and_room(count):
    for seed in range(12):
        x = motif(count, rng(seed))
        assert x.shape == (count, 3)
        assert count == 1 or cKDTree(x).query(x, k=2)[0][:, 1].min() > 0.79


def test_surfaces_are_closed():
    """A random ball of as many sites of a packing touches less."""
    loose = stacked("fcc", 3.0, rng())
    loose = loose[np.argsort(np.linalg.norm(loose - [0.1, 0.2, 0.3], axis=1))[:75]]
    touching = [neighbours(motif(75, rng(seed)), 1.25).sum() for seed in range(10)]
    assert np.median(touching) > neighbours(loose, 1.25).sum()


@pytest.mark.parametrize(("formula", "part"), [("Ar38", 0.5), ("Cu3Au", 0.5), ("TiO2", 0.0), ("Si7", 0.0)])
def test_metals_and_noble_gases_take_some(formula, part):
    assert Clusters(formula, ClusterSearch()).motifs == part
    assert Clusters(formula, ClusterSearch(motifs=0.5)).motifs == 0.5


def test_none_come_among_the_first_unless_they_are_asked_for():
    def pieces(settings, before):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(clusters, "motif", lambda count, rng: np.full((count, 3), 7.0))
            problem = Clusters("Ar38", settings)
            made = [problem.create(rng(seed), before) for seed in range(200)]
        return sum(bool((atoms.positions == 7.0 * problem.distance).all()) for atoms in made)

    asked = ClusterSearch(symmetric=0.0)
    assert pieces(asked, 99) == 0
    assert 60 <= pieces(asked, 100) <= 140
    assert pieces(ClusterSearch(symmetric=0.0, motifs=1.0), 0) == 200


def test_elements_are_spread_over_the_sites_in_the_order_of_the_problem():
    problem = Clusters("Cu6Au7", ClusterSearch(motifs=1.0))
    made = [problem.create(rng(seed), 0) for seed in range(4)]
    assert all((atoms.numbers == problem.numbers).all() for atoms in made)
    assert len({round(atoms.positions[:6].std(), 6) for atoms in made}) == 4


@pytest.mark.slow
def test_the_decahedron_of_75_atoms_is_such_a_piece():
    """The known minimum, -397.492331, which hides behind icosahedra: www-wales.ch.cam.ac.uk/CCD.html."""
    problem = Clusters("Ar75", ClusterSearch(distance=SIGMA * 2 ** (1 / 6), motifs=1.0))
    draw = rng(1)
    pieces = Structures.from_ase([problem.create(draw, 0) for _ in range(40)])
    how = RelaxSettings(fmax=0.02, max_steps=1000, max_move=0.4, closest=0.3)
    done = relax(pieces, LennardJones(1.0, SIGMA, 30 * SIGMA).double(), how, SilentReporter())
    assert float(done.energy.min()) == pytest.approx(-397.492331, abs=1e-3)
    assert point_group_of(done.structures.to_ase()[int(done.energy.argmin())]) == "D5h"
