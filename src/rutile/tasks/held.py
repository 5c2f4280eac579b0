"""Atoms that stay where they are, in tasks that move atoms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import Field

from rutile.core.errors import SettingsError
from rutile.core.settings import Settings
from rutile.core.units import Angstrom

if TYPE_CHECKING:
    from rutile.data.frames import Frame
    from rutile.data.reading import Reading


class HeldAtoms(Settings):
    """Which atoms do not move."""

    fixed: list[Annotated[int, Field(ge=0)]] = []
    """Atoms that do not move, counted from 0, in every structure. Constraints in the files (`move_mask` of extended
    XYZ, FixAtoms of ASE, selective dynamics) hold in any case."""
    fixed_below: Angstrom | None = None
    """Atoms with a smaller z do not move, either: the bottom of a slab."""


def held_atoms(settings: HeldAtoms, reading: Reading) -> np.ndarray:
    """Atoms of a structure that do not move, [N] bool.

    Raises:
        SettingsError: there is no atom of a number, or a constraint is of another kind.
    """
    from ase.constraints import FixAtoms

    assert reading.frame is not None
    frame = reading.frame
    n, place = len(frame.numbers), frame.source
    held = np.zeros(n, dtype=bool)
    for constraint in reading.atoms.constraints if reading.atoms is not None else ():
        if not isinstance(constraint, FixAtoms):
            raise SettingsError(
                f"{place}: it has the constraint {type(constraint).__name__}, but only whole atoms can be fixed "
                "(FixAtoms): take it out of the file"
            )
        held[constraint.index] = True
    if settings.fixed and max(settings.fixed) >= n:
        raise SettingsError(f"fixed: {place} has no atom {max(settings.fixed)} (it has {n}, counted from 0)")
    held[settings.fixed] = True
    if settings.fixed_below is not None:
        held |= frame.positions[:, 2] < settings.fixed_below
    return held


def refuse_if_all_held(frames: Sequence[Frame], held: np.ndarray) -> None:
    """Refuse structures in which nothing can move.

    Args:
        frames: the structures.
        held: atoms of all of them that stay, [N] bool.

    Raises:
        SettingsError: all atoms of one stay.
    """
    ends = np.cumsum([len(f.numbers) for f in frames])[:-1]
    for frame, mine in zip(frames, np.split(held, ends), strict=True):
        if mine.all():
            raise SettingsError(f"{frame.source}: all {len(mine)} atoms are fixed: nothing can move; fix fewer")
