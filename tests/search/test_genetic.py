"""The pool keeps its rules, and searches find what is known; a search that goes on from its log is the same search."""

from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from ase.cluster import Icosahedron

from rutile.build.guards import measure
from rutile.build.recipe import Refused
from rutile.core.errors import SettingsError
from rutile.core.reporting import SilentReporter
from rutile.potentials.lennard_jones import LennardJones
from rutile.search.clusters import Clusters
from rutile.search.crystals import Crystals
from rutile.search.fingerprint import apart, fingerprint
from rutile.search.genetic import Genetic
from rutile.search.individual import Found, Relaxed
from rutile.search.log import Log
from rutile.search.population import Population
from rutile.search.settings import ClusterSearch, CrystalSearch, GeneticSettings, PoolSettings
from rutile.simulate.relax import relax
from rutile.simulate.settings import RelaxSettings
from rutile.structures.structures import Structures

SIGMA = 2.55


def found(number, energy, place):
    mark = np.zeros(8)
    mark[int(place)], mark[int(place) + 1] = 1 - place % 1, place % 1
    return Found(number, Atoms("Cu"), energy, "new", (), mark)


def test_pool_is_sorted_bounded_and_without_copies():
    pool = Population(PoolSettings(size=4, elite=1, niche=0, in_niche=9))
    for k, (energy, place) in enumerate([(3, 0), (1, 1), (2, 2), (2, 2), (5, 3), (4, 4), (0.5, 5)]):
        pool.add(found(k, energy, place))
    assert [m.energy for m in pool.members] == [0.5, 1, 2, 3]
    assert pool.since_best == 0
    assert not pool.add(found(9, 0.5001, 5))  # the same again
    assert not pool.add(found(10, 9, 6))  # worse than all
    assert pool.since_best == 2


def test_niches_are_bounded():
    pool = Population(PoolSettings(size=20, elite=1, niche=0.5, in_niche=2, same=1e-3))
    for k in range(6):
        pool.add(found(k, 1 - 0.1 * k, 0.05 * k))
    assert [round(m.energy, 3) for m in pool.members] == [0.5, 0.6]
    pool.add(found(7, 5.0, 5))
    assert len(pool.members) == 3


def test_old_ones_leave_but_for_the_best():
    pool = Population(PoolSettings(size=6, elite=2, age=3, niche=0))
    for k in range(3):
        pool.add(found(k, float(k), k))
    for k in range(3, 6):
        pool.add(found(k, 9.0, 3))
    assert {m.number for m in pool.members} >= {0, 1}
    assert 2 not in {m.number for m in pool.members}


def test_parents_are_drawn_by_energy_and_spread():
    pool = Population(PoolSettings(size=6, elite=2, niche=0))
    for k in range(6):
        pool.add(found(k, float(k), k))
    rng = np.random.default_rng(0)
    for _ in range(300):
        pair = {p.number for p in pool.parents(2, rng)}
        assert len(pair) == 2
        pool.children.update(pair)
    assert pool.children[0] > pool.children[3] > pool.children[5]
    with pytest.raises(ValueError, match="parents"):
        pool.parents(7, rng)


def relaxer(n):
    potential = LennardJones(1.0, SIGMA, 30 * SIGMA).double()
    how = RelaxSettings(fmax=0.02, max_steps=500, max_move=0.4, closest=0.3)

    def work(batch):
        done = relax(Structures.from_ase([c.atoms for c in batch]), potential, how, SilentReporter())
        each = zip(batch, done.structures.to_ase(), done.energy.tolist(), done.failure, strict=True)
        return [(c.number, Relaxed(atoms, e / n, why, 0)) for c, atoms, e, why in each]

    return work


def problem(n):
    return Clusters(f"Ar{n}", ClusterSearch(distance=SIGMA * 2 ** (1 / 6)))


@pytest.mark.slow
@pytest.mark.parametrize(("n", "energy"), [(7, -16.505384), (13, -44.326801)])
def test_known_minima(n, energy):
    """D. J. Wales and J. P. K. Doye, J. Phys. Chem. A 101, 5111 (1997), doi:10.1021/jp970984n."""
    search, work = Genetic(problem(n), GeneticSettings(), 0), relaxer(n)
    for batch in search.batches(16, 160):
        search.receive(work(batch))
    assert search.best.energy * n == pytest.approx(energy, abs=1e-3)


