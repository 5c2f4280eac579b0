"""Atoms on a slab or between two: how new structures are made, and which operators breed them.

A structure has the atoms of the lower slab, those that are placed, and those of the upper slab, in this order, and says
in arrays which is which and which are fixed (`individual`). Fixed atoms have the same coordinates in all structures, to
the last bit.
"""

from __future__ import annotations

import numpy as np
from ase import Atoms

from rutile.build.packing import push_apart
from rutile.build.random_crystal import placed as on_sites
from rutile.build.recipe import Refused
from rutile.build.sizes import radii, reference_volume
from rutile.core.elements import formula as symbols
from rutile.core.errors import SettingsError
from rutile.search.individual import ABOVE, FIXED, PART, PLACED, carried
from rutile.search.operators import permutation, rattle, resettle, shift, slab_heredity, slab_symmetrise, slab_turn
from rutile.search.operators.on_slab import of_placed
from rutile.search.operators.operator import Breed, Operator
from rutile.search.ranking import ByEnergy
from rutile.search.settings import InterfaceSearch, SurfaceSearch, atoms_of
from rutile.search.slabs import fall, matched, plane_group, read_slab, some_of, with_room
from rutile.structures.fingerprint import pairs_within

CLOSEST = 0.6
"""Placed atoms of a child are not nearer to others than this part of the sum of the covalent radii."""
PUSHED = 0.9
"""They are pushed apart to this part of it."""
ALONE = 1.7
"""A placed atom without a neighbour nearer than this times the sum of the covalent radii has left."""
SAME = 0.05
"""Fixed atoms of a structure that is given are not farther from those of the slab (Angstrom)."""


