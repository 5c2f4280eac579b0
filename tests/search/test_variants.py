"""Variants of a child, of which the lowest is relaxed."""

from __future__ import annotations

from pathlib import Path

import pytest
from ase.build import bulk

from rutile.search.genetic import Genetic
from rutile.search.individual import Candidate, Order, Way
from rutile.search.mixtures import Mixtures
from rutile.search.relaxing import Raiser, Relaxer
from rutile.search.settings import CrystalSearch, GeneticSettings
from rutile.simulate.settings import RelaxSettings

pytestmark = pytest.mark.slow

HOW = RelaxSettings(fmax=0.05, smax=0.5, max_steps=100, max_move=0.4, cell="full", pressure=2.0)
RELAXER = Relaxer(Path("emt"), "float64", "cpu", None, HOW)


@pytest.fixture(scope="module")
def search():
    """With a pool."""
    search = Genetic(Mixtures("Cu-Au", CrystalSearch(atoms=(2, 6))), GeneticSettings(first=6), 3)
    for group in search.batches(6, 12):
        search.receive(RELAXER(group))
    return search


def orders(search):
    """One for each operator."""
    found = {m.number: m.atoms for m in search.population.members}
    out = []
    for k, name in enumerate(["new", *(op.name for op in search.problem.operators if not op.atom_energies)]):
        wanted = 0 if name == "new" else search.operators[name].parents
        out.append(Order(100 + k, (Way(name, tuple(found)[:wanted]), Way("new")), found))
    return out


def test_variants_are_of_one_composition_and_begin_with_the_child(search):
    several = 0
    for order in orders(search):
        variants = search.breeder.variants(order, 4)
        assert 1 <= len(variants) <= 4
        child = search.breeder(order)
        assert variants[0].atoms == child.atoms
        assert {(v.operator, v.parents) for v in variants} == {(child.operator, child.parents)}
        assert len({search.ranking.kind(v.atoms) for v in variants}) == 1
        several += len(variants) > 1
    assert several > 8


def test_the_variant_with_the_lowest_enthalpy_is_relaxed(search):
    wanted = orders(search)
    chosen = [child for child, _ in Raiser(search.breeder, RELAXER, 4)(wanted)]
    lowered = 0
    for order, child in zip(wanted, chosen, strict=True):
        enthalpies = [energy_of(v) for v in search.breeder.variants(order, 4)]
        assert energy_of(child) == pytest.approx(min(enthalpies), abs=1e-6)
        lowered += min(enthalpies) < enthalpies[0] - 1e-4
    assert lowered >= 3


def energy_of(child: Candidate) -> float:
    """Enthalpy by ASE's own EMT (eV/atom)."""
    from ase.calculators.emt import EMT
    from ase.units import GPa

    atoms = child.atoms.copy()
    atoms.calc = EMT(fixed_cutoff=True)
    return float((atoms.get_potential_energy() + 2.0 * GPa * atoms.cell.volume) / len(atoms))


def test_an_order_that_cannot_be_filled_becomes_a_new_structure(search):
    order = Order(200, (Way("permutation", (0,)),), {0: bulk("Cu")})
    child = search.breeder(order)
    assert (child.operator, child.parents) == ("new", ())


def test_what_is_made_already_is_relaxed_as_it_is(search):
    given = search.breeder(orders(search)[0])
    ((child, _),) = Raiser(search.breeder, RELAXER, 4)([given])
    assert child is given
