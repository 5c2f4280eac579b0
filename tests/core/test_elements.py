"""Chemical formulas as chemists write them."""

import pytest
from ase.build import molecule
from ase.symbols import Symbols, string2symbols

from rutile.core import elements
from rutile.core.elements import formula, formula_of, unit_formula
from rutile.core.errors import ElementError


@pytest.mark.parametrize(
    "written",
    ["TiO2", "Ti2O4", "SrTiO3", "LiFePO4", "NaCl", "GaAs", "SiC", "BN", "AuCu3", "NiAl", "H2O", "NH3", "CO2", "LiH",
     "CaCO3", "CH4O", "C6H6", "CHF3", "XeF2"],
)  # fmt: skip
def test_a_formula_is_as_it_is_usually_written_in_any_order_of_atoms(written):
    numbers = [elements.number(name) for name in string2symbols(written)]
    assert formula(numbers) == formula(sorted(numbers)) == formula(numbers[::-1]) == written


def test_the_smallest_unit_and_counts():
    assert unit_formula(Symbols.fromsymbols("O4Ti2").numbers) == "TiO2"
    assert unit_formula(molecule("C6H6").numbers) == "CH"
    assert formula_of({8: 1, 1: 2}) == "H2O"
    assert formula([]) == ""


def test_every_element_has_its_place_once():
    alone = [formula([z]) for z in range(1, elements.MAX_Z + 1)]
    assert alone == [elements.symbol(z) for z in range(1, elements.MAX_Z + 1)]
    whole = formula(z for z in range(1, elements.MAX_Z + 1) if z != 6)  # with carbon it is organic
    assert (whole[:4], whole[-3:]) == ("OgRn", "ClF")


def test_an_unknown_number_is_refused():
    with pytest.raises(ElementError, match="119"):
        formula([119])
