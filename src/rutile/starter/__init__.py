"""The TiO2 starter set: a few hundred small frames that rutile labelled itself with PBE density functional theory.

Made by `scripts/tio2_starter.py`, which anyone can run again: relaxed, strained, rattled and heated frames of eight
polymorphs, and random packings, 6 to 24 atoms. Energies (eV, relative to GPAW's atomic references), forces
(eV/Angstrom) and stress (eV/Angstrom^3, positive under tension) are under REF_energy, REF_forces, REF_stress;
`config_type` is the kind of frame and `parent` the polymorph it comes from.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from ase import Atoms

from rutile.core.errors import FileError
from rutile.structures.io import read_all
from rutile.structures.symmetry import Crystal, describe_crystal

FRAMES, PROVENANCE = "tio2.extxyz", "tio2.json"
TRAJECTORY = "relax"
"""`config_type` of the steps of the DFT relaxations: successive frames that resemble each other."""


@dataclass(frozen=True)
class Polymorph:
    """A polymorph as the reference method relaxed it."""

    name: str
    """Such as "anatase"."""
    atoms: Atoms
    """The relaxed structure, in the cell of the calculation."""
    energy: float
    """Energy of one formula unit (eV), at zero pressure and temperature."""
    volume: float
    """Volume of one formula unit (Angstrom^3)."""
    crystal: Crystal
    """Space group and conventional cell."""


def path(folder: Path | None = None) -> Path:
    """The file with the frames (extended XYZ).

    Args:
        folder: where another copy of the set lies; default: the set that ships with rutile.

    Raises:
        FileError: it is not there.
    """
    found = (folder or Path(str(files("rutile.starter")))) / FRAMES
    if not found.is_file():
        raise FileError(f"{found} is missing: run scripts/tio2_starter.py collect, or give the folder that has it")
    return found


def provenance(folder: Path | None = None) -> dict[str, Any]:
    """How the labels were made: code, settings, their hash, number of frames by kind, licence, SHA-256 of the frames.

    Raises:
        FileError: the description is missing or is not that of the frames.
    """
    text = (path(folder).parent / PROVENANCE).read_text(encoding="utf-8")
    out: dict[str, Any] = json.loads(text)
    return out


def frames(folder: Path | None = None) -> list[Atoms]:
    """All frames, labels under REF_ names."""
    return read_all(path(folder), "extxyz")


def dft_polymorphs(folder: Path | None = None) -> list[Polymorph]:
    """The polymorphs relaxed by the reference method, lowest energy first."""
    out = [
        polymorph(str(atoms.info["parent"]), atoms, float(atoms.info["REF_energy"]))
        for atoms in frames(folder)
        if atoms.info.get("relaxed")
    ]
    return sorted(out, key=lambda p: p.energy)


def polymorph(name: str, atoms: Atoms, energy: float) -> Polymorph:
    """A relaxed structure of TiO2 with its energy (eV, of the whole cell), per formula unit."""
    units = int((atoms.numbers == 22).sum())
    bare = Atoms(atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=True)
    return Polymorph(name, bare, energy / units, atoms.get_volume() / units, describe_crystal(bare))
