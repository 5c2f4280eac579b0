"""DeePMD with local frames: the Deep Potential of 2018.

    E = sum_i E_i,   E_i = s [ N_Z(D'_i) - N_Z(D' of an isolated atom) ] + E0_Z
    e1 = r_a / |r_a|,   e2 = (r_b - (e1.r_b) e1) / |...|,   e3 = e1 x e2,   (x', y', z') = (r.e1, r.e2, r.e3)
    full:  D_ij = (1/r, x'/r^2, y'/r^2, z'/r^2)        radial:  D_ij = (1/r)

Neighbours a and b of atom i, its two nearest (or as a rule says, `AxisRule`), span its frame; b must not be in line
with a: 1 - |cos(a, b)| > 1e-4. The neighbours of each element are sorted by distance: the nearest `sel_full` fill
slots of four numbers, the next `sel_radial` slots of one, empty slots are 0. D is all full blocks, element by element
(ascending atomic number), then all radial ones; D' = (D - mean) / std by component and centre element, std at least
0.01. An atom without two neighbours out of line has no frame: its full slots hold (1/r, 0, 0, 0).

**Not smooth** (`smooth = False`): D jumps when two neighbours exchange rank or axis, and there is no cutoff function.
`rutile smoothness` measures the jumps.

**Handedness**: a reflection turns e1 and e2 with the atoms, but e3 = e1 x e2 the other way, so z' changes sign and D of
a mirror image differs. The network of the paper has to learn that this does not matter. Here N is the mean over the
frame (e1, e2, e3) and its mirror (e1, e2, -e3), which makes the energy exactly invariant under reflections.

**Ties**: neighbours at equal distance (crystals are full of them) would be sorted by rounding errors. Among them the
order is that of a fixed combination of x', y', z', and b is the one nearest to a: invariant under rotations, and the
same in a cell and its supercell.

Sources: L. Zhang, J. Han, H. Wang, R. Car and W. E, Phys. Rev. Lett. 120, 143001 (2018),
doi:10.1103/PhysRevLett.120.143001; floor of std and threshold of collinearity as in deepmd-kit (H. Wang et al., Comput.
Phys. Commun. 228, 178 (2018), doi:10.1016/j.cpc.2018.03.016).
Letters of shapes: N atoms, E edges, T elements, K components of D, R ranks.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor, nn

from rutile.core.elements import number, symbol
from rutile.core.errors import SettingsError
from rutile.graph.graph import Graph
from rutile.potentials.parts.mlp import MLP
from rutile.potentials.parts.network import NetworkPotential
from rutile.potentials.settings.deepmd import AxisRule, DeepMDSettings

COLLINEAR = 1e-4
"""b is in line with a where 1 - |cos(a, b)| is below this."""
TIE = 5e-6
"""Distances in a row with steps below this (Angstrom) are equal."""
TIE_BREAKER = (0.811, 0.511, 0.285)
"""Among equal distances, neighbours are sorted along this direction of the local frame (of length 1)."""
SMALLEST_STD = 1e-2
"""Components that vary less (1/Angstrom) are divided by this."""
UNTRAINED_FULL, UNTRAINED_RADIAL = 12, 24
"""Slots for each element before the training set has been seen."""


class SlotOverflowWarning(UserWarning):
    """An atom has more neighbours of an element than the potential has slots; the farthest are dropped."""


@dataclass(frozen=True)
class Slots:
    """How many neighbours of each element D has room for, in the order of the elements."""

    full: tuple[int, ...]
    """The nearest, with direction, [T]."""
    radial: tuple[int, ...]
    """The next, with their distance only, [T]."""

    @property
    def width(self) -> int:
        """Number of components K."""
        return 4 * sum(self.full) + sum(self.radial)

    def columns(self, table: Tensor) -> Tensor:
        """From values by rank and component [..., T, R, 4], missing ranks 0, those of D in its order, [..., K]."""
        ranks = max(map(sum, zip(self.full, self.radial, strict=True)))
        table = nn.functional.pad(table, (0, 0, 0, max(0, ranks - table.shape[-2])))
        full = [table[..., t, :n, :].flatten(-2) for t, n in enumerate(self.full)]
        both = enumerate(zip(self.full, self.radial, strict=True))
        return torch.cat(full + [table[..., t, n : n + m, 0] for t, (n, m) in both], -1)


def local_frames(
    vectors: Tensor, i: Tensor, n_atoms: int, first: Tensor | None = None, second: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Axes of each atom's frame, differentiable in `vectors`.

    Args:
        vectors: from each centre to its neighbours (Angstrom), [E, 3].
        i: centre of each edge, [E] int64.
        n_atoms: number of atoms N.
        first: edges that the first axis prefers, [E] bool (default: all).
        second: edges that the second axis prefers, [E] bool (default: all).

    Returns:
        Frames with e1, e2, e3 as columns, [N, 3, 3], and whether an atom has one, [N] bool; some axes where not.
    """
    r = vectors.detach().norm(dim=1)
    unit = vectors.detach() / r[:, None]
    every = torch.ones_like(i, dtype=torch.bool)
    a = _nearest(i, r, torch.zeros_like(r), every, every if first is None else first, n_atoms)
    cos = (unit * unit[a[i]]).sum(1)
    b = _nearest(i, r, cos, cos.abs() < 1 - COLLINEAR, every if second is None else second, n_atoms)
    has_frame = b < len(i)
    padded = torch.cat([vectors, torch.eye(3, dtype=vectors.dtype, device=vectors.device)[:2]])
    r_a, r_b = padded[torch.where(has_frame, a, len(i))], padded[torch.where(has_frame, b, len(i) + 1)]
    e1 = r_a / r_a.norm(dim=1, keepdim=True)
    across = r_b - (e1 * r_b).sum(1, keepdim=True) * e1
    e2 = across / across.norm(dim=1, keepdim=True)
    return torch.stack([e1, e2, torch.linalg.cross(e1, e2)], 2), has_frame