def states(search):
    return [(m.number, m.energy) for m in search.population.members], search.success, search.made, search.pools


@pytest.mark.slow
def test_a_search_goes_on_from_its_log(tmp_path):
    work, settings = relaxer(8), GeneticSettings(first=8, pool=PoolSettings(size=8, patience=20))
    whole = Genetic(problem(8), settings, 3)
    for group in whole.orders(4, 80):
        children = [whole.breeder(one) for one in group]
        for child in children:
            whole.settle(child)
        whole.receive(work(children))
    assert whole.pools > 1

    path = tmp_path / "log.jsonl"
    for stop in (20, 44, 80):
        search = Genetic(problem(8), settings, 3)
        log = Log(path, {"seed": 3})
        log.replay(search)
        known = search.made
        for group in search.orders(4, stop):
            log.made([one for one in group if one.number >= known])
            children = {one.number: search.breeder(one) for one in group}  # by a worker, with parents from the log
            results = [(children[number], relaxed) for number, relaxed in work(children.values())]
            if stop == 44 and search.made == 44:
                break  # killed after it was ordered, and while the next line was written
            log.done(search, results)
        with path.open("a") as file:
            file.write('{"done": {"number": 4')
    assert states(search) == states(whole)
    with pytest.raises(SettingsError, match="seed"):
        Log(path, {"seed": 4})


def test_operators_adapt_and_can_be_turned_off():
    search = Genetic(problem(13), GeneticSettings(operators={"rattle": 0, "heredity": 3}, least=0.02), 0)
    shares = search.shares()
    assert "rattle" not in shares
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["heredity"] > 2 * shares["twist"]
    for _ in range(40):
        search._learn("heredity", entered=False)
        search._learn("twist", entered=True)
    assert search.shares()["twist"] > 2 * search.shares()["heredity"] > 0.02
    with pytest.raises(SettingsError, match="rattel"):
        Genetic(problem(13), GeneticSettings(operators={"rattel": 1}), 0)


def test_an_operator_that_never_succeeds_ends_no_search():
    """However often it is drawn first: others are drawn with it."""
    search = Genetic(problem(7), GeneticSettings(first=4, operators={"symmetrise": 1000}, least=0.01), 0)
    search.breeder.problem.operators = tuple(
        replace(op, make=refuse) if op.name == "symmetrise" else op for op in search.problem.operators
    )
    for group in search.batches(4, 24):
        search.receive([(c.number, Relaxed(c.atoms, float(c.number % 5), "", 0)) for c in group])
    assert search.shares()["symmetrise"] > 0.5
    made = {name: record.made for name, record in search.record.items()}
    assert made["symmetrise"] == 0
    assert sum(made.values()) == 24


def refuse(parents, breed, rng):
    raise Refused("never")


def test_a_formula_that_cannot_be_read():
    with pytest.raises(SettingsError, match="TiOO3x"):
        Clusters("TiOO3x", ClusterSearch())


def test_a_child_like_its_parent_is_not_relaxed():
    search = Genetic(problem(13), GeneticSettings(first=2, operators={"new": 0, "symmetrise": 1} | dict.fromkeys(
        ("heredity", "twist", "rattle", "relocate"), 0)), 0)  # fmt: skip
    perfect = Icosahedron("Ar", 2, latticeconstant=4.0)
    mark = fingerprint(perfect, search.problem.distance)
    for number in (-1, -2):
        search.population.add(Found(number, perfect, -number, "new", (), mark))
        mark = mark * 1.5
    search.made = 10
    child = search.child()
    assert (
        apart(fingerprint(child.atoms, search.problem.distance), fingerprint(perfect, search.problem.distance)) > 0.01
    )


@pytest.mark.slow
def test_of_several_variants_the_roomiest_is_the_child():
    problem = Crystals("TiO2", CrystalSearch(units=(2,)))
    one, several = (Genetic(problem, GeneticSettings(), 3) for _ in range(2))
    near = np.array([[measure(s.child(many).atoms).nearest for s, many in ((one, 1), (several, 6))] for _ in range(8)])
    assert (near[:, 1] >= near[:, 0]).all()  # the first variant is the child that would be made alone
    assert near[:, 1].mean() > 1.1 * near[:, 0].mean()
