"""The Verlet list equals a fresh search at every step, and saves searches."""

import numpy as np
import pytest
import torch
from graph_cases import EXACT, structures
from hypothesis import given
from hypothesis import strategies as st

from rutile.core.errors import GeometryError
from rutile.graph import near, skin
from rutile.graph.graph import build_graph
from rutile.graph.neighbors import find_edges
from rutile.graph.skin import SkinList
from rutile.structures.structures import Structures, concatenate


@pytest.fixture(params=["kernel", "plain"], autouse=True)
def _with_and_without_kernel(request, monkeypatch):
    if request.param == "plain":
        monkeypatch.setattr("rutile.graph.skin.searched_wide", lambda *_: None)
        monkeypatch.setattr("rutile.graph.skin.farthest", lambda *_: None)
        monkeypatch.setattr("rutile.graph.neighbors.searched", lambda *_: None)


def assert_same(a, b):
    assert torch.equal(a.i, b.i)
    assert torch.equal(a.j, b.j)
    assert torch.equal(a.shift, b.shift)
    assert a.cutoff == b.cutoff


@pytest.mark.slow
@EXACT
@given(
    st.lists(structures(), min_size=1, max_size=3),
    st.sampled_from([0.0, 0.3, 1.0]),
    st.sampled_from([0.01, 0.1, 0.6]),
    st.sampled_from([0.0, 0.003, 0.05]),
    st.integers(0, 99),
)
def test_random_walk_of_atoms_and_cells(parts, skin, step, strain, seed):
    batch = concatenate(parts)
    rng = torch.Generator().manual_seed(seed)

    def random(*shape):
        return torch.randn(*shape, generator=rng, dtype=torch.float64)

    skinned = SkinList(4.0, skin)
    for _ in range(6):
        assert_same(skinned.edges(batch), find_edges(batch, 4.0))
        deform = torch.eye(3, dtype=torch.float64) + strain * random(batch.n_systems, 3, 3)
        batch = batch.replace(
            positions=torch.einsum("na,nab->nb", batch.positions, deform[batch.system])
            + step * random(batch.n_atoms, 3)
            + 0.3 * random(batch.n_systems, 3)[batch.system],
            cell=batch.cell @ deform,
        )


@pytest.mark.slow
def test_displacements_are_measured_by_the_kernel_as_by_tensors():
    rng = torch.Generator().manual_seed(4)
    system = torch.tensor([0, 0, 0, 2, 2, 3])  # system 1 is empty
    then = torch.randn(6, 3, generator=rng, dtype=torch.float64)
    step = torch.randn(6, 3, generator=rng, dtype=torch.float64)
    cells, pbc = torch.zeros(4, 3, 3).double(), torch.zeros(4, 3, dtype=torch.bool)
    now = Structures(torch.ones(6, dtype=torch.long), then + step, cells, pbc, system)
    found = near.farthest(now, then)
    if found is None:
        pytest.skip("no kernel")
    torch.testing.assert_close(found, skin._largest(now, step))
    assert found[[1, 3]].tolist() == [0, 0]  # nobody, and one atom that is its own mean
    bad = near.farthest(now.replace(positions=now.positions.index_fill(0, torch.tensor(4), torch.nan)), then)
    assert bad is not None
    assert torch.isnan(bad).tolist() == [False, False, True, False]


def crystal(n=3, a=3.6):
    grid = np.stack(np.meshgrid(*[np.arange(n)] * 3, indexing="ij"), -1).reshape(-1, 3) * a
    return Structures.from_arrays([29] * n**3, grid, np.eye(3) * n * a, np.ones(3, bool))


