"""Neighbours by the compiled kernel (`near.c`): canonical order, and which of too wide a list are near.

Each function gives None where there is no kernel, or it does not serve: NumPy and PyTorch then do the same.
Letters: N atoms, S systems, E edges.
"""

from __future__ import annotations

import ctypes
import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rutile.core.native import library
from rutile.graph.graph import Edges
from rutile.structures.structures import Structures

FEW_EDGES = 50_000
"""Below this the work is done before a second thread has started."""


def ordered(pairs: np.ndarray, shifts: np.ndarray, n_atoms: int) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Edges sorted by centre, neighbour and shift, in O(E).

    Args:
        pairs: centre and neighbour, [E, 2] int64.
        shifts: [E, 3] int32.
        n_atoms: N.

    Returns:
        Centres [E], neighbours [E] and shifts [E, 3], all int64; None: shifts beyond 1023 cells, or no kernel.
    """
    order = _function("order_edges", "nnppppp")
    if order is None:
        return None
    pairs, shifts = np.ascontiguousarray(pairs), np.ascontiguousarray(shifts)
    i, j, shift = np.empty(len(pairs), np.int64), np.empty(len(pairs), np.int64), np.empty((len(pairs), 3), np.int64)
    arrays = (pairs, shifts, i, j, shift)
    failed = order(n_atoms, len(pairs), *(a.ctypes.data for a in arrays))
    return None if failed else (i, j, shift)


@dataclass(frozen=True)
class Wide:
    """A list of too many edges as the kernel reads it."""

    first: Tensor
    """Where the edges of each atom begin, and their end, [N + 1] int64."""
    j: Tensor
    """Neighbours, [E] int32."""
    shift: Tensor
    """Cell shifts, [E, 3] int16."""


def compact(edges: Edges, n_atoms: int) -> Wide | None:
    """A list for `near_edges`; None: not on the CPU, shifts beyond 2^15 cells, or no kernel."""
    unfit = edges.i.device.type != "cpu" or n_atoms >= 2**31 or library() is None
    if unfit or (len(edges.shift) and int(edges.shift.abs().max()) >= 2**15):
        return None
    first = torch.zeros(n_atoms + 1, dtype=torch.long)
    torch.cumsum(torch.bincount(edges.i, minlength=n_atoms), 0, out=first[1:])
    return Wide(first, edges.j.int(), edges.shift.to(torch.int16).contiguous())


@dataclass(frozen=True)
class Near:
    """Edges of a list that are shorter than the cutoff, in its order."""

    i: Tensor
    """Centres, [E] int64."""
    j: Tensor
    """Neighbours, [E] int64."""
    vectors: Tensor
    """r_ij (Angstrom), [E, 3]."""
    which: Tensor
    """Which edges of the list they are, [E] int64; empty unless it was asked for."""
    closest: Tensor
    """Shortest distance in each structure (Angstrom, infinite where no two atoms are near), [S] float64."""


def near_edges(
    known: Wide, structures: Structures, cutoff: float, dtype: torch.dtype = torch.float64, *, which: bool = False
) -> Near:
    """Edges of a list that are shorter than the cutoff (Angstrom), in its order; computed in float64.

    Args:
        known: the list.
        structures: the batch on the CPU, of the list's atoms.
        cutoff: strictly smaller distances are near.
        dtype: of the vectors, float32 or float64.
        which: say which edges of the list they are.
    """
    n, most = structures.n_atoms, len(known.j)
    kernel = _function("near_edges_f64" if dtype == torch.float64 else "near_edges_f32", "nnippppppdpppppp", "n")
    assert kernel is not None, "a list was made without a kernel"
    x, cells = structures.positions.double().contiguous(), structures.cell.double().contiguous()
    system = structures.system.contiguous()
    said, i, j = (torch.empty(size, dtype=torch.long) for size in (most if which else 0, most, most))
    vectors, nearest = torch.empty(most, 3, dtype=dtype), torch.empty(n, dtype=torch.float64)
    closest = torch.empty(structures.n_systems, dtype=torch.float64)
    read = (t.data_ptr() for t in (known.first, system, known.j, known.shift, x, cells))
    threads = torch.get_num_threads() if most > FEW_EDGES else 1
    written = (said.data_ptr() if which else None, *(t.data_ptr() for t in (i, j, vectors, nearest, closest)))
    found = kernel(n, structures.n_systems, threads, *read, cutoff**2, *written)
    return Near(i[:found], j[:found], vectors[:found], said[:found], closest)


def farthest(structures: Structures, then: Tensor) -> Tensor | None:
    """How far the atoms moved: in each structure the longest displacement once its mean is taken off (Angstrom), [S].

    NaN where a coordinate is not finite; None: not float64 on the CPU, or no kernel.

    Args:
        structures: where atoms are now.
        then: where they were, [N, 3] (Angstrom).
    """
    kernel = _function("farthest", "nnpppp")
    now = structures.positions
    if kernel is None or any(x.device.type != "cpu" or x.dtype != torch.float64 for x in (now, then)):
        return None
    longest = torch.empty(structures.n_systems, dtype=torch.float64)
    arrays = (structures.system.contiguous(), now.contiguous(), then.contiguous(), longest)
    kernel(structures.n_atoms, structures.n_systems, *(t.data_ptr() for t in arrays))
    return longest


_KINDS = {"n": ctypes.c_int64, "i": ctypes.c_int, "p": ctypes.c_void_p, "d": ctypes.c_double}


@functools.cache
def _function(name: str, kinds: str, result: str = "i") -> Any:
    """A function of the kernel with its arguments, one letter for each; None: no kernel."""
    kernels = library()
    if kernels is None:
        return None
    function = getattr(kernels, name)
    function.argtypes, function.restype = [_KINDS[k] for k in kinds], _KINDS[result]
    return function
