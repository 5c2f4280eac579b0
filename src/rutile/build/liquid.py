"""Liquids: whole molecules at random places of a box, turned at random and pushed apart as rigid bodies."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import atomic_masses

from rutile.build.adsorption import random_rotation
from rutile.build.alloy import whole
from rutile.build.guards import AMU_PER_A3
from rutile.build.molecules_source import Named, named_molecules
from rutile.build.packing import push_molecules_apart
from rutile.build.recipe import Draft, Mechanics, Recipe, Refused, between, rounded
from rutile.build.settings import LiquidSettings, MoleculeSource
from rutile.build.sizes import van_der_waals, volume_of_spheres
from rutile.core.errors import SettingsError
from rutile.structures.fingerprint import pairs_within

TOUCHING = 0.93
"""A box is refused if atoms of different molecules are nearer than this part of what they were pushed apart to."""


@dataclass(frozen=True)
class _Kind:
    """One kind of molecule."""

    name: str
    part: float
    """Its number, or its part."""
    conformers: list[Named]


def liquids(settings: LiquidSettings, seed: int, mechanics: Mechanics) -> Recipe:
    """Boxes of one mixture, each drawn anew.

    Raises:
        RutileError: a molecule cannot be had.
        SettingsError: a kind of molecules has less than one molecule in the smallest box, or no box can be so dense.
    """
    del mechanics
    kinds = _kinds(settings, seed)
    _require_room(kinds, _counts(kinds, settings.molecules[0] if settings.molecules else None), settings)

    def prepare(k: int) -> list[list[Atoms]]:
        del k
        return [[named.make().atoms for named in kind.conformers] for kind in kinds]

    def draw(made: list[list[Atoms]], number: int, rng: np.random.Generator) -> Draft:
        del number
        size = int(rng.integers(*settings.molecules, endpoint=True)) if settings.molecules else None
        counts, density = _counts(kinds, size), between(rng, settings.density)
        molecules = [
            forms[int(rng.integers(len(forms)))] for forms, n in zip(made, counts, strict=True) for _ in range(n)
        ]
        facts: dict[str, Any] = {
            "molecules": dict(zip([kind.name for kind in kinds], counts, strict=True)), "density": rounded(density)
        }  # fmt: skip
        return Draft(packed(molecules, density, settings.apart, rng), facts, whole=True)

    return Recipe([" and ".join(kind.name for kind in kinds)], prepare, draw)


def packed(molecules: list[Atoms], density: float, apart: float, rng: np.random.Generator) -> Atoms:
    """A cubic box of molecules, whole also where they stand across its faces.

    Args:
        molecules: one for each that is wanted.
        density: (g/cm^3).
        apart: part of the sum of the van der Waals radii to which they are pushed apart.
        rng: draws places and rotations.

    Raises:
        Refused: they do not get far enough apart: the density is too high.
    """
    numbers = np.concatenate([m.numbers for m in molecules])
    owner = np.repeat(np.arange(len(molecules)), [len(m) for m in molecules])
    edge = (float(atomic_masses[numbers].sum()) * AMU_PER_A3 / density) ** (1 / 3)
    x = np.concatenate([
        (m.positions - m.positions.mean(axis=0)) @ random_rotation(rng).T + rng.random(3) * edge
        for m in molecules
    ])  # fmt: skip
    box = push_molecules_apart(Atoms(numbers, positions=x, cell=[edge] * 3, pbc=True), owner, apart)
    if nearest_contact(box, owner) < TOUCHING * apart:
        raise Refused("molecules too close")
    middle = np.stack([np.bincount(owner, c) for c in box.positions.T], axis=1) / np.bincount(owner)[:, None]
    box.positions -= (np.floor(middle / edge) * edge)[owner]
    return box


def nearest_contact(box: Atoms, owner: np.ndarray) -> float:
    """Smallest distance between atoms of different molecules (or images), relative to their van der Waals radii.

    Args:
        box: whole molecules.
        owner: number of the molecule of each atom, [N].
    """
    r = van_der_waals(box.numbers)
    i, j, d = pairs_within(box.positions, box.cell.array, box.pbc, 2 * float(r.max()))
    apart = np.linalg.norm(box.positions[i] - box.positions[j], axis=1)
    between_ = (owner[i] != owner[j]) | (np.abs(apart - d) > 1e-6)  # an image of its own
    return float((d / (r[i] + r[j]))[between_].min(initial=1.0))


def _kinds(settings: LiquidSettings, seed: int) -> list[_Kind]:
    """The kinds of molecules, in order: SMILES, names, files."""
    out = []
    for text, part in settings.smiles.items():
        source = MoleculeSource(smiles=(text,), conformers=settings.conformers)
        out.append(_Kind(text, part, named_molecules(source, seed)))
    for text, part in settings.names.items():
        out.append(_Kind(text, part, named_molecules(MoleculeSource(names=(text,)), seed)))
    for text, part in settings.files.items():
        found = named_molecules(MoleculeSource(files=[Path(text)]), seed)
        if not found:
            raise SettingsError(f"files: {text} holds no molecule")
        out.append(_Kind(text, part, found[:1]))
    return out


def _require_room(kinds: list[_Kind], counts: list[int], settings: LiquidSettings) -> None:
    """Refuse a density at which atoms of different molecules overlap however they lie.

    Spheres of `TOUCHING apart` times the van der Waals radii around atoms of different molecules must not overlap, so
    the molecules' own volumes must fit into the box.
    """
    volume = mass = 0.0
    for kind, n in zip(kinds, counts, strict=True):
        atoms = kind.conformers[0].make().atoms
        volume += n * volume_of_spheres(atoms.positions, TOUCHING * settings.apart * van_der_waals(atoms.numbers))
        mass += n * float(atomic_masses[atoms.numbers].sum())
    highest = mass * AMU_PER_A3 / volume
    if settings.density[0] > highest:
        raise SettingsError(
            f"density: at {settings.density[0]:g} g/cm³ these molecules overlap however they lie; with "
            f"apart={settings.apart:g} they are solid through and through at {highest:.3g} g/cm³: take less of both"
        )


def _counts(kinds: list[_Kind], size: int | None) -> list[int]:
    """How many of each, of so many in all; None: as given.

    Raises:
        SettingsError: none of a kind.
    """
    if size is None:
        return [int(kind.part) for kind in kinds]
    counts = [int(n) for n in whole(np.array([kind.part for kind in kinds]), size)]
    if not all(counts):
        raise SettingsError(f"molecules: no {kinds[counts.index(0)].name} among {size}: make the box larger")
    return counts
