"""What a search begins with: structures that are given, and settings that its folder keeps (`rutile search resume`)."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rutile.core import elements
from rutile.core.errors import DataError, FileError, SettingsError
from rutile.core.files import write_atomically
from rutile.core.settings import Result
from rutile.search.settings import atoms_of, end_members

if TYPE_CHECKING:
    from ase import Atoms

    from rutile.search.breeding import Problem
    from rutile.search.relaxing import Relaxer
    from rutile.search.settings import Kind
    from rutile.tasks.search import SearchSettings

LOG, ADAPT_LOG = "search.jsonl", "adapt.jsonl"
"""All that happened, in the folder of a search."""
KEPT_SETTINGS = "settings.json"
"""Settings of a search, in its folder."""
FILES = "structures"
"""Folder with a file for each of the structures that were found."""
OURS = "[0-9][0-9][0-9]*_*_*.*"
"""Their names."""


def seeds_of(paths: Sequence[Path], problem: Problem) -> list[Atoms]:
    """Structures of files, as those of a problem.

    Args:
        paths: files, folders or patterns.
        problem: says whether they belong to it.

    Raises:
        FileError: a file is missing or cannot be read.
        DataError: a structure is none of the problem; names file and frame.
    """
    from rutile.build.recipe import Refused
    from rutile.structures.io import expand, iterate

    out = []
    for path in expand(paths):
        for number, atoms in enumerate(iterate(path)):
            try:
                out.append(problem.adopted(atoms))
            except Refused as why:
                raise DataError(f"seeds: {path}: frame {number}: {why}") from None
    return out


def told_of_files(seeds: Sequence[Atoms], problem: Problem) -> dict[str, Any]:
    """What tells a search with these seeds and slabs from others; nothing without any."""
    from rutile.search.surfaces import Surfaces

    given = {"seeds": seeds, "slabs": problem.slabs() if isinstance(problem, Surfaces) else []}
    return {name: _digest(images) for name, images in given.items() if images}


def _digest(images: Sequence[Atoms]) -> str:
    """Of structures, to the last digit."""
    from rutile.search.individual import to_json

    text = json.dumps([to_json(a) for a in images], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def reference_of(problem: Problem, work: Relaxer) -> float:
    """Energy (eV) of the slabs alone, relaxed; 0 without any.

    Raises:
        DataError: one cannot be relaxed.
    """
    from rutile.search.individual import Candidate
    from rutile.search.surfaces import Surfaces

    whole = 0.0
    for slab in problem.slabs() if isinstance(problem, Surfaces) else []:
        ((_, found),) = work([Candidate(0, slab, "", ())])
        if found.failure:
            raise DataError(f"structure: the slab alone cannot be relaxed: {found.failure}")
        whole += found.energy
    return whole


def named(formula: str, structure: Kind) -> str:
    """What is searched for, such as TiO2 or "6 H2O"."""
    molecules: dict[str, int] = getattr(structure, "molecules", {})
    return formula or ", ".join(f"{n} {name}" for name, n in molecules.items())


def keep_settings(folder: Path, settings: SearchSettings) -> None:
    """Write the settings of a search into its folder, with places that hold wherever the next command is given.

    Raises:
        FileError: it cannot be written.
    """
    plain = settings.model_dump(exclude={"out"})
    whole = {key: _whole(value) for key, value in plain.items()}
    write_atomically(folder / KEPT_SETTINGS, (json.dumps(whole, indent=1) + "\n").encode())


def _whole(value: Any) -> Any:
    """Paths of things that are there, and patterns, from the root; also within lists and groups."""
    if isinstance(value, dict):
        return {k: _whole(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_whole(v) for v in value]
    if not isinstance(value, Path):
        return value
    there = value.exists() or any(c in str(value) for c in "*?[")
    return str(value.absolute() if there else value)


def kept_settings(folder: Path) -> dict[str, Any]:
    """What `keep_settings` wrote.

    Raises:
        FileError: the folder holds no search, or the file cannot be read.
    """
    path = folder / KEPT_SETTINGS
    if not folder.is_dir():
        raise FileError(f"{folder}: no such folder")
    if not path.exists():
        holds = "a search of an older version: give its whole command again" if (folder / LOG).exists() else "no search"
        raise FileError(f"{folder} holds {holds} ({KEPT_SETTINGS} is missing)")
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FileError(f"{path} cannot be read: {error}") from None
    if not isinstance(known, dict):
        raise FileError(f"{path} is no mapping of settings")
    return known


def roles_told(atoms: Atoms) -> Atoms:
    """A structure for files, with `move_mask` where atoms are fixed."""
    from rutile.search.individual import ATOM_ENERGY, FIXED, ROLES

    out: Atoms = atoms.copy()
    if FIXED in out.arrays:
        out.set_array("move_mask", ~out.arrays[FIXED])
    for name in (ATOM_ENERGY, *ROLES):
        if name in out.arrays:
            del out.arrays[name]
    return out


def told_of_row(row: Result) -> dict[str, Any]:
    """What a row of the table says about a structure, for its file."""
    return {k: v for k, v in row.model_dump().items() if v is not None and k != "atoms"}


def composition_of(atoms: Atoms, formula: str) -> str:
    """Composition in the order of the formula that is searched for, of crystals without common divisor, such as TiO2.

    Where other elements are there (a slab), all atoms, in the usual order.
    """
    written: dict[int, int] = {}
    for part in end_members(formula) if formula else ():
        written |= atoms_of(part)
    numbers = atoms.numbers.tolist()
    if set(numbers) - set(written):
        return elements.formula(atoms.numbers)
    counts = {z: numbers.count(z) for z in written if z in numbers}
    each = math.gcd(*counts.values()) if atoms.pbc.all() else 1
    return "".join(elements.symbol(z) + (str(n // each) if n > each else "") for z, n in counts.items())


def names_of(images: Sequence[Atoms], formula: str = "") -> list[str]:
    """Names of files for structures: their place, composition and symmetry; CIF of crystals, else extended XYZ."""
    out = []
    for k, atoms in enumerate(images, 1):
        symmetry = str(atoms.info.get("symmetry") or "P1").translate(str.maketrans("", "", "/_ "))
        ending = "cif" if atoms.pbc.all() and "move_mask" not in atoms.arrays else "extxyz"
        out.append(f"{k:03d}_{composition_of(atoms, formula)}_{symmetry}.{ending}")
    return out


def write_each(folder: Path, images: Sequence[Atoms], formula: str = "") -> None:
    """A file for each structure, in a folder of their own; those of an earlier time go, other files stay.

    Raises:
        FileError: they cannot be written.
    """
    from rutile.structures.io import write_frames

    for path in (folder / FILES).glob(OURS):
        path.unlink(missing_ok=True)
    for name, atoms in zip(names_of(images, formula), images, strict=True):
        write_frames(folder / FILES / name, atoms)


def require_own(folder: Path, other: str) -> None:
    """See that a folder is not that of the other kind of search.

    Raises:
        SettingsError: it is.
    """
    if (folder / other).exists():
        raise SettingsError(f"out = {folder} is the folder of another kind of search ({other}): give another out=")
