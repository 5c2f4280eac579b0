"""Sums over images and products with cached derivatives: the kernel against PyTorch, values and gradients."""

from __future__ import annotations

import pytest
import torch

from rutile.core import native
from rutile.graph.graph import Graph
from rutile.potentials.parts import contract

pytestmark = pytest.mark.skipif(native.library() is None, reason=f"no kernels: {native.reason()}")
DTYPES = (torch.float64, torch.float32)


def pairs(dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Derivatives [P, 3, K], slope [N, K] and rows of atoms; atom 2 has no pair."""
    generator = torch.Generator().manual_seed(0)
    i = torch.tensor([0, 0, 0, 1, 3, 3, 4])
    derivatives = torch.randn(7, 3, 19, generator=generator, dtype=dtype)
    return derivatives, torch.randn(5, 19, generator=generator, dtype=dtype), i


def without_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contract, "library", lambda: None)


@pytest.mark.parametrize("dtype", DTYPES)
def test_contract_equals_matmul(monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype) -> None:
    derivatives, slope, i = pairs(dtype)
    fast = contract.contract(derivatives, slope, i)
    without_kernels(monkeypatch)
    torch.testing.assert_close(fast, contract.contract(derivatives, slope, i))


def test_contract_is_twice_differentiable_in_the_slope() -> None:
    derivatives, slope, i = pairs(torch.float64)
    slope.requires_grad_()

    def square(x: torch.Tensor) -> torch.Tensor:
        return contract.contract(derivatives, x, i) ** 2

    assert torch.autograd.gradcheck(square, (slope,))
    assert torch.autograd.gradgradcheck(square, (slope,))


def a_graph(dtype: torch.dtype) -> Graph:
    generator = torch.Generator().manual_seed(1)
    return Graph(
        torch.tensor([1, 8, 8, 1, 22]),
        torch.tensor([0, 0, 0, 1, 1]),
        2,
        torch.tensor([0, 0, 1, 1, 2, 3, 4, 4]),
        torch.tensor([1, 0, 0, 2, 1, 4, 3, 4]),
        torch.randn(8, 3, generator=generator, dtype=dtype),
        torch.tensor([0, 0]),
        torch.zeros(5, 3, dtype=dtype),
        torch.zeros(2, 3, 3, dtype=dtype),
        torch.zeros(2, 3, dtype=torch.bool),
    )


@pytest.mark.parametrize("dtype", DTYPES)
def test_sums_over_images_and_edges_equal_pytorch(monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype) -> None:
    graph = a_graph(dtype)
    jacobian = torch.randn(8, 21, 3, dtype=dtype, generator=torch.Generator().manual_seed(2))
    n = graph.n_atoms
    keys, slot = torch.unique(torch.cat([graph.i * n + graph.j, torch.arange(n) * (n + 1)]), return_inverse=True)
    arguments = (jacobian, graph.vectors, graph.i, slot[:8], slot[8:], len(keys))
    push = torch.randn(8, 3, dtype=dtype, generator=torch.Generator().manual_seed(3))
    fast = (*contract.sum_images(*arguments), *contract.sum_edges(push, graph))
    without_kernels(monkeypatch)
    slow = (*contract.sum_images(*arguments), *contract.sum_edges(push, graph))
    for a, b in zip(fast, slow, strict=True):
        torch.testing.assert_close(a, b)
    assert float(fast[2].sum().abs()) < 1e-5  # no net force


def test_sum_over_edges_keeps_a_gradient_that_is_wanted() -> None:
    graph = a_graph(torch.float64)
    push = torch.randn(8, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(3)).requires_grad_()
    assert torch.autograd.gradcheck(lambda p: contract.sum_edges(p, graph), (push,))
