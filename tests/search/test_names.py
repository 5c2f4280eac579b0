"""Structure types are known by their symmetry, whatever cell, volume or elements, and only by their shape."""

import numpy as np
import pytest
from ase.build import make_supercell

from rutile.build.crystals import primitive, prototype
from rutile.search.names import prototype_of

OXIDES = ("rutile", "anatase", "brookite", "columbite", "pyrite", "fluorite", "cadmium_iodide")


@pytest.mark.slow
@pytest.mark.parametrize("name", OXIDES)
def test_polymorphs_have_their_names_in_any_cell(name):
    atoms = prototype(name, ("Ti", "O"), 11.0)
    assert prototype_of(atoms) == name
    assert prototype_of(primitive(atoms)) == name
    assert prototype_of(make_supercell(atoms, np.diag([2, 1, 1]))) == name
    atoms.rattle(0.3, seed=1)
    assert prototype_of(atoms) == ""


@pytest.mark.slow
def test_strained_diamond_is_not_beta_tin():
    atoms = prototype("beta_tin", ("Si",))
    assert prototype_of(atoms) == "beta_tin"
    atoms = prototype("diamond", ("Si",))
    assert prototype_of(atoms) == "diamond"
    atoms.set_cell(atoms.cell.array @ np.diag([1, 1, 1.05]), scale_atoms=True)
    assert prototype_of(atoms) == ""
