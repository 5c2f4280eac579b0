"""Crystals to begin with: prototypes filled with elements, and crystals from files."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import spglib
from ase import Atoms
from ase.data import atomic_numbers
from ase.spacegroup import crystal

from rutile.build.settings import CrystalSource, Prototype
from rutile.build.sizes import bond_length, radii
from rutile.core.errors import SettingsError
from rutile.structures.fingerprint import pairs_within
from rutile.structures.io import expand, iterate

LETTERS = "ABCD"
Site = tuple[str, float, float, float]


@dataclass(frozen=True)
class Kind:
    """A prototype: space group, shape of the conventional cell, and its sites."""

    group: int
    """Number of the space group."""
    sites: tuple[Site, ...]
    """Letter of the element (A, B, ...) and fractional coordinates."""
    edges: tuple[float, float] = (1.0, 1.0)
    """b/a and c/a."""
    setting: int = 1
    """Choice of origin."""

    @property
    def letters(self) -> int:
        """Number of different elements."""
        return len({site[0] for site in self.sites})

    @property
    def angles(self) -> tuple[float, float, float]:
        """Alpha, beta, gamma (degrees); hexagonal axes for trigonal groups."""
        return (90.0, 90.0, 120.0 if 143 <= self.group <= 194 else 90.0)


KINDS: dict[Prototype, Kind] = {
    "sc": Kind(221, (("A", 0, 0, 0),)),
    "bcc": Kind(229, (("A", 0, 0, 0),)),
    "fcc": Kind(225, (("A", 0, 0, 0),)),
    "hcp": Kind(194, (("A", 1 / 3, 2 / 3, 0.25),), (1, 1.633)),
    "dhcp": Kind(194, (("A", 0, 0, 0), ("A", 1 / 3, 2 / 3, 0.25)), (1, 3.266)),
    "diamond": Kind(227, (("A", 0, 0, 0),)),
    "beta_tin": Kind(141, (("A", 0, 0, 0),), (1, 0.546)),
    "graphite": Kind(194, (("A", 0, 0, 0.25), ("A", 1 / 3, 2 / 3, 0.25)), (1, 2.72)),
    "simple_hexagonal": Kind(191, (("A", 0, 0, 0),), (1, 1.0)),
    "a15": Kind(223, (("A", 0, 0, 0), ("A", 0.25, 0, 0.5))),
    "rocksalt": Kind(225, (("A", 0, 0, 0), ("B", 0.5, 0.5, 0.5))),
    "cesium_chloride": Kind(221, (("A", 0, 0, 0), ("B", 0.5, 0.5, 0.5))),
    "zincblende": Kind(216, (("A", 0, 0, 0), ("B", 0.25, 0.25, 0.25))),
    "wurtzite": Kind(186, (("A", 1 / 3, 2 / 3, 0), ("B", 1 / 3, 2 / 3, 0.375)), (1, 1.633)),
    "nickel_arsenide": Kind(194, (("A", 0, 0, 0), ("B", 1 / 3, 2 / 3, 0.25)), (1, 1.39)),
    "l1_0": Kind(123, (("A", 0, 0, 0), ("B", 0.5, 0.5, 0.5)), (1, 1.3)),
    "fluorite": Kind(225, (("A", 0, 0, 0), ("B", 0.25, 0.25, 0.25))),
    "rutile": Kind(136, (("A", 0, 0, 0), ("B", 0.305, 0.305, 0)), (1, 0.644)),
    "anatase": Kind(141, (("A", 0, 0, 0), ("B", 0, 0, 0.208)), (1, 2.514)),
    "brookite": Kind(
        61,
        (("A", 0.1289, 0.0972, 0.8628), ("B", 0.0095, 0.1491, 0.1835), ("B", 0.2314, 0.1110, 0.5366)),
        (0.594, 0.560),
    ),
    "columbite": Kind(60, (("A", 0, 0.171, 0.25), ("B", 0.286, 0.376, 0.412)), (1.2097, 1.0804)),
    "cadmium_iodide": Kind(164, (("A", 0, 0, 0), ("B", 1 / 3, 2 / 3, 0.25)), (1, 1.6)),
    "pyrite": Kind(205, (("A", 0, 0, 0), ("B", 0.385, 0.385, 0.385))),
    "cristobalite": Kind(227, (("A", 0, 0, 0), ("B", 0.125, 0.125, 0.125))),
    "laves_c15": Kind(227, (("A", 0, 0, 0), ("B", 0.625, 0.625, 0.625))),
    "molybdenum_disilicide": Kind(139, (("A", 0, 0, 0), ("B", 0, 0, 0.333)), (1, 2.45)),
    "l1_2": Kind(221, (("A", 0, 0, 0), ("B", 0, 0.5, 0.5))),
    "rhenium_trioxide": Kind(221, (("A", 0, 0, 0), ("B", 0.5, 0, 0))),
    "d0_3": Kind(225, (("A", 0, 0, 0), ("B", 0.25, 0.25, 0.25), ("B", 0.5, 0.5, 0.5))),
    "corundum": Kind(167, (("A", 0, 0, 0.352), ("B", 0.306, 0, 0.25)), (1, 2.73)),
    "half_heusler": Kind(216, (("A", 0, 0, 0), ("B", 0.25, 0.25, 0.25), ("C", 0.5, 0.5, 0.5))),
    "heusler": Kind(225, (("A", 0.25, 0.25, 0.25), ("B", 0, 0, 0), ("C", 0.5, 0.5, 0.5))),
    "perovskite": Kind(221, (("A", 0.5, 0.5, 0.5), ("B", 0, 0, 0), ("C", 0.5, 0, 0))),
    "spinel": Kind(227, (("A", 0.125, 0.125, 0.125), ("B", 0.5, 0.5, 0.5), ("C", 0.2625, 0.2625, 0.2625)), (1, 1), 2),
}
"""Prototypes; coordinates from the textbooks (International Tables settings, hexagonal axes for trigonal groups)."""


def prototype(kind: Prototype, elements: Sequence[str], volume: float | None = None) -> Atoms:
    """Conventional cell of a prototype.

    Args:
        kind: its name.
        elements: of the sites A, B, ...
        volume: Angstrom^3 per atom; None: the shortest bond has the length of `sizes.bond_length` (pure elements), or
            is the sum of the covalent radii.
    """
    unit = _unit_cell(kind)
    letters = unit.arrays["letter"]
    atoms = bare(unit)
    atoms.numbers = np.array([atomic_numbers[elements[k]] for k in letters])
    if volume is not None:
        scale = (volume * len(atoms) / atoms.cell.volume) ** (1 / 3)
    else:
        i, j, d = _bonds(atoms)
        if len(set(elements)) == 1:
            near = int((d < 1.05 * d.min()).sum()) * 2 / len(atoms)
            scale = bond_length(int(atoms.numbers[0]), max(1, round(near))) / d.min()
        else:
            r = radii(atoms.numbers)
            scale = float(((r[i] + r[j]) / d).max())
    atoms.set_cell(atoms.cell.array * scale, scale_atoms=True)
    return atoms


def _bonds(atoms: Atoms) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs of a unit cell of edge 1 within 1.2 edges."""
    return pairs_within(atoms.positions, atoms.cell.array, atoms.pbc, 1.2)


