"""Searches for the saddle points around minima: where dimers begin, which saddles are the same, and what they join.

From a minimum, atoms around a centre are displaced at random, or the centre along a given direction; `dimer` climbs
from there. Saddles of like energies and neighbourhoods are one, whatever symmetry operation lies between them. From
both sides of each, a little way along its direction, atoms relax downhill to the minima that it joins.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from rutile.core.reporting import Reporter
from rutile.core.seeds import stream
from rutile.potentials.potential import Potential
from rutile.simulate.dimer import find_saddles
from rutile.simulate.hessian import hessians, wave_numbers
from rutile.simulate.relax import relax
from rutile.simulate.settings import RelaxSettings, SaddleSearchSettings, SaddleSettings
from rutile.structures.fingerprint import pairs_within
from rutile.structures.structures import Structures, concatenate

REACH = 5.0
"""Neighbours up to here tell geometries apart (Angstrom)."""
ALIKE = 0.01
"""Neighbourhoods of an atom are like those of another if they differ by less than this part."""
MOVED = 0.3
"""A minimum with an atom farther than this from where it was (Angstrom) is another one, though it may look alike."""


@dataclass(frozen=True)
class Begin:
    """Where one search begins."""

    minimum: int
    """Which of the given structures."""
    structure: Structures
    """Displaced a little."""
    direction: Tensor
    """Where to climb first, [N, 3]."""


@dataclass(frozen=True)
class End:
    """Where one search ended."""

    minimum: int
    """Which of the given structures."""
    structure: Structures
    """A saddle point, if converged."""
    direction: Tensor
    """Softest direction, of length 1, [N, 3]."""
    energy: float
    """(eV)."""
    curvature: float
    """Along the direction (eV/Angstrom^2)."""
    failure: str
    """Why this is no saddle point, or ""."""


@dataclass(frozen=True)
class Joined:
    """A saddle point, and the minima on both of its sides."""

    minimum: int
    """Which of the given structures the search began from."""
    structure: Structures
    """The saddle point."""
    energy: float
    """(eV)."""
    curvature: float
    """Along its direction (eV/Angstrom^2)."""
    found: int
    """Searches that ended here, or where symmetry makes it equal."""
    imaginary: int
    """Imaginary modes."""
    wave_number: float
    """Of its softest mode (1/cm)."""
    sides: tuple[Structures, Structures]
    """The minima."""
    energies: tuple[float, float]
    """Of the minima (eV)."""
    failure: str
    """What went wrong on the way down, or ""."""


def beginnings(minima: Sequence[Structures], fixed: Sequence[Tensor], settings: SaddleSearchSettings) -> list[Begin]:
    """Where searches begin.

    Args:
        minima: batches of one.
        fixed: atoms of each that stay, [N] bool.
        settings: centres, directions, tries.
    """
    out = []
    for k, (one, held) in enumerate(zip(minima, fixed, strict=True)):
        rng = stream(settings.seed, "saddles", k)
        free = (~held).nonzero().flatten().tolist()
        centres = [c for c in settings.centres if not held[c]] or free
        if settings.directions:
            for centre in centres if settings.centres else free[:1]:
                for direction in settings.directions:
                    move = torch.zeros_like(one.positions)
                    move[centre] = torch.tensor(direction, dtype=torch.float64)
                    out.append(_begin(k, one, move, settings.push))
            continue
        for number in range(settings.tries):
            centre = centres[number % len(centres)] if settings.centres else int(rng.choice(centres))
            far = _distances(one, centre)
            near = torch.exp(-0.5 * (far / settings.radius) ** 2) * (far < 3 * settings.radius) * ~held
            move = near[:, None] * torch.as_tensor(rng.normal(size=(one.n_atoms, 3)))
            out.append(_begin(k, one, move, settings.push))
    return out


def _begin(k: int, one: Structures, move: Tensor, push: float) -> Begin:
    """Displaced so that the farthest atom goes `push` (Angstrom)."""
    move = move * push / move.norm(dim=1).max().clamp(min=1e-12)
    return Begin(k, one.replace(positions=one.positions + move), move)


def _distances(one: Structures, centre: int) -> Tensor:
    """Of all atoms to the nearest image of one (Angstrom), [N]."""
    (atoms,) = one.to_ase()
    return torch.as_tensor(atoms.get_distances(centre, range(len(atoms)), mic=bool(atoms.pbc.any())))


def climbed(
    begins: Sequence[Begin],
    fixed: Sequence[Tensor],
    potential: Potential,
    settings: SaddleSettings,
    reporter: Reporter,
) -> list[End]:
    """Where searches end, all in one batch.

    Args:
        begins: at least one.
        fixed: atoms of each minimum that stay, [N] bool.
        potential: gives the forces.
        settings: of the dimers.
        reporter: told the steps.
    """
    batch = concatenate(b.structure for b in begins)
    held = torch.cat([fixed[b.minimum] for b in begins])
    done = find_saddles(batch, torch.cat([b.direction for b in begins]), potential, settings, reporter, held)
    directions = done.direction.split(batch.counts.tolist())
    out = []
    for s, (begin, one) in enumerate(zip(begins, done.structures.split(), strict=True)):
        why = done.failure[s]
        if not why and not bool(done.converged[s]):
            why = f"no saddle point after {done.steps} steps"
        out.append(End(begin.minimum, one, directions[s], float(done.energy[s]), float(done.curvature[s]), why))
    return out


def distinct(ends: Sequence[End], same: float) -> list[tuple[End, int]]:
    """Saddle points that are not equal, lowest first, and how many searches ended at each.

    Args:
        ends: of searches; those without a saddle point are left out.
        same: saddle points with energies nearer than this (eV) may be equal.
    """
    kept: list[tuple[End, int, np.ndarray]] = []
    for end in sorted((e for e in ends if not e.failure), key=lambda e: (e.minimum, e.energy)):
        mark = neighbourhoods(end.structure)
        for k, (other, count, theirs) in enumerate(kept):
            if other.minimum == end.minimum and abs(other.energy - end.energy) < same and alike(mark, theirs):
                kept[k] = (other, count + 1, theirs)
                break
        else:
            kept.append((end, 1, mark))
    return [(end, count) for end, count, _ in kept]


def neighbourhoods(one: Structures) -> np.ndarray:
    """What each atom has around it, in an order that does not depend on that of the atoms, [N, 2]."""
    numbers, positions = one.numbers.numpy(), one.positions.numpy()
    i, j, d = pairs_within(positions, one.cell[0].numpy(), one.pbc[0].numpy(), REACH)
    c, weight = (1 - (d / REACH) ** 2) ** 3, np.sqrt(numbers)
    around = np.bincount(i, weight[j] * c, len(numbers)) + np.bincount(j, weight[i] * c, len(numbers))
    order = np.lexsort((around, numbers))
    return np.stack([numbers[order], around[order]], axis=1)


def alike(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether neighbourhoods are the same."""
    return a.shape == b.shape and bool(np.allclose(a, b, rtol=ALIKE, atol=ALIKE))


