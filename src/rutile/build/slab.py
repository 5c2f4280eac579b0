"""Surfaces, as cut and disturbed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from ase import Atoms

from rutile.build import distort
from rutile.build.crystals import parents
from rutile.build.guards import Known, measure
from rutile.build.recipe import Draft, Mechanics, Recipe, between, rounded
from rutile.build.settings import CrystalSource, Miller, SlabSettings
from rutile.build.sites import top_plane
from rutile.build.surface import Slab, miller_indices, slabs, with_vacuum
from rutile.core.errors import SettingsError

ALONG = np.array([True, True, False])
"""A slab is periodic along its surface."""
EMPTY = 10.0
"""Vacuum with which terminations are compared (Angstrom)."""


@dataclass(frozen=True)
class Surface:
    """A named slab without vacuum."""

    name: str
    slab: Slab


def surfaces(
    source: CrystalSource,
    miller: Sequence[Miller],
    max_index: int,
    thickness: Sequence[float],
    which: Literal["all", "stoichiometric", "symmetric"],
) -> list[Surface]:
    """Every different termination of every surface of some crystals.

    Raises:
        RutileError: a crystal cannot be had.
        SettingsError: no slab is so thin, or an index is (0, 0, 0).
    """
    out, known = [], Known()
    for index in miller:
        if not any(index):
            raise SettingsError("miller: (0, 0, 0) is no surface; give indices such as (1, 1, 0)")
    for parent in parents(source, conventional=True):
        for index in tuple(miller) or miller_indices(parent.atoms, max_index):
            cut = slabs(parent.atoms, index, thickness, which)
            new = [s for s in cut if known.add(measure(with_vacuum(s.atoms, EMPTY)), ALONG)]
            out += [Surface(f"{parent.name} {slab.name}", slab) for slab in new]
    if not out:
        raise SettingsError(
            f"thickness: no {'' if which == 'all' else which + ' '}slab between {thickness[0]:g} and "
            f"{thickness[1]:g} Å; make the second larger"
        )
    return out


def slabs_of(settings: SlabSettings, seed: int, mechanics: Mechanics) -> Recipe:
    """Slabs by Miller index with every termination; the first of each as cut, others repeated and disturbed.

    Raises:
        RutileError: a crystal cannot be had, or no slab is so thin.
    """
    del seed, mechanics
    found = surfaces(settings.crystals, settings.miller, settings.max_index, settings.thickness, settings.terminations)

    def draw(surface: Surface, number: int, rng: np.random.Generator) -> Draft:
        slab = surface.slab
        facts = {
            "miller": list(slab.miller), "planes": slab.planes,
            "stoichiometric": slab.stoichiometric, "symmetric": slab.symmetric,
        }  # fmt: skip
        if number == 0:
            return Draft(with_vacuum(slab.atoms, settings.vacuum[0]), facts | {"pristine": True})
        atoms, drawn = _disturbed(slab.atoms, settings, rng)
        return Draft(atoms, facts | drawn)

    return Recipe([s.name for s in found], lambda k: found[k], draw)


def _disturbed(slab: Atoms, settings: SlabSettings, rng: np.random.Generator) -> tuple[Atoms, dict[str, object]]:
    """A repeated slab with missing rows, steps and displacements; and what was drawn."""
    drawn: dict[str, object] = {}
    atoms = distort.supercell(slab, settings.atoms, rng, along=(0, 1))
    if rng.random() < settings.missing_rows:
        atoms, drawn["missing_row"] = without_row(atoms, rng)
    if rng.random() < settings.steps:
        atoms, drawn["steps"] = with_steps(atoms, rng)
    rattle, vacuum = between(rng, settings.rattle), between(rng, settings.vacuum)
    drawn |= {"rattle": rounded(rattle), "vacuum": rounded(vacuum)}
    return with_vacuum(distort.rattled(atoms, rattle, rng), vacuum), drawn


def without_row(atoms: Atoms, rng: np.random.Generator) -> tuple[Atoms, bool]:
    """The highest plane without one row of its atoms, where it has several; and whether it lacks one."""
    top = top_plane(atoms)
    axis = int(rng.integers(2))
    place = atoms.get_scaled_positions()[:, axis] % 1.0
    rows = np.unique(np.round(place[top], 4) % 1.0)
    if len(rows) < 2:
        return atoms, False
    row = rng.choice(rows)
    apart = np.abs((place - row + 0.5) % 1.0 - 0.5)
    return distort.chosen(atoms, ~(top & (apart < 1e-3))), True


def with_steps(atoms: Atoms, rng: np.random.Generator) -> tuple[Atoms, bool]:
    """The highest plane on one half of the surface only, where it has several rows; and whether it is so."""
    top = top_plane(atoms)
    axis = int(rng.integers(2))
    place = atoms.get_scaled_positions()[:, axis] % 1.0
    begin = rng.random()
    off = top & ((place - begin) % 1.0 < 0.5)
    if not off.any() or off.sum() == top.sum():
        return atoms, False
    return distort.chosen(atoms, ~off), True
