"""Slabs that structures are built on: read, checked, stacked; their symmetry in the plane; what falls onto them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import spglib
from ase import Atoms
from ase.constraints import FixAtoms

from rutile.build.random_crystal import Group
from rutile.build.sizes import radii
from rutile.core.errors import DataError, SettingsError
from rutile.search.individual import ABOVE, BELOW, FIXED, PART
from rutile.structures.io import read_all

FLAT = 1e-3
"""Height (Angstrom) that vectors of the plane may have."""
ROOM = 8.0
"""Empty space above all that is placed (Angstrom), where the slab is periodic along its normal."""
CONTACT = 0.95
"""What falls stops at this part of the sum of covalent radii."""
SAME = 0.01
"""Difference of positions (Angstrom) that symmetry allows."""


def read_slab(path: Path, fixed_below: float | None) -> Atoms:
    """A slab with the third vector along z, and `FIXED` and `PART` of its atoms.

    Args:
        path: of a file with one structure.
        fixed_below: atoms with a smaller z (Angstrom) are fixed; None: those of the file, else the lower half.

    Raises:
        FileError: the file cannot be read.
        DataError: it holds several structures, or no slab.
        SettingsError: a constraint is of another kind than fixed atoms.
    """
    images = read_all(path)
    if len(images) != 1:
        raise DataError(f"{path}: {len(images)} structures; give a file with the slab alone")
    atoms = images[0]
    cell = atoms.cell.array
    if not atoms.pbc[:2].all() or abs(np.cross(cell[0], cell[1])[2]) < FLAT:
        raise DataError(f"{path}: a slab is periodic along its first two cell vectors")
    if np.abs(cell[:2, 2]).max() > FLAT:
        raise DataError(f"{path}: the first two cell vectors of a slab lie in the xy plane")
    if atoms.pbc[2] and np.abs(cell[2, :2]).max() > FLAT:
        raise DataError(f"{path}: the third cell vector of a slab is along z where the slab is periodic along it")
    held = _held(atoms, path)
    x = atoms.positions.copy()
    if atoms.pbc[2]:
        x[:, 2] = _in_one_piece(x[:, 2], float(cell[2, 2]))
    if fixed_below is not None:
        held = x[:, 2] < fixed_below
    elif not held.any():
        held = x[:, 2] < (x[:, 2].min() + x[:, 2].max()) / 2 + FLAT
    out = Atoms(atoms.numbers, positions=x, cell=[cell[0], cell[1], [0, 0, _height(atoms)]], pbc=atoms.pbc)
    out.set_array(FIXED, held)
    out.set_array(PART, np.full(len(out), BELOW))
    return out


def _height(atoms: Atoms) -> float:
    z = atoms.positions[:, 2]
    return float(abs(atoms.cell.array[2, 2])) or float(z.max() - z.min()) + ROOM


def _held(atoms: Atoms, path: Path) -> np.ndarray:
    """Atoms that the file fixes, [N] bool."""
    held = np.zeros(len(atoms), dtype=bool)
    for constraint in atoms.constraints:
        if not isinstance(constraint, FixAtoms):
            kind = type(constraint).__name__
            raise SettingsError(f"{path}: only whole atoms can be fixed (FixAtoms), and it has a {kind}: take it out")
        held[constraint.index] = True
    return held


def _in_one_piece(z: np.ndarray, period: float) -> np.ndarray:
    """Heights of a slab that a period may have cut: the widest gap comes to the top. Unchanged where it is there."""
    order = np.sort(z % period)
    gaps = np.diff(np.append(order, order[0] + period))
    widest = int(gaps.argmax())
    if widest == len(order) - 1 and z.min() >= 0 and z.max() < period:
        return z
    lowest = order[(widest + 1) % len(order)]
    shifted = (z - lowest) % period
    shifted[shifted > period - FLAT] -= period
    return np.asarray(shifted)


def with_room(slab: Atoms, above: float) -> Atoms:
    """A slab whose third vector leaves so much room (Angstrom) above it, and as much as it had in any case."""
    out: Atoms = slab.copy()
    z = out.positions[:, 2]
    cell = out.cell.array.copy()
    cell[2, 2] = max(cell[2, 2], float(z.max() - z.min()) + above + ROOM)
    out.set_cell(cell)
    return out


def matched(upper: Atoms, lower: Atoms, mismatch: float, path: Path) -> Atoms:
    """An upper slab strained along the plane to the cell of the lower one; all of it is free.

    Raises:
        DataError: its cell differs by more than the mismatch.
    """
    mine, wanted = upper.cell.array[:2, :2], lower.cell.array[:2, :2]
    deform = np.linalg.inv(mine) @ wanted
    turn, stretch = np.linalg.svd(deform)[0], np.linalg.svd(deform)[1]
    del turn
    strain = float(np.abs(stretch - 1).max())
    if strain > mismatch:
        a, b = ((f"{x:.3f}" for x in np.linalg.norm(c, axis=1)) for c in (mine, wanted))
        raise DataError(
            f"{path}: its cell ({' x '.join(a)} Å) has to be strained by {100 * strain:.1f} % to that of the lower "
            f"slab ({' x '.join(b)} Å), more than structure.mismatch={mismatch:g}: give cells that fit or a larger one"
        )
    x = upper.positions.copy()
    x[:, :2] = x[:, :2] @ deform
    x[:, 2] -= x[:, 2].min()
    out = Atoms(upper.numbers, positions=x, cell=lower.cell, pbc=lower.pbc)
    out.set_array(FIXED, np.zeros(len(out), dtype=bool))
    out.set_array(PART, np.full(len(out), ABOVE))
    return out


def plane_group(slab: Atoms) -> Group:
    """Operations of a slab that leave its normal as it is, its translations among them."""
    cell = slab.cell.array.copy()
    cell[2, 2] += 2 * ROOM  # no operation reaches the next period
    x = slab.positions @ np.linalg.inv(cell)
    found = spglib.get_symmetry((cell, x, slab.numbers), symprec=SAME)
    identity = np.eye(3, dtype=int)
    if found is None:
        return Group(1, identity[None], np.zeros((1, 3)))
    turns, shifts = found["rotations"], found["translations"]
    along = (turns[:, 2] == [0, 0, 1]).all(1) & (turns[:, :2, 2] == 0).all(1)
    along &= np.abs(shifts[:, 2] - np.round(shifts[:, 2])) * cell[2, 2] < SAME
    shifts = shifts[along].copy()
    shifts[:, 2] = 0.0
    return Group(1, turns[along].astype(int), shifts)


def some_of(group: Group, rng: np.random.Generator) -> Group:
    """The operations that one or two random ones of a group generate."""
    chosen = rng.integers(len(group.rotations), size=int(rng.integers(1, 3)))
    turns, shifts = [np.eye(3, dtype=int)], [np.zeros(3)]
    for w, t in ((w, t) for w, t in zip(turns, shifts)):  # noqa: B905  both grow while they are walked through
        for k in chosen:
            turn, shift = group.rotations[k] @ w, (group.rotations[k] @ t + group.translations[k]) % 1.0
            apart = [np.abs((shift - s + 0.5) % 1.0 - 0.5).max() for s in shifts]
            if not any((turn == v).all() and d < FLAT for v, d in zip(turns, apart, strict=True)):
                turns.append(turn)
                shifts.append(shift)
    return Group(1, np.array(turns), np.array(shifts))


def fall(what: Atoms, onto: Atoms) -> float:
    """How far (Angstrom) a rigid body falls along z until an atom of it touches; inf: it touches nothing.

    Args:
        what: the body; periodic copies in the plane fall with it.
        onto: what it falls onto; only atoms below the falling one count.
    """
    cell = onto.cell.array[:2, :2]
    contact = CONTACT * (radii(what.numbers)[:, None] + radii(onto.numbers))
    apart = (what.positions[:, None, :2] - onto.positions[None, :, :2]) @ np.linalg.inv(cell)
    apart -= np.round(apart)
    best = np.inf
    for i in (-1, 0, 1):
        for j in (-1, 0, 1):
            across = ((apart + np.array([i, j])) @ cell) ** 2
            under = contact**2 - across.sum(2)
            height = what.positions[:, 2][:, None] - onto.positions[:, 2]
            gaps = np.where((under > 0) & (height > 0), height - np.sqrt(np.maximum(under, 0)), np.inf)
            best = min(best, float(gaps.min(initial=np.inf)))
    return best
