"""Anatase: against sums written out edge by edge, and what its settings mean."""

import math
from itertools import chain

import pytest
import torch
from ase import Atoms
from pydantic import ValidationError
from torch.nn.functional import silu

from rutile.graph.graph import build_graph
from rutile.graph.neighbors import find_edges
from rutile.potentials.anatase import Anatase
from rutile.potentials.catalogue import make
from rutile.potentials.evaluate import evaluate
from rutile.potentials.parts.cartesian import COUPLINGS, couple, directions, normalise
from rutile.potentials.settings import AnataseSettings
from rutile.structures.structures import Structures, concatenate
from rutile.testing.potential_contract import potential_contract
from rutile.testing.strategies import random_structure

TINY = {
    "channels": 3,
    "radial": 4,
    "sources": 2,
    "hidden": 5,
    "embedding": 3,
    "waves": 4,
    "radial_hidden": 5,
    "readout": 4,
    "cutoffs": (4.0, 4.0),
}
TestLight = potential_contract(lambda: make(AnataseSettings(**TINY), (8, 22), seed=0), n_atoms=5)
GAIN = 1.6765


def structures():
    return concatenate([random_structure(k, [8, 22, 8, 8][: 4 - k], pbc=(k == 0,) * 3) for k in range(3)])


def dense(layer, x, gain=1.0):
    y = gain / math.sqrt(x.shape[-1]) * x @ layer.weight
    return y if layer.bias is None else y + layer.bias


def by_rank(x):
    """[9, ...] or [8, ...] -> rank -> [..., 2l + 1, C]."""
    x = x if len(x) == 9 else torch.cat([torch.zeros_like(x[:1]), x])
    return {0: x[0], 1: x[1:4].movedim(0, -2), 2: x[4:].movedim(0, -2)}


def messages(m, x, potential, vector, r_c):
    """What one neighbour adds to A before the mixing: rank -> [2l + 1, couplings K Q]."""
    r = vector.norm()
    u, k = (r / r_c) ** 4, potential.distinct.index(r_c)
    first, _, second, _, third = potential.radial[k]
    ns = range(1, potential.n_waves + 1)
    waves = torch.stack([2 * torch.sin(n * math.pi * r / r_c) / r / n**potential.settings.wave_decay for n in ns])
    b = dense(third, silu(dense(second, silu(dense(first, waves)), GAIN)), GAIN)
    b = b * torch.exp(1 - 1 / (1 - u)) / potential.spread[k]
    y = {rank: f[0] for rank, f in directions(vector[None] / r).items()}
    out = {0: [], 1: [], 2: []}
    for name in [name for names in m.names for name in names]:
        z = couple(name, x, y)  # [(2l + 1,) Q]
        out[int(name[2])].append((b[:, None] * z.reshape(-1, 1, z.shape[-1])).flatten(1))
    return {rank: torch.cat(z, 1) for rank, z in out.items()}


def layer_by_hand(layer, s, e, kind, graph, potential, r_c):
    """One layer with a loop over edges, products coupling by coupling."""
    s0 = normalise({0: s})[0]
    m = layer.messages
    x = {0: dense(m.scalars, kind if e is None else s0)}
    if e is not None:
        x |= {1: dense(m.tensors.vectors, e[1]), 2: dense(m.tensors.tensors, e[2])}
    zero = {rank: torch.zeros(2 * rank + 1, m.mix[rank].weight.shape[0]).double() for rank in range(3)}
    sums = [dict(zero) for _ in s]
    for i, j, v in zip(graph.i.tolist(), graph.j.tolist(), graph.vectors, strict=True):
        if v.norm() < r_c:
            new = messages(m, {rank: f[j] for rank, f in x.items()}, potential, v, r_c)
            sums[i] = {rank: sums[i][rank] + new[rank] for rank in new}
    a = {rank: torch.stack([dense(m.mix[rank], atom[rank]) for atom in sums]) for rank in range(3)}
    a[0] = a[0][:, 0]
    film = 1 + dense(layer.film, kind, 0.3).view(len(s), 3, -1)
    a = {rank: f * (film[:, rank] if rank == 0 else film[:, rank, None]) for rank, f in normalise(a).items()}
    b = {rank: torch.zeros_like(f) for rank, f in a.items()}
    for weight, name in zip(
        layer.products.square, ("000", "110", "220", "011", "121", "022", "112", "222"), strict=True
    ):
        b[int(name[2])] = b[int(name[2])] + 0.5 * weight * couple(name, a, a)
    dots = [a[0] * b[0], (a[1] * b[1]).sum(1), (a[2] * b[2]).sum(1)]
    d = 0.5 * sum(w * dot for w, dot in zip(layer.products.cube, dots, strict=True))
    o = dense(layer.update, silu(dense(layer.hidden, torch.cat([s0, a[0], b[0], d, kind], 1))), GAIN)
    if layer.last:
        return s + o, None
    change, gate = o[:, : s.shape[1]], 1 + o[:, s.shape[1] :].view(len(s), 2, 1, -1)
    new = {}
    for rank, mix, skip in ((1, "vectors", 0), (2, "tensors", 1)):
        new[rank] = dense(getattr(layer.mix, mix), torch.cat([a[rank], b[rank]], 2)) * gate[:, skip]
        if e is not None:
            new[rank] = new[rank] + dense(getattr(layer.skip, mix), e[rank])
    return s + change, normalise(new) if potential.settings.normalised_states else new