def test_searches_only_when_needed():
    batch = concatenate([crystal(), crystal()])
    skinned = SkinList(5.0, 1.0)
    skinned.edges(batch)
    assert skinned.searches == 2
    moved = batch.positions.clone()
    moved[0] += torch.tensor([0.49, 0, 0])
    skinned.edges(batch.replace(positions=moved))
    assert skinned.searches == 2
    moved[0] += torch.tensor([0.1, 0, 0])  # beyond half the skin: the first structure alone is searched again
    skinned.edges(batch.replace(positions=moved))
    assert skinned.searches == 3
    skinned.edges(batch.replace(positions=moved))
    assert skinned.searches == 3
    moved[27:] += torch.tensor([7.0, -2.0, 1.0])  # all atoms of the second together: nothing changes
    skinned.edges(batch.replace(positions=moved))
    assert skinned.searches == 3


def test_uniform_compression_counts_by_its_strain():
    one = crystal()
    skinned = SkinList(5.0, 1.0)
    skinned.edges(one)
    for factor, searches in ((1.2, 1), (0.9, 1), (5 / 6 + 1e-6, 1), (0.8, 2)):
        scaled = one.replace(positions=one.positions * factor, cell=one.cell * factor)
        assert_same(skinned.edges(scaled), find_edges(scaled, 5.0))
        assert skinned.searches == searches


def test_other_atoms_elements_or_periodicity():
    one = crystal()
    skinned = SkinList(5.0, 1.0)
    numbers = one.numbers.clone()
    numbers[0] = 28
    slab = one.replace(pbc=torch.tensor([[True, True, False]]))
    for k, other in enumerate([one, slab, one.replace(numbers=numbers), crystal(2), concatenate([one, one])]):
        assert_same(skinned.edges(other), find_edges(other, 5.0))
        assert skinned.searches == (1, 2, 3, 4, 6)[k]


def test_moving_the_input_in_place_is_noticed():
    one = crystal()
    skinned = SkinList(5.0, 1.0)
    skinned.edges(one)
    one.positions[0] += 1.5
    assert_same(skinned.edges(one), find_edges(one, 5.0))


def test_nan_is_refused_at_any_step():
    one = crystal()
    skinned = SkinList(5.0, 1.0)
    skinned.edges(one)
    bad = one.positions.clone()
    bad[3, 1] = float("nan")
    with pytest.raises(GeometryError, match=r"atom 3"):
        skinned.edges(one.replace(positions=bad))
    assert_same(skinned.edges(one), find_edges(one, 5.0))


def test_empty_batch_and_negative_skin():
    assert SkinList(5.0, 1.0).edges(concatenate([])).i.shape == (0,)
    with pytest.raises(ValueError, match="negative"):
        SkinList(5.0, -0.1)


def test_structures_come_and_leave():
    parts = [crystal(), crystal(2), crystal(3, 3.4), crystal(2, 3.2)]
    skinned = SkinList(5.0, 1.0)
    first = concatenate(parts[:3])
    assert_same(skinned.edges(first), find_edges(first, 5.0))
    skinned.keep(torch.tensor([True, False, True]))
    rest = concatenate([parts[0], parts[2]])
    rest = rest.replace(positions=rest.positions + 0.1 * torch.randn(rest.positions.shape, dtype=torch.float64))
    assert_same(skinned.edges(rest), find_edges(rest, 5.0))
    assert skinned.searches == 3
    more = concatenate([rest, parts[3], parts[1]])
    assert_same(skinned.edges(more), find_edges(more, 5.0))
    assert skinned.searches == 5
    skinned.keep(torch.zeros(4, dtype=torch.bool))
    assert skinned.edges(concatenate([])).i.shape == (0,)
    assert_same(skinned.edges(parts[1]), find_edges(parts[1], 5.0))