def _nearest(i: Tensor, r: Tensor, score: Tensor, allowed: Tensor, preferred: Tensor, n_atoms: int) -> Tensor:
    """Each centre's nearest allowed edge, a preferred one if it has any; of equal ones the highest score.

    Returns:
        [N] int64; the first where several are left, E where there is none.
    """
    liked = allowed & preferred
    has_liked = torch.zeros(n_atoms, dtype=torch.bool, device=i.device).index_fill_(0, i[liked], True)
    allowed = torch.where(has_liked[i], liked, allowed)
    for value, tolerance in ((r, TIE), (-score, 0.0)):
        limited = value.masked_fill(~allowed, math.inf)
        least = value.new_full((n_atoms,), math.inf).scatter_reduce(0, i, limited, "amin")
        allowed = allowed & (value <= least[i] + tolerance)
    edge = torch.arange(len(i), device=i.device).masked_fill(~allowed, len(i))
    return i.new_full((n_atoms,), len(i)).scatter_reduce(0, i, edge, "amin")


def ranks(group: Tensor, local: Tensor, n_groups: int) -> Tensor:
    """Rank of each edge by distance among those of its group, ties by position in the frame, [E] int64.

    Args:
        group: which centre and neighbour element, [E] int64.
        local: x', y', z' of the neighbours (Angstrom), [E, 3].
        n_groups: number of groups.
    """
    local = local.detach().double()
    r = local.norm(dim=1)
    beyond = 2 * r.max() + 1 if len(r) else 1.0
    order = torch.argsort(group * beyond + r)
    new = (group[order].diff() > 0) | (r[order].diff() > TIE)
    tie = torch.zeros_like(group)
    tie[order[1:]] = torch.cumsum(new, 0)
    order = torch.argsort(tie + (local @ local.new_tensor(TIE_BREAKER) / beyond + 0.5))
    counts = torch.bincount(group, minlength=n_groups)
    starts = torch.cumsum(counts, 0) - counts
    rank = torch.empty_like(group)
    rank[order] = torch.arange(len(group), device=group.device) - starts[group[order]]
    return rank


def components(local: Tensor, has_direction: Tensor) -> Tensor:
    """(1/r, x'/r^2, y'/r^2, z'/r^2) of each edge, the last three 0 where its centre has no frame, [E, 4]."""
    r = local.norm(dim=1, keepdim=True)
    return torch.cat([1 / r, local / r.square() * has_direction[:, None]], 1)


def fill(slots: Slots, centre: Tensor, element: Tensor, rank: Tensor, d: Tensor, n_atoms: int) -> Tensor:
    """D of each atom from the components of its neighbours; those of a rank beyond the slots are left out, [N, K].

    Args:
        slots: room for each element.
        centre: [E] int64.
        element: position of each neighbour's element among those of the slots, [E] int64.
        rank: of each neighbour among those of its element, [E] int64.
        d: of each neighbour, [E, 4].
        n_atoms: number of atoms N.
    """
    full, radial = (torch.tensor(n, device=rank.device) for n in (slots.full, slots.radial))
    starts = list(accumulate((*(4 * n for n in slots.full), *slots.radial), initial=0))
    start_full = torch.tensor(starts[: len(full)], device=rank.device)
    start_radial = torch.tensor(starts[len(full) : -1], device=rank.device)
    beyond = rank - full[element]
    near, far = beyond < 0, (beyond >= 0) & (beyond < radial[element])
    row = centre * slots.width
    column = (row + start_full[element] + 4 * rank)[near]
    places = [column + c for c in range(4)] + [(row + start_radial[element] + beyond)[far]]
    values = torch.cat([d[near].mT.reshape(-1), d[far, 0]])
    return d.new_zeros(n_atoms * slots.width).index_add(0, torch.cat(places), values).view(n_atoms, slots.width)


