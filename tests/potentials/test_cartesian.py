"""Cartesian tensors: against matrix algebra, under rotations and mirrors, and their variances."""

import importlib.util
from pathlib import Path

import pytest
import torch

from rutile.potentials.parts.cartesian import (
    COUPLINGS,
    couple,
    coupling_constants,
    directions,
    normalise,
    pack,
    squared_norm,
    unpack,
)
from rutile.testing.strategies import random_rotation

SPEC = Path(__file__).resolve().parents[2].parent / "shared" / "spec" / "ref_flagship.py"


def features(n, channels=3, seed=0):
    g = torch.Generator().manual_seed(seed)
    return {r: torch.randn((n, *((2 * r + 1,) if r else ()), channels), generator=g).double() for r in range(3)}


def turned(x, q):
    """The features of the turned world: v -> v q, T -> q^T T q."""
    t = torch.einsum("ac,nabk,bd->ncdk", q, unpack(x[2]), q)
    return {0: x[0], 1: torch.einsum("nak,ac->nck", x[1], q), 2: pack(t)}


def sym0(m):
    m = 0.5 * (m + m.transpose(-3, -2))
    trace = torch.einsum("naak->nk", m) / 3
    return m - trace[:, None, None] * torch.eye(3).double()[None, :, :, None]


def test_packing():
    x = features(5)[2]
    m = unpack(x)
    torch.testing.assert_close(pack(m), x)
    torch.testing.assert_close(m, m.transpose(1, 2))
    torch.testing.assert_close(torch.einsum("naak->nk", m), torch.zeros(5, 3).double())
    torch.testing.assert_close(m.square().sum((1, 2)), squared_norm(x, 2))


def test_couplings_by_matrix_algebra():
    x, y = features(4), features(4, seed=1)
    t, u = unpack(x[2]), unpack(y[2])
    expected = {
        "000": x[0] * y[0],
        "011": x[0][:, None] * y[1],
        "022": x[0][:, None] * y[2],
        "101": y[0][:, None] * x[1],
        "202": y[0][:, None] * x[2],
        "110": torch.einsum("nak,nak->nk", x[1], y[1]) / 3**0.5,
        "112": pack(sym0(torch.einsum("nak,nbk->nabk", x[1], y[1]))),
        "121": torch.einsum("nabk,nbk->nak", u, x[1]) * 0.6**0.5,
        "211": torch.einsum("nabk,nbk->nak", t, y[1]) * 0.6**0.5,
        "220": torch.einsum("nabk,nabk->nk", t, u) / 5**0.5,
        "222": pack(sym0(torch.einsum("nabk,nbck->nack", t, u))) * (12 / 7) ** 0.5,
    }
    assert sorted(expected) == sorted(COUPLINGS)
    for name, value in expected.items():
        torch.testing.assert_close(couple(name, x, y), value, msg=name)
    with pytest.raises(ValueError, match="no coupling"):
        couple("111", x, y)


def test_couplings_by_their_constants():
    """Sums over components, with scalars as one component."""
    x, y = features(4), features(4, seed=1)
    x[0], y[0] = x[0][:, None], y[0][:, None]
    for name in COUPLINGS:
        z = torch.einsum("mab,nak,nbk->nmk", coupling_constants(name), x[int(name[0])], y[int(name[1])])
        flat = couple(name, {**x, 0: x[0][:, 0]}, {**y, 0: y[0][:, 0]})
        torch.testing.assert_close(z.reshape(flat.shape), flat, msg=name)


@pytest.mark.skipif(not SPEC.exists(), reason="no specification beside the checkout")
def test_agrees_with_the_specification():
    spec = importlib.util.spec_from_file_location("ref_flagship", SPEC)
    reference = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(reference)
    x, y = features(4), features(4, seed=1)
    for name in COUPLINGS:
        torch.testing.assert_close(couple(name, x, y), reference.couple(name, x, y), rtol=1e-12, atol=1e-12, msg=name)
    torch.testing.assert_close(unpack(x[2]), reference.mat(x[2]), rtol=1e-12, atol=1e-12)
    for rank, f in reference.snorm(x).items():
        torch.testing.assert_close(normalise(x)[rank], f, rtol=1e-12, atol=1e-12)


def test_couplings_turn_with_the_world():
    x, y = features(4), features(4, seed=1)
    for seed in range(4):
        q = random_rotation(seed)
        for name in COUPLINGS:
            rank = int(name[2])
            whole = {r: torch.zeros_like(x[r]) for r in range(3)} | {rank: couple(name, x, y)}
            torch.testing.assert_close(couple(name, turned(x, q), turned(y, q)), turned(whole, q)[rank], msg=name)


def test_couplings_keep_variance_one():
    x, y = features(60_000, 1), features(60_000, 1, seed=1)
    for name in COUPLINGS:
        variance = couple(name, x, y).square().flatten(1).mean(0)
        torch.testing.assert_close(variance, torch.ones_like(variance), rtol=0.04, atol=0, msg=name)


def test_directions_have_components_of_mean_square_one():
    u = torch.nn.functional.normalize(
        torch.randn(60_000, 3, generator=torch.Generator().manual_seed(0)).double(), dim=1
    )
    for rank, y in directions(u).items():
        mean = y.square().flatten(1).mean(0)
        torch.testing.assert_close(mean, torch.ones_like(mean), rtol=0.02, atol=0)
        torch.testing.assert_close(squared_norm(y, rank), torch.full((60_000, 1), 2.0 * rank + 1).double())


def test_normalised_features_are_bounded_and_small_ones_stay():
    x = features(4)
    for rank, f in normalise({r: 1e4 * v for r, v in x.items()}).items():
        size = squared_norm(f, rank).mean(-1) / (2 * rank + 1)
        torch.testing.assert_close(size, torch.ones_like(size), rtol=1e-5, atol=0)
    for rank, f in normalise({r: 1e-6 * v for r, v in x.items()}).items():
        torch.testing.assert_close(f, 1e-6 * x[rank], rtol=1e-8, atol=0)
