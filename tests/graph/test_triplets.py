"""Triplets against the loop that defines them."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rutile.graph.triplets import chunks_of_centres, triplets, triplets_within

EXACT = settings(derandomize=True, database=None, deadline=None)
COUNTS = st.lists(st.integers(0, 6), max_size=8)


def centres(counts):
    return torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts, dtype=torch.long))


def by_loop(edges_i):
    e = edges_i.tolist()
    return [(a, b) for a in range(len(e)) for b in range(a + 1, len(e)) if e[a] == e[b]]


@EXACT
@given(COUNTS)
def test_all_pairs_once(counts):
    a, b = triplets(centres(counts), len(counts))
    assert a.dtype == b.dtype == torch.long
    assert list(zip(a.tolist(), b.tolist(), strict=True)) == by_loop(centres(counts))


@EXACT
@given(COUNTS, st.randoms(use_true_random=False))
def test_shorter_cutoff(counts, random):
    i = centres(counts)
    d = torch.tensor([random.random() for _ in i])
    a, b = triplets_within(i, d, len(counts), 0.5)
    want = [(x, y) for x, y in by_loop(i) if d[x] < 0.5 and d[y] < 0.5]
    assert list(zip(a.tolist(), b.tolist(), strict=True)) == want


@EXACT
@given(COUNTS, st.integers(1, 40))
def test_chunks_cover_everything_within_the_limit(counts, limit):
    i, n = centres(counts), len(counts)
    chunks = chunks_of_centres(i, n, limit)
    found, atoms = [], []
    for at, ed in chunks:
        a, b = triplets(i[ed] - at.start, at.stop - at.start)
        assert len(a) <= limit or at.stop - at.start == 1
        found += zip((a + ed.start).tolist(), (b + ed.start).tolist(), strict=True)
        atoms += range(at.start, at.stop)
    assert found == by_loop(i)
    assert atoms == list(range(n))
    assert len(chunks) <= 1 or sum(c * (c - 1) // 2 for c in counts) > limit
