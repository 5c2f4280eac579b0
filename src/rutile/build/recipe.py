"""What a builder is: parents, and how structures are drawn from them.

A builder is a function (settings, seed, mechanics) -> Recipe. Making a recipe is quick and raises what is the user's
fault; work that takes time is done in `prepare`, once for each parent. Structure number n of a parent depends on the
settings, the seed and n alone, so that structures can be made in any order and in several processes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator

from rutile.build.settings import Melt


class Refused(Exception):
    """A structure cannot be as it was drawn; the text says why in two or three words and is counted."""


class NoParentError(Refused):
    """A parent cannot be prepared: nothing can be drawn from it."""


@dataclass(frozen=True)
class Snapshot:
    """A structure of a melt on its way."""

    atoms: Atoms
    """Without calculator."""
    thermostat: float
    """Temperature asked for when it was taken (K)."""
    time: float
    """Since the melt began (fs)."""


Melting = Callable[[Sequence[Atoms], Sequence[float], int], list[list[Snapshot] | None]]
"""(structures, temperature of each (K), seed) -> snapshots along the melt and quench of each; None: it burst."""


@dataclass(frozen=True)
class Mechanics:
    """Forces and motion, which builders are given from above; functions at the top of a module, for other processes."""

    calculator: Callable[[Any], Calculator]
    """From settings of forces to an ASE calculator."""
    melts: Callable[[Melt], Melting]
    """From settings of melts to what makes them."""


@dataclass(frozen=True)
class Draft:
    """A structure as drawn, before the guards."""

    atoms: Atoms
    """Without calculator."""
    parameters: dict[str, Any] = field(default_factory=dict)
    """What was drawn, as JSON values."""
    volume: float | None = None
    """Reference volume (Angstrom^3 per atom) of the guard; None: not guarded."""
    whole: bool = False
    """Its molecules stay whole: atoms are not wrapped into the cell one by one."""


@dataclass(frozen=True)
class Recipe:
    """How structures of one kind are made."""

    parents: Sequence[str]
    """Names of what structures are made from; each belongs to one parent."""
    prepare: Callable[[int], Any]
    """From the number of a parent to what `draw` needs of it; may take time, may raise `Refused`."""
    draw: Callable[[Any, int, np.random.Generator], Draft]
    """(prepared parent, number of the structure, random numbers) -> structure; may raise `Refused`."""
    each: int | None = None
    """Structures of each parent, where they can be counted; they are not drawn anew when refused."""
    together: int = 1
    """So many parents, one after another, are prepared in one go, and should be in one process."""


def between(rng: np.random.Generator, span: Sequence[float]) -> float:
    """A number evenly from `span`."""
    return float(rng.uniform(span[0], span[1]))


def rounded(value: float) -> float:
    """Six digits: enough to tell what was drawn."""
    return float(f"{value:.6g}")