@pytest.mark.slow
@pytest.mark.parametrize(("couplings", "normalised_states"), [("light", False), ("full", False), ("light", True)])
def test_energies_by_hand(couplings, normalised_states):
    settings = AnataseSettings(
        **TINY | {"cutoffs": (4.0, 5.0, 4.0)}, couplings=couplings, normalised_states=normalised_states
    )
    potential = make(settings, (8, 22), seed=1, modes=("a", "b"))
    assert isinstance(potential, Anatase)
    batch = structures()
    graph = build_graph(batch, find_edges(batch, potential.cutoff), torch.tensor([0, 1, 0]))
    potential.learn_statistics([graph])
    position = potential.position(graph.numbers)
    with torch.no_grad():
        kind = potential.embedding.element[position] + potential.embedding.mode[graph.mode[graph.system]]
        s, e, seen = dense(potential.start, kind), None, [kind]
        for layer, r_c in zip(potential.layers, settings.cutoffs, strict=True):
            s, e = layer_by_hand(layer, s, e, kind, graph, potential, r_c)
            seen.append(s)
        expected = dense(potential.out, silu(dense(potential.hidden, torch.cat(seen, 1))), GAIN)[:, 0]
        torch.testing.assert_close(potential.outputs(graph, position), expected, rtol=1e-10, atol=1e-10)
    assert expected.std() > 1e-2


def test_light_and_full_use_the_couplings_they_name():
    used = {}
    for couplings in ("light", "full"):
        potential = make(AnataseSettings(**TINY, couplings=couplings), (8,), seed=0)
        first, second = (layer.messages.names for layer in potential.layers)
        assert sorted(chain(*first)) == ["000", "011", "022"]
        used[couplings] = sorted(chain(*second))
    assert used["full"] == list(COUPLINGS)
    assert sorted({*COUPLINGS} - {*used["light"]}) == ["121", "220", "222"]


def test_statistics_count_neighbours():
    """A dimer at half the cutoff of 4 and beyond that of 1.5: one neighbour with f = exp(-1/15), and none."""
    potential = make(AnataseSettings(**TINY | {"cutoffs": (1.5, 4.0)}), (8, 22))
    pair = Structures.from_ase(Atoms("OTi", [(0, 0, 0), (0, 0, 2)]))
    potential.learn_statistics([build_graph(pair, find_edges(pair, potential.cutoff))])
    torch.testing.assert_close(potential.spread, torch.tensor([1.0, math.exp(-1 / 15)], dtype=torch.float64))


def test_sizes_fill_in_and_give_way():
    small, medium, large = (AnataseSettings(size=size) for size in ("small", "medium", "large"))
    assert small == AnataseSettings()
    assert small.channels < medium.channels < large.channels
    mine = AnataseSettings(size="medium", channels=7)
    assert (mine.channels, mine.sources) == (7, medium.sources)
    assert AnataseSettings.model_validate(mine.model_dump()) == mine
    with pytest.raises(ValidationError, match="size"):
        AnataseSettings(size="huge")


def test_modes_differ_and_share():
    """Another mode, another energy; the same weights otherwise."""
    potential = make(AnataseSettings(**TINY), (8, 22), modes=("PBE", "SCAN"))
    batch = structures()
    one, two = (evaluate(potential, batch, mode=torch.full((3,), k)).atom_energy for k in (0, 1))
    assert (one - two).abs().max() > 1e-4
