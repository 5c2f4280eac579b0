"""First guesses of reaction paths: straight lines, or distances between atoms that change evenly (IDPP).

Source of the latter: S. Smidstrup et al., J. Chem. Phys. 140, 214106 (2014), doi:10.1063/1.4878664, as in ASE.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from ase import Atoms
from ase.constraints import FixAtoms
from ase.mep.neb import NEB, idpp_interpolate
from torch import Tensor

from rutile.core.errors import GeometryError
from rutile.core.seeds import stream
from rutile.structures.structures import Structures, concatenate

FARTHEST = 1e-3
"""Atoms that stay may differ between the ends by so much (Angstrom)."""


def first_guess(
    start: Structures,
    end: Structures,
    images: int,
    guess: Literal["idpp", "linear"] = "idpp",
    fixed: Tensor | None = None,
) -> Structures:
    """A path from one structure to another, without jumps across periodic boundaries.

    Where cells differ, the second is turned so that the way from cell to cell is a pure stretch.

    Args:
        start: one structure.
        end: the same atoms in the same order; each goes to the nearest of its images.
        images: number of images between them.
        guess: what changes evenly: positions, or (from there) distances.
        fixed: atoms that stay, [N] bool.

    Raises:
        GeometryError: the ends hold other atoms or are the same, or an atom that stays is elsewhere.
    """
    start, end = (s.to(dtype=torch.float64, device="cpu") for s in (start, end))
    require_same_atoms(start, end)
    if fixed is None:
        fixed = torch.zeros(start.n_atoms, dtype=torch.bool)
    cell, stretch = _stretch(start, end)
    positions = _unwrapped(start, end, cell)
    apart = (positions - start.positions @ stretch).norm(dim=1)
    if float(apart.max()) < FARTHEST and torch.allclose(stretch, torch.eye(3).double(), atol=1e-6):
        raise GeometryError("both ends are the same structure (no atom is more than 0.001 Å apart)")
    if bool((apart[fixed] > FARTHEST).any()):
        k = int(torch.where(fixed, apart, 0.0).argmax())
        raise GeometryError(
            f"atom {k} shall stay, but is {apart[k]:.3f} Å apart in both ends: fix atoms that are at one place in both"
        )
    if torch.equal(cell, start.cell[0]):
        positions = torch.where(fixed[:, None], start.positions, positions)
        middle = [start.positions + k / (images + 1) * (positions - start.positions) for k in range(1, images + 1)]
        ends = [start.positions, *middle, positions]
        path = concatenate(start.replace(positions=p) for p in ends)
        return _idpp(path, fixed) if guess == "idpp" and images and start.n_atoms > 1 else path
    return concatenate(_between(start, positions, cell, k / (images + 1)) for k in range(images + 2))


def rattled(path: Structures, size: float, fixed: Tensor, seed: int = 0) -> Structures:
    """A path whose inner images bow out at random, smoothly and by at most about `size` (Angstrom) in the middle.

    Args:
        path: images of one path, in order.
        size: standard deviation of each coordinate in the middle (Angstrom).
        fixed: atoms that stay, [N] bool.
        seed: same seed, same path.
    """
    count = path.n_systems
    bow = size * stream(seed, "bow").normal(size=(len(fixed), 3))
    part = torch.sin(torch.linspace(0.0, torch.pi, count, dtype=torch.float64))
    part[[0, -1]] = 0.0
    move = torch.as_tensor(bow) * ~fixed[:, None]
    return path.replace(positions=path.positions + (part[:, None, None] * move).reshape(-1, 3))


def _between(start: Structures, positions: Tensor, cell: Tensor, x: float) -> Structures:
    """A part x of the way from a crystal to positions (Angstrom), [N, 3], in another cell, [3, 3]."""
    begun = torch.linalg.solve(start.cell[0], start.positions, left=False)
    ended = torch.linalg.solve(cell, positions, left=False)
    now = start.cell[0] + x * (cell - start.cell[0])
    return start.replace(positions=((1 - x) * begun + x * ended) @ now, cell=now[None])


def require_same_atoms(start: Structures, end: Structures) -> None:
    """Refuse ends between which there is no path.

    Args:
        start: one structure.
        end: another.

    Raises:
        GeometryError: they hold other atoms, or in another order, or are periodic along other directions.
    """
    if start.n_atoms != end.n_atoms:
        raise GeometryError(f"the ends hold {start.n_atoms} and {end.n_atoms} atoms: a path keeps its atoms")
    if not torch.equal(start.numbers, end.numbers):
        k = int((start.numbers != end.numbers).nonzero()[0])
        raise GeometryError(f"atom {k} is another element in both ends: sort the atoms of both alike")
    if not torch.equal(start.pbc, end.pbc):
        raise GeometryError("the ends are periodic in different directions")


def _stretch(start: Structures, end: Structures) -> tuple[Tensor, Tensor]:
    """Cell of the end, turned, and the pure stretch from the first cell to it, both [3, 3]."""
    one = torch.eye(3, dtype=torch.float64)
    if not bool(start.pbc.all()) or torch.allclose(start.cell, end.cell, atol=1e-8):
        return start.cell[0], one
    deform = torch.linalg.solve(start.cell[0], end.cell[0])
    u, s, _ = torch.linalg.svd(deform)  # deform = rotation-free part times rotation
    stretch = u @ torch.diag(s) @ u.T
    return start.cell[0] @ stretch, stretch


def _unwrapped(start: Structures, end: Structures, cell: Tensor) -> Tensor:
    """Positions of the end, each the image nearest to where the atom began, [N, 3]."""
    if not bool(start.pbc.any()):
        return end.positions
    inverse = torch.linalg.pinv(torch.where(start.pbc[0][:, None], start.cell[0], 0.0))
    inverse_end = torch.linalg.pinv(torch.where(end.pbc[0][:, None], end.cell[0], 0.0))
    step = end.positions @ inverse_end - start.positions @ inverse
    jumps = torch.where(start.pbc[0], _nearest(step, start.cell[0]), 0.0)
    if bool(start.pbc.all()):
        inside: Tensor = (end.positions @ inverse_end - jumps) @ cell
        return inside
    return end.positions - jumps @ torch.where(start.pbc[0][:, None], end.cell[0], 0.0)


def _nearest(step: Tensor, cell: Tensor) -> Tensor:
    """Whole cells to take from fractional steps [N, 3] so that they become shortest, [N, 3]."""
    base = step.round()
    near = torch.cartesian_prod(*[torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64)] * 3)
    lengths = ((step - base)[:, None] - near[None]) @ cell
    return base + near[lengths.norm(dim=2).argmin(1)]


def _idpp(path: Structures, fixed: Tensor) -> Structures:
    """The path on which distances change evenly; where two atoms pass through each other they first step aside."""
    images = path.to_ase()
    rng = stream(0, "idpp")
    for atoms in images[1:-1]:
        _step_aside(atoms, ~fixed.numpy(), rng)
        atoms.set_constraint(FixAtoms(mask=fixed.numpy()))
    idpp_interpolate(NEB(images, method="improvedtangent"), traj=None, log=None, mic=bool(path.pbc.any()), steps=200)
    return path.replace(positions=torch.as_tensor(np.concatenate([a.positions for a in images])))


def _step_aside(atoms: Atoms, free: np.ndarray, rng: np.random.Generator) -> None:
    """Move free atoms a little where two lie on each other."""
    distances = atoms.get_all_distances(mic=bool(atoms.pbc.any()))
    np.fill_diagonal(distances, np.inf)
    close = (distances.min(axis=1) < 0.1) & free
    atoms.positions[close] += 0.2 * rng.normal(size=(int(close.sum()), 3))