class Surfaces:
    """Structures on a slab, or between two.

    Args:
        formula: all atoms that are placed, such as Cu7.
        settings: what is asked of them.

    Raises:
        SettingsError: the formula cannot be read, or its atoms do not fit on the slab.
        FileError: a slab cannot be read.
        DataError: a file holds no slab, or slabs do not fit.
    """

    def __init__(self, formula: str, settings: SurfaceSearch) -> None:
        self.settings, self.atoms = settings, atoms_of(formula)
        self.numbers = np.repeat(list(self.atoms), list(self.atoms.values()))
        volume = reference_volume(self.numbers)
        self.distance = settings.distance or float((volume * np.sqrt(2)) ** (1 / 3))
        lower = read_slab(settings.slab, settings.fixed_below)
        self.upper: Atoms | None = None
        self.height = settings.height
        above = settings.height
        if isinstance(settings, InterfaceSearch):
            self.upper = matched(read_slab(settings.upper, None), lower, settings.mismatch, settings.upper)
            area = float(np.linalg.norm(np.cross(lower.cell[0], lower.cell[1])))
            self.height += volume * len(self.numbers) / area + self.distance
            above = self.height + 2 * self.distance + float(np.ptp(self.upper.positions[:, 2]))
        else:
            self._require_room(volume, lower)
        self.slab = with_room(lower, above)
        known = [lower, *([] if self.upper is None else [self.upper])]
        self.elements = tuple(sorted({*self.atoms, *(int(z) for slab in known for z in slab.numbers)}))
        self.top = float(self.slab.positions[:, 2].max())
        self.group = plane_group(self.slab)
        self.breed = Breed(self.distance, plane=self.group)
        many = [of_placed(permutation.OPERATOR)] if len(self.atoms) > 1 else []
        two = [shift.OPERATOR] if self.upper is not None else []
        ours = (slab_heredity, resettle, slab_turn, slab_symmetrise)
        self.operators: tuple[Operator, ...] = (
            *(m.OPERATOR for m in ours), of_placed(rattle.OPERATOR), *many, *two,
        )  # fmt: skip

    def _require_room(self, volume: float, slab: Atoms) -> None:
        """See that the atoms fit, closely packed.

        Raises:
            SettingsError: they do not.
        """
        area = float(np.linalg.norm(np.cross(slab.cell[0], slab.cell[1])))
        most = int(area * (self.height + self.distance) / volume)
        if len(self.numbers) > most:
            raise SettingsError(
                f"{symbols(self.numbers.tolist())} has {len(self.numbers)} atoms; up to structure.height="
                f"{self.height:g} Å above this slab is room for {most}: give fewer, a larger slab, or a larger height"
            )

    def slabs(self) -> list[Atoms]:
        """What structures are built on, each alone."""
        if self.upper is None:
            return [self.slab]
        upper = self.upper.copy()
        upper.set_cell(self.slab.cell)
        return [self.slab, upper]

    def ranking(self) -> ByEnergy:
        """By energy."""
        return ByEnergy()

    def create(self, rng: np.random.Generator, before: int) -> Atoms:
        """Atoms at random places, a part of them with symmetry, that fall onto the slab one after another.

        Raises:
            Refused: the atoms do not fit the symmetry.
        """
        cell = self.slab.cell.array.copy()
        cell[2, 2] = self.height
        if rng.random() < self.settings.symmetric:
            made = on_sites(some_of(self.group, rng), self.numbers, cell, rng)
        else:
            made = Atoms(self.numbers, scaled_positions=rng.random((len(self.numbers), 3)), cell=cell)
        made.positions[:, 2] += self.top + 2 * self.distance
        floor = self.slab.copy()
        for k in np.argsort(made.positions[:, 2]):
            depth = fall(made[[k]], floor)
            if not np.isfinite(depth):
                raise Refused("an atom falls through the slab")
            made.positions[k, 2] -= depth
            floor += made[[k]]
        whole = self.whole(self.slab, made)
        if self.upper is not None:
            above = whole.arrays[PART] == ABOVE
            whole.positions[above] += np.append(rng.random(2) @ cell[:2, :2], self.top)
            whole = shift.lowered(whole)
        return whole

    def whole(self, slab: Atoms, placed: Atoms) -> Atoms:
        """All parts in one, with their roles."""
        parts = [slab, Atoms(placed.numbers, positions=placed.positions)]
        parts[1].set_array(PART, np.full(len(placed), PLACED))
        parts[1].set_array(FIXED, np.zeros(len(placed), dtype=bool))
        if self.upper is not None:
            parts.append(self.upper)
        out = Atoms(cell=slab.cell, pbc=slab.pbc)
        for one in parts:
            out += one
        for name in (PART, FIXED):
            out.set_array(name, np.concatenate([p.arrays[name] for p in parts]))
        return out

    def tidied(self, atoms: Atoms) -> Atoms:
        """A child as it is relaxed: fixed atoms in their places, placed ones in the cell and pushed apart.

        Raises:
            Refused: atoms too close, below the slab, too high, or alone.
        """
        part, fixed = atoms.arrays[PART], atoms.arrays[FIXED]
        mine = part == PLACED
        out = Atoms(atoms.numbers, positions=atoms.positions, cell=self.slab.cell, pbc=self.slab.pbc)
        carried(atoms, out)
        out.positions[fixed] = self.slab.positions[self.slab.arrays[FIXED]]
        flat = self.slab.cell.array[:2, :2]
        out.positions[mine, :2] = (out.positions[mine, :2] @ np.linalg.inv(flat) % 1.0) @ flat
        out.positions = push_apart(out, PUSHED, held=~mine).positions
        r = radii(out.numbers)
        i, j, d = pairs_within(out.positions, out.cell.array, out.pbc, ALONE * 2 * float(r.max()))
        near = d / (r[i] + r[j])
        counts = mine[i] | mine[j] | (part[i] != part[j])
        if (near[counts] < CLOSEST).any():
            raise Refused("atoms too close")
        touched = np.zeros(len(out), dtype=bool)
        touched[i[near < ALONE]] = touched[j[near < ALONE]] = True
        if not touched[mine].all():
            raise Refused("an atom is alone")
        low, high = self.slab.positions[:, 2].min(), self.top + self.height + self.distance
        z = out.positions[mine, 2]
        if (z < low).any() or (self.upper is None and (z > high).any()):
            raise Refused("an atom left the region")
        return out

    def adopted(self, atoms: Atoms) -> Atoms:
        """A structure that was given: the atoms of the slab in their order, those that are placed, and the upper slab.

        Raises:
            Refused: it is another slab, or the other atoms are not those of the formula.
        """
        n, more = len(self.slab), 0 if self.upper is None else len(self.upper)
        end = len(atoms) - more
        placed = atoms.numbers[n:end] if end >= n else np.zeros(0, dtype=int)
        if sorted(placed) != sorted(self.numbers) or (atoms.numbers[:n] != self.slab.numbers).any():
            raise Refused(f"it is not {symbols(self.numbers.tolist())} after the {n} atoms of the slab, in its order")
        held = self.slab.arrays[FIXED]
        away = np.linalg.norm(atoms.positions[:n][held] - self.slab.positions[held], axis=1)
        if (away > SAME).any() or np.abs((atoms.cell.array - self.slab.cell.array)[:2]).max() > SAME:
            raise Refused("its fixed atoms or its cell are not those of the slab")
        slab = self.slab.copy()
        slab.positions[~held] = atoms.positions[:n][~held]
        out = self.whole(slab, atoms[n:end])
        if more:
            out.positions[end:] = atoms.positions[end:]
        return out