def joined(
    saddles: Sequence[tuple[End, int]],
    fixed: Sequence[Tensor],
    potential: Potential,
    settings: SaddleSearchSettings,
    reporter: Reporter,
    imaginary: float,
) -> list[Joined]:
    """Checks saddle points by their modes, and goes down on both sides of each; all in one batch.

    Args:
        saddles: with the number of searches that ended at each.
        fixed: atoms of each minimum that stay, [N] bool.
        potential: gives the forces.
        settings: how far to push, limits of relaxations.
        reporter: told how far it is.
        imaginary: modes below minus this count as imaginary (1/cm).
    """
    if not saddles:
        return []
    batch = concatenate(end.structure for end, _ in saddles)
    free = torch.cat([~fixed[end.minimum] for end, _ in saddles])
    second = hessians(batch, free, potential, reporter)
    pushed = []
    for end, _ in saddles:
        step = settings.nudge * end.direction / end.direction.norm(dim=1).max()
        pushed += [end.structure.replace(positions=end.structure.positions + sign * step) for sign in (1, -1)]
    held = torch.cat([fixed[end.minimum].repeat(2) for end, _ in saddles])
    how = RelaxSettings(fmax=settings.fmax, max_steps=2000, closest=settings.closest)
    down = relax(concatenate(pushed), potential, how, reporter, held)
    parts, out = down.structures.split(), []
    for k, (end, count) in enumerate(saddles):
        waves, _ = wave_numbers(second[k][0], end.structure.numbers[~fixed[end.minimum]])
        two = (2 * k, 2 * k + 1)
        why = [down.failure[s] or ("" if bool(down.converged[s]) else "does not relax downhill") for s in two]
        out.append(
            Joined(
                end.minimum, end.structure, end.energy, end.curvature, count, int((waves < -imaginary).sum()),
                float(waves[0]), (parts[two[0]], parts[two[1]]),
                (float(down.energy[two[0]]), float(down.energy[two[1]])), why[0] or why[1],
            )
        )  # fmt: skip
    return out


class Minima:
    """The minima of one kind of atoms, numbered as they are met; the first one is that given."""

    def __init__(self, first: Structures, energy: float, same: float) -> None:
        self.structures, self.energies, self.same = [first], [energy], same
        self._marks = [neighbourhoods(first)]

    def number(self, one: Structures, energy: float) -> tuple[int, bool]:
        """Number of a minimum (a new one if it was not met), and whether its atoms are where those of that one are."""
        mark = neighbourhoods(one)
        for k, (other, theirs) in enumerate(zip(self.structures, self._marks, strict=True)):
            if abs(self.energies[k] - energy) < self.same and alike(mark, theirs):
                return k, farthest(one, other) < MOVED
        self.structures.append(one)
        self.energies.append(energy)
        self._marks.append(mark)
        return len(self.structures) - 1, True


def farthest(one: Structures, other: Structures) -> float:
    """Largest way of an atom from one structure to the same atoms in another (Angstrom)."""
    from ase.geometry import find_mic

    d = (one.positions - other.positions).numpy()
    d = d - d.mean(0) if not bool(one.pbc.any()) else d
    return float(np.linalg.norm(find_mic(d, one.cell[0].numpy(), one.pbc[0].numpy())[0], axis=1).max())
