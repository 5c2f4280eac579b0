"""Which of the numbers in a frame are its reference labels.

Each label has a list of places in order of preference. Two places with different values are an error, because a
wrong choice would train on the wrong numbers: the message lists the candidates and how to choose.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms

from rutile.core.errors import DataError, LabelError
from rutile.core.units import ENERGY_UNITS, GPA, LENGTH_UNITS
from rutile.data.checks import closest_keys
from rutile.data.settings import ReadSettings
from rutile.structures.formats.common import full

PREFIXES = ("REF_", "ref_", "DFT_", "dft_")
ENERGY_NAMES = ("energy", "Energy", "total_energy")
FORCES_NAMES = ("forces", "force", "Forces")
STRESS_NAMES = ("stress", "Stress")
VIRIAL_NAMES = ("virial", "virials", "Virial")
CONVENTIONS: dict[str, tuple[str, str]] = {"n2p2": ("Hartree", "Bohr")}
"""Units of formats whose files are not in eV and Angstrom; their readers convert."""


@dataclass(frozen=True)
class Labels:
    """Labels of one frame in eV, eV/Angstrom, eV/Angstrom^3 (ASE's sign), and under which names they were found."""

    energy: float | None
    forces: np.ndarray | None
    stress: np.ndarray | None
    names: dict[str, str]
    """Label -> where it was found, for example {"energy": "REF_energy"}."""
    notes: tuple[str, ...] = ()
    """What people should know, for example that a free energy is there as well."""


@dataclass(frozen=True)
class Scale:
    """Factors from the units in which a reader delivers numbers to eV and Angstrom."""

    energy: float
    length: float
    stress: float
    """Includes the sign."""

    @property
    def force(self) -> float:
        """Factor of forces."""
        return self.energy / self.length


def scale_of(settings: ReadSettings, format: str) -> Scale:
    """Factors for a format: readers deliver eV and Angstrom by the convention of their format."""
    convention = CONVENTIONS.get(format, ("eV", "Angstrom"))
    energy = ENERGY_UNITS[settings.energy_unit or convention[0]] / ENERGY_UNITS[convention[0]]
    length = LENGTH_UNITS[settings.length_unit or convention[1]] / LENGTH_UNITS[convention[1]]
    units = {"eV/Angstrom^3": 1.0, "GPa": GPA, "kbar": 0.1 * GPA, None: energy / length**3}
    sign = -1.0 if settings.stress_sign == "compression" else 1.0
    return Scale(energy, length, sign * units[settings.stress_unit])


def writing_scale(energy_unit: str | None, length_unit: str | None, format: str) -> Scale:
    """Factors from eV and Angstrom to what a format's writer takes, so that its file is in the units asked for.

    Writers take eV and Angstrom and write by the convention of their format: for other units, the numbers handed to
    them are scaled by the inverse of what reading would do.
    """
    convention = CONVENTIONS.get(format, ("eV", "Angstrom"))
    energy = ENERGY_UNITS[convention[0]] / ENERGY_UNITS[energy_unit or convention[0]]
    length = LENGTH_UNITS[convention[1]] / LENGTH_UNITS[length_unit or convention[1]]
    return Scale(energy, length, energy / length**3)


def find_labels(atoms: Atoms, settings: ReadSettings, scale: Scale) -> Labels:
    """Labels of a frame; the positions and cell of `atoms` are already in Angstrom.

    Raises:
        LabelError: two candidates differ, or a label has a wrong shape.
    """
    names: dict[str, str] = {}
    notes: list[str] = []
    energies = list(_energies(atoms, settings.energy_key))
    if settings.energy_key is None and not energies:
        energies = [(f"{place} (free energy)", v) for place, v in _places(atoms, ("free_energy",))]
    elif settings.energy_key is None and _slot(atoms, "free_energy") is not None:
        notes.append("free_energy is there as well; energy is used (say energy_key=free_energy for the other)")
    energy = _choose("energy", energies, _scalar, 1e-5, 1e-10, names)
    forces = _choose("forces", _forces(atoms, settings.forces_key), _vectors, 1e-4, 1e-4, names)
    candidates = [
        (place, _stress(place, value, atoms, scale)) for place, value in _stresses(atoms, settings.stress_key)
    ]
    stress = _choose("stress", candidates, lambda x: x, 1e-5, 1e-3, names)
    return Labels(
        None if energy is None else float(energy) * scale.energy,
        None if forces is None else forces * scale.force,
        stress,
        names,
        tuple(notes),
    )


Candidate = tuple[str, Any]


def _energies(atoms: Atoms, key: str | None) -> Iterator[Candidate]:
    yield from _named(atoms, key) if key is not None else _places(atoms, ENERGY_NAMES)


def _forces(atoms: Atoms, key: str | None) -> Iterator[Candidate]:
    yield from _named(atoms, key) if key is not None else _places(atoms, FORCES_NAMES)


def _stresses(atoms: Atoms, key: str | None) -> Iterator[Candidate]:
    yield from _named(atoms, key) if key is not None else _places(atoms, STRESS_NAMES + VIRIAL_NAMES)


def _named(atoms: Atoms, key: str) -> Iterator[Candidate]:
    """The place that the user named; nothing where a frame lacks it, or for "none"."""
    if key == "none":
        return
    for holder in (atoms.info, atoms.arrays):
        if key in holder:
            yield key, holder[key]
            return
    value = _slot(atoms, key)
    if value is not None:
        yield key, value


def _slot(atoms: Atoms, name: str) -> Any:
    return None if atoms.calc is None else atoms.calc.results.get(name)


def _places(atoms: Atoms, names: tuple[str, ...]) -> Iterator[Candidate]:
    """All places that may hold a label: REF_* and the like first, then the calculator slot, then plain names."""
    for prefix in PREFIXES:
        for name in names:
            key = prefix + name
            for holder in (atoms.info, atoms.arrays):
                if key in holder:
                    yield key, holder[key]
    for name in names:
        value = _slot(atoms, name)
        if value is not None:
            yield name, value
    for name in names:
        for holder in (atoms.info, atoms.arrays):
            if name in holder:
                yield name, holder[name]


def _choose(
    label: str,
    candidates: Any,
    convert: Callable[[Any], np.ndarray],
    absolute: float,
    relative: float,
    names: dict[str, str],
) -> Any:
    """The first candidate, if the others agree with it."""
    found: list[tuple[str, np.ndarray]] = []
    for place, value in candidates:
        try:
            found.append((place, convert(value)))
        except (ValueError, TypeError, DataError) as error:
            raise LabelError(f"{label} under {place!r}: {str(error)[:120]}") from None
    if not found:
        return None
    place, first = found[0]
    for other, value in found[1:]:
        same = first.shape == value.shape and np.allclose(first, value, rtol=relative, atol=absolute, equal_nan=True)
        if not same:
            names_found = ", ".join(f"{p} ({_brief(v)})" for p, v in found)
            raise LabelError(
                f"{label} is found under several names with different values: {names_found}; "
                f"choose with {label}_key={place} or {label}_key={other}"
            )
    names[label] = place
    return first


def _brief(value: np.ndarray) -> str:
    return (
        f"{float(value):.6g}"
        if value.ndim == 0
        else f"first number {float(value.flat[0]):.6g}"
        if value.size
        else "empty"
    )


def _scalar(value: Any) -> np.ndarray:
    number = np.asarray(value, dtype=np.float64)
    if number.size != 1:
        raise ValueError(f"one number expected, found {number.size}")
    return number.reshape(())


def _vectors(value: Any) -> np.ndarray:
    array = np.array(value, dtype=np.float64)
    if array.ndim == 1 and array.size % 3 == 0:
        array = array.reshape(-1, 3)
    if array.ndim != 2 or array.shape[1] != 3:
        raise ValueError(f"three numbers for each atom expected, found an array of shape {array.shape}")
    return array


def _stress(place: str, value: Any, atoms: Atoms, scale: Scale) -> np.ndarray:
    """A stress or virial as [3, 3] in eV/Angstrom^3: stress = -virial / volume."""
    try:
        matrix = full(np.asarray(value, dtype=np.float64))
    except (ValueError, TypeError, DataError) as error:
        raise LabelError(f"stress under {place!r}: {str(error)[:120]}") from None
    if "virial" not in place.lower():
        return matrix * scale.stress
    volume = abs(float(np.linalg.det(atoms.cell.array)))
    if volume < 1e-6:
        raise LabelError(f"stress under {place!r}: a virial needs a cell with a volume, and there is none")
    return -matrix * scale.energy / volume


def label_names(settings: ReadSettings) -> set[str]:
    """All names under which a frame may hold labels."""
    plain = (*ENERGY_NAMES, *FORCES_NAMES, *STRESS_NAMES, *VIRIAL_NAMES, "free_energy")
    named = {k for k in (settings.energy_key, settings.forces_key, settings.stress_key) if k not in (None, "none")}
    return {*plain, *(prefix + name for prefix in PREFIXES for name in plain), *map(str, named)}


def label_like_keys(atoms: Atoms) -> set[str]:
    """Names of all numbers that a frame holds besides its geometry: candidates for labels."""
    skip = {"numbers", "positions", "tags", "momenta", "masses", "initial_magmoms", "initial_charges"}
    keys = {k for k, v in atoms.info.items() if np.asarray(v).dtype.kind in "fi"}
    keys |= {k for k, v in atoms.arrays.items() if k not in skip and v.dtype.kind in "fi"}
    if atoms.calc is not None:
        keys |= {k for k, v in atoms.calc.results.items() if v is not None}
    return keys


def suggestion(label: str, key: str, keys: set[str]) -> str:
    """A sentence about a named key that no frame has."""
    close = closest_keys(label, sorted(keys))
    there = f"keys there: {', '.join(sorted(keys)) or 'none'}"
    return f"{label}_key={key!r} is in no frame ({there})" + (f"; did you mean {close[0]}?" if close else "")
