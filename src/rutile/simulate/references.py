"""What energies of adsorption and binding count from: molecules with factors, atoms, or given energies."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from ase import Atoms
from ase.collections import g2
from ase.data import atomic_numbers

from rutile.build.crystals import bare
from rutile.build.molecules_source import known_molecule
from rutile.core.elements import symbol
from rutile.core.errors import SettingsError

TERM = re.compile(r"\s*([+-]?)\s*(\d+(?:\.\d*)?|\.\d+)?\s*\*?\s*([A-Za-z]\w*)")
"""A sign, a factor, a molecule."""


@dataclass(frozen=True)
class Reference:
    """What the energy of one adsorbate counts from."""

    text: str
    """For people."""
    terms: tuple[tuple[float, str], ...] = ()
    """Factors and names of molecules."""
    constant: float = 0.0
    """Added (eV)."""

    def energy(self, molecules: Mapping[str, float]) -> float:
        """By energies of the molecules (eV)."""
        return self.constant + sum(factor * molecules[name] for factor, name in self.terms)


def reference_of(
    name: str, atoms: Atoms, kind: Literal["molecule", "atoms"], given: Mapping[str, str | float]
) -> tuple[Reference, dict[str, Atoms]]:
    """The reference of an adsorbate, and the molecules that must be relaxed for it by name.

    Args:
        name: of the adsorbate.
        atoms: it.
        kind: its molecule, or its atoms.
        given: sums of molecules, or energies (eV), by name of the adsorbate.

    Raises:
        SettingsError: a sum names no molecules, or they do not have the composition of the adsorbate.
    """
    if name in given:
        value = given[name]
        if not isinstance(value, str):
            return Reference(f"{value:g} eV as given", (), value), {}
        return _sum(name, atoms, value)
    if kind == "molecule":
        return Reference(f"{name}, {'an atom' if len(atoms) == 1 else 'relaxed'}", ((1.0, name),)), {name: bare(atoms)}
    counts = Counter(symbol(int(z)) for z in atoms.numbers)
    text = " + ".join(f"{n} {e}" if n > 1 else e for e, n in sorted(counts.items()))
    terms = tuple((float(n), f"{e} atom") for e, n in counts.items())
    return Reference(f"{text}, atoms", terms), {f"{e} atom": Atoms(e) for e in counts}


def _sum(name: str, atoms: Atoms, text: str) -> tuple[Reference, dict[str, Atoms]]:
    """From a text such as "H2O - 0.5 H2"."""
    place = f"references: {name}: {text!r}"
    terms, end, left = list[tuple[float, str]](), 0, Counter(atoms.get_chemical_symbols())
    found: dict[str, Atoms] = {}
    balance: dict[str, float] = {e: float(n) for e, n in left.items()}
    while end < len(text.rstrip()):
        match = TERM.match(text, end)
        if match is None or (terms and not match[1]):
            raise SettingsError(f"{place} is no sum of molecules such as 0.5 O2 or H2O - 0.5 H2")
        factor, what = float(match[2] or 1) * (-1 if match[1] == "-" else 1), match[3]
        if what not in g2.names and what not in atomic_numbers:
            raise SettingsError(f"{place}: ASE knows no molecule {what!r}")
        found[what] = known_molecule(what)
        terms.append((factor, what))
        for e, n in Counter(found[what].get_chemical_symbols()).items():
            balance[e] = balance.get(e, 0.0) - factor * n
        end = match.end()
    if wrong := _unbalanced(balance):
        raise SettingsError(f"{place} has not the composition of {name}: {', '.join(wrong)}")
    return Reference(text.strip(), tuple(terms)), found


def _unbalanced(balance: Mapping[str, float]) -> Sequence[str]:
    """Elements of which there is too little or too much, in words."""
    return [f"{abs(n):g} {e} too {'few' if n > 0 else 'many'}" for e, n in balance.items() if abs(n) > 1e-6]
