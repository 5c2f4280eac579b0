"""Neighbours by the compiled kernels: a search (`search.c`), and which of too wide a list are near (`near.c`).

Each function gives None where there is no kernel, or it does not serve: NumPy and PyTorch then do the same.
Letters: N atoms, S systems, E edges.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

import torch
from torch import Tensor

from rutile.core.native import function
from rutile.graph.graph import Edges
from rutile.structures.structures import Structures

FEW_EDGES = 50_000
"""Below this the work is done before a second thread has started."""


def searched(structures: Structures, cutoff: float) -> Edges | None:
    """All directed edges shorter than a cutoff, sorted by centre, neighbour and shift, in O(N).

    Args:
        structures: with finite coordinates, and cells that are independent in the periodic directions.
        cutoff: strictly smaller distances are near (Angstrom).

    Returns:
        The edges, on the CPU; None: atoms or cutoff reach over hundreds of cells, or no kernel.
    """
    found = _search(structures, cutoff)
    if found is None:
        return None
    count, _, first, keys = found
    i, j, shift = (torch.empty(shape, dtype=torch.long) for shape in ((count,), (count,), (count, 3)))
    write = function("write_edges", "nppppp")
    write(len(first) - 1, first.data_ptr(), keys, *(x.data_ptr() for x in (i, j, shift)))
    return Edges(i, j, shift, cutoff)


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
    """System and cell shift of each image that holds a neighbour, system by system, [M, 4] int64."""

    def edges(self, cutoff: float) -> Edges:
        """The same list for everybody; the cutoff is the one that it was searched with (Angstrom)."""
        atoms = torch.arange(len(self.first) - 1)
        return Edges(atoms.repeat_interleave(self.first.diff()), self.j.long(), self.shifts(self.image), cutoff)

    def shifts(self, image: Tensor) -> Tensor:
        """Cell shifts of images by their numbers, [E] -> [E, 3] int64."""
        return self.images[image.long(), 1:]

    def split(self, sizes: list[int]) -> list[Wide]:
        """The list of each structure, by their numbers of atoms; atoms and images count from 0."""
        out, a, m = [], 0, 0
        counts = torch.bincount(self.images[:, 0], minlength=len(sizes)).tolist()
        for n, images in zip(sizes, counts, strict=True):
            begin, end = self.first[a], self.first[a + n]
            own = torch.cat([torch.zeros(images, 1, dtype=torch.long), self.images[m : m + images, 1:]], 1)
            part = Wide(self.first[a : a + n + 1] - begin, self.j[begin:end] - a, self.image[begin:end] - m, own)
            out.append(part)
            a, m = a + n, m + images
        return out


def searched_wide(structures: Structures, cutoff: float) -> Wide | None:
    """What `searched` finds, for `near_edges`; None also where the structures are not on the CPU."""
    found = None if structures.positions.device.type != "cpu" else _search(structures, cutoff)
    if found is None:
        return None
    count, sizes, first, keys = found
    j, image = torch.empty(count, dtype=torch.int32), torch.empty(count, dtype=torch.int32)
    images = torch.empty(count, 4, dtype=torch.long)
    write = function("write_wide", "npppppp", "n")
    arrays = [x.data_ptr() for x in (j, image, images)]
    met = write(len(sizes), sizes.data_ptr(), first.data_ptr(), keys, *arrays)
    return None if met < 0 else Wide(first, j, image, images[:met].clone())


def join_wide(parts: list[Wide]) -> Wide:
    """The list of a batch from those of its structures."""
    if len(parts) == 1:
        return parts[0]
    first, j, image, images = [torch.zeros(1, dtype=torch.long)], [], [], []
    atoms = edges = found = 0
    for s, part in enumerate(parts):
        first.append(part.first[1:] + edges)
        j.append(part.j + atoms)
        image.append(part.image + found)
        images.append(part.images + torch.tensor([s, 0, 0, 0]))
        atoms, edges, found = atoms + len(part.first) - 1, edges + len(part.j), found + len(part.images)
    none = torch.zeros(0, dtype=torch.int32)
    return Wide(torch.cat(first), torch.cat([none, *j]), torch.cat([none, *image]),
                torch.cat([torch.zeros(0, 4, dtype=torch.long), *images]))  # fmt: skip


def _search(structures: Structures, cutoff: float) -> tuple[int, Tensor, Tensor, ctypes.c_void_p] | None:
    """Number of edges E, sizes [S], where those of each atom begin [N + 1], and where the kernel put them."""
    search = function("search_edges", "nppppdipp", "n")
    if search is None or structures.n_atoms >= 2**30 or not cutoff > 0:
        return None
    x, cells = (t.detach().cpu().double().contiguous() for t in (structures.positions, structures.cell))
    sizes, pbc = structures.counts.cpu(), structures.pbc.cpu().contiguous()
    first, keys = torch.empty(len(x) + 1, dtype=torch.long), ctypes.c_void_p()
    addresses = [t.data_ptr() for t in (sizes, x, cells, pbc)]
    threads = torch.get_num_threads()
    count = search(len(sizes), *addresses, cutoff, threads, first.data_ptr(), ctypes.addressof(keys))
    return None if count < 0 else (count, sizes, first, keys)


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
    kernel = function("near_edges_f64" if dtype == torch.float64 else "near_edges_f32", "nnippppnppppdpppppp", "n")
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
    kernel = function("farthest", "nnpppp")
    now = structures.positions
    if kernel is None or any(x.device.type != "cpu" or x.dtype != torch.float64 for x in (now, then)):
        return None
    longest = torch.empty(structures.n_systems, dtype=torch.float64)
    arrays = (structures.system.contiguous(), now.contiguous(), then.contiguous(), longest)
    kernel(structures.n_atoms, structures.n_systems, *(t.data_ptr() for t in arrays))
    return longest