class DeepMD(NetworkPotential):
    """Local-frame Deep Potential; not smooth. Made in float64."""

    name = "deepmd"
    smooth = False
    settings: DeepMDSettings
    mean: Tensor
    """Of the components by centre element, [T, K]."""
    std: Tensor
    """[T, K]."""
    prefers: Tensor
    """Whether the first and second axis of a centre element prefer a neighbour element, [2, T, T] bool."""

    def __init__(
        self,
        settings: DeepMDSettings,
        elements: tuple[int, ...],
        generator: torch.Generator | None = None,
        modes: tuple[str, ...] = ("",),
    ) -> None:
        """Make the networks with random weights; `learn_statistics` makes them again if it finds the number of slots.

        Args:
            settings: numbers of slots that are not given are preliminary until `learn_statistics`.
            elements: atomic numbers.
            generator: source of the random weights (default: torch's own).
            modes: name of the calc mode; the networks know only one.

        Raises:
            SettingsError: slots are not given for exactly these elements, or a rule names an unknown element.
        """
        super().__init__(settings, elements, modes)
        self.cutoff = settings.cutoff
        self._seed = int(torch.randint(2**62, (), generator=generator))
        self._overflowed = False
        self.register_buffer("prefers", _preferences(settings.axes, self.elements), persistent=False)
        full = _given(settings.sel_full, self.elements, "sel_full")
        radial = _given(settings.sel_radial, self.elements, "sel_radial")
        t = len(self.elements)
        self._make(Slots(full or (UNTRAINED_FULL,) * t, radial or (UNTRAINED_RADIAL,) * t))

    def _make(self, slots: Slots) -> None:
        """Networks and scaling for these slots; the weights depend on the slots and the seed alone."""
        if slots.width == 0:
            raise SettingsError("sel_full and sel_radial leave no room for any neighbour")
        like = self.energy_scale
        generator = torch.Generator().manual_seed(self._seed)
        widths = (slots.width, *self.settings.hidden, 1)
        self.slots = slots
        self.networks = nn.ModuleList(MLP(widths, self.settings.activation, generator) for _ in self.elements).to(like)
        self.register_buffer("mean", torch.zeros(len(self.elements), slots.width).to(like))
        self.register_buffer("std", torch.ones(len(self.elements), slots.width).to(like))

    def outputs(self, graph: Graph, position: Tensor) -> Tensor:
        """Mean over both hands of the frames, [N]."""
        n, element = graph.n_atoms, position[graph.j]
        d, rank = self._neighbours(graph, position)
        self._warn_of_overflow(element, rank[0])
        both = torch.cat([fill(self.slots, graph.i, element, rank[h], d[h], n) for h in range(2)])
        kind = position.repeat(2)
        scaled = (both - self.mean[kind]) / self.std[kind]
        out = scaled.new_zeros(2 * n)
        for e, network in enumerate(self.networks):
            mine = (kind == e).nonzero().squeeze(1)
            out = out.index_copy(0, mine, network(scaled[mine]).squeeze(1))
        return out.view(2, n).mean(0)

    def describe(self, graph: Graph) -> Tensor:
        """D of each atom in its right-handed frame, not scaled, [N, K]."""
        position = self.position(graph.numbers)
        d, rank = self._neighbours(graph, position)
        return fill(self.slots, graph.i, position[graph.j], rank[0], d[0], graph.n_atoms)

    @torch.no_grad()
    def features(self, graph: Graph) -> Tensor:
        """D of each atom, scaled, detached, [N, 2 K]: mean and size of the difference of the two hands of its frame."""
        kind = self.position(graph.numbers)
        d, rank = self._neighbours(graph, kind)
        right, left = (fill(self.slots, graph.i, kind[graph.j], rank[h], d[h], graph.n_atoms) for h in range(2))
        parts = 0.5 * (right + left) - self.mean[kind], 0.5 * (right - left).abs()
        return torch.cat([part / self.std[kind] for part in parts], 1)

    def _neighbours(self, graph: Graph, position: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Components [E, 4] and ranks [E] in the right-handed frames and in their mirrors."""
        element = position[graph.j]
        first, second = self.prefers[:, position[graph.i], element]
        frames, has_frame = local_frames(graph.vectors, graph.i, graph.n_atoms, first, second)
        local = torch.einsum("ea,eab->eb", graph.vectors, frames[graph.i])
        hands = [local, local * local.new_tensor([1.0, 1.0, -1.0])]
        t = len(self.elements)
        rank = [ranks(graph.i * t + element, x, graph.n_atoms * t) for x in hands]
        return [components(x, has_frame[graph.i]) for x in hands], rank

    def learn_statistics(self, graphs: Iterable[Graph]) -> None:
        """Numbers of slots that are not given, and mean and std of the components over both hands."""
        t = len(self.elements)
        atoms = torch.zeros(t, dtype=torch.float64)
        sums = torch.zeros(2, t, t, 0, 4, dtype=torch.float64)  # of values and squares: centre, neighbour, rank
        most_full, most = torch.zeros(t, dtype=torch.long), torch.zeros(t, dtype=torch.long)
        for graph in graphs:
            position = self.position(graph.numbers)
            element = position[graph.j]
            atoms += torch.bincount(position, minlength=t).cpu()
            d, rank = self._neighbours(graph, position)
            near = graph.vectors.norm(dim=1) < self.settings.full_cutoff
            most.scatter_reduce_(0, element.cpu(), rank[0].cpu() + 1, "amax")
            most_full.scatter_reduce_(0, element[near].cpu(), rank[0][near].cpu() + 1, "amax")
            r = int(most.max())
            sums = nn.functional.pad(sums, (0, 0, 0, r - sums.shape[3]))
            for h in range(2):
                row = ((position[graph.i] * t + element) * r + rank[h]).cpu()
                x = d[h].detach().double().cpu()
                for total, value in zip(sums, (x, x.square()), strict=True):
                    total.view(-1, 4).index_add_(0, row, value / 2)
        self._take(most_full, most, sums / atoms.clamp(min=1)[:, None, None, None])

    def _take(self, most_full: Tensor, most: Tensor, means: Tensor) -> None:
        """Set slots from the largest numbers of neighbours [T] and scaling from means of values and squares."""
        given = self.settings
        full = _given(given.sel_full, self.elements, "sel_full") or tuple(most_full.tolist())
        rest = tuple(max(0, m - n) for m, n in zip(most.tolist(), full, strict=True))
        slots = Slots(full, _given(given.sel_radial, self.elements, "sel_radial") or rest)
        if slots != self.slots:
            self._make(slots)
        names = [symbol(z) for z in self.elements]
        resolved = {"sel_full": dict(zip(names, full, strict=True))}
        resolved |= {"sel_radial": dict(zip(names, slots.radial, strict=True))}
        self.settings = given.model_copy(update=resolved)
        mean, square = slots.columns(means)
        self.mean.copy_(mean)
        self.std.copy_((square - mean.square()).clamp(min=0).sqrt().clamp(min=SMALLEST_STD))

    def _warn_of_overflow(self, element: Tensor, rank: Tensor) -> None:
        """Say once that neighbours are dropped."""
        if self._overflowed:
            return
        room = torch.tensor(self.slots.full, device=rank.device) + torch.tensor(self.slots.radial, device=rank.device)
        over = rank - room[element]
        if len(over) and int(over.max()) >= 0:
            self._overflowed = True
            e = int(element[over.argmax()])
            warnings.warn(
                f"an atom has {int(room[e]) + int(over.max()) + 1} neighbours {symbol(self.elements[e])} within "
                f"{self.cutoff:g} Å, and the potential has slots for {int(room[e])} (sel_full, sel_radial): the "
                "farthest are dropped. Said once",
                SlotOverflowWarning,
                stacklevel=2,
            )


def _given(sel: dict[str, int] | None, elements: tuple[int, ...], what: str) -> tuple[int, ...] | None:
    """Numbers of slots in the order of the elements, if they are given.

    Raises:
        SettingsError: they are not given for exactly these elements.
    """
    if sel is None:
        return None
    by_number = {number(name): n for name, n in sel.items()}
    if set(by_number) != set(elements):
        wanted = ", ".join(symbol(z) for z in elements)
        raise SettingsError(f"potential.{what} is for {', '.join(sel) or 'no element'}: give it for {wanted}")
    return tuple(by_number[z] for z in elements)


def _preferences(axes: dict[str, AxisRule], elements: tuple[int, ...]) -> Tensor:
    """Whether the first and second axis of a centre prefer a neighbour, [2, T, T] bool.

    Raises:
        SettingsError: a rule names an element that the potential does not know.
    """
    prefers = torch.ones(2, len(elements), len(elements), dtype=torch.bool)
    for centre, rule in axes.items():
        names = [centre, *rule.first, *rule.second]
        if strange := [name for name in names if number(name) not in elements]:
            known = ", ".join(symbol(z) for z in elements)
            raise SettingsError(f"potential.axes names {strange[0]}, which is not among the elements {known}")
        for axis, liked in enumerate((rule.first, rule.second)):
            if liked:
                prefers[axis, elements.index(number(centre))] = torch.tensor([symbol(z) in liked for z in elements])
    return prefers
