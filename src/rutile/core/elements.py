"""Chemical elements by symbol and atomic number."""

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping

from ase.data import atomic_numbers, chemical_symbols

from rutile.core.errors import ElementError

MAX_Z = 118
_ELECTROPOSITIVE_FIRST = (
    "OgRnXeKrArNeHeFrCsRbKNaLiRaBaSrCaMgBe"
    "LrNoMdFmEsCfBkCmAmPuNpUPaThAcLuYbTmErHoDyTbGdEuSmPmNdPrCeLaYSc"
    "RfHfZrTiDbTaNbVSgWMoCrBhReTcMnHsOsRuFeMtIrRhCoDsPtPdNiRgAuAgCuCnHgCdZn"
    "NhTlInGaAlBFlPbSnGeSiCMcBiSbAsPNHLvPoTeSeSOTsAtIBrClF"
)
"""Elements as IUPAC orders them in formulas."""
_PLACES = {name: k for k, name in enumerate(re.findall("[A-Z][a-z]?", _ELECTROPOSITIVE_FIRST))}


def symbol(number: int) -> str:
    """Symbol of an atomic number.

    Raises:
        ElementError: the number is not in 1..118.
    """
    if not 1 <= number <= MAX_Z:
        raise ElementError(f"unknown element: atomic number {number} (known: 1 to {MAX_Z})")
    return chemical_symbols[number]


def number(name: str) -> int:
    """Atomic number of a symbol such as "Ti".

    Raises:
        ElementError: no such element.
    """
    z = atomic_numbers.get(name, 0)
    if z == 0:
        raise ElementError(f"unknown element {name!r}: use a chemical symbol such as 'Ti'")
    return int(z)


def formula(numbers: Iterable[int]) -> str:
    """Composition with all its atoms as chemists write it, such as "Ti2O4".

    The electropositive element first (IUPAC Red Book 2005, Table VI; ISBN 978-0-85404-438-2); with carbon and hydrogen
    those two, then the others by the alphabet (E. A. Hill 1900, doi:10.1021/ja02046a005).

    Raises:
        ElementError: a number is not in 1..118.
    """
    return formula_of(Counter(int(z) for z in numbers))


def unit_formula(numbers: Iterable[int]) -> str:
    """The smallest whole composition, such as "TiO2" for Ti2O4; raises as `formula`."""
    counts = Counter(int(z) for z in numbers)
    share = math.gcd(*counts.values())
    return formula_of({z: n // share for z, n in counts.items()})


def formula_of(counts: Mapping[int, int]) -> str:
    """`formula` from the number of atoms of each atomic number."""
    names = {symbol(z): n for z, n in counts.items()}
    if {"C", "H"} <= names.keys():
        order = ["C", "H", *sorted(names.keys() - {"C", "H"})]
    else:
        order = sorted(names, key=lambda name: _PLACES[name])
    return "".join(f"{name}{names[name] if names[name] > 1 else ''}" for name in order)