@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, 2])
def test_graph_and_closest_distance(threads, monkeypatch):
    monkeypatch.setattr("rutile.graph.near.FEW_EDGES", 0)
    monkeypatch.setattr("torch.get_num_threads", lambda: threads)
    alone = Structures.from_arrays([29, 29], [[0, 0, 0], [0, 0, 9.0]], np.zeros((3, 3)), np.zeros(3, bool))
    batch = concatenate([crystal(), alone, crystal(2, 3.1)])
    batch = batch.replace(positions=batch.positions + 0.2 * torch.randn(batch.positions.shape, dtype=torch.float64))
    skinned = SkinList(5.0, 1.0)
    for dtype in (torch.float64, torch.float32):
        graph, closest = skinned.graph(batch, dtype=dtype)
        fresh = build_graph(batch, find_edges(batch, 5.0))
        assert torch.equal(graph.i, fresh.i)
        assert torch.equal(graph.j, fresh.j)
        assert graph.vectors.dtype == dtype
        torch.testing.assert_close(graph.vectors, fresh.vectors.to(dtype), atol=4 * torch.finfo(dtype).eps, rtol=1e-7)
        lengths = fresh.vectors.norm(dim=1)
        assert closest[1] == torch.inf
        for s in (0, 2):
            assert float(closest[s]) == pytest.approx(float(lengths[batch.system[fresh.i] == s].min()), abs=1e-12)


def test_images_far_away():
    """Atoms that were never folded back: shifts beyond what the kernel's keys hold."""
    one = crystal(2)
    far = one.replace(positions=one.positions + 7.2 * 1500 * torch.eye(3, dtype=torch.float64)[torch.arange(8) % 3])
    edges = find_edges(far, 4.0)
    assert int(edges.shift.abs().max()) > 1023
    table = torch.column_stack([edges.i, edges.j, edges.shift]).tolist()
    assert table == sorted(table)
    assert len(table) == len(find_edges(one, 4.0).i)
    assert_same(SkinList(4.0, 0.3).edges(far), edges)


@pytest.mark.parametrize("cutoff", [2.0, 4.0, 9.0])  # no edges, few, and many images of a small cell
def test_a_list_for_the_kernel_is_that_of_everybody(cutoff):
    empty = Structures.from_arrays([], np.zeros((0, 3)), np.eye(3), np.ones(3, bool))
    batch = concatenate([crystal(2), empty, crystal(3), crystal(1, 2.6)])
    wide = near.searched_wide(batch, cutoff)
    if wide is None:
        pytest.skip("no kernel")
    assert_same(wide.edges(cutoff), find_edges(batch, cutoff))
    assert len(wide.images) == len(wide.images.unique(dim=0))
    split = wide.split(batch.counts.tolist())
    for one, part in zip(batch.split(), split, strict=True):
        assert_same(part.edges(cutoff), find_edges(one, cutoff))
    again = near.join_wide(split)
    assert_same(again.edges(cutoff), wide.edges(cutoff))
    assert torch.equal(again.images, wide.images)


def test_shifts_too_far_apart_for_a_table_are_left_to_others():
    pair = Structures.from_arrays([1, 1], [[0, 0, 0], [700.5, 700, 700]], np.eye(3) * 7, np.ones(3, bool))
    assert near.searched_wide(pair, 3.0) is None
    assert_same(SkinList(3.0, 0.5).edges(pair), find_edges(pair, 3.0))
    assert len(find_edges(pair, 3.0).i) == 2


def test_a_graph_in_memory_that_is_used_again_is_that_of_a_fresh_search():
    generator = torch.Generator().manual_seed(0)
    atoms = torch.arange(6)
    cell = 5.0 * torch.eye(3, dtype=torch.float64)[None]
    one = Structures(atoms + 1, torch.rand(6, 3, generator=generator).double() * 5, cell,
                     torch.ones(1, 3, dtype=torch.bool), atoms * 0)  # fmt: skip
    again, fresh = SkinList(3.0, 0.5, reuse=True), SkinList(3.0, 0.5)
    for _ in range(4):
        for dtype in (torch.float32, torch.float64):
            (a, near_a), (b, near_b) = again.graph(one, dtype=dtype), fresh.graph(one, dtype=dtype)
            assert torch.equal(a.vectors, b.vectors)
            assert torch.equal(a.j, b.j)
            assert torch.equal(near_a, near_b)
        one = one.replace(positions=one.positions + 0.3 * torch.rand(one.n_atoms, 3, generator=generator))
        one = concatenate([one, one])
