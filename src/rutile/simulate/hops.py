"""Hops of one species between its sites in a crystal: which ones symmetry tells apart, and where they lead.

Sites and hops make a periodic net. A hop goes from site i of the first cell to site j of the cell T (three integers);
an operation of the space group, W p + w, that takes site i to site i' of the cell S_i takes it to (i', j',
W T + S_j - S_i). A route along a lattice vector t goes from a site to the same site t farther; its barrier is the
highest saddle on it above its lowest site. Letters of shapes: M sites of a cell, G operations.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import spglib
import torch

from rutile.core.errors import GeometryError
from rutile.simulate.defects import interstitial_sites
from rutile.simulate.supercells import repeated
from rutile.structures.structures import Structures
from rutile.structures.symmetry import SYMPREC

Edge = tuple[int, int, tuple[int, int, int]]
FARTHEST = 8.0
"""Longest hop (Angstrom) that is tried to make sites hang together."""
ON_THE_WAY = 0.25
"""A hop that passes another site nearer than this part of its length is two hops."""


@dataclass(frozen=True)
class Sites:
    """Where a species can be, in one cell of a crystal."""

    crystal: Structures
    """One structure."""
    number: int
    """Atomic number of what hops."""
    places: np.ndarray
    """In fractions of the cell, [M, 3]."""
    atom: tuple[int, ...]
    """Atom of the crystal at each site; empty where the species comes in addition (interstitial sites)."""
    kind: np.ndarray
    """Number of the set of sites that symmetry makes equal, [M]."""
    image: np.ndarray
    """Site to which each operation takes each site, [G, M]."""
    shift: np.ndarray
    """And in which cell that is, [G, M, 3]."""
    turn: np.ndarray
    """Rotations W, [G, 3, 3]."""

    @property
    def cell(self) -> np.ndarray:
        """Cell vectors as rows (Angstrom), [3, 3]."""
        return self.crystal.cell[0].numpy()

    def way(self, edge: Edge) -> np.ndarray:
        """From the beginning of a hop to its end (Angstrom), [3]."""
        i, j, cell = edge
        return np.asarray((self.places[j] + cell - self.places[i]) @ self.cell)


@dataclass(frozen=True)
class Hop:
    """Hops that symmetry makes equal."""

    members: tuple[Edge, ...]
    """Those that begin in the first cell, each in one direction only."""
    length: float
    """(Angstrom)."""


@dataclass(frozen=True)
class Route:
    """Hops in a row that lead along a lattice vector."""

    edges: tuple[Edge, ...]
    """In order, each from where the last one ended."""
    hops: tuple[int, ...]
    """Number of the hop that each is."""
    length: float
    """(Angstrom)."""


def vacancy_sites(crystal: Structures, number: int) -> Sites:
    """The atoms of an element, each of which can hop into the empty place of another.

    Raises:
        GeometryError: the crystal has none.
    """
    atoms = tuple((crystal.numbers == number).nonzero().flatten().tolist())
    if not atoms:
        raise GeometryError("it holds no atom of the species that shall hop")
    fractional = crystal.positions.numpy() @ np.linalg.inv(crystal.cell[0].numpy())
    return _sites(crystal, number, fractional[list(atoms)], atoms)


def additional_sites(crystal: Structures, number: int, given: Sequence[Sequence[float]], most: int) -> Sites:
    """Places between the atoms to which an additional atom can hop.

    Args:
        crystal: one structure.
        number: atomic number of the additional atom.
        given: places in fractions of the cell, one of each kind; empty: the widest holes.
        most: so many kinds of holes.

    Raises:
        GeometryError: there is no room.
    """
    kinds = [np.array(p, dtype=float) for p in given] or [p for p, _, _ in interstitial_sites(crystal)[:most]]
    if not kinds:
        raise GeometryError("it has no room for an additional atom; give sites=[[x, y, z]] in fractions of the cell")
    turns, shifts = _operations(crystal)
    every: list[np.ndarray] = []
    for place in kinds:
        for image in turns @ place + shifts:
            if all(_apart(image, other, crystal.cell[0].numpy()) > 2 * SYMPREC for other in every):
                every.append(image % 1.0)
    return _sites(crystal, number, np.array(every), ())


def _operations(crystal: Structures) -> tuple[np.ndarray, np.ndarray]:
    """Rotations and shifts of the space group in fractions of the cell, [G, 3, 3] and [G, 3]."""
    cell = crystal.cell[0].numpy()
    same: Any = (cell, crystal.positions.numpy() @ np.linalg.inv(cell), crystal.numbers.numpy())
    found = spglib.get_symmetry(same, symprec=SYMPREC)
    return (np.eye(3)[None], np.zeros((1, 3))) if found is None else (found["rotations"], found["translations"])


def _sites(crystal: Structures, number: int, places: np.ndarray, atoms: tuple[int, ...]) -> Sites:
    """Sites with what symmetry does to them; operations that do not take sites to sites are left out."""
    cell = crystal.cell[0].numpy()
    images, shifts, kept = [], [], []
    for turn, move in zip(*_operations(crystal), strict=True):
        moved = places @ turn.T + move
        d = moved[:, None] - places[None]
        whole = np.round(d)
        far = np.linalg.norm((d - whole) @ cell, axis=2)
        onto = far.argmin(1)
        if far.min(1).max() < 4 * SYMPREC and len(set(onto.tolist())) == len(places):
            images.append(onto)
            shifts.append(whole[np.arange(len(places)), onto].astype(int))
            kept.append(turn)
    image = np.array(images)
    first = image.min(0)
    kind = np.unique(first, return_inverse=True)[1]
    return Sites(crystal, number, places, atoms, kind, image, np.array(shifts), np.array(kept).astype(int))


def _apart(a: np.ndarray, b: np.ndarray, cell: np.ndarray) -> float:
    """Distance of two places to their nearest images (Angstrom)."""
    d = a - b
    return float(np.linalg.norm((d - np.round(d)) @ cell))


def distinct_hops(sites: Sites, longest: float) -> list[Hop]:
    """Hops of at most a length (Angstrom) that symmetry does not make equal, shortest first."""
    left = {e for e in _edges(sites, longest) if not _passes_a_site(sites, e)}
    out = []
    for edge in sorted(left, key=lambda e: (round(float(np.linalg.norm(sites.way(e))), 3), e)):
        if edge in left:
            members = tuple(sorted(set(_equal(sites, edge))))
            left -= set(members)
            out.append(Hop(members, float(np.linalg.norm(sites.way(edge)))))
    return out


def _edges(sites: Sites, longest: float) -> Iterator[Edge]:
    """Every hop that begins in the first cell, in one direction."""
    heights = 1 / np.linalg.norm(np.linalg.inv(sites.cell), axis=0)
    reach = [range(-n, n + 1) for n in (np.ceil(longest / heights) + 1).astype(int).tolist()]
    for cell in product(*reach):
        d = (sites.places[None] + np.array(cell) - sites.places[:, None]) @ sites.cell
        length = np.linalg.norm(d, axis=2)
        for i, j in zip(*np.nonzero((length <= longest + 1e-6) & (length > 10 * SYMPREC)), strict=True):
            yield _one_way((int(i), int(j), (cell[0], cell[1], cell[2])))


def _one_way(edge: Edge) -> Edge:
    """The same for a hop and the hop back."""
    i, j, (a, b, c) = edge
    return min(edge, (j, i, (-a, -b, -c)))


def _equal(sites: Sites, edge: Edge) -> Iterator[Edge]:
    """Hops that symmetry makes equal to one."""
    i, j, cell = edge
    for image, shift, turn in zip(sites.image, sites.shift, sites.turn, strict=True):
        a, b, c = (turn @ cell + shift[j] - shift[i]).tolist()
        yield _one_way((int(image[i]), int(image[j]), (int(a), int(b), int(c))))


def _passes_a_site(sites: Sites, edge: Edge) -> bool:
    """Whether another site lies on the straight way."""
    way, start = sites.way(edge), sites.places[edge[0]] @ sites.cell
    length = float(np.linalg.norm(way))
    middle = np.linalg.solve(sites.cell.T, start + way / 2)
    reach = [range(-n, n + 1) for n in np.ceil(length * np.linalg.norm(np.linalg.inv(sites.cell), axis=0)).astype(int)]
    shifts = np.array(list(product(*reach)))
    near = np.round(middle - sites.places)[None] + shifts[:, None]
    d = (sites.places + near).reshape(-1, 3) @ sites.cell - start
    along = d @ way / length**2
    off = np.linalg.norm(d - along[:, None] * way, axis=1)
    return bool(((along > 0.1) & (along < 0.9) & (off < ON_THE_WAY * length)).any())


def end_points(sites: Sites, edge: Edge, times: tuple[int, int, int]) -> tuple[Structures, Structures, int]:
    """A supercell before and after a hop, with its atoms in one order, and the number of the atom that hops.

    Raises:
        GeometryError: the supercell is so small that the way through its boundary is as short.
    """
    i, j, cell = edge
    large, way = repeated(sites.crystal, times), torch.as_tensor(sites.way(edge))
    steps = torch.cartesian_prod(*(torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64) for _ in range(3)))
    if float((way + steps @ large.cell[0]).norm(dim=1).min()) < float(way.norm()) - 1e-6:
        raise GeometryError(
            f"a hop of {float(way.norm()):.2f} Å is longer than half of the supercell {times}: take a larger supercell"
        )
    if sites.atom:
        gone, a, b, c = sites.atom[i], *(n % t for n, t in zip(cell, times, strict=True))
        mover = ((a * times[1] + b) * times[2] + c) * sites.crystal.n_atoms + sites.atom[j]
        kept = torch.arange(large.n_atoms) != gone
        if gone == mover:
            raise GeometryError(f"the supercell {times} is too small: an atom would hop to its own image")
        before = Structures(large.numbers[kept], large.positions[kept], large.cell, large.pbc, large.system[kept])
        mover -= int(mover > gone)
        way = -way  # the atom fills the empty place
    else:
        place = torch.as_tensor(sites.places[i] @ sites.cell)[None]
        before = Structures(
            torch.cat([large.numbers, torch.tensor([sites.number])]), torch.cat([large.positions, place]),
            large.cell, large.pbc, torch.zeros(large.n_atoms + 1, dtype=torch.long),
        )  # fmt: skip
        mover = large.n_atoms
    positions = before.positions.clone()
    positions[mover] += way
    return before, before.replace(positions=positions), mover


class Net:
    """Hops as a periodic net, for looking for routes.

    Args:
        sites: the sites.
        hops: the hops.
    """

    def __init__(self, sites: Sites, hops: Sequence[Hop]) -> None:
        self.sites, self.hops = sites, hops
        self.near: list[list[tuple[Edge, int, float]]] = [[] for _ in sites.places]
        for number, hop in enumerate(hops):
            for i, j, (a, b, c) in hop.members:
                self.near[i].append(((i, j, (a, b, c)), number, hop.length))
                back: Edge = (j, i, (-a, -b, -c))
                if back != (i, j, (a, b, c)):
                    self.near[j].append((back, number, hop.length))

    def route(
        self, direction: Sequence[int], longest: float, allowed: Callable[[int], bool] = lambda _: True
    ) -> Route | None:
        """The shortest route along a lattice vector, with hops that are allowed, or None.

        Args:
            direction: [u v w], of the given cell.
            longest: length of the whole route (Angstrom).
            allowed: by the number of a hop.
        """
        best: Route | None = None
        for site in range(len(self.near)):
            found = self._from(site, tuple(int(n) for n in direction), longest, allowed)
            if found is not None and (best is None or found.length < best.length - 1e-6):
                best = found
        return best

    def lowest(self, direction: Sequence[int], longest: float, tops: Sequence[float | None]) -> Route | None:
        """The route whose highest saddle is lowest; `tops` are those of the hops (eV), None: no way."""
        for limit in sorted({t for t in tops if t is not None}):
            low = {n for n, top in enumerate(tops) if top is not None and top <= limit}
            found = self.route(direction, longest, low.__contains__)
            if found is not None:
                return found
        return None

    def used(self, direction: Sequence[int], longest: float) -> set[int]:
        """Numbers of the hops that are on some route of at most a length (Angstrom) along a lattice vector."""
        out: set[int] = set()
        for site in range(len(self.near)):
            t = np.array(direction)
            ahead = self._distances(site, np.zeros(3, dtype=int), t, longest)
            back = self._distances(site, t, -t, longest)
            for (place, cell), far in ahead.items():
                for (_, j, step), number, length in self.near[place]:
                    there = (j, tuple(int(x) for x in np.add(cell, step)))
                    if far + length + back.get(there, np.inf) <= longest + 1e-6:
                        out.add(number)
        return out

    def _distances(
        self, site: int, start: np.ndarray, direction: np.ndarray, longest: float
    ) -> dict[tuple[int, tuple[int, ...]], float]:
        """Lengths of the shortest ways from a site of a cell, as far as they can be part of a route (Angstrom)."""
        goal = (self.sites.places[site] + start + direction) @ self.sites.cell
        done: dict[tuple[int, tuple[int, ...]], float] = {}
        queue: list[tuple[float, int, tuple[int, ...]]] = [(0.0, site, tuple(start.tolist()))]
        while queue:
            far, place, cell = heapq.heappop(queue)
            if (place, cell) in done:
                continue
            done[place, cell] = far
            for (_, j, step), _, length in self.near[place]:
                there = tuple(int(x) for x in np.add(cell, step))
                left = float(np.linalg.norm((self.sites.places[j] + there) @ self.sites.cell - goal))
                if far + length + left <= longest + 1e-6 and (j, there) not in done:
                    heapq.heappush(queue, (far + length, j, there))
        return done

    def _from(
        self, site: int, direction: tuple[int, ...], longest: float, allowed: Callable[[int], bool]
    ) -> Route | None:
        """The shortest route from a site to its image."""
        goal = (self.sites.places[site] + direction) @ self.sites.cell
        first = (site, (0, 0, 0))
        queue: list[tuple[float, int, tuple[int, ...]]] = [(0.0, *first)]
        done: set[tuple[int, tuple[int, ...]]] = set()
        came: dict[tuple[int, tuple[int, ...]], tuple[float, Edge, int]] = {}
        while queue:
            far, place, cell = heapq.heappop(queue)
            if (place, cell) in done:
                continue
            done.add((place, cell))
            if (place, cell) == (site, direction):
                return _traced(came, (site, direction), first, far)
            for edge, number, length in self.near[place]:
                there = tuple(int(x) for x in np.add(cell, edge[2]))
                left = float(np.linalg.norm((self.sites.places[edge[1]] + there) @ self.sites.cell - goal))
                total = far + length
                if total + left > longest + 1e-6 or not allowed(number) or (edge[1], there) in done:
                    continue
                if total < came.get((edge[1], there), (np.inf,))[0] - 1e-9:
                    came[edge[1], there] = (total, edge, number)
                    heapq.heappush(queue, (total, edge[1], there))
        return None


def _traced(
    came: dict[tuple[int, tuple[int, ...]], tuple[float, Edge, int]],
    end: tuple[int, tuple[int, ...]],
    first: tuple[int, tuple[int, ...]],
    length: float,
) -> Route:
    """The route, from how each of its sites was reached."""
    edges: list[Edge] = []
    numbers: list[int] = []
    at = end
    while at != first:
        _, edge, number = came[at]
        edges.append(edge)
        numbers.append(number)
        at = (edge[0], tuple(int(x) for x in np.subtract(at[1], edge[2])))
    return Route(tuple(edges[::-1]), tuple(numbers[::-1]), length)


def reaching(sites: Sites, directions: Sequence[Sequence[int]], detour: float) -> float:
    """The least length of hops (Angstrom) that lead along all lattice vectors given.

    Args:
        sites: the sites.
        directions: lattice vectors [u v w].
        detour: a route may be so many times as long as its lattice vector.

    Raises:
        GeometryError: hops of 8 Angstrom do not.
    """
    hops = distinct_hops(sites, FARTHEST)
    for k, hop in enumerate(hops):
        net = Net(sites, hops[: k + 1])
        if all(net.route(d, detour * length_along(sites, d)) is not None for d in directions):
            return hop.length
    raise GeometryError(
        f"hops of up to {FARTHEST:g} Å do not lead along {' '.join(str(list(d)) for d in directions)}: give longest=, "
        "other directions, or a larger detour"
    )


def length_along(sites: Sites, direction: Sequence[int]) -> float:
    """Length of the lattice vector [u v w] (Angstrom)."""
    return float(np.linalg.norm(np.array(direction) @ sites.cell))


def leads_forward(sites: Sites, one: Edge, other: Edge) -> bool:
    """Whether symmetry takes one hop to another (or only to its way back)."""
    i, j, cell = one
    for image, shift, turn in zip(sites.image, sites.shift, sites.turn, strict=True):
        step = tuple(int(x) for x in turn @ cell + shift[j] - shift[i])
        if (int(image[i]), int(image[j]), step) == (other[0], other[1], tuple(other[2])):
            return True
    return False
