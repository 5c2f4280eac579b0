"""Sets of labelled structures that rutile made itself: small, free (CC0), for demonstrations and first trials.

Each set is a file of frames (extended XYZ), a description beside it (JSON: how the labels were made, licence, SHA-256),
and for sets that builders made the plan of `rutile generate`. Energies (eV), forces (eV/Angstrom) and stress
(eV/Angstrom^3, positive under tension) are under REF_energy, REF_forces, REF_stress; `config_type` is the kind of frame
(isolated_atom: a free atom), `parent` what it was made from, `calc_mode` the reference method, `frame_id` its name.

Made by `scripts/tio2_starter.py` (the set tio2) and `scripts/starter_sets.py` (the others), which anyone can run again.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from ase import Atoms

from rutile.core.elements import symbol
from rutile.core.errors import FileError, SettingsError
from rutile.structures.io import read_all
from rutile.structures.symmetry import Crystal, describe_crystal

SETS = ("tio2", "tio2_extension", "tio2_rpbe", "silicon", "molecules")
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


def path(name: str = "tio2", folder: Path | None = None) -> Path:
    """The file with the frames of a set (extended XYZ).

    Args:
        name: of the set, one of SETS.
        folder: where another copy of the set lies; default: the one that ships with rutile.

    Raises:
        SettingsError: there is no such set.
        FileError: it is not there.
    """
    if name not in SETS:
        raise SettingsError(f"no starter set {name!r}: there are {', '.join(SETS)}")
    found = (folder or Path(str(files("rutile.starter")))) / f"{name}.extxyz"
    if not found.is_file():
        script = "tio2_starter.py collect" if name == "tio2" else "starter_sets.py"
        raise FileError(f"{found} is missing: run scripts/{script}, or give the folder that has it")
    return found


def plan(name: str) -> Path | None:
    """The plan of `rutile generate` that made the structures of a set; None: there is none."""
    found = path(name).parent / "plans" / f"{name}.yaml"
    return found if found.is_file() else None


def provenance(name: str = "tio2", folder: Path | None = None) -> dict[str, Any]:
    """How the labels were made: code, settings, their hash, number of frames by kind, licence, SHA-256 of the frames.

    Raises:
        SettingsError: there is no such set.
        FileError: the frames are missing.
    """
    text = path(name, folder).with_suffix(".json").read_text(encoding="utf-8")
    out: dict[str, Any] = json.loads(text)
    return out


def frames(name: str = "tio2", folder: Path | None = None) -> list[Atoms]:
    """All frames of a set, labels under REF_ names."""
    return read_all(path(name, folder), "extxyz")


@cache
def elements(name: str = "tio2") -> tuple[str, ...]:
    """Symbols of the elements in a set, by atomic number."""
    return tuple(symbol(z) for z in sorted({int(z) for atoms in frames(name) for z in atoms.numbers}))


def dft_polymorphs(folder: Path | None = None) -> list[Polymorph]:
    """The polymorphs of TiO2 relaxed by the reference method of the set tio2, lowest energy first."""
    out = [
        polymorph(str(atoms.info["parent"]), atoms, float(atoms.info["REF_energy"]))
        for atoms in frames("tio2", folder)
        if atoms.info.get("relaxed")
    ]
    return sorted(out, key=lambda p: p.energy)


def polymorph(name: str, atoms: Atoms, energy: float) -> Polymorph:
    """A relaxed structure of TiO2 with its energy (eV, of the whole cell), per formula unit."""
    units = int((atoms.numbers == 22).sum())
    bare = Atoms(atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=True)
    return Polymorph(name, bare, energy / units, atoms.get_volume() / units, describe_crystal(bare))
