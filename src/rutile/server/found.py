"""Structures that a search found: as atoms, with their names, as files."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rutile.core.elements import formula
from rutile.core.errors import GeometryError
from rutile.core.settings import Result

if TYPE_CHECKING:
    from ase import Atoms


class Named(Result):
    """What a structure is called."""

    number: int
    """Which structure."""
    symmetry: str
    """Space group of a crystal, point group of a cluster; "": none was found."""
    name: str
    """Of a structure type that is known, such as rutile; "": none."""


def atoms_of(done: dict[str, Any]) -> Atoms:
    """A structure of the log of a search, with its energy."""
    from ase import Atoms
    from ase.calculators.singlepoint import SinglePointCalculator

    told = done["atoms"]
    atoms = Atoms(told["numbers"], told["positions"], cell=told.get("cell"), pbc=told.get("pbc", False))
    atoms.info["number"] = int(done.get("number", -1))
    if done.get("energy") is not None:
        atoms.calc = SinglePointCalculator(atoms, energy=done["energy"] * len(atoms))
    return atoms


def named(number: int, atoms: Atoms) -> Named:
    """Its symmetry and its name."""
    from rutile.search.names import prototype_of
    from rutile.search.point_groups import point_group_of
    from rutile.structures.symmetry import describe_crystal

    if not atoms.pbc.any():
        return Named(number=number, symmetry=point_group_of(atoms), name="")
    try:
        return Named(number=number, symmetry=describe_crystal(atoms).spacegroup, name=prototype_of(atoms))
    except GeometryError:
        return Named(number=number, symmetry="", name="")


def packed(images: Sequence[Atoms], format: str, folder: Path) -> bytes:
    """Structures as one file of extended XYZ, or as an archive of CIF files; `folder` is empty, to work in."""
    from rutile.structures.io import write_frames

    if format == "extxyz":
        write_frames(folder / "all.extxyz", images, "extxyz")
        return (folder / "all.extxyz").read_bytes()
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for rank, atoms in enumerate(images, 1):
            name = f"{rank:04d}-{formula(atoms.numbers)}-{atoms.info['number']}.cif"
            write_frames(folder / name, atoms, "cif")
            archive.write(folder / name, name)
    return out.getvalue()
