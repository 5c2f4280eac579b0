"""Committees in one pass: the numbers of one member after another, for fewer operations.

Where `zbl_end` is given, atoms feel each other's cores in the structures here.
"""

from contextlib import contextmanager

import pytest
import torch
from ase import Atoms

from rutile.core import native
from rutile.graph.graph import build_graph
from rutile.graph.neighbors import find_edges
from rutile.potentials.catalogue import make
from rutile.potentials.combine import Mean, mean
from rutile.potentials.evaluate import evaluate, evaluate_members
from rutile.potentials.parts import symmetry_native
from rutile.potentials.parts.descriptor_networks import DescriptorNetworks
from rutile.potentials.settings import AniSettings, BehlerSettings
from rutile.structures.structures import Structures, concatenate
from rutile.testing.strategies import random_structure

QUANTITIES = ("energy", "forces", "stress", "atom_energy")
KINDS = {
    "whitened": (BehlerSettings(table="tio2_artrith_urban_2016", hidden=(7, 5), zbl_end=1.0), (8, 22)),
    "one element missing": (BehlerSettings(hidden=(6,), scaling="standard"), (8, 13, 22)),
    "tables of different widths": (BehlerSettings(table="cuauoh_artrith", hidden=(4,)), (1, 8, 29, 79)),
    "linear": (BehlerSettings(hidden=(), scaling="minmax"), (8, 22)),
    "ani": (AniSettings(hidden=(9, 4), zbl_end=0.9), (8, 22)),
    "ani, published widths": (AniSettings(aev="ani1x", scaling="whitened"), (1, 8)),
}


def batch(elements):
    """Crystals, a molecule, and a lonely atom in the middle; never the middle one of three elements."""
    present = [z for z in elements if z != 13]
    parts = [random_structure(s, [present[(s + k) % len(present)] for k in range(5)]) for s in range(2)]
    lonely = Structures.from_ase(Atoms(numbers=present[:1], positions=[(0, 0, 0)]))
    places = [(0, 0, 0), (1.7, 0.2, 0), (0.1, 1.9, 0.4), (2.0, 1.8, 1.1)]
    molecule = Structures.from_ase(Atoms(numbers=[present[0], present[-1]] * 2, positions=places))
    return concatenate([parts[0], lonely, molecule, parts[1]])


def committee(settings, elements, n):
    """Members that differ in weights, scaling, energy scale and references."""
    members = [make(settings, elements, k) for k in range(n)]
    for k, member in enumerate(members):
        structures = concatenate(random_structure(10 * k + s, [elements[s % len(elements)]] * 4) for s in range(6))
        graph = build_graph(structures, find_edges(structures, member.cutoff))
        member.fit_scaling([(member.describe(graph), structures.numbers)])
        member.set_energy_scale(1.0 + k)
        member.set_reference_energies({z: -float(z * (k + 1)) for z in elements})
    return members


@contextmanager
def kernels(on):
    with pytest.MonkeyPatch.context() as patch:
        if not on:
            patch.setattr(symmetry_native, "library", lambda: None)
        yield


@contextmanager
def members_alone_forbidden():
    """Fails where a member goes through its own networks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DescriptorNetworks, "energies", lambda *_: pytest.fail("a member on its own"))
        yield


def assert_same(one, other, tolerance=1e-12):
    for name in QUANTITIES:
        x, y = getattr(one, name), getattr(other, name)
        torch.testing.assert_close(x, y, rtol=0, atol=tolerance * float(y.abs().max()) + 1e-14)
        assert not x.requires_grad


@pytest.mark.slow
@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("n", [2, 5])
@pytest.mark.parametrize("kind", sorted(KINDS))
def test_together_is_one_after_another(kind, n, compiled):
    if compiled and native.library() is None:
        pytest.skip(native.reason())
    settings, elements = KINDS[kind]
    members, structures = committee(settings, elements, n), batch(elements)
    with kernels(compiled):
        alone = [evaluate(m, structures) for m in members]
        with members_alone_forbidden():
            together = evaluate_members(members, structures)
            in_parts = evaluate_members(members, structures, edges_at_once=40)
    for a, b, c in zip(together, alone, in_parts, strict=True):
        assert_same(a, b)
        assert_same(c, b)
    assert float(alone[0].forces.abs().max()) > 1e-3
    assert float((alone[0].forces - alone[1].forces).abs().max()) > 1e-3


def test_members_of_other_settings_keep_their_places():
    table = {"table": "tio2_artrith_urban_2016"}
    few, many = (BehlerSettings(hidden=hidden, **table) for hidden in ((4,), (5, 3)))
    a, b = committee(few, (8, 22), 3), committee(many, (8, 22), 2)
    mixed, structures = [a[0], b[0], a[1], b[1], a[2]], batch((8, 22))
    alone = [evaluate(m, structures) for m in mixed]
    described = []
    together = evaluate_members(mixed, structures, watch=lambda p, g: described.append((p, g)))
    for x, y in zip(together, alone, strict=True):
        assert_same(x, y)
    graph = build_graph(structures, find_edges(structures, a[0].cutoff))
    assert [p for p, _ in described] == mixed
    for potential, descriptors in described:
        torch.testing.assert_close(descriptors, potential.describe(graph))


@pytest.mark.parametrize("kind", ["whitened", "ani"])
def test_the_mean_computes_descriptors_once(kind, monkeypatch):
    members, structures = committee(*KINDS[kind], 3), batch((8, 22))
    expected = mean([evaluate(m, structures) for m in members])
    calls, describe = [], type(members[0]).describe
    monkeypatch.setattr(type(members[0]), "describe", lambda self, graph: calls.append(1) or describe(self, graph))
    assert_same(evaluate(Mean(members), structures), expected)
    assert len(calls) == 1


def test_trained_further_is_evaluated_anew():
    members, structures = committee(*KINDS["whitened"], 2), batch((8, 22))
    before = evaluate_members(members, structures)
    with torch.no_grad():
        members[1].networks[0].layers[0].weight *= 1.5
    after = evaluate_members(members, structures)
    assert torch.equal(before[0].energy, after[0].energy)
    assert float((before[1].energy - after[1].energy).abs().max()) > 1e-6


def test_single_precision():
    members, structures = committee(*KINDS["ani"], 4), batch((8, 22))
    exact = evaluate_members(members, structures)
    single = evaluate_members([m.float() for m in members], structures.to(dtype=torch.float32))
    for a, b in zip(single, exact, strict=True):
        assert a.forces.dtype == torch.float32
        torch.testing.assert_close(a.forces.double(), b.forces, rtol=0, atol=1e-3 * float(b.forces.abs().max()))


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("n", [1, 3, 4, 9])
@pytest.mark.parametrize("kind", ["tables of different widths", "ani"])
def test_products_with_the_jacobian(kind, n, compiled):
    settings, elements = KINDS[kind]
    potential, structures = make(settings, elements), batch(elements)
    graph = build_graph(structures, find_edges(structures, potential.cutoff))
    values, jacobian = potential.describe_with_jacobian(graph)
    cotangents = torch.randn(n, *values.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    expected = torch.einsum("ekx,mek->mex", jacobian, cotangents[:, graph.i])
    with kernels(compiled):
        found = potential.vjps(graph, cotangents)
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-11 * float(expected.abs().max()))
