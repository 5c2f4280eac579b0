"""Curves of two atoms: against the formula of a toy, one by one, and what they say about cores with and without ZBL."""

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.data import covalent_radii
from pydantic import TypeAdapter

from rutile.potentials.catalogue import make
from rutile.potentials.combine import Mean
from rutile.potentials.dimers import CORE, FRACTIONS, dimer_curves, worst_first
from rutile.potentials.evaluate import evaluate
from rutile.potentials.settings import BehlerSettings, PotentialSettings, SchNetSettings, SumSettings
from rutile.structures.structures import Structures

SMALL = {"cutoff": 4.0, "features": 6, "interactions": 2, "radial": 6}
BEHLER = {"name": "behler", "auto": {"cutoff": 4.0}, "hidden": [6]}


class Pair(torch.nn.Module):
    """E = exp(-r) - depth exp(-((r - centre) / width)^2) for each pair, of one element or two."""

    cutoff = 6.0

    def __init__(self, depth=0.0, centre=0.5, width=0.1, elements=(8,)):
        super().__init__()
        self.depth, self.centre, self.width, self.elements = depth, centre, width, elements

    def forward(self, graph):
        r = graph.vectors.norm(dim=1)
        pair = torch.exp(-r) - self.depth * torch.exp(-(((r - self.centre) / self.width) ** 2))
        return (3.0 * graph.numbers).double().index_add(0, graph.i, 0.5 * pair)


def schnet(zbl=True, seed=0, modes=("",), scale=10.0, elements=(1, 8, 22)):
    potential = make(SchNetSettings(**SMALL, zbl=zbl), elements, seed, modes)
    potential.set_energy_scale(scale)
    return potential


def test_energy_and_force_are_those_of_the_formula():
    (curve,) = dimer_curves(Pair())
    r = 2 * covalent_radii[8] * np.array(FRACTIONS)
    np.testing.assert_allclose(curve.energy, np.exp(-r), rtol=1e-12)
    np.testing.assert_allclose(curve.force, np.exp(-r), rtol=1e-12)
    assert (curve.name, curve.hole) == ("O-O", None)
    assert FRACTIONS[0] == 0.2
    assert FRACTIONS[-1] == 1.5
    assert CORE in FRACTIONS
    assert list(FRACTIONS) == sorted(set(FRACTIONS))


@pytest.mark.parametrize("depth", [0.3, 3.0])
def test_a_hole_is_found_where_it_is(depth):
    (curve,) = dimer_curves(Pair(depth))
    r = np.linspace(0.2, 0.7, 2000) * curve.bond
    force = np.exp(-r) - 2 * depth * (r - 0.5) / 0.01 * np.exp(-(((r - 0.5) / 0.1) ** 2))
    assert curve.hole == pytest.approx(r[force < 0].max(), abs=0.05 * curve.bond)


def test_what_happens_at_bond_lengths_is_no_hole():
    assert dimer_curves(Pair(2.0, 1.3, 0.1))[0].hole is None


def test_not_a_number_is_a_hole():
    class Broken(Pair):
        def forward(self, graph):
            energy = super().forward(graph)
            return torch.where(energy > 24.3, torch.nan, energy)

    assert dimer_curves(Broken())[0].hole is not None


def test_all_pairs_as_one_by_one():
    potential = schnet()
    curves = dimer_curves(potential)
    assert [c.name for c in curves] == ["H-H", "H-O", "H-Ti", "O-O", "O-Ti", "Ti-Ti"]
    for c in curves:
        alone = sum(evaluate(potential, Structures.from_ase(Atoms([z]))).energy.item() for z in c.elements)
        for k in (0, 7, 10, 16):
            atoms = Atoms(list(c.elements), [[0, 0, 0], [0, FRACTIONS[k] * c.bond, 0]])
            p = evaluate(potential, Structures.from_ase(atoms))
            assert c.energy[k] == pytest.approx(p.energy.item() - alone, rel=1e-9, abs=1e-9)
            assert c.force[k] == pytest.approx(p.forces[1, 1].item(), rel=1e-9, abs=1e-9)


def test_core_repulsion_closes_the_holes_of_a_network():
    open_ = dimer_curves(schnet(zbl=False, seed=1))
    assert any(c.hole for c in open_)
    assert not any(c.hole for c in dimer_curves(schnet(seed=1)))
    order = worst_first(open_)
    depth = [(c.hole or 0.0) / c.bond for c in order]
    assert depth == sorted(depth, reverse=True)


@pytest.mark.parametrize("name", ["behler", "ani", "deepmd"])
def test_core_repulsion_is_the_default_where_a_network_has_seen_nothing(name):
    """Networks that no training has told what happens below half a bond length."""
    given = {"name": name, "hidden": [6]} | ({"auto": {"cutoff": 4.0}} if name == "behler" else {})

    def inside(**more):
        settings = TypeAdapter(PotentialSettings).validate_python(given | more)
        potentials = [make(settings, (8, 22), seed) for seed in range(4)]
        for potential in potentials:
            potential.set_energy_scale(0.5)
        below = [k for k, f in enumerate(FRACTIONS) if f <= 0.5]
        return np.array([c.force[below] for p in potentials for c in dimer_curves(p)])

    assert (inside() > 1.0).all()  # eV/Angstrom
    assert (inside(zbl=False) < 0).any()


def test_a_committee_is_the_mean_of_its_members():
    members = [make(BehlerSettings.model_validate(BEHLER), (8, 22), seed) for seed in range(3)]
    each = [dimer_curves(m) for m in members]
    for k, c in enumerate(dimer_curves(Mean(members))):
        np.testing.assert_allclose(c.energy, np.mean([x[k].energy for x in each], 0), rtol=1e-9, atol=1e-12)


def test_modes_are_asked_one_by_one():
    potential = schnet(modes=("PBE", "RPBE"), elements=(8, 22))
    curves = dimer_curves(potential, (0, 1))
    assert [(c.name, c.mode) for c in curves] == [(n, m) for m in (0, 1) for n in ("O-O", "O-Ti", "Ti-Ti")]
    for a, b in zip(curves[3:], dimer_curves(potential, (1,)), strict=True):
        np.testing.assert_allclose(a.energy, b.energy, rtol=1e-12)
    assert abs(curves[0].energy - curves[3].energy).max() > 1e-6


def test_many_elements_in_parts():
    elements = tuple(range(1, 21))
    curves = dimer_curves(make(SumSettings(terms=({"name": "zbl"},)), elements))
    assert len(curves) == 210
    assert all(c.hole is None for c in curves)
    assert {c.elements for c in curves} >= {(1, 1), (6, 19), (20, 20)}


def test_nothing_to_ask_a_potential_of_any_element():
    assert dimer_curves(Pair(elements=())) == []
