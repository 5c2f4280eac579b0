"""Hops between sites of crystals whose neighbours are known, and routes through them."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from rutile.core.errors import GeometryError
from rutile.simulate.hops import (
    Net,
    additional_sites,
    distinct_hops,
    end_points,
    leads_forward,
    reaching,
    vacancy_sites,
)
from rutile.structures.structures import Structures


def one(atoms):
    return Structures.from_ase([atoms])


@pytest.mark.parametrize(
    ("atoms", "longest", "shells"),
    [
        (bulk("Cu"), 3.7, [(2.553, 6), (3.61, 3)]),  # 12 and 6 neighbours, each hop seen from both ends
        (bulk("Cu", cubic=True), 3.7, [(2.553, 24), (3.61, 12)]),
        (bulk("Fe"), 2.9, [(2.485, 4), (2.87, 3)]),
        (bulk("Mg"), 3.3, [(3.198, 6), (3.21, 6)]),  # between basal planes and within them
        (bulk("Si"), 3.9, [(2.351, 4), (3.84, 12)]),
    ],
)
def test_neighbours_of_known_lattices(atoms, longest, shells):
    hops = distinct_hops(vacancy_sites(one(atoms), int(atoms.numbers[0])), longest)
    assert [(round(h.length, 3), len(h.members)) for h in hops] == [
        (pytest.approx(length, abs=1e-3), count) for length, count in shells
    ]


def test_a_hop_over_another_site_is_two_hops():
    sites = vacancy_sites(one(bulk("Po", "sc", a=3.0)), 84)
    hops = distinct_hops(sites, 6.1)
    lengths = [h.length / 3.0 for h in hops]
    assert lengths == pytest.approx([1, 2**0.5, 3**0.5], abs=1e-6)  # not 2; and not [2 1 0], 6.7 Å


def test_tetrahedral_and_octahedral_holes():
    crystal = one(bulk("Pd", cubic=True))
    octahedral = additional_sites(crystal, 1, [(0.5, 0.5, 0.5)], 1)
    assert len(octahedral.places) == 4
    assert len(set(octahedral.kind.tolist())) == 1
    widest = additional_sites(crystal, 1, [], 1)
    assert len(widest.places) == 4
    both = additional_sites(crystal, 1, [(0.5, 0.5, 0.5), (0.25, 0.25, 0.25)], 1)
    assert len(both.places) == 12
    a = crystal.cell[0, 0, 0].item()
    (hop,) = distinct_hops(both, 0.45 * a)  # from the middle of the cube to its eight small cubes
    assert hop.length == pytest.approx(3**0.5 / 4 * a)
    assert len(hop.members) == 32


@pytest.mark.slow
def test_routes_are_made_of_hops():
    sites = vacancy_sites(one(bulk("Cu", cubic=True)), 29)
    assert reaching(sites, [(1, 0, 0)], 1.5) == pytest.approx(2.553, abs=1e-3)
    assert reaching(sites, [(1, 0, 0)], 1.2) == pytest.approx(3.61)  # the detour over the face is too long
    hops = distinct_hops(sites, 3.7)
    net = Net(sites, hops)
    straight = net.route((1, 0, 0), 1.5 * 3.61)
    assert straight.hops == (1,)
    assert net.lowest((1, 0, 0), 1.5 * 3.61, [0.5, 2.0]).hops == (0, 0)  # two low saddles rather than a high one
    assert net.lowest((1, 0, 0), 1.5 * 3.61, [0.5, None]).length == pytest.approx(2 * 2.5527, abs=1e-3)
    assert net.lowest((1, 0, 0), 1.5 * 3.61, [None, None]) is None
    way = sum(sites.way(edge) for edge in net.route((1, 1, 2), 30.0).edges)
    assert way == pytest.approx(3.61 * np.array([1, 1, 2]))
    assert net.used((1, 0, 0), 1.1 * 3.61) == {1}


def test_a_layered_crystal_has_no_way_across():
    atoms = Atoms("LiO", scaled_positions=[(0, 0, 0), (0.5, 0.5, 0.5)], cell=[3, 3, 12], pbc=True)
    sites = vacancy_sites(one(atoms), 3)
    assert reaching(sites, [(1, 0, 0), (1, 1, 0)], 1.7) == pytest.approx(3.0)
    with pytest.raises(GeometryError, match=r"do not lead along \[0, 0, 1\]"):
        reaching(sites, [(0, 0, 1)], 1.7)


def test_ends_have_the_same_atoms_in_the_same_order():
    atoms = bulk("Cu", cubic=True)
    sites = vacancy_sites(one(atoms), 29)
    for hop in distinct_hops(sites, 3.7):
        for edge in hop.members[:5]:
            before, after, mover = end_points(sites, edge, (3, 3, 3))
            assert before.n_atoms == after.n_atoms == 107
            moved = (after.positions - before.positions).norm(dim=1)
            assert moved.argmax() == mover
            assert moved.max().item() == pytest.approx(hop.length)
            assert (moved > 1e-9).sum() == 1
            # both are the crystal without one atom: no two atoms come nearer than in the crystal
            for end in (before, after):
                (image,) = end.to_ase()
                distances = image.get_all_distances(mic=True)
                assert distances[distances > 0].min() == pytest.approx(2.5527, abs=1e-3)
    with pytest.raises(GeometryError, match="larger supercell"):
        end_points(sites, hop.members[0], (1, 1, 1))


def test_directions_of_hops_between_sites_that_differ():
    atoms = Atoms("Li2O", scaled_positions=[(0, 0, 0), (0.4, 0, 0), (0.2, 0.5, 0.5)], cell=[6, 5, 5], pbc=True)
    atoms += Atoms("F", scaled_positions=[(0.05, 0.4, 0.45)], cell=atoms.cell)
    sites = vacancy_sites(one(atoms), 3)
    hop = distinct_hops(sites, 2.5)[0]
    i, j, cell = hop.members[0]
    assert leads_forward(sites, (i, j, cell), (i, j, cell))
    assert not leads_forward(sites, (i, j, cell), (j, i, tuple(-c for c in cell)))


def test_a_species_that_is_not_there_is_said():
    with pytest.raises(GeometryError, match="no atom of the species"):
        vacancy_sites(one(bulk("Cu")), 3)
