"""Vacancies and interstitial atoms in crystals.

    E_f = E(with defect) - E(without) - sum_X n_X mu_X,

n_X atoms of X added (negative: removed), mu_X their chemical potential: of an element its energy in the crystal. The
cell of the supercell stays that of the crystal (constant volume). Sites of vacancies are the atoms that symmetry does
not make equal; sites of interstitials the corners of the Voronoi cells, where a sphere between atoms is largest.

Source: C. Freysoldt et al., Rev. Mod. Phys. 86, 253 (2014), doi:10.1103/RevModPhys.86.253.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import spglib
import torch
from scipy.spatial import Voronoi

from rutile.core.elements import number as atomic_number
from rutile.core.elements import symbol
from rutile.core.errors import SettingsError
from rutile.core.reporting import Reporter
from rutile.potentials.potential import Potential
from rutile.simulate.eos import require_crystals
from rutile.simulate.forces import evaluate_many
from rutile.simulate.relax import relax
from rutile.simulate.settings import DefectSettings
from rutile.simulate.start import relaxation
from rutile.simulate.supercells import repeated, repeats
from rutile.structures.structures import Structures, concatenate
from rutile.structures.symmetry import SYMPREC

NARROW = 0.8
"""Interstitial sites nearer to an atom than this (Angstrom) are not tried."""


@dataclass(frozen=True)
class Defect:
    """One defect."""

    crystal: int
    """Which of the given structures."""
    kind: str
    """vacancy or interstitial."""
    number: int
    """Atomic number of what is removed or added."""
    site: tuple[float, float, float]
    """In fractions of the given cell."""
    equal: int
    """Sites in the given cell that symmetry makes equal to it."""
    room: float
    """Distance to the nearest atom before relaxation (Angstrom)."""
    atoms: int
    """Of the supercell with the defect."""
    formation: float
    """E_f (eV)."""
    unrelaxed: float
    """E_f with all atoms where they were (eV)."""
    structure: Structures
    """Relaxed."""
    failure: str
    """What went wrong with its relaxation, or ""."""


@dataclass(frozen=True)
class _Draft:
    """A defect before it is computed."""

    crystal: int
    kind: str
    number: int
    site: np.ndarray
    equal: int
    room: float
    structure: Structures


def defects(structures: Structures, potential: Potential, settings: DefectSettings, reporter: Reporter) -> list[Defect]:
    """Formation energies of all defects of all crystals, in one batch.

    Args:
        structures: crystals at their minimum; `settings.relax` is the caller's.
        potential: gives energies and forces.
        settings: kinds, supercell, chemical potentials.
        reporter: told how far it is.

    Raises:
        GeometryError: a structure is not periodic in three directions.
        SettingsError: the chemical potential of an element is not known, or there is no defect.
    """
    require_crystals(structures, "a defect energy")
    given = structures.to(dtype=torch.float64, device="cpu")
    whole = evaluate_many(given, potential, settings.atoms_at_once, reporter, "Crystals").energy.tolist()
    singles = given.split()
    potentials = [_chemical(one, e, settings) for one, e in zip(singles, whole, strict=True)]
    drafts = [d for k, one in enumerate(singles) for d in _drafts(k, one, settings)]
    if not drafts:
        raise SettingsError(f"kinds={','.join(settings.kinds)}: no crystal has room for an interstitial atom")
    if unknown := {symbol(d.number): -3.5 for d in drafts if d.number not in potentials[d.crystal]}:
        such = ", ".join(f"{name}: {value}" for name, value in unknown.items())
        raise SettingsError(
            f"references: the chemical potential of {' and of '.join(unknown)} is needed, such as "
            f"references={{{such}}} (eV)"
        )
    batch = concatenate(d.structure for d in drafts)
    done = relax(batch, potential, relaxation(settings), reporter)
    out = []
    for k, (draft, end) in enumerate(zip(drafts, done.structures.split(), strict=True)):
        c, sign = draft.crystal, 1 if draft.kind == "interstitial" else -1
        cells = (end.n_atoms - sign) // singles[c].n_atoms
        base = cells * whole[c] + sign * potentials[c][draft.number]
        why = done.failure[k]
        if not why and not bool(done.converged[k]):
            why = f"not relaxed after {int(done.steps[k])} steps"
        x, y, z = (float(v) for v in draft.site)
        out.append(
            Defect(
                c, draft.kind, draft.number, (x, y, z), draft.equal, draft.room, end.n_atoms,
                float(done.energy[k]) - base, float(done.start_energy[k]) - base, end, why,
            )
        )  # fmt: skip
    return out


def interstitial_sites(one: Structures) -> list[tuple[np.ndarray, int, float]]:
    """Sites between atoms that symmetry does not make equal, the widest first.

    Returns:
        Of each its place in fractions of the cell [3], how many like it are in the cell, and the distance (Angstrom) to
        the nearest atom.
    """
    cell, x = one.cell[0].numpy(), one.positions.numpy()
    fractional = x @ np.linalg.inv(cell)
    images = np.concatenate([fractional + s for s in product((-1, 0, 1), repeat=3)])
    corners = Voronoi(images @ cell).vertices @ np.linalg.inv(cell)
    inside = corners[((corners > -1e-6) & (corners < 1 - 1e-6)).all(1)]
    crystal: Any = (cell, fractional, one.numbers.numpy())
    found = spglib.get_symmetry(crystal, symprec=SYMPREC)
    turns, shifts = (
        (np.eye(3)[None], np.zeros((1, 3))) if found is None else (found["rotations"], found["translations"])
    )
    room = np.array([np.linalg.norm((images - c) @ cell, axis=1).min() for c in inside])
    out: list[tuple[np.ndarray, int, float]] = []
    for k in np.lexsort((inside.sum(1), -np.round(room, 3))):
        if room[k] < NARROW:
            continue
        orbit = inside[k] @ turns.transpose(0, 2, 1) + shifts
        if any(_apart(orbit, other, cell).min() < 10 * SYMPREC for other, _, _ in out):
            continue
        out.append((inside[k] % 1.0, _distinct(orbit, cell), float(room[k])))
    return out


def _apart(places: np.ndarray, other: np.ndarray, cell: np.ndarray) -> np.ndarray:
    """Distances (Angstrom) of places [..., 3] from another one, to its nearest image."""
    d = places - other
    return np.asarray(np.linalg.norm((d - np.round(d)) @ cell, axis=-1))


def _distinct(orbit: np.ndarray, cell: np.ndarray) -> int:
    """Number of different places."""
    kept: list[np.ndarray] = []
    for place in orbit:
        if all(_apart(place, other, cell) > SYMPREC for other in kept):
            kept.append(place)
    return len(kept)


def _chemical(one: Structures, energy: float, settings: DefectSettings) -> Mapping[int, float]:
    """Chemical potentials by atomic number; of an element that of its crystal, if none is given."""
    known = {atomic_number(name): value for name, value in settings.references.items()}
    elements = set(one.numbers.tolist())
    return ({next(iter(elements)): energy / one.n_atoms} if len(elements) == 1 else {}) | known


def _drafts(crystal: int, one: Structures, settings: DefectSettings) -> Iterator[_Draft]:
    """The defects of one crystal, unrelaxed."""
    large = repeated(one, repeats(one, settings.supercell, settings.length))
    cell = one.cell[0].numpy()
    fractional = one.positions.numpy() @ np.linalg.inv(cell)
    if "vacancy" in settings.kinds:
        same: Any = (cell, fractional, one.numbers.numpy())
        data = spglib.get_symmetry_dataset(same, symprec=SYMPREC)
        like = np.arange(one.n_atoms) if data is None else np.asarray(data.equivalent_atoms)
        for atom in np.unique(like):
            kept = torch.arange(large.n_atoms) != int(atom)
            gone = Structures(large.numbers[kept], large.positions[kept], large.cell, large.pbc, large.system[kept])
            room = float((large.positions[kept] - large.positions[int(atom)]).norm(dim=1).min())
            number = int(one.numbers[int(atom)])
            yield _Draft(crystal, "vacancy", number, fractional[atom], int((like == atom).sum()), room, gone)
    if "interstitial" in settings.kinds:
        added = [atomic_number(e) for e in settings.insert] or sorted(set(one.numbers.tolist()))
        for site, equal, room in interstitial_sites(one)[: settings.sites]:
            place = torch.as_tensor(site @ cell)[None]
            for number in added:
                more = Structures(
                    torch.cat([large.numbers, torch.tensor([number])]), torch.cat([large.positions, place]),
                    large.cell, large.pbc, torch.zeros(large.n_atoms + 1, dtype=torch.long),
                )  # fmt: skip
                yield _Draft(crystal, "interstitial", number, site, equal, room, more)
