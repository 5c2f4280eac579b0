"""A search that made very many structures remembers few bytes of each, and reads back what it is asked for."""

import tracemalloc

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from rutile.build.recipe import Refused
from rutile.core.errors import FileError
from rutile.search import breeding
from rutile.search.adaptive import Adaptive
from rutile.search.adaptive_driver import Serial, drive
from rutile.search.adaptive_items import Answer, Scored, Trained
from rutile.search.adaptive_log import AdaptiveLog
from rutile.search.adaptive_settings import AdaptiveSettings
from rutile.search.crystals import Crystals
from rutile.search.genetic import Genetic
from rutile.search.individual import Relaxed, to_json
from rutile.search.log import Log
from rutile.search.operators.operator import Operator
from rutile.search.past import Past
from rutile.search.results import distinct, lineage
from rutile.search.settings import CrystalSearch, GeneticSettings, PoolSettings

EACH = 100
"""Bytes that a search may grow by for each structure: it has some 40 of its own, and arrays grow by an eighth ahead."""


def moved(parents, breed, rng):
    child = parents[0].copy()
    child.positions[1] += rng.normal(0, 0.3, 3)
    return child


class Pairs(Crystals):
    """Two atoms in a box: nothing costs anything."""

    def __init__(self):
        super().__init__("Cu", CrystalSearch(units=(2,)))
        self.operators = (Operator("move", 1, moved), Operator("other", 1, moved))

    def create(self, rng, before):
        if rng.random() < 0.1:
            raise Refused("bad luck")
        return Atoms("Cu2", positions=[[0, 0, 0], rng.uniform(1, 4, 3)], cell=[5.0] * 3, pbc=True)

    def tidied(self, atoms):
        return atoms


@pytest.fixture
def cheap(monkeypatch):
    """Fingerprints that cost nothing."""
    monkeypatch.setattr(breeding, "fingerprint", lambda atoms, *more: atoms.positions[1] ** 3)


def energy(atoms):
    return float(np.sin(atoms.positions[1]).sum())


def grown(work, many):
    """Bytes that each of the structures after the first ones leaves."""
    tracemalloc.start()
    work(many // 2)
    before = tracemalloc.get_traced_memory()[0]
    work(many)
    after = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return (after - before) / many


@pytest.mark.long
def test_memory_of_a_search_is_flat(tmp_path, cheap):
    settings = GeneticSettings(pool=PoolSettings(age=100, patience=3000))
    search, log = Genetic(Pairs(), settings, 0), Log(tmp_path / "log", {})

    def work(many):
        for _ in range(many):
            child = search.child()
            log.made([child])
            bad = child.number % 7 == 0
            relaxed = Relaxed(child.atoms, np.nan if bad else energy(child.atoms), "broken" if bad else "", 3)
            log.done(search, [(child, relaxed)])

    assert grown(work, 5_000) < EACH
    assert len(log.past) == 7_500
    assert log.past.failed == len(range(0, 7_500, 7))
    search, again = Genetic(Pairs(), settings, 0), Log(tmp_path / "log", {})
    again.replay(search)
    np.testing.assert_array_equal(again.past.energies, log.past.energies)
    low = distinct(again.past, again.past.atoms, settings.pool, search.problem.distance, 0.5, 20)
    assert low[0].found.energy == pytest.approx(search.best.energy, abs=0) == np.nanmin(log.past.energies)
    assert all(energy(d.found.atoms) == d.found.energy for d in low)


@pytest.mark.slow
def test_memory_of_an_adaptive_search_grows_with_labels_alone(tmp_path, cheap, monkeypatch):
    monkeypatch.setattr("rutile.search.adaptive.fingerprint", lambda atoms, *more: atoms.positions[1] ** 3)
    how = {"begin": 4, "batch": 8, "rest": 10**6, "final": 0, "ask": {"wait": 10**6}, "stop": {"labels": 5}}
    search = Adaptive(Pairs(), AdaptiveSettings.model_validate(how), GeneticSettings(), 0)

    def relaxed(group):
        return [(c.number, Scored(Relaxed(c.atoms, energy(c.atoms), "", 1), 9.0)) for c in group.candidates]

    def labelled(question):
        return Answer(question.atoms, energy(question.atoms), 0.0, "")

    work = {"search": relaxed, "label": labelled, "train": lambda lesson: Trained("v", 4)}
    log = AdaptiveLog(tmp_path / "log", {})

    def go_on(many):
        stop = search.settings.stop
        most = stop.model_copy(update={"relaxations": search.relaxed + many})
        search.settings = search.settings.model_copy(update={"stop": most})
        search.end()
        drive(search, Serial(work), log)
        search._forget()

    assert grown(go_on, 3000) < EACH
    assert len(search.past) > 4_000


def test_what_was_added_comes_back(tmp_path):
    images = [bulk("Cu"), bulk("NaCl", "rocksalt", a=5.6), bulk("Au")]
    past = Past(images.__getitem__)
    past.add(0, "new", (), -1.0, "", images[0].numbers, 0)
    past.add(2, "heredity", (0, 1), 0.5, "broken", images[2].numbers, 2)
    past.add(1, "rattle", (0,), -2.0, "", images[1].numbers[::-1], 1)
    assert [d.number for d in past] == [0, 2, 1]  # as they came
    assert (past[1].operator, past[1].parents, past[1].energy, past[1].failure) == ("rattle", (0,), -2.0, "")
    assert past[1].numbers.tolist() == [11, 17]
    assert past[2].failure == "broken"
    assert np.isnan(past[2].energy)
    assert (len(past), past.failed) == (3, 1)
    assert 3 not in past
    assert past.atoms(1) is images[1]
    assert [d.number for d in lineage(2, past)] == [2, 1, 0]
    past.add(2, "heredity", (0, 1), -3.0, "", images[2].numbers, 2)  # relaxed once more
    assert (len(past), past.failed) == (3, 0)
    assert past[2].energy == -3.0


def test_structures_are_read_back_from_the_log(tmp_path):
    path, search = tmp_path / "log", Genetic(Pairs(), GeneticSettings(), 0)
    log = Log(path, {})
    children = [search.child() for _ in range(3)]
    log.made(children)
    log.done(search, [(c, Relaxed(c.atoms, 0.1 * c.number, "", 1)) for c in reversed(children)])
    for c in children:
        assert to_json(log.past.atoms(c.number)) == to_json(c.atoms)
    path.write_text("something else\n" * 99)
    with pytest.raises(FileError, match="was changed"):
        log.past.atoms(0)
