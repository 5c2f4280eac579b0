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
    image: Tensor
    """Which of the images each neighbour lies in, [E] int32."""
    images: Tensor
    """System and cell shift of each image that holds a neighbour, [M, 4] int64."""


def compact(edges: Edges, system: Tensor) -> Wide | None:
    """A list for `near_edges`; None: not on the CPU, or no kernel.

    Args:
        edges: the list.
        system: of each atom, [N] int64.
    """
    n_atoms = len(system)
    if edges.i.device.type != "cpu" or n_atoms >= 2**31 or library() is None:
        return None
    first = torch.zeros(n_atoms + 1, dtype=torch.long)
    torch.cumsum(torch.bincount(edges.i, minlength=n_atoms), 0, out=first[1:])
    return Wide(first, edges.j.int(), *_images(edges, system))


def _images(edges: Edges, system: Tensor) -> tuple[Tensor, Tensor]:
    """Number of the image of each edge, [E] int32, and system and shift of each image, [M, 4] int64."""
    count, n_systems = len(edges.i), int(system[-1]) + 1 if len(system) else 0
    if not count:
        return torch.zeros(0, dtype=torch.int32), torch.zeros(0, 4, dtype=torch.long)
    low, high = edges.shift.aminmax(dim=0)
    sizes = high - low + 1
    most = n_systems * int(sizes.prod())
    if most > count + 1000:  # few of them are there
        which = torch.cat([system[edges.i, None], edges.shift], 1)
        images, image = which.unique(dim=0, return_inverse=True)
        return image.int(), images
    number = _function("number_images", "npppppppp", "n")
    assert number is not None, "a list was made without a kernel"
    ranks, image = torch.full((most,), -1, dtype=torch.int32), torch.empty(count, dtype=torch.int32)
    images = torch.empty(most, 4, dtype=torch.long)
    arrays = [x.contiguous() for x in (edges.i, system, edges.shift, low, sizes, ranks, image, images)]
    found = number(count, *(x.data_ptr() for x in arrays))
    return image, images[:found].clone()


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


class Scratch:
    """Memory that is written again and again: had anew, large arrays cost more than what is written into them."""

    def __init__(self) -> None:
        self._held: dict[str, Tensor] = {}

    def empty(self, name: str, size: int, dtype: torch.dtype) -> Tensor:
        """An array of a name, [size], whose last content is lost."""
        held = self._held.get(name)
        if held is None or held.dtype != dtype or len(held) < size:
            more = 0 if held is None else size // 8
            held = self._held[name] = torch.empty(size + more, dtype=dtype)
        return held[:size]


def near_edges(
    known: Wide,
    structures: Structures,
    cutoff: float,
    dtype: torch.dtype = torch.float64,
    *,
    which: bool = False,
    scratch: Scratch | None = None,
) -> Near:
    """Edges of a list that are shorter than the cutoff (Angstrom), in its order; computed in float64.

    Args:
        known: the list.
        structures: the batch on the CPU, of the list's atoms.
        cutoff: strictly smaller distances are near.
        dtype: of the vectors, float32 or float64.
        which: say which edges of the list they are.
        scratch: holds the result, which is lost at the next call; default: memory of its own.
    """
    empty = (scratch or Scratch()).empty
    n, most = structures.n_atoms, len(known.j)
    kernel = _function("near_edges_f64" if dtype == torch.float64 else "near_edges_f32", "nnippppnppppdpppppp", "n")
    assert kernel is not None, "a list was made without a kernel"
    x, cells = structures.positions.double().contiguous(), structures.cell.double().contiguous()
    system = structures.system.contiguous()
    i, j = empty("i", most, torch.long), empty("j", most, torch.long)
    said = empty("which", most if which else 0, torch.long)
    vectors, nearest = empty("vectors", 3 * most, dtype).view(-1, 3), empty("nearest", n, torch.float64)
    closest = torch.empty(structures.n_systems, dtype=torch.float64)
    offsets = empty("offsets", 3 * len(known.images), torch.float64)
    arrays = (known.first, system, known.j, known.image)
    more = (known.images, x, cells, offsets)
    threads = torch.get_num_threads() if most > FEW_EDGES else 1
    written = (said.data_ptr() if which else None, *(t.data_ptr() for t in (i, j, vectors, nearest, closest)))
    pointers = [t.data_ptr() for t in arrays], [t.data_ptr() for t in more]
    found = kernel(n, structures.n_systems, threads, *pointers[0], len(known.images), *pointers[1], cutoff**2, *written)
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