@cache
def _unit_cell(kind: Prototype) -> Atoms:
    """Conventional cell with a = 1 Angstrom; `letter` says which element of a site."""
    spec = KINDS[kind]
    atoms = crystal(
        [LETTERS.index(site[0]) + 1 for site in spec.sites],
        basis=[site[1:] for site in spec.sites],
        spacegroup=spec.group,
        setting=spec.setting,
        cellpar=[1.0, *spec.edges, *spec.angles],
        symprec=1e-4,
    )
    plain = Atoms(atoms.numbers, scaled_positions=atoms.get_scaled_positions(), cell=atoms.cell, pbc=True)
    plain.set_array("letter", atoms.numbers - 1)
    return plain


def primitive(atoms: Atoms) -> Atoms:
    """The primitive cell by spglib, as compact as can be (Niggli's); the given one where none is found."""
    found = spglib.find_primitive((atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers), symprec=1e-3)
    if found is None:
        return atoms
    compact = spglib.niggli_reduce(found[0], eps=1e-5)
    out = Atoms(found[2], scaled_positions=found[1], cell=found[0], pbc=True)
    if compact is not None:
        out.set_cell(compact)  # the same lattice: positions stay where they are
        out.wrap()
    return out


@dataclass(frozen=True)
class Parent:
    """A named crystal."""

    name: str
    atoms: Atoms
    kind: str = ""
    """Name of the prototype, or ""."""


def parents(source: CrystalSource, *, conventional: bool) -> list[Parent]:
    """The crystals of a source, in order.

    Args:
        source: which.
        conventional: prototypes in their conventional instead of their primitive cell.

    Raises:
        FileError: a file cannot be read.
        SettingsError: a prototype needs more elements than were given, or a file holds something that is no crystal.
    """
    shape: Callable[[Atoms], Atoms] = (lambda a: a) if conventional else primitive
    out = [
        Parent(f"{kind} {'-'.join(names)}", shape(prototype(kind, names, source.volume)), kind)
        for kind, names in _fillings(source)
    ]
    for path in expand(source.files) if source.files else []:
        for n, atoms in enumerate(iterate(path)):
            if not atoms.pbc.all():
                raise SettingsError(f"crystals.files: {path} frame {n} is not periodic in three directions: no crystal")
            out.append(Parent(f"{path.name}#{n}", bare(atoms)))
    return out


def _fillings(source: CrystalSource) -> list[tuple[Prototype, tuple[str, ...]]]:
    """Prototypes and the elements of their sites."""
    if not source.elements:
        return []
    elements = source.elements
    kinds = source.prototypes or tuple(k for k, v in KINDS.items() if v.letters <= len(elements))
    out: list[tuple[Prototype, tuple[str, ...]]] = []
    ways: Any = itertools.permutations if source.order == "all" else itertools.combinations
    for kind in kinds:
        need = KINDS[kind].letters
        if need > len(elements):
            raise SettingsError(
                f"crystals.prototypes: {kind} has sites for {need} elements, and crystals.elements names "
                f"{len(elements)}: {', '.join(elements)}"
            )
        out += [(kind, names) for names in dict.fromkeys(ways(elements, need))]
    return out


def bare(atoms: Atoms) -> Atoms:
    """Elements, positions, cell and periodicity alone."""
    return Atoms(atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
