"""A trajectory as arrays: positions without jumps, evenly spaced in time. Letters of shapes: F frames, N atoms."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from ase import Atoms, units

from rutile.core.errors import DataError


@dataclass(frozen=True)
class Trajectory:
    """Frames of the same atoms."""

    numbers: np.ndarray
    """Atomic numbers, [N]."""
    positions: np.ndarray
    """Without jumps across periodic boundaries, in the mean cell where cells change (Angstrom), [F, N, 3]."""
    cell: np.ndarray
    """Rows (Angstrom), [F, 3, 3]."""
    pbc: np.ndarray
    """[3] bool."""
    interval: float
    """Time from frame to frame (fs)."""
    velocities: np.ndarray | None
    """(Angstrom/fs), [F, N, 3]; None: not recorded."""

    def __len__(self) -> int:
        """Number of frames."""
        return len(self.positions)

    @property
    def volume(self) -> float:
        """Mean volume (Angstrom^3)."""
        return float(np.abs(np.linalg.det(self.cell)).mean())

    def after(self, time: float) -> Trajectory:
        """Without its first part.

        Args:
            time: length of that part (fs).

        Raises:
            DataError: fewer than two frames are left.
        """
        first = int(np.ceil(time / self.interval - 1e-9))
        if len(self) - first < 2:
            raise DataError(f"a trajectory of {(len(self) - 1) * self.interval:g} fs has nothing after {time:g} fs")
        velocities = None if self.velocities is None else self.velocities[first:]
        return dataclasses.replace(
            self, positions=self.positions[first:], cell=self.cell[first:], velocities=velocities
        )


def trajectory(images: Iterable[Atoms], interval: float | None, name: str) -> Trajectory:
    """A trajectory from frames.

    Args:
        images: frames in order. `info["time"]` (fs), if all have it, tells the interval; momenta give velocities.
        interval: time from frame to frame (fs); None: as the frames say.
        name: of the file, for errors.

    Raises:
        DataError: fewer than two frames, other atoms in some frame, times that are missing or not even, or atoms that
            move by more than half a cell between frames.
    """
    frames = list(images)
    if len(frames) < 2:
        raise DataError(f"{name}: {len(frames)} frame; a trajectory has at least two")
    numbers = frames[0].numbers
    for k, atoms in enumerate(frames):
        if not np.array_equal(atoms.numbers, numbers):
            raise DataError(f"{name}: frame {k} holds other atoms than frame 0, or in another order")
    cell = np.array([a.cell.array for a in frames])
    pbc = frames[0].pbc.copy()
    positions = unwrapped(np.array([a.positions for a in frames]), cell, pbc)
    moving = all("momenta" in a.arrays for a in frames)
    velocities = np.array([a.get_velocities() for a in frames]) * units.fs if moving else None
    return Trajectory(numbers, positions, cell, pbc, interval or _interval(frames, name), velocities)


def _interval(frames: list[Atoms], name: str) -> float:
    """Time between frames, from what they say (fs)."""
    times = [a.info.get("time") for a in frames]
    if any(not isinstance(t, int | float | np.number) for t in times):
        raise DataError(f"{name}: the frames do not say their time (info key time, in fs); give interval=... in fs")
    return even_interval(np.array(times, dtype=float), name)


def even_interval(times: np.ndarray, name: str) -> float:
    """Time between frames (fs) of frames at given times (fs), [F], two at least.

    Args:
        times: of the frames.
        name: of the file, for errors.

    Raises:
        DataError: they are not evenly spaced.
    """
    steps = np.diff(times)
    if not (steps[0] > 0 and np.allclose(steps, steps[0], rtol=1e-6)):
        k = int(np.abs(steps - steps[0]).argmax())
        raise DataError(
            f"{name}: frames are not evenly spaced in time: {steps[0]:g} fs at first, {steps[k]:g} fs after frame {k}"
        )
    return float(steps[0])


def unwrapped(positions: np.ndarray, cell: np.ndarray, pbc: np.ndarray) -> np.ndarray:
    """Positions without jumps, [F, N, 3]; where cells change, scaled into their mean."""
    if not pbc.any():
        return positions
    full = np.where(pbc[None, :, None], cell, 0.0)
    scaled = positions @ np.linalg.pinv(full)
    jumps = np.round(np.diff(scaled, axis=0)) * pbc
    scaled[1:] -= jumps.cumsum(axis=0)
    if np.allclose(cell, cell[:1], rtol=0, atol=1e-9):
        moved = np.zeros_like(positions)
        moved[1:] = -jumps.cumsum(axis=0) @ full[0]
        return np.asarray(positions + moved)
    if not pbc.all():
        return np.asarray(positions - np.concatenate([np.zeros_like(jumps[:1]), jumps.cumsum(axis=0)]) @ full)
    return np.asarray(scaled @ cell.mean(axis=0))
