"""Radial bases, the smooth bump, and the vectors of elements and modes, against formulas by hand."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from rutile.graph.graph import Edges, build_graph
from rutile.potentials.parts.cutoff import cutoff
from rutile.potentials.parts.embedding import ElementEmbedding
from rutile.potentials.parts.radial import bessel, even_centers, gaussians, smooth_bessel
from rutile.structures.structures import Structures

VECTORS = Path(__file__).resolve().parents[2].parent / "shared" / "spec" / "misc_vectors.json"


def graph(numbers, system, mode):
    n, s = len(numbers), len(mode)
    none, no = torch.zeros(0, dtype=torch.long), torch.zeros(0, 3)
    one = Structures(
        torch.tensor(numbers), torch.zeros(n, 3), torch.zeros(s, 3, 3), torch.zeros(s, 3) > 0, torch.tensor(system)
    )
    return build_graph(one, Edges(none, none, no.long(), 4.0), torch.tensor(mode))


def test_gaussians_of_schnet():
    centers = even_centers(0.0, 30.0, 301)
    made = gaussians(torch.tensor([1.37], dtype=torch.float64), centers, 10.0)
    assert made.shape == (1, 301)
    for k in (0, 9, 14, 40):
        assert made[0, k].item() == pytest.approx(math.exp(-10 * (1.37 - 0.1 * k) ** 2), rel=1e-12)


def test_gaussians_agree_with_the_reference_vectors():
    if not VECTORS.exists():
        pytest.skip(f"no {VECTORS}")
    entry = json.loads(VECTORS.read_text())["values"]["schnet_rbf"]
    made = gaussians(torch.tensor(entry["r"], dtype=torch.float64), even_centers(0.0, 30.0, 301), 10.0)
    for k, value in entry["first_nonneg"]:
        assert made[k].item() == pytest.approx(value, rel=1e-10)


def test_bessel_functions_are_orthonormal_in_the_ball():
    """Integral of b_n b_m r^2 dr from 0 to r_c is 1 for n = m, else 0."""
    r_c, n = 4.5, 6
    x, w = np.polynomial.legendre.leggauss(60)
    r, w = torch.from_numpy(0.5 * r_c * (x + 1)), torch.from_numpy(0.5 * r_c * w)
    b = bessel(r, r_c, n)
    torch.testing.assert_close((b * (w * r**2)[:, None]).T @ b, torch.eye(n, dtype=torch.float64))


def test_smooth_bessel_is_the_product_with_its_envelope():
    r = torch.tensor([0.7, 3.1, 4.999, 5.0, 6.0], dtype=torch.float64)
    x = r[:3] / 5.0
    envelope = 1 - 28 * x**6 + 48 * x**7 - 21 * x**8
    made = smooth_bessel(r, 5.0, 3)
    expected = math.sqrt(0.4) * torch.sin(2 * math.pi * x) / r[:3] * envelope
    torch.testing.assert_close(made[:3, 1], expected, rtol=1e-10, atol=1e-15)
    assert (made[3:] == 0).all()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_the_bump_has_no_nan_in_any_derivative(dtype):
    """exp(-u / (1 - u)), u = (r / r_c)^2: its value and three derivatives, up to the cutoff and beyond."""
    r = torch.tensor([1e-3, 2.0, 5.0 * (1 - 1e-3), 5.0 * (1 - 1e-6), 5.0, 7.0], dtype=dtype, requires_grad=True)
    f = cutoff("exp", r, 5.0)
    u = (2.0 / 5.0) ** 2
    assert f[1].item() == pytest.approx(math.exp(-u / (1 - u)), rel=1e-5)
    for _ in range(3):
        assert torch.isfinite(f).all()
        assert (f[2:].abs() < 1e-150).all() if dtype == torch.float64 else (f[2:] == 0).all()
        (f,) = torch.autograd.grad(f.sum(), r, create_graph=True)
    assert torch.isfinite(f).all()


def test_an_element_starts_the_same_whatever_others_there_are():
    few, many = (
        ElementEmbedding(z, 1, 5, torch.Generator().manual_seed(3)).element for z in ((8, 22), (1, 8, 22, 118))
    )
    torch.testing.assert_close(few, many[1:3], rtol=0, atol=0)
    assert not torch.equal(many[0], many[3])


def test_modes_add_to_elements():
    embedding = ElementEmbedding((8, 22), 2, 4, torch.Generator().manual_seed(0))
    made = embedding(graph([22, 8, 8], [0, 0, 1], [0, 1]), torch.tensor([1, 0, 0]))
    torch.testing.assert_close(made[:2], embedding.element[[1, 0]], rtol=0, atol=0)  # the first mode starts at zero
    torch.testing.assert_close(made[2], embedding.element[0] + embedding.mode[1])
    assert not torch.equal(made[2], made[1])
    assert (ElementEmbedding((8,), 1, 4, None).mode == 0).all()
